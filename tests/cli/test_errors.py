"""Errors of the command line: one message on stderr, exit 2 or 1, never a traceback."""

import errno
import os
import subprocess
import sys

import pytest

from lehr.cli import main as entry
from lehr.errors import InputError, ResultError

PLAN = "wsd(steps=4000, peak=1e-3, warmup=200, decay=800)"


def test_missing_log(lehr, tmp_path):
    assert (
        "none.csv does not exist" in lehr("import", tmp_path / "none.csv", "--into", tmp_path / "s").refused()
    )
    assert not (tmp_path / "s").exists()


def test_missing_store(lehr, tmp_path):
    for verb in ("runs", "fit"):
        message = lehr(verb, tmp_path / "none").refused()
        assert "none is no store of runs: make one with `lehr import LOG... --into " in message


def test_missing_fit_file(lehr, tmp_path):
    text = f"{tmp_path / 'none.json'} does not exist: give a file made by `lehr fit --out`."
    assert text in lehr("predict", tmp_path / "none.json", "--schedule", PLAN).refused()
    assert text in lehr("recommend", tmp_path / "none.json", "--steps", 10, "--peak-lr", 1).refused()


def test_a_folder_in_place_of_the_fit_file(lehr, tmp_path):
    message = lehr("predict", tmp_path, "--schedule", PLAN).refused()
    assert "cannot be read as a file made by `lehr fit --out`" in message


def test_a_file_that_is_no_fit(lehr, tmp_path):
    (tmp_path / "f.json").write_text("{")
    assert "f.json is not a fit: " in lehr("predict", tmp_path / "f.json", "--schedule", PLAN).refused()
    (tmp_path / "f.json").write_bytes(b"\xff\xfe\x00")
    assert "cannot be read as" in lehr("predict", tmp_path / "f.json", "--schedule", PLAN).refused()


def test_unknown_law_comes_with_a_suggestion(lehr, store, fit_file):
    assert (
        "unknown law 'tisue': did you mean 'tissue'? Known: "
        in lehr("fit", store, "--law", "tisue").refused()
    )
    for rest in (
        ("predict", fit_file, "--schedule", PLAN),
        ("recommend", fit_file, "--steps", 9, "--peak-lr", 1),
    ):
        assert "unknown fitted law 'tisue': did you mean 'tissue'?" in lehr(*rest, "--law", "tisue").refused()


def test_a_stack_where_a_law_is_needed(lehr, store, fit_file):
    message = lehr("fit", store, "--law", "stack").refused()
    assert "a stack averages the laws that are fitted: use --law all --stack." in message
    message = lehr("fit", store, "--law", "tissue", "--stack", "--draws", 0).refused()
    assert "a stack averages at least two laws: fit more of them, such as --law all." in message
    message = lehr("predict", fit_file, "--schedule", PLAN, "--law", "stack").refused()
    assert "these fits hold no stack of laws: make them with `lehr fit --stack`." in message
    message = lehr("recommend", fit_file, "--steps", 9, "--peak-lr", 1, "--law", "stack").refused()
    assert "the stack of laws predicts curves (lehr predict) and answers nothing else: name one" in message


def test_no_workers(lehr, store):
    outcome = lehr("fit", store, "--workers", 0)
    assert outcome.code == 2 and "--workers" in outcome.err and "Traceback" not in outcome.err


def test_a_broken_schedule_shows_the_place(lehr, fit_file):
    spec = "wsd(steps=4000, peak=1e-3, decay=800"
    lines = lehr("predict", fit_file, "--schedule", spec).refused().splitlines()
    assert "expected ',' or ')', found the end of the text" in lines[0]
    assert lines[1] == "  " + spec
    assert lines[2] == "  " + " " * len(spec) + "^"


def test_an_unknown_key_in_a_schedule_shows_the_place_and_a_suggestion(lehr, fit_file):
    spec = "wsd(steps=4000, peek=1e-3, decay=800)"
    lines = lehr("predict", fit_file, "--schedule", spec).refused().splitlines()
    assert "unknown argument of wsd 'peek': did you mean 'peak'?" in lines[0]
    assert lines[2].index("^") == lines[1].index("peek")


def test_a_broken_schedule_is_refused_at_import(lehr, logs, tmp_path):
    arguments = ("import", logs / "wsd-0.001.csv", "--into", tmp_path / "s", "--schedule")
    assert "unknown schedule family 'wds': did you mean 'wsd'?" in lehr(*arguments, "wds(steps=4)").refused()
    assert not (tmp_path / "s").exists()


def test_no_such_folder_is_said_before_the_fit_begins(lehr, store, tmp_path, monkeypatch):
    monkeypatch.setattr("lehr.cli.fit.fit_all", lambda *a: pytest.fail("it must not fit first"))
    path = tmp_path / "none" / "f.json"
    text = f"the folder of {path} does not exist: create it first."
    assert text in lehr("fit", store, "--law", "tissue", "--out", path).refused()


