"""Commands of the user: what they are told, how their logs are read back, and every way in which they fail."""

import os
import shlex
import sys
import threading
import time

import pytest
from tests.proxy.sweep.made import commands, laid, log_lines, waited, worked

from lehr.errors import InputError
from lehr.proxy.sweep.beat import Beat
from lehr.proxy.sweep.command import MARK, end_leftovers
from lehr.proxy.sweep.placeholders import fill, names_in
from lehr.proxy.sweep.results import store_runs, write_table
from lehr.proxy.sweep.worker import one_round
from lehr.runs.store import load_runs
from lehr.schedule.export.csv import read as read_csv
from lehr.schedule.spec import parse

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="commands of Linux")
SH = shlex.quote(sys.executable)


def script(folder, text, name="train.py"):
    (folder / name).write_text(text)
    return f"{SH} -S {folder / name}"


def log_file(folder, *arguments, **named):
    path = folder / "sample.log"
    path.write_text(log_lines(*arguments, **named))
    return path


def one(tmp_path, run, **named):
    """Outcome of the only run of a command."""
    queue, plan = laid(tmp_path, commands(tmp_path, run, grid="lr = [1e-3]", **named))
    return worked(queue, plan)["c-lr0.001"]


def test_placeholders():
    assert fill("a {x} {{y}} {z}b", {"x": 1e-05, "z": "q"}, "w") == "a 1e-05 {y} qb"
    assert names_in("a {x} {{y}} {schedule_csv}") == {"x", "schedule_csv"}
    with pytest.raises(InputError, match="w: unknown placeholder 'lr': did you mean 'lrs'"):
        fill("{lr}", {"lrs": 1}, "w")


def test_a_command_is_told_everything_and_its_log_becomes_a_run(tmp_path):
    told = script(
        tmp_path,
        "import json, os, pathlib, sys\n"
        "out = pathlib.Path(sys.argv[-1])\n"
        "(out / 'told.json').write_text(json.dumps([sys.argv, os.environ['MINE'], os.environ['HOME'], os.getcwd()]))\n"
        f"(out / 'train.log').write_text({log_lines()!r})\n",
    )
    run = f"{told} --lr {{lr}} --n {{steps}} --seed {{seed}} 'two words' {{schedule_csv}} {{schedule_torch}} {{out}}"
    path = commands(
        tmp_path, run, training="seed = 7", more='environment = { MINE = "yes" }\n[values]\nparams = 1e6'
    )
    queue, plan = laid(tmp_path, path)
    found = worked(queue, plan)
    assert {name: (each.state, each.loss, each.step) for name, each in found.items()} == {
        "c-lr0.001": ("done", 2.5, 10), "c-lr0.002": ("done", 2.5, 10),
    }  # fmt: skip
    import json

    out = queue.run_folder(plan.jobs[1].address) / "out-1"
    argv, mine, home, cwd = json.loads((out / "told.json").read_text())
    assert argv[1:8] == ["--lr", "0.002", "--n", "10", "--seed", "7", "two words"] and mine == "yes"
    assert (home, cwd) == (os.environ["HOME"], os.getcwd())
    assert read_csv((out / "schedule_csv.csv").read_text(), "csv").to_array().tolist() == [0.002] * 10
    assert "def make_scheduler(optimizer)" in (out / "schedule_torch.py").read_text()
    ended = {job.address: found[job.name] for job in plan.jobs}
    stored = set()
    assert store_runs(queue, plan, ended, tmp_path / "store", stored) == {}
    assert stored == set(ended)
    run = load_runs(tmp_path / "store")["c-lr0.002"]
    assert run.schedule == parse(plan.jobs[1].schedule) and run.params == 1e6 and run.meta["seed"] == 7
    assert store_runs(queue, plan, ended, tmp_path / "store", set()) == {}, "what is there already stays"


def test_no_shell_sees_the_command(tmp_path):
    assert one(tmp_path, f"cp {log_file(tmp_path)} {{out}}/$HOME;x").state == "done"
    assert os.path.exists(next((tmp_path / "sweep" / "runs").glob("*/out-1/$HOME;x")))


