"""The Slurm engine, on a cluster of Debian's packages (scripts/slurm_cluster.sh), and its refusals without one."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from tests.proxy.sweep import clusters
from tests.proxy.sweep.made import commands, driver, laid, log_lines, slow, spec, waited, workers
from tests.synthetic import CASES, make_runs

from lehr.cli.fit_jobs import Jobs
from lehr.errors import InputError, ResultError
from lehr.fit.compare import compare
from lehr.fit.fit import FitOptions
from lehr.laws import get_law
from lehr.proxy.sweep.driver import drive
from lehr.proxy.sweep.engine_options import EngineOptions, SlurmOptions
from lehr.proxy.sweep.engines import make_engine
from lehr.proxy.sweep.slurm import SlurmEngine
from lehr.proxy.sweep.slurm_commands import Task, submission, tasks_of
from lehr.runs.store import add_runs, load_runs

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Slurm is for Linux")
CLUSTER = Path(__file__).resolve().parents[3] / "scripts" / "slurm_cluster.sh"
QUICK = SlurmOptions(poll=0.3)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """A cluster of three nodes of two CPUs each."""
    if not shutil.which("slurmctld") or not shutil.which("munged") or os.geteuid():
        pytest.skip("needs Debian's slurm-wlm and munge, and root: see scripts/slurm_cluster.sh")
    folder = tmp_path_factory.mktemp("slurm")
    subprocess.run([CLUSTER, "start", folder, "3"], check=True, timeout=120)
    os.environ["SLURM_CONF"] = str(folder / "slurm.conf")
    try:
        yield folder
    finally:
        subprocess.run(["scancel", "--me", "--full", "--signal=KILL"], check=False)
        subprocess.run([CLUSTER, "stop", folder], check=True, timeout=60)
        del os.environ["SLURM_CONF"]


def engine(folder):
    return SlurmEngine(folder, 4, QUICK)


def start(queue):
    return driver(queue, "slurm", 4, poll=0.3)


def jobs_of(engine):
    return sorted({task.job for task in tasks_of(engine.name) if task.state == "RUNNING"})


def test_two_trunks_and_six_cooldowns_have_the_curves_of_the_local_engine(cluster, tmp_path):
    pytest.importorskip("torch", reason="needs the [train] extra")
    clusters.has_the_curves_of_the_local_engine(tmp_path, engine)


def test_workers_that_are_killed_are_replaced(cluster, tmp_path):
    clusters.kills_are_survived(tmp_path, engine)


def test_told_to_stop_it_stops_and_goes_on_later(cluster, tmp_path):
    clusters.told_to_stop_it_goes_on_later(tmp_path, engine)


def test_two_drivers_submit_no_more_workers_than_one(cluster, tmp_path):
    clusters.two_drivers_share(tmp_path, start)
    assert len(list((tmp_path / "sweep" / "slurm").glob("*.txt"))) <= 4 + 1


def test_jobs_go_on_without_their_driver_and_the_next_one_finds_them(cluster, tmp_path):
    queue, plan = slow(tmp_path, 16)
    first = start(queue)
    waited(lambda: len(queue.ended()) >= 1)
    first.kill()
    first.communicate()
    before = len(queue.ended())
    waited(lambda: len(queue.ended()) >= before + 3)
    drive(queue, plan, engine(queue.folder))
    assert clusters.ends_every_run_once(queue, plan)
    assert len(list((queue.folder / "slurm").glob("*.txt"))) <= 4, "nothing was submitted twice"


@pytest.mark.parametrize(
    "how",
    [
        ["scontrol", "requeue"],
        ["scancel"],
        ["scancel", "--signal=KILL", "--full"],
        ["scancel", "--batch", "--signal=TERM"],
    ],
    ids=["requeued", "cancelled", "killed", "told that its time is over"],
)
def test_a_job_that_is_taken_away_loses_nothing(cluster, tmp_path, how):
    queue, plan = slow(tmp_path, 40)
    made, taken = engine(queue.folder), []

    def look(seen):
        if len(seen.ended) >= 2 and len(taken) < 2 and (found := jobs_of(made)):
            subprocess.run([*how, found[0]], check=False, capture_output=True)
            taken.append(found[0])

    drive(queue, plan, made, look=look)
    assert len(taken) == 2 and clusters.ends_every_run_once(queue, plan)


def test_failing_commands_and_losses_that_are_none_end_their_runs_alone(cluster, tmp_path):
    clusters.failures_and_losses_that_are_none_end_their_runs_alone(tmp_path, engine)


def test_a_full_disk_stops_everything_and_blames_no_run(cluster, tmp_path):
    clusters.a_full_disk_stops_everything_and_blames_no_run(tmp_path, engine)


def test_workers_that_cannot_begin_are_given_up_on(cluster, tmp_path, monkeypatch):
    queue, plan = slow(tmp_path, 2)
    monkeypatch.setattr("lehr.proxy.sweep.slurm.sys.executable", "/nowhere/python")
    with pytest.raises(
        ResultError, match=r"workers end with exit code 127; the end of .*\.txt says why; the same"
    ):
        drive(queue, plan, engine(queue.folder))


def test_setup_lines_and_options_reach_the_job(cluster, tmp_path):
    run = "sh -c 'echo $GREETING; echo $SLURM_CPUS_PER_TASK $OMP_NUM_THREADS $MASTER_ADDR; exit 1'"
    queue, plan = laid(tmp_path, commands(tmp_path, run, grid="lr = [1e-3]"))
    options = SlurmOptions(poll=0.3, cpus=2, setup=("export GREETING='good day'",), options=("--comment=x",))
    os.environ.pop("OMP_NUM_THREADS", None)
    (found,) = drive(queue, plan, SlurmEngine(queue.folder, 1, options)).ended.values()
    assert found.reason.startswith("the command ended with exit code 1: good day 2 2 ")


def test_a_partition_that_is_not_there_is_refused_in_slurms_words(cluster, tmp_path):
    queue, plan = slow(tmp_path, 2)
    with pytest.raises(
        ResultError, match=r"would not take the job; correct \[engine.slurm\]: sbatch .*partition"
    ):
        SlurmEngine(queue.folder, 1, SlurmOptions(partition="nowhere"))


def test_jobs_that_are_held_are_told(cluster, tmp_path):
    queue, plan = slow(tmp_path, 2)
    with pytest.raises(
        ResultError, match=r"Slurm holds the sweep's jobs back \(JobHeld.*\): release or cancel them"
    ):
        drive(queue, plan, SlurmEngine(queue.folder, 1, SlurmOptions(poll=0.3, options=("--hold",))))
    assert not workers(queue) and not queue.ended()


def test_a_comparison_of_laws_is_what_one_process_gives(cluster, tmp_path):
    runs = make_runs(CASES["tissue"], noise=1e-3, every=200)[:4]
    add_runs(tmp_path / "store", runs)
    jobs = Jobs(tmp_path / "jobs", tmp_path / "store", 4, "slurm", EngineOptions(slurm=QUICK))
    runs, laws = tuple(load_runs(tmp_path / "store")), [get_law("tissue"), get_law("one_power")]
    options = FitOptions(starts=4, polished=1)
    assert jobs.compare(laws, runs, options)[0] == compare(laws, runs, options, workers=1)


# without a cluster


def test_no_slurm_is_told_with_what_to_do(tmp_path, monkeypatch):
    queue, plan = slow(tmp_path, 1)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match=r"there is no scontrol here: run lehr where Slurm's commands are"):
        make_engine("slurm", queue.folder, None, spec().engine)


def fake(tmp_path, monkeypatch, **programs):
    """Programs of Slurm that do as told."""
    for name, body in programs.items():
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("programs", "said"),
    [
        (
            {"scontrol": "echo 'Slurmctld(primary) at vm is DOWN'"},
            r"controller does not answer: .* is DOWN\.$",
        ),
        ({"scontrol": "sleep 60"}, r"Slurm did not answer scontrol within 0.5 s: is its controller up"),
        (
            {"scontrol": "echo ' is UP'", "sbatch": "echo 'sbatch: error: no such account' >&2; exit 1"},
            r"would not take the job; correct \[engine.slurm\]: sbatch failed: sbatch: error: no such account\.$",
        ),
    ],
)
def test_a_cluster_that_does_not_answer_is_told(tmp_path, monkeypatch, programs, said):
    queue, plan = slow(tmp_path, 1)
    fake(tmp_path, monkeypatch, **programs)
    monkeypatch.setattr("lehr.proxy.sweep.slurm_commands.PATIENCE", 0.5)
    with pytest.raises(ResultError, match=said):
        SlurmEngine(queue.folder, 1, QUICK)


def test_a_controller_that_is_away_for_a_while_is_waited_for(tmp_path, monkeypatch):
    queue, plan = slow(tmp_path, 1)
    squeue = "test -e up && exit 0; echo 'Unable to contact slurm controller' >&2; exit 1"
    fake(tmp_path, monkeypatch, scontrol="echo ' is UP'", sbatch="echo 7", squeue=squeue)
    monkeypatch.chdir(tmp_path)
    made = SlurmEngine(queue.folder, 1, SlurmOptions(poll=0.001))
    assert made.tend() == 0 and made.problem is None
    (tmp_path / "up").touch()
    waited(lambda: made.tend() == 1)
    (tmp_path / "up").unlink()
    monkeypatch.setattr("lehr.proxy.sweep.slurm.SILENT", 0.0)
    waited(lambda: made.tend() == 0 and made.problem is not None)
    assert (
        made.tend() == 0 and "Unable to contact slurm controller; Slurm has not answered for" in made.problem
    )


def test_a_full_disk_is_told_by_the_exit_of_a_worker(tmp_path, monkeypatch):
    queue, plan = slow(tmp_path, 1)
    fake(tmp_path, monkeypatch, scontrol="echo ' is UP'", sbatch="echo 7", squeue="exit 0")
    made = SlurmEngine(queue.folder, 1, SlurmOptions(poll=0.001))
    (queue.folder / "slurm" / "7_0.exit").write_text("3\n")
    waited(lambda: made.tend() >= 0 and made.problem is not None)
    assert made.problem == f"the disk of {queue.folder} takes no more: free some space"


def test_options_become_those_of_sbatch(tmp_path):
    options = SlurmOptions(
        partition="p", account="a", qos="q", constraint="c", time_limit="4:00:00", nodes=2, gpus_per_node=8,
        cpus=12, memory="32G", options=("--exclusive",),
    )  # fmt: skip
    command = submission(tmp_path / "w.sh", "lehr-x", Path("/a%b"), 3, options)
    assert command[0] == "sbatch" and command[-1] == str(tmp_path / "w.sh") and command[-2] == "--exclusive"
    assert set(command[1:-2]) == {
        "--parsable", "--job-name=lehr-x", "--array=0-2", "--nodes=2", "--ntasks=2", "--cpus-per-task=12",
        "--output=/a%%b/%A_%a.txt", "--error=/a%%b/%A_%a.txt", "--open-mode=append", "--requeue",
        "--signal=B:TERM@120", "--partition=p", "--account=a", "--qos=q", "--constraint=c", "--time=4:00:00",
        "--mem=32G", "--gpus-per-node=8",
    }  # fmt: skip


def test_only_tasks_that_will_never_begin_are_stuck():
    assert Task("1_0", "PENDING", "JobHeldUser").stuck and Task("1_0", "PENDING", "PartitionTimeLimit").stuck
    assert not Task("1_0", "PENDING", "Priority").stuck and not Task("1_0", "RUNNING", "None").stuck


@pytest.mark.parametrize("limit", ["3", "2:59", "0:03:00", "0-0:3"])
def test_a_time_limit_that_leaves_no_time_to_work_is_refused(limit):
    with pytest.raises(ValueError, match=f"of time_limit {limit} would be told to save as soon as it begins"):
        SlurmOptions(time_limit=limit)


@pytest.mark.parametrize("limit", ["4", "3:01", "1:0:0", "1-0", "0-0:4:0", "0"])
def test_a_time_limit_beyond_the_notice_is_taken(limit):
    assert SlurmOptions(time_limit=limit).time_limit == limit


# what srun does with its own signals is tested on the cluster below; this is whom the worker tells
SRUN = "trap 'echo told >&2; exit 9' TERM\nuntil test -e told; do sleep 0.05; done\nexit 1"


def test_a_command_that_srun_starts_is_told_by_slurm_and_not_through_srun(tmp_path, monkeypatch):
    queue, plan = laid(tmp_path, commands(tmp_path, "srun train", grid="lr = [1e-3]"))
    fake(tmp_path, monkeypatch, srun=SRUN, scancel='echo "$*" > asked; touch told')
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SLURM_JOB_ID", "17")
    worker = subprocess.Popen([sys.executable, "-m", "lehr.proxy.sweep.worker", str(queue.folder)])
    waited(lambda: list(queue.folder.glob("runs/*/out-1/output.txt")))
    worker.terminate()
    assert worker.wait(30) == 0 and not queue.ended() and not queue.claimed()
    assert (tmp_path / "asked").read_text() == "--quiet --signal=TERM 17\n"
    (said,) = queue.folder.glob("runs/*/out-1/output.txt")
    assert said.read_text() == ""


# notes its node, logs, and when told saves how far it is
STEPS = """
import os, pathlib, signal, sys, time
out, node = pathlib.Path(sys.argv[1]), os.environ["SLURM_NODEID"]
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
state = out / f"state-{node}"
begin = int(state.read_text()) if state.exists() else 0
(out / f"began-{node}-{begin}").touch()
for step in range(begin, 30):
    if told:
        state.write_text(str(step))
        sys.exit(1)
    time.sleep(0.1)
if node == "0":
    (out / "train.log").write_bytes(pathlib.Path(sys.argv[2]).read_bytes())
"""


def test_a_run_on_two_nodes_saves_when_told_and_goes_on(cluster, tmp_path):
    (tmp_path / "steps.py").write_text(STEPS)
    (tmp_path / "sample.log").write_text(log_lines())
    run = f"srun {sys.executable} -S {tmp_path}/steps.py {{out}} {tmp_path}/sample.log"
    queue, plan = laid(tmp_path, commands(tmp_path, run, grid="lr = [1e-3]", more="resume = true"))
    made, told = SlurmEngine(queue.folder, 1, SlurmOptions(poll=0.3, nodes=2)), []
    out = queue.run_folder(plan.jobs[0].address) / "out"

    def look(seen):
        if not told and (out / "began-1-0").exists() and (found := jobs_of(made)):
            told.append(found[0])
            subprocess.run(["scancel", "--batch", "--signal=TERM", found[0]], check=True)

    drive(queue, plan, made, look=look)
    assert told and clusters.ends_every_run_once(queue, plan)
    for node in "01":
        saved = (out / f"state-{node}").read_text()
        assert int(saved) >= 0 and (out / f"began-{node}-{saved}").exists()
