"""Logs of lehr's own trainings: what is read from header and rows, and what is refused."""

import json

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.runs.following import read_growing
from lehr.runs.parents import resolve_parents
from lehr.runs.readers import detect, read
from lehr.runs.readers.reading import ReadOptions
from lehr.schedule.spec import parse

PLAN = "wsd(steps=20, peak=1e-2, warmup=4, decay=8)"
HEADER = {
    "lehr_run_log": 1, "name": "run a", "schedule": PLAN, "steps": 20, "parent": None, "branch_step": None,
    "params": 1000, "params_total": 1500, "batch_tokens": 64,
    "meta": {"dataset": "synthetic-x", "weight_decay": 0.1, "seed": 3},
    "config": {"name": "run a"}, "data_fingerprint": "x", "entropy": 1.5, "flops_per_token": 6000, "lehr": "0",
    "code": "c", "torch": "2", "ranks": 1,
}  # fmt: skip


def write(path, header=None, first=1, last=20, plan=PLAN, change=None):
    lr, rows = parse(plan).to_array(), []
    for s in range(first, last + 1):
        row = {
            "step": s,
            "lr": lr[s - 1],
            "train_loss": 4 - s / 10,
            "grad_norm": 1.0,
            "tokens": 64 * s,
            "seconds": s,
        }
        if s % 5 == 0:
            row["val_loss"] = 4.05 - s / 10
        rows.append({**row, **((change or {}).get(s, {}))})
    lines = [{**HEADER, **(header or {})}, *rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_the_validation_loss_is_the_default(tmp_path):
    path = write(tmp_path / "log.jsonl")
    assert detect(path) == "lehr"
    (reading,) = read(path)
    run = reading.run
    assert run.name == "run a" and run.schedule == parse(PLAN)
    assert run.step.tolist() == [5, 10, 15, 20]
    assert run.loss == pytest.approx(4.05 - run.step / 10)
    assert (run.params, run.params_total, run.batch_tokens) == (1000, 1500, 64)
    assert dict(run.meta) == {
        "source": "log.jsonl", "split": "val", "dataset": "synthetic-x", "weight_decay": 0.1, "seed": 3,
        "entropy": 1.5, "flops_per_token": 6000,
    }  # fmt: skip
    assert reading.report == ("columns: step=step, loss=val_loss; 4 of 20 rows have it",)


@pytest.mark.parametrize("options", [ReadOptions(split="train"), ReadOptions(columns={"loss": "train_loss"})])
def test_the_training_loss_is_that_before_the_update(tmp_path, options):
    (reading,) = read(write(tmp_path / "log.jsonl"), options)
    assert reading.run.step.tolist() == list(range(20))
    assert reading.run.loss == pytest.approx(4 - (reading.run.step + 1) / 10)
    assert reading.run.meta["split"] == "train"
    assert (
        "the training loss of row s is read at step s - 1: it was measured before that update"
        in reading.report
    )


def test_a_branch_has_its_parent_and_its_own_points(tmp_path):
    trunk = read(write(tmp_path / "t.jsonl", {"name": "trunk"}), ReadOptions(split="train"))[0].run
    header = {"parent": "trunk", "branch_step": 10}
    for split, first in (("val", 15), ("train", 11)):
        (reading,) = read(write(tmp_path / "b.jsonl", header, first=11), ReadOptions(split=split))
        run = reading.run
        assert (run.parent, run.branch_step, run.step[0]) == ("trunk", 10, first)
        assert "branched from 'trunk' after 10 updates" in reading.report
        assert resolve_parents([trunk, run])[1] == ("1 branches linked to their parents",)


def test_the_callers_word_counts(tmp_path):
    path = write(tmp_path / "log.jsonl")
    given = ReadOptions(name="b", params=1.0, params_total=2.0, batch_tokens=3.0, schedule=parse(PLAN))
    run = read(path, given)[0].run
    assert (run.name, run.params, run.params_total, run.batch_tokens) == ("b", 1, 2, 3)


def test_a_log_that_is_growing_is_read_to_its_last_whole_line(tmp_path):
    path = write(tmp_path / "log.jsonl", last=12)
    path.write_text(path.read_text() + '{"step":13,"lr"')
    for readings in (read(path), read_growing(path, ReadOptions())):
        assert readings[0].run.step.tolist() == [5, 10]
        assert readings[0].run.steps == 20


BROKEN = {
    "version": ({"lehr_run_log": 2}, {}, {}, "line 1: lehr_run_log must be 1, got 2: read the log with the version"),
    "schedule": ({"schedule": "wds(steps=3)"}, {}, {}, "line 1: schedule: .*unknown schedule.* 'wds'"),
    "another schedule": (
        {"schedule": "constant(steps=20, peak=1e-2)"}, {}, {},
        "the LR 0.0025 logged at step 1 contradicts the logged schedule, which uses 0.01 there: train the run again",
    ),
    "given schedule": (
        {}, {}, {"schedule": parse("constant(steps=20, peak=1e-2)")},
        "contradicts the given schedule, which uses 0.01 there: leave out --schedule",
    ),
    "split": ({}, {}, {"split": "test"}, "unknown split 'test'"),
    "role": ({}, {}, {"columns": {"lr": "x"}}, "unknown column role of a lehr run log 'lr'"),
    "column": ({}, {}, {"columns": {"loss": "grad_norm"}}, "unknown column of a lehr run log 'grad_norm'"),
    "a text": ({}, {5: {"val_loss": "x"}}, {}, "line 6: val_loss must be a number, got 'x': train the run again"),
    "backwards": ({}, {15: {"step": 3, "lr": 0.0075}}, {}, "line 16: step must rise from row to row, got 3: train"),
    "sizes": ({"params": -1}, {}, {}, "params must be above 0, got -1"),
    "sizes as text": ({"params": "many"}, {}, {}, "log.jsonl: '<' not supported"),
}  # fmt: skip


@pytest.mark.parametrize(("header", "change", "options", "message"), BROKEN.values(), ids=BROKEN)
def test_what_is_broken_is_refused_by_name(tmp_path, header, change, options, message):
    path = write(tmp_path / "log.jsonl", header, change=change)
    with pytest.raises(InputError, match=message):
        read(path, ReadOptions(**options))


def test_a_log_without_losses_is_refused(tmp_path):
    path = write(tmp_path / "log.jsonl", last=0)
    with pytest.raises(InputError, match="has no row yet: wait for the training"):
        read(path)
    with pytest.raises(
        InputError, match="no row has a val_loss yet: wait for the training, or choose the other"
    ):
        read(write(tmp_path / "log.jsonl", last=4))
    write(path).write_text(path.read_text().splitlines()[0] + "\nnot json\n")
    with pytest.raises(InputError, match="line 2 is not valid JSON"):
        read(path)


def test_json_lines_of_others_are_no_such_log(tmp_path):
    path = tmp_path / "log.jsonl"
    for text in ('{"step": 1, "loss": 3.0, "lr": 0.1}\n', '{"lehr_run_log": broken\n'):
        path.write_text(text * 3)
        assert detect(path) == "table"


def test_the_losses_of_a_real_training_are_read(tmp_path):
    pytest.importorskip("torch", reason="needs the [train] extra")
    from tests.proxy.tiny import tiny

    from lehr.proxy.runlog import read_log
    from lehr.proxy.train import train

    train(tiny("real", keep=[12]), tmp_path / "real")
    train(tiny("child", branch={"run": "real", "step": 12}), tmp_path / "child")
    runs = [read(tmp_path / name / "log.jsonl")[0].run for name in ("real", "child")]
    log = read_log(tmp_path / "real")
    assert runs[0].loss.tolist() == [row.val_loss for row in log.rows if row.val_loss is not None]
    assert runs[1].loss.tolist() == runs[0].loss.tolist()[1:]
    assert np.array_equal(runs[0].step, [8, 16, 24])
    assert len(resolve_parents(runs)[0]) == 2
    assert runs[0].params == log.header["params"] < runs[0].params_total