@pytest.mark.parametrize(
    ("run", "words"),
    [
        ("false", "the command ended with exit code 1: it said nothing"),
        (
            f"{SH} -S -c 'print(5); raise SystemExit(\"no GPU\")'",
            "the command ended with exit code 1: 5 no GPU",
        ),
        (f"{SH} -S -c 'import os; os.kill(os.getpid(), 11)'", "the command ended by signal 11: "),
        ("absent-trainer --x", "the command cannot be run: 'absent-trainer': No such file or directory"),
        ("true", "the command ended well, but no loss could be read: "),
        ("echo nothing of note", "the command ended well, but no loss could be read: "),
    ],
)
def test_a_command_that_fails_or_never_logs_is_failed_with_the_reason(run, words, tmp_path):
    outcome = one(tmp_path, run)
    assert outcome.state == "failed" and words in outcome.reason


def test_a_log_that_ends_early_is_no_result(tmp_path):
    outcome = one(tmp_path, f"cp {log_file(tmp_path, 5)} {{out}}/train.log")
    assert (outcome.state, outcome.step) == ("failed", 5)
    assert outcome.reason == "the log ends at step 5 of 10, so that the final loss is not known"


def test_losses_that_become_nan_are_a_result(tmp_path):
    text = log_lines(5) + "step 10: train loss nan, val loss nan\n"
    (tmp_path / "nan.log").write_text(text)
    queue, plan = laid(tmp_path, commands(tmp_path, f"cp {tmp_path / 'nan.log'} {{out}}/x.log",
                                          more="[values]\nparams = 1e6\nbatch_tokens = 1e3"))  # fmt: skip
    found = worked(queue, plan)
    assert {each.state for each in found.values()} == {"diverged"}
    ended = {job.address: found[job.name] for job in plan.jobs}
    write_table(tmp_path, plan.jobs, ended)
    from lehr.peaklr.reading import load_sweep_table

    table = load_sweep_table(tmp_path / "results.csv")
    assert (
        table.lr.tolist() == [1e-3, 2e-3]
        and (table.loss != table.loss).all()
        and table.tokens.tolist() == [1e4, 1e4]
    )
    assert (
        store_runs(queue, plan, ended, tmp_path / "store", set()) == {} and not (tmp_path / "store").exists()
    )


def test_of_two_logs_one_must_be_named(tmp_path):
    two = script(
        tmp_path,
        "import sys, shutil\nfor name in 'ab': shutil.copy(sys.argv[1], f'{sys.argv[2]}/{name}.log')",
    )
    run = f"{two} {log_file(tmp_path)} {{out}}"
    assert (
        "holds 2 logs (a.log, b.log): name the one to read by log in [command]" in one(tmp_path, run).reason
    )
    assert one(tmp_path, run, more='log = "{out}/b.log"').log == "out-1/b.log"


def test_what_a_command_prints_is_read_where_it_writes_no_log(tmp_path):
    assert one(tmp_path, f"cat {log_file(tmp_path)}").log == "out-1/output.txt"


def test_cooldowns_are_told_where_their_trunk_wrote(tmp_path):
    train = script(
        tmp_path,
        "import sys, pathlib\nout, step, parent, keep = sys.argv[1:]\nout = pathlib.Path(out)\n"
        "assert int(step) == 0 or (pathlib.Path(parent) / f'kept-{step}').exists(), parent\n"
        "for at in filter(None, keep.split(',')): (out / f'kept-{at}').touch()\n"
        f"(out / 'train.log').write_text({log_lines()!r})\n",
    )
    path = commands(tmp_path, f"{train} {{out}} {{branch_step}} '{{parent_out}}' '{{keep}}'",
                    more="[cooldowns]\nratios = [0.2, 0.5]")  # fmt: skip
    queue, plan = laid(tmp_path, path)
    found = worked(queue, plan)
    assert {name: (each.state, each.reason) for name, each in found.items()} == {
        name: ("done", "") for name in (job.name for job in plan.jobs)
    }
    ended = {job.address: found[job.name] for job in plan.jobs}
    assert store_runs(queue, plan, ended, tmp_path / "store", set()) == {}
    run = load_runs(tmp_path / "store")["c-lr0.001-r0.5"]
    assert (run.parent, run.branch_step, run.step.tolist()) == ("c-lr0.001", 5, [10])


def test_branches_of_a_failed_trunk_are_skipped_and_others_go_on(tmp_path):
    train = script(
        tmp_path, "import sys, shutil\nassert sys.argv[3] != '0.001'\nshutil.copy(sys.argv[1], sys.argv[2])"
    )
    queue, plan = laid(tmp_path, commands(tmp_path, f"{train} {log_file(tmp_path)} {{out}} {{peak_lr}}",
                                          more="[cooldowns]\nratios = [0.5]"))  # fmt: skip
    assert {name: each.state for name, each in worked(queue, plan).items()} == {
        "c-lr0.001": "failed", "c-lr0.001-r0.5": "skipped", "c-lr0.002": "done", "c-lr0.002-r0.5": "done",
    }  # fmt: skip


