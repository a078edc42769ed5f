"""`lehr sweep`: what its verbs print, their JSON, their exit codes, and Ctrl-C."""

import io
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tests.proxy.sweep.made import commands, log_lines

from lehr.proxy.sweep.beat import Beat
from lehr.proxy.sweep.jobs import read_plan
from lehr.proxy.sweep.queue import Queue
from lehr.proxy.sweep.worker import one_round
from lehr.runs.store import load_runs

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="commands of Linux")
OWN = """
name = "own"
[model]
depth = 1
width = 16
heads = 2
context = 16
[data]
vocab_size = 32
[training]
schedule = "constant(steps=1000, peak={peak_lr}, warmup=10)"
batch = 4
[grid]
peak_lr = [1e-2, 2e-2]
[cooldowns]
ratios = [0.2]
"""


@pytest.fixture
def sweep(tmp_path, monkeypatch):
    """A SWEEP.toml of two commands, of which the second fails at first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sample.log").write_text(log_lines())
    (tmp_path / "train.sh").write_text(
        'test $1 = 0.001 || test -e mended || { echo "no GPU"; exit 3; }\ncp sample.log $2\n'
    )
    return commands(tmp_path, "sh train.sh {lr} {out}")


def test_it_runs_and_says_what_failed_and_retry_mends_it(lehr, sweep, tmp_path):
    outcome = lehr("sweep", sweep, "--out", "dir", "--workers", 1, "--store", "store")
    assert outcome.code == 1 and outcome.out == "c: 1 done, 1 failed\nfinal losses: dir/results.csv\n"
    assert (
        "c-lr0.001: done, loss 2.5000\nc-lr0.002: failed, the command ended with exit code 3: no GPU\n"
        in outcome.err
    )
    assert "error: 1 runs failed and 0 could not be stored: `lehr sweep status dir` says why" in outcome.err
    assert load_runs(tmp_path / "store").names == ("c-lr0.001",)
    listed = lehr("sweep", "status", "dir").out.splitlines()
    assert listed[0] == "c: 1 done, 1 failed"
    assert listed[2].split() == "c-lr0.002 failed -/10 - the command ended with exit code 3: no GPU".split()
    assert listed[3].split() == ["c-lr0.001", "done", "10/10", "2.5000"]
    logs = lehr("sweep", "logs", "dir", "c-lr0.002").out
    assert logs.startswith("c-lr0.002: failed, the command ended with exit code 3: no GPU\ndir/runs/")
    assert logs.endswith("out-1/output.txt\nno GPU\n")
    assert lehr("sweep", "retry", "dir", "c-lr0.001").out == "waiting again: none\n", "it is done"
    (tmp_path / "mended").touch()
    retried = lehr("sweep", "retry", "dir")
    assert retried.out == "waiting again: c-lr0.002\n" and "with the same --out trains them" in retried.err
    done = lehr("sweep", "run", sweep, "--out", "dir", "--workers", 1, "--store", "store", "--json")
    assert done.code == 0 and done.json["counts"]["done"] == 2 and done.json["not_stored"] == {}
    assert load_runs(tmp_path / "store").names == ("c-lr0.001", "c-lr0.002")
    again = lehr("sweep", sweep, "--out", "dir", "--workers", 1)
    assert (again.code, again.out) == (0, "c: 2 done\nfinal losses: dir/results.csv\n")


def test_the_folder_is_named_by_the_sweep_unless_given(lehr, sweep, tmp_path):
    (tmp_path / "mended").touch()
    assert "final losses: sweeps/c/results.csv" in lehr("sweep", sweep, "--workers", 1).out
    found = lehr("sweep", "status", "sweeps/c", "--json").json
    assert found.keys() == {"sweep", "folder", "counts", "runs"} and found["folder"] == "sweeps/c"
    assert found["runs"][0].keys() == {
        "name",
        "address",
        "state",
        "step",
        "steps",
        "loss",
        "reason",
        "silent_seconds",
    }
    assert [run["state"] for run in found["runs"]] == ["done", "done"]
    logs = lehr("sweep", "logs", "sweeps/c", found["runs"][0]["address"], "--json").json
    assert logs["name"] == "c-lr0.001" and list(logs["ends"].values()) == [[]]


def test_a_dry_run_writes_nothing_and_says_what_is_to_be_trained(lehr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("S.toml").write_text(OWN)
    outcome = lehr("sweep", "run", "S.toml", "--dry-run")
    assert outcome.code == 0 and [path.name for path in tmp_path.iterdir()] == ["S.toml"]
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["run", "state", "updates", "FLOPs", "GiB"]
    assert lines[2].split()[:3] == ["own-peak_lr0.01-r0.2", "waiting", "200"]
    assert (
        lines[-1].startswith("4 of 4 runs to train: ") and "time unknown until a run has ended" in lines[-1]
    )
    found = lehr("sweep", "S.toml", "--dry-run", "--json").json
    assert found["to_train"] == 4 and found["worker_seconds"] is None
    flops = [run["flops"] for run in found["runs"]]
    assert found["flops"] == sum(flops) and flops[1] == flops[0] / 5 and found["memory_bytes"] > 16 * 3000


def test_a_dry_run_knows_what_is_done_and_how_long_it_took(lehr, sweep, tmp_path):
    (tmp_path / "mended").touch()
    assert lehr("sweep", sweep, "--out", "dir", "--workers", 1).code == 0
    sweep.write_text(sweep.read_text().replace("[1e-3, 2e-3]", "[1e-3, 2e-3, 4e-3]"))
    found = lehr("sweep", sweep, "--out", "dir", "--dry-run", "--json").json
    assert [run["state"] for run in found["runs"]] == ["done", "done", "waiting"]
    assert found["to_train"] == 1 and found["worker_seconds"] > 0


def test_cancel_ends_what_waits(lehr, sweep, tmp_path):
    from tests.proxy.sweep.made import laid

    queue, plan = laid(tmp_path, sweep)
    assert lehr("sweep", "cancel", queue.folder, "*2").out == "asked to cancel: c-lr0.002\n"
    assert lehr("sweep", "cancel", queue.folder, "--json").json == {"runs": ["c-lr0.001"]}
    assert lehr("sweep", "status", queue.folder, "--json").json["counts"]["cancelled"] == 2
    beat = Beat(queue)
    assert one_round(queue, read_plan(queue.folder), beat) == (0, 0)
    beat.close()
    assert lehr("sweep", "retry", queue.folder, "--json").json == {"runs": ["c-lr0.001", "c-lr0.002"]}
    assert Queue(queue.folder).ended() == {}


def test_retrying_a_trunk_lets_its_branches_wait_too(lehr, tmp_path, monkeypatch):
    from tests.proxy.sweep.made import laid, worked

    monkeypatch.chdir(tmp_path)
    queue, plan = laid(
        tmp_path, commands(tmp_path, "false", grid="lr = [1e-3]", more="[cooldowns]\nratios = [0.5]")
    )
    assert [each.state for each in worked(queue, plan).values()] == ["failed", "skipped"]
    assert (
        lehr("sweep", "retry", queue.folder, "c-lr0.001").out == "waiting again: c-lr0.001, c-lr0.001-r0.5\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("sweep", "absent.toml"), "error: cannot read absent.toml: No such file or directory"),
        (
            ("sweep", "status", "absent"),
            "error: absent holds no sweep: begin one with `lehr sweep run SWEEP.toml`.",
        ),
        (
            ("sweep", "SWEEP.toml", "--engine", "lcoal"),
            "error: unknown engine 'lcoal': did you mean 'local'?",
        ),
        (("sweep", "logs", "dir", "c-lr0.01"), "unknown run of sweep 'c' 'c-lr0.01': did you mean"),
    ],
)
def test_what_is_wrong_is_said_in_one_message(lehr, sweep, tmp_path, arguments, words):
    from lehr.proxy.sweep.jobs import write_plan
    from lehr.proxy.sweep.planning import plan_sweep
    from lehr.proxy.sweep.spec import load_sweep

    (tmp_path / "dir").mkdir()
    write_plan(tmp_path / "dir", plan_sweep(load_sweep(sweep), "S").plan)
    assert words in lehr(*arguments).refused()


def test_without_torch_own_trainings_are_refused_before_anything_is_written(lehr, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("S.toml").write_text(OWN)
    monkeypatch.setitem(sys.modules, "torch", None)
    message = lehr("sweep", "S.toml").refused()
    assert message == "error: training needs torch: install it with `pip install 'lehr[train]'`.\n"
    assert not Path("sweeps").exists()


def test_ctrl_c_lets_the_workers_go_and_the_same_command_goes_on(sweep, tmp_path):
    (tmp_path / "train.sh").write_text("sleep 1\ncp sample.log $2\n")
    sweep.write_text(sweep.read_text().replace("[1e-3, 2e-3]", "[1e-3, 2e-3, 3e-3, 4e-3]"))
    command = [sys.executable, "-m", "lehr.cli.main", "sweep", str(sweep), "--out", "dir", "--workers", "1"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    queue, end = Queue(tmp_path / "dir"), time.monotonic() + 60
    while not queue.ended() and time.monotonic() < end:
        time.sleep(0.02)
    child.send_signal(signal.SIGINT)
    out, err = child.communicate(timeout=60)
    assert child.returncode == 1 and out == ""
    assert "error: stopped with " in err and " of 4 runs ended: the same command goes on." in err
    assert not queue.claimed() and 1 <= len(queue.ended()) < 4
    assert subprocess.run(command, capture_output=True, timeout=60).returncode == 0
    assert set(queue.ended().values()) == {"done"} and len(queue.ended()) == 4


def test_a_terminal_sees_a_live_table(lehr, sweep, tmp_path, monkeypatch):
    from lehr.cli import sweep as verb

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    (tmp_path / "mended").touch()
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    from tests.proxy.sweep.made import laid

    queue, plan = laid(tmp_path, sweep)
    claim = queue.claim(plan.jobs[0].address)
    with verb._table_of(queue, plan, True) as look:
        look(None)
    assert "1 waiting, 1 running" in terminal.getvalue() and "c-lr0.001" in terminal.getvalue()
    claim.release()
    with verb._table_of(queue, plan, False) as look:
        assert look is None


def test_status_of_ten_thousand_runs(lehr, tmp_path):
    from tests.proxy.sweep.made import laid

    path = commands(tmp_path, "true {n}", grid=f"lr = [1e-3]\nn = [{', '.join(map(str, range(10_000)))}]")
    queue, plan = laid(tmp_path, path)
    for job in plan.jobs[:9_000]:
        (queue.folder / "ended" / f"{job.address}.done").touch()
    found = lehr("sweep", "status", queue.folder)
    assert (
        found.out.startswith("c: 1000 waiting, 9000 done\n")
        and "and 9960 more; --all lists them" in found.out
    )


def test_a_dry_run_measures_the_time_where_it_is_asked_to(lehr, tmp_path, monkeypatch):
    pytest.importorskip("torch", reason="needs the [train] extra")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own.toml").write_text(OWN)
    before = lehr("sweep", "own.toml", "--dry-run").out
    assert "time unknown until a run has ended (--measure times a few updates)" in before
    found = lehr("sweep", "own.toml", "--dry-run", "--measure", "--workers", 1)
    assert found.code == 0 and " s of one worker by a few updates of each shape" in found.out
    assert found.err == "measuring the shape of own-peak_lr0.01\n"
    data = lehr("sweep", "own.toml", "--dry-run", "--measure", "--json").json
    assert data["worker_seconds"] > 0 and set(data["measured"][0]) == {
        "flops",
        "start",
        "update",
        "validation",
    }
    assert not (tmp_path / "sweeps").exists()
    message = lehr("sweep", "own.toml", "--measure").refused()
    assert (
        message
        == "error: --measure goes with --dry-run, which is not given: add it, or leave --measure out.\n"
    )


def test_commands_are_not_measured(lehr, sweep):
    found = lehr("sweep", sweep, "--dry-run", "--measure")
    assert found.code == 0 and "nothing was measured: only lehr's own trainings are" in found.err
    assert "time unknown until a run has ended" in found.out


@pytest.mark.parametrize(("ending", "start"), [("svg", b"<svg"), ("csv", b"panel,series")])
def test_the_status_is_drawn(lehr, sweep, tmp_path, ending, start):
    lehr("sweep", sweep, "--out", "dir", "--workers", 1)
    drawn = tmp_path / f"progress.{ending}"
    assert lehr("sweep", "status", "dir", "--figure", drawn).code == 0
    assert drawn.read_bytes().startswith(start)
    if ending == "csv":
        rows = drawn.read_text().splitlines()
        assert "1 state,,dots,measured,1.0,0.0,," in rows and any(
            ",final loss,dots,measured,0.5,2.5" in r for r in rows
        )
