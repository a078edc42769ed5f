"""`lehr branch`: its text and JSON, logs that grow, are rotated or absent, the watch and its end."""

import json
import os
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest
from tests.synthetic import CASES

from lehr.fit.files import load_fits
from lehr.laws.law import Conditions
from lehr.schedule.families import constant, wsd
from lehr.schedule.spec import parse

PLAN = "constant(steps=4000, peak=0.001, warmup=200)"
TRUNK = parse(PLAN)
KEYS = {"run", "steps_done", "loss", "law", "deadline_steps", "target_loss", "horizon_steps", "reached",
        "probability", "best", "low", "high", "options", "planned", "update", "warnings"}  # fmt: skip
DECAY = {"start", "decay_steps", "steps", "shape", "final_loss", "final_loss_low", "final_loss_high", "cost",
         "schedule"}  # fmt: skip


def row(step, schedule=TRUNK):
    """A line of a log of the law that the fit is of."""
    loss = CASES["tissue"].loss(Conditions(schedule), np.array([float(step)]))[0]
    lr = schedule.lr(np.array([min(step, schedule.steps - 1)]))[0]
    return f"{step},{float(lr)!r},{float(loss)!r}\n"


def text(last, first=100, schedule=TRUNK):
    return "".join(row(step, schedule) for step in range(first, last + 1, 100))


HEADER = "step,lr,loss\n"


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "trunk.csv"
    path.write_text(HEADER + row(1) + text(2000))
    return path


@pytest.fixture
def ask(lehr, fit_file, log):
    return lambda *arguments: lehr("branch", fit_file, log, *arguments)


def test_json_with_a_deadline(ask):
    found = ask("--deadline-steps", 4000, "--json").json
    assert found.keys() == KEYS
    assert (found["run"], found["steps_done"], found["law"]) == ("trunk", 2000, "tissue")
    assert (found["deadline_steps"], found["target_loss"], found["reached"]) == (4000, None, None)
    for decay in (found["best"], *found["options"]):
        assert decay.keys() == DECAY
        assert decay["steps"] == decay["start"] + decay["decay_steps"] == 4000
        assert decay["final_loss_low"] < decay["final_loss"] < decay["final_loss_high"]
        assert parse(decay["schedule"]).steps == 4000
    assert found["options"][0]["start"] == 2000
    assert found["low"] <= found["best"]["start"] <= found["high"]
    assert found["update"].keys() == {"points", "scale", "shift"}


def test_json_with_a_target(ask):
    end = ask("--deadline-steps", 3500, "--json").json["best"]["final_loss"]
    found = ask("--target-loss", end, "--json").json
    assert found["reached"] and found["best"]["steps"] == pytest.approx(3500, rel=0.02)
    assert found["best"]["final_loss"] <= end
    assert found["horizon_steps"] == 4000 and 0 < found["probability"] <= 1
    never = ask("--target-loss", 1.5, "--horizon-steps", 9000, "--json").json
    assert not never["reached"] and never["best"]["steps"] == never["horizon_steps"] == 9000
    assert never["low"] is None and never["probability"] < 0.01


def test_text_with_a_deadline(ask):
    outcome = ask("--deadline-steps", 4000, "--shape", "sqrt", "--final", 1e-5, "--level", 0.8)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].startswith("trunk at step 2000: loss 2.")
    assert "law tissue, " in lines[0] and "off before it was updated with 19 points" in lines[0]
    assert lines[1].startswith("decay from step ") and "(sqrt): predicted final loss 2." in lines[1]
    assert "; best start between " in lines[1]
    assert lines[2].startswith("schedule wsd(steps=4000, peak=0.001, warmup=200, decay=")
    assert lines[4].split() == "start decay ends at shape final loss low high costs, nats".split()
    assert lines[5].split()[:4] == ["2000", "2000", "4000", "sqrt"]
    assert "warning: law tissue is degenerate" in outcome.err
    assert "schedule inferred from the LR column: constant" in outcome.err


def test_text_with_a_target(ask):
    found = ask("--target-loss", 2.6, "--horizon-steps", 20000).out.splitlines()
    assert " reaches 2.6 at step " in found[1] and "; chance within 20000 updates " in found[1]
    assert found[4].endswith("costs, updates")
    never = ask("--target-loss", 1.5).out.splitlines()[1]
    assert never.startswith("1.5 is not reached within 4000 updates; the best decay from step ")
    assert never.endswith("; chance within 4000 updates 0.1%")