def test_a_store_that_holds_another_run_of_the_name_refuses_that_one_alone(tmp_path):
    queue, plan = laid(tmp_path, commands(tmp_path, f"cp {log_file(tmp_path)} {{out}}"))
    ended = {job.address: worked(queue, plan)[job.name] for job in plan.jobs}
    assert store_runs(queue, plan, ended, tmp_path / "store", set()) == {}
    (tmp_path / "other").mkdir()
    queue, plan = laid(tmp_path / "other", commands(tmp_path / "other", f"cp {log_file(tmp_path, loss='3.5')} {{out}}",
                                                    grid="lr = [1e-3, 4e-3]"))  # fmt: skip
    ended = {job.address: worked(queue, plan)[job.name] for job in plan.jobs}
    stored = set()
    refused = store_runs(queue, plan, ended, tmp_path / "store", stored)
    assert (
        list(refused) == ["c-lr0.001"] and "already holds a different run 'c-lr0.001'" in refused["c-lr0.001"]
    )
    assert stored == {plan.jobs[1].address}


def interrupted(tmp_path, ask, run="sleep 60", **named):
    """Do the only run of a sleeping command while `ask` is called; its queue, plan and duration."""
    queue, plan = laid(tmp_path, commands(tmp_path, run, grid="lr = [1e-3]", **named))
    beat = Beat(queue)
    threading.Timer(0.5, ask, (queue, plan, beat)).start()
    begin = time.monotonic()
    try:
        one_round(queue, plan, beat)
    finally:
        beat.close()
    return queue, plan, time.monotonic() - begin


def test_a_cancelled_command_ends_at_once(tmp_path):
    queue, plan, took = interrupted(
        tmp_path, lambda queue, plan, beat: queue.ask_cancel([plan.jobs[0].address])
    )
    assert queue.state(plan.jobs[0].address) == "cancelled" and took < 20


def test_a_command_whose_worker_is_told_to_go_waits_again(tmp_path):
    queue, plan, took = interrupted(tmp_path, lambda queue, plan, beat: setattr(beat, "ending", "stopped"))
    assert not queue.ended() and not queue.claimed() and took < 20
    assert (queue.run_folder(plan.jobs[0].address) / "attempts").read_text() == "begin 0\nlet go\n"


@pytest.mark.parametrize(("steps", "state"), [(5, None), (10, "done")])
def test_a_command_that_saves_and_ends_well_when_told_to_stop_has_not_failed(steps, state, tmp_path):
    """It waits again, unless it had come to its end anyway."""
    run = script(
        tmp_path,
        "import pathlib, signal, sys, time\n"
        f"def leave(*_):\n    (pathlib.Path(sys.argv[1]) / 'a.log').write_text({log_lines(steps)!r})\n    sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, leave)\ntime.sleep(60)\n",
    )
    stop = lambda queue, plan, beat: setattr(beat, "ending", "stopped")  # noqa: E731
    queue, plan, took = interrupted(tmp_path, stop, run=f"{run} {{out}}")
    assert queue.state(plan.jobs[0].address) == state and not queue.claimed() and took < 20


@pytest.mark.parametrize(("grace", "saved"), [(0.3, False), (30, True)])
def test_a_command_has_its_grace_to_save(tmp_path, grace, saved):
    run = script(
        tmp_path,
        "import pathlib, signal, sys, time\n"
        "def leave(*_):\n    time.sleep(2)\n    pathlib.Path(sys.argv[1], 'saved').touch()\n    sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, leave)\npathlib.Path(sys.argv[1], 'ready').touch()\ntime.sleep(60)\n",
    )

    def stop(queue, plan, beat):
        waited(lambda: list(queue.folder.glob("runs/*/out-1/ready")))
        beat.ending = "stopped"

    queue, plan, took = interrupted(tmp_path, stop, run=f"{run} {{out}}", more=f"grace = {grace}")
    assert not queue.ended() and bool(list(queue.folder.glob("runs/*/out-1/saved"))) == saved