def test_patterns_that_match_no_run(lehr, store):
    arguments = ("fit", store, "--law", "tissue")
    assert (
        "unknown run 'wsd-0.003': did you mean 'wsd-0.00"
        in lehr(*arguments, "--train", "wsd-0.003").refused()
    )
    assert "unknown run 'x*'" in lehr(*arguments, "--test", "x*").refused()


def test_runs_that_cannot_identify_the_law(lehr, store):
    message = lehr("fit", store, "--law", "tissue", "--train", "constant*").refused()
    assert "law tissue has an annealing term, but no run's LR falls before its last logged step" in message
    assert (
        "no run to fit: import at least one log."
        in lehr("fit", store, "--law", "tissue", "--test", "*").refused()
    )


def test_arguments_that_do_not_go_together(lehr, logs, tmp_path):
    into = ("--into", tmp_path / "s")
    message = lehr("import", *logs.glob("*.csv"), *into, "--name", "x").refused()
    assert "both begin at step" in message and "they are not parts of one run 'x'" in message
    for pair in ("loss", "=x", "loss="):
        message = lehr("import", logs / "wsd-0.001.csv", *into, "--column", pair).refused()
        assert f"--column {pair!r} must be ROLE=NAME, such as loss=val_loss." in message
    message = lehr("import", logs / "wsd-0.001.csv", *into, "--parent", "x").refused()
    assert "parent and branch_step go together" in message
    assert not (tmp_path / "s").exists()


def test_values_out_of_range(lehr, fit_file):
    predict = ("predict", fit_file, "--schedule", PLAN)
    assert "step 4001 lies outside 1 .. 4000" in lehr(*predict, "--at", 4001).refused()
    assert "step 0 lies outside 1 .. 4000" in lehr(*predict, "--at", 0).refused()
    assert "level must lie between 0 and 1, got 1.0: use e.g. 0.9." in lehr(*predict, "--level", 1).refused()
    recommend = ("recommend", fit_file, "--steps", 4000, "--peak-lr", 1e-3)
    message = lehr(*recommend, "--family", "cosine").refused()
    assert "unknown family with an annealing ratio 'cosine': Known: wsd." in message
    assert "level must lie between 0 and 1" in lehr(*recommend, "--level", 0).refused()
    assert "shape" in lehr(*recommend, "--shape", "strait").refused()
    message = lehr("recommend", fit_file, "--steps", 1, "--peak-lr", 1e-3).refused()
    assert "steps must leave room for a decay after the warm-up, got 1: plan a longer run." in message
    assert "peak" in lehr("recommend", fit_file, "--steps", 100, "--peak-lr", 0).refused()
    message = lehr("recommend", fit_file, "--steps", 100, "--peak-lr", "high").refused()
    assert "--peak-lr must be a number or auto, got 'high': give e.g. 1e-3." in message
    message = lehr("recommend", fit_file, "--steps", 100, "--tokens", 1e9, "--peak-lr", 1e-3).refused()
    assert "give the budget once, as steps, tokens or flops; got steps, tokens." in message


@pytest.mark.parametrize(
    "arguments",
    [("fitt",), ("runs",), ("runs", "s", "--nope"), ("fit", "s", "--draws", "-1"), ("predict", "f")],
    ids=lambda a: " ".join(a),
)
def test_wrong_usage_exits_with_2_and_no_traceback(lehr, arguments):
    outcome = lehr(*arguments)
    assert outcome.code == 2 and outcome.out == ""
    assert "Usage: " in outcome.err and "Traceback" not in outcome.err


# a full disk


def full(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_fit_and_exits_with_1(lehr, store, tmp_path, monkeypatch, function):
    path = tmp_path / "fit.json"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(os, function, full)
        outcome = lehr("fit", store, "--law", "one_power", "--draws", 0, "--out", path)
    message = outcome.refused(1)
    assert f"could not write {path}: No space left on device; what was there is untouched." in message
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["fit.json"], "no temporary file is left"


def test_a_full_disk_at_import_exits_with_1(lehr, logs, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", full)
        outcome = lehr("import", logs / "wsd-0.001.csv", "--into", tmp_path / "s")
    assert "No space left on device" in outcome.refused(1)
    assert lehr("import", logs / "wsd-0.001.csv", "--into", tmp_path / "s").code == 0


@pytest.mark.parametrize(
    ("error", "code"),
    [(InputError("wrong"), 2), (ResultError("beyond reach"), 1), (OSError("the disk is on fire"), 1)],
)
def test_errors_become_exit_codes(monkeypatch, capsys, error, code):
    def fail():
        raise error

    monkeypatch.setattr(entry, "app", fail)
    with pytest.raises(SystemExit) as stop:
        entry.main()
    assert stop.value.code == code
    assert capsys.readouterr().err == f"error: {error}\n"


def test_the_installed_command_exits_with_2_and_one_message(tmp_path):
    command = [sys.executable, "-m", "lehr.cli.main", "runs", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