def test_the_planned_schedule_is_the_deadline_and_a_row(ask):
    found = ask("--schedule", "wsd(steps=4000, peak=1e-3, warmup=200, decay=100)", "--json").json
    assert found["deadline_steps"] == 4000
    assert found["planned"]["start"] == 3900 and found["planned"]["shape"] == "planned"
    assert found["planned"]["cost"] > 0.01
    assert ask("--schedule", PLAN).out.splitlines()[-1].split()[:4] == ["4000", "0", "4000", "planned"]


def test_a_cooldown_is_joined_to_its_parent(ask, lehr, fit_file, log, tmp_path):
    plan = wsd(steps=4000, peak=1e-3, warmup=200, decay=1900)
    child = tmp_path / "child.csv"
    child.write_text(HEADER + text(2600, 2100, plan))
    arguments = ("branch", fit_file, child, "--schedule",
                 "wsd(steps=4000, peak=1e-3, warmup=200, decay=1900)", "--json")  # fmt: skip
    alone, joined = lehr(*arguments).json, lehr(*arguments, "--parent", log).json
    assert (alone["update"]["points"], joined["update"]["points"]) == (6, 6 + 19)
    assert joined["run"] == "child" and joined["steps_done"] == 2600
    other = tmp_path / "other.csv"
    schedule = constant(steps=4000, peak=2e-3, warmup=200)
    other.write_text(HEADER + row(1, schedule) + text(2000, schedule=schedule))
    message = lehr(*arguments, "--parent", other).refused()
    assert "run 'child': its LR at update " in message and "is not that of 'other'" in message
    other.write_text(HEADER + "1,0.001,\n" + text(3000, 2700))
    message = lehr(*arguments, "--parent", other).refused()
    assert (
        "other.csv: none of its losses comes before step 2100, the first of run 'child': give the log"
        in message
    )


def test_a_last_line_without_its_end_is_left_out(ask, log):
    with log.open("a") as file:
        file.write("2100,0.001,2.")
    outcome = ask("--deadline-steps", 4000, "--json")
    assert outcome.json["steps_done"] == 2000
    assert "the last line has no end yet and was left out" in outcome.err


def test_wrong_input_is_one_message(ask, lehr, fit_file, log, tmp_path):
    none = tmp_path / "none.csv"
    assert "none.csv does not exist: check its name." in lehr("branch", fit_file, none).refused()
    assert "none.csv does not exist: give a file made by" in lehr("branch", none, log).refused()
    assert "run 'trunk' has no plan beyond step 2000: give a deadline (--deadline-steps)" in ask().err
    assert "a deadline and a target were given" in ask("--target-loss", 2, "--deadline-steps", 4000).refused()
    assert "--every must be a number of seconds above 0, got 0.0: use e.g. 30." in ask("--every", 0).refused()
    assert "--column 'loss' must be ROLE=NAME" in ask("--column", "loss").refused()
    assert "did you mean 'linear'?" in ask("--shape", "lineal", "--watch").refused()
    assert "deadline must lie beyond the 2000 updates" in ask("--deadline-steps", 2000).err
    log.write_text(HEADER)
    assert "trunk.csv: no row has a number as its loss" in ask("--deadline-steps", 4000).refused()


# the watch


@pytest.fixture
def watch(lehr, fit_file, log, monkeypatch):
    """Watch `log`; before each new look the next of the given actions is taken, then Ctrl-C is pressed."""

    def run(*actions, arguments=("--deadline-steps", 4000)):
        left = list(actions)

        def sleep(seconds):
            assert seconds == 5
            if not left:
                raise KeyboardInterrupt
            left.pop(0)()

        with monkeypatch.context() as patch:
            patch.setattr("lehr.cli.watching.time.sleep", sleep)
            outcome = lehr("branch", fit_file, log, *arguments, "--shape", "linear", "--watch", "--every", 5)
        assert not left
        return outcome

    return run


def steps(outcome):
    assert outcome.code == 0, outcome.err
    return [int(line.split()[1]) for line in outcome.out.splitlines()]


def append(log, more):
    def act():
        with log.open("a") as file:
            file.write(more)

    return act


def test_each_new_answer_is_a_line(watch, log):
    outcome = watch(append(log, row(2100)), append(log, row(2200) + row(2300)), lambda: None)
    assert steps(outcome) == [2000, 2100, 2300]
    line = outcome.out.splitlines()[0]
    assert " loss 2." in line and ": decay from step " in line and "; starting now costs 0.0" in line
    assert outcome.err.splitlines()[0] == f"watching {log}; Ctrl-C ends"
    assert outcome.err.splitlines()[-1] == "ended"
    assert outcome.err.count("warning: law tissue is degenerate") == 1, "each warning once"