def test_a_command_whose_driver_is_gone_is_finished(tmp_path):
    queue, plan, took = interrupted(
        tmp_path, lambda queue, plan, beat: setattr(beat, "ending", "orphaned"), run="sleep 2"
    )
    assert took >= 2 and queue.state(plan.jobs[0].address) == "failed", "it ended by itself, without a log"


def test_a_command_that_was_taken_over_publishes_nothing(tmp_path):
    def take(queue, plan, beat):
        ((address, owner),) = queue.claimed().items()
        path = queue.folder / "claims" / address / owner
        path.rename(path.with_name("0123456789ab-1-2-cafe"))

    queue, plan, took = interrupted(tmp_path, take)
    assert queue.ended() == {} and took < 20
    assert queue.claimed() == {plan.jobs[0].address: "0123456789ab-1-2-cafe"}


def test_a_command_that_takes_too_long_is_failed(tmp_path):
    queue, plan, took = interrupted(tmp_path, lambda *each: None, more="[budget]\nhours_a_run = 1e-4")
    assert (
        worked(queue, plan)["c-lr0.001"].reason == "it took more than budget.hours_a_run, 0.0001 h"
        and took < 20
    )


def test_workers_that_die_in_a_run_again_and_again_make_it_fail(tmp_path):
    queue, plan = laid(tmp_path, commands(tmp_path, f"cp {log_file(tmp_path)} {{out}}", grid="lr = [1e-3]"))
    folder = queue.run_folder(plan.jobs[0].address)
    folder.mkdir()
    (folder / "attempts").write_text("begin 0\n" * 5)
    outcome = worked(queue, plan)["c-lr0.001"]
    assert outcome.reason == "5 workers died in it without getting further: too little memory?"
    assert queue.retry(plan.jobs[0].address)
    again = worked(queue, plan)["c-lr0.001"]
    assert (again.state, again.log) == ("done", "out-6/sample.log"), "what earlier goes wrote is not read"


def test_goes_that_ended_in_peace_or_got_further_do_not_count_as_deaths(tmp_path):
    from lehr.proxy.sweep.outcome import goes

    (tmp_path / "attempts").write_text("begin 0\nbegin 0\nbegin 5\nlet go\nbegin 5\nbegin 5\n")
    assert (
        goes(tmp_path, 5) == (5, 2)
        and goes(tmp_path, 10) == (5, 0)
        and goes(tmp_path / "absent", 0) == (0, 0)
    )


def test_processes_that_a_dead_worker_left_are_ended(tmp_path):
    import subprocess

    left = subprocess.Popen(["sleep", "60"], env={**os.environ, MARK: str(tmp_path)}, start_new_session=True)
    other = subprocess.Popen(
        ["sleep", "60"], env={**os.environ, MARK: f"{tmp_path}-other"}, start_new_session=True
    )
    try:
        end_leftovers(tmp_path)
        assert left.wait(timeout=10) == -9 and other.poll() is None
    finally:
        for each in (left, other):
            each.kill()
            each.wait()


def test_what_a_command_left_is_ended_when_its_run_is_taken_over_or_cancelled(tmp_path):
    import subprocess

    queue, plan = laid(tmp_path, commands(tmp_path, f"cp {log_file(tmp_path)} {{out}}", grid="lr = [1e-3]"))
    address = plan.jobs[0].address
    queue.run_folder(address).mkdir()
    left = subprocess.Popen(
        ["sleep", "60"], env={**os.environ, MARK: str(queue.run_folder(address).absolute())}
    )
    try:
        claim = queue.claim(address)
        machine, pid, ticks, token = claim.owner.split("-")
        claim.path.rename(claim.path.with_name(f"{machine}-{pid}-1-{token}"))  # an owner of long ago
        assert worked(queue, plan)["c-lr0.001"].state == "done" and left.wait(timeout=10) == -9
    finally:
        left.kill()
        left.wait()


def test_a_further_go_writes_into_a_folder_of_its_own_unless_it_goes_on(tmp_path):
    for resume, second in (("false", "out-2"), ("true", "out")):
        folder = tmp_path / resume
        folder.mkdir()
        path = commands(
            folder, f"cp {log_file(tmp_path, 5)} {{out}}", grid="lr = [1e-3]", more=f"resume = {resume}"
        )
        queue, plan = laid(folder, path)
        run = queue.run_folder(plan.jobs[0].address)
        run.mkdir()
        (run / "attempts").write_text("begin 0\n")
        worked(queue, plan)
        assert [each.name for each in run.glob("out*")] == [second]