def test_json_lines(watch, log):
    outcome = watch(append(log, row(2100)), arguments=("--target-loss", 2.6, "--json"))
    answers = [json.loads(line) for line in outcome.out.splitlines()]
    assert [answer["steps_done"] for answer in answers] == [2000, 2100]
    assert all(answer["best"].keys() == DECAY for answer in answers)


def test_half_a_line_is_no_news(watch, log):
    line = row(2100)
    outcome = watch(append(log, line[:7]), append(log, line[7:-1]), append(log, "\n"))
    assert steps(outcome) == [2000, 2100]


def test_an_absent_log_is_waited_for(watch, log):
    kept = log.read_text()
    outcome = watch(log.unlink, lambda: None, lambda: log.write_text(kept), append(log, row(2100)))
    assert steps(outcome) == [2000, 2100]
    assert outcome.err.count(f"waiting: {log} is absent") == 1
    log.unlink()
    outcome = watch(lambda: log.write_text(""), lambda: log.write_text(kept))
    assert steps(outcome) == [2000]
    assert f"waiting: {log} is absent" in outcome.err and f"waiting: {log} has no row yet" in outcome.err


def test_a_rotated_log_goes_on_with_its_past(watch, log):
    def rotate():
        log.rename(log.with_suffix(".csv.1"))
        log.write_text(row(2100))

    outcome = watch(rotate, append(log, row(2200)), arguments=("--deadline-steps", 4000, "--json"))
    answers = [json.loads(line) for line in outcome.out.splitlines()]
    assert [answer["update"]["points"] for answer in answers] == [19, 20, 21]
    assert [answer["steps_done"] for answer in answers] == [2000, 2100, 2200]


def test_a_truncated_log_goes_on(watch, log):
    """Emptied in place, then written on; and a restart that repeats steps."""
    outcome = watch(lambda: log.write_text(""), append(log, row(2100)), append(log, row(2200)),
                    lambda: log.write_text(HEADER + text(2300, 2100)))  # fmt: skip
    assert steps(outcome) == [2000, 2100, 2200, 2300]


def test_a_log_broken_for_the_moment_is_a_remark(watch, log):
    kept = log.read_text()
    outcome = watch(lambda: log.write_text(HEADER + "1,0.001,x\n"), lambda: log.write_text(kept + row(2100)))
    assert steps(outcome) == [2000, 2100]
    assert f"waiting: {log}, line 23: column 'loss' must hold numbers" in outcome.err
    assert f"(Lines seen at {log} before it was rotated count as its first.)" in outcome.err


def test_too_short_a_log_is_waited_for(watch, log):
    log.write_text(HEADER + row(1) + text(300))
    outcome = watch(append(log, text(900, 400)))
    assert steps(outcome) == [900]
    assert "waiting: run 'trunk': 2 of its 4 points come after the burn-in of 200 updates" in outcome.err


def test_the_deadline_ends_it(watch, log):
    outcome = watch(append(log, text(4000, 2100)))
    assert steps(outcome) == [2000]
    assert outcome.err.endswith("ended: the deadline of 4000 updates has been reached\n")


def test_the_watch_writes_nothing(watch, log, fit_file, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in (*tmp_path.iterdir(), *fit_file.parent.iterdir())}
    watch(lambda: None)
    assert before == {
        path: path.stat().st_mtime_ns for path in (*tmp_path.iterdir(), *fit_file.parent.iterdir())
    }


# where the tests run in the background, their children would ignore Ctrl-C
MAIN = "import signal; signal.signal(2, signal.default_int_handler); from lehr.cli.main import main; main()"


def start(fit_file, log):
    command = [sys.executable, "-c", MAIN, "branch", str(fit_file), str(log), "--deadline-steps", "4000", "--shape",
               "linear", "--watch", "--every", "0.05"]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    limit = threading.Timer(60, process.kill)
    limit.daemon = True
    limit.start()
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal there")
def test_ctrl_c_ends_the_real_thing_cleanly(fit_file, log):
    process = start(fit_file, log)
    assert process.stdout.readline().startswith("step 2000 loss 2.")
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 0 and out == ""
    assert err.endswith("ended\n") and "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise there")
def test_a_reader_that_goes_away_ends_it_without_noise(fit_file, log):
    process = start(fit_file, log)
    assert process.stdout.readline()
    process.stdout.close()
    append(log, row(2100))()
    err = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert "Traceback" not in err and "BrokenPipe" not in err


def test_the_fit_is_not_changed_by_asking(ask, fit_file):
    before = fit_file.read_bytes()
    ask("--deadline-steps", 4000)
    assert fit_file.read_bytes() == before and load_fits(fit_file).chosen == "tissue"
    assert not [name for name in os.listdir(fit_file.parent) if name.startswith(".")]
