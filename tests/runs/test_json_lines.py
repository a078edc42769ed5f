import json
import logging

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.broken_files import cut_everywhere, mutations, read_all, values

from lehr.errors import InputError
from lehr.runs.readers import text_lines
from lehr.runs.readers.json_lines import logs, sniff
from lehr.schedule.families import cosine


def lingua(step, acc=0, loss=3.0, **more):
    """A row as lingua's MetricLogger prints it."""
    return {
        "global_step": step, "acc_step": acc, "speed/wps": 1e4, "optim/grad_norm": -1.0, "optim/lr": 1e-3 * step,
        "optim/total_tokens": 4096 * step, "memory/num_ooms": 0, "loss/out": loss,
        "created_at": f"2026-01-01T00:00:{step % 60:02d}.500000+00:00", **more,
    }  # fmt: skip


def put(folder, rows, name="metrics.jsonl"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    if isinstance(rows, bytes):
        path.write_bytes(rows)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def one(path):
    assert sniff(path)
    (log,) = logs(path)
    return log


def test_lingua(tmp_path):
    path = put(tmp_path / "dump", [lingua(10), lingua(20, loss=float("nan")), lingua(30)])
    settings = "name: my run\nsteps: 100\noptim:\n  lr: 0.001\n  scheduler: cosine\n  warmup: 10\n"
    (path.parent / "config.yaml").write_text(settings)
    log = one(path)
    assert log.name == "my run"
    assert dict(log.config) == {
        "name": "my run", "steps": 100, "optim.lr": 0.001, "optim.scheduler": "cosine", "optim.warmup": 10
    }  # fmt: skip
    assert log.schedule == cosine(steps=100, peak=0.001, warmup=10, warmup_phase=0, final=0.0001)
    loss, lr, tokens = (log.series[log.roles[role]] for role in ("train", "lr", "tokens"))
    assert loss.step.tolist() == lr.step.tolist() == [9, 19, 29]
    assert np.array_equal(loss.value, [3.0, np.nan, 3.0], equal_nan=True)
    assert tokens.step.tolist() == [10, 20, 30]
    assert loss.line.tolist() == [1, 2, 3]
    assert np.diff(loss.time).tolist() == [10, 10]
    assert log.report == (
        "names of lingua: steps by global_step",
        "5 settings from config.yaml, 0 that are no scalars left out",
    )


def test_lingua_within_an_update(tmp_path):
    log = one(put(tmp_path / "dump", [lingua(0, acc=1), lingua(1), lingua(1, acc=1), lingua(2)]))
    assert log.name == "dump"
    assert log.series["loss/out"].step.tolist() == [0, 0, 1, 1]
    assert log.series["optim/lr"].step.tolist() == [0, 0, 1, 1]


def test_lingua_validation(tmp_path):
    rows = [
        {
            "created_at": "2026-01-01T00:00:00",
            "global_step": 100 * k,
            "c4": {"nll": 9.0, "nll_per_token": 3.0 / k},
        }
        for k in (1, 2)
    ]
    log = one(put(tmp_path / "dump", rows, "metrics.validation.jsonl"))
    assert log.name == "dump"
    assert log.roles == {"val": "c4/nll_per_token"}
    assert log.series["c4/nll_per_token"].step.tolist() == [100, 200]


def test_olmo_core(tmp_path):
    rows = []
    for k in range(1, 7):
        rows.append({"step": k, "train/CE loss": 10.0 - k, "throughput/total tokens": 512 * k})
        rows.append({"step": k, "optim/LR (group 0)": 0.1 * k})
    rows.append({"step": 5, "eval/lm/c4-validation/CE loss": 4.5})
    log = one(put(tmp_path, rows, "tiny.jsonl"))
    assert log.name == "tiny"
    assert log.roles == {
        "train": "train/CE loss",
        "tokens": "throughput/total tokens",
        "val": "eval/lm/c4-validation/CE loss",
    }
    assert log.series["train/CE loss"].step.tolist() == list(range(6))
    assert log.series["optim/LR (group 0)"].step.tolist() == list(range(6))
    assert log.series["throughput/total tokens"].step.tolist() == list(range(1, 7))
    assert log.series["eval/lm/c4-validation/CE loss"].step.tolist() == [5]


def test_levanter(tmp_path):
    rows = [
        {
            "global_step": 0,
            "train/loss": 9.0,
            "run_progress": 0.0,
            "optim/learning_rate": 0.1,
            "throughput/total_tokens": 64,
        },
        {
            "global_step": 1,
            "train/loss": 8.0,
            "optim": {"learning_rate": 0.2},
            "throughput/total_tokens": 128,
        },
        {"global_step": 1, "eval/loss": 7.5, "eval": {"bpb": 1.5}},
    ]
    log = one(put(tmp_path, rows))
    told = {key: log.series[key].step.tolist() for key in (*log.roles.values(), "eval/bpb")}
    assert log.roles == {
        "train": "train/loss",
        "val": "eval/loss",
        "lr": "optim/learning_rate",
        "tokens": "throughput/total_tokens",
    }
    assert told == {
        "train/loss": [0, 1], "eval/loss": [2], "optim/learning_rate": [0, 1], "throughput/total_tokens": [1, 2],
        "eval/bpb": [2],
    }  # fmt: skip


def test_levanters_tracker_within_a_log(tmp_path, caplog):
    path = tmp_path / "run.log"
    logger = logging.getLogger("levanter.json_logger")
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s - 0 - %(name)s - %(levelname)s :: %(message)s"))
    logger.addHandler(handler)
    record = {
        "tracker": "json_logger",
        "event": "hparams",
        "hparams": {"lr": 0.1, "model": {"layers": 2, "x": [1]}},
    }
    try:
        logger.warning(json.dumps(record))
        for k in range(3):
            logger.warning("a line of another kind")
            logger.handlers[-1].stream.write("[1, 2]\n")
            metrics = {"train/loss": 9.0 - k, "global_step": k, "optim": {"learning_rate": 0.1 * k}}
            logger.warning(
                json.dumps({"tracker": "json_logger", "event": "log", "step": k, "metrics": metrics})
            )
        metrics = {"eval/loss": 7.5, "eval/c4/loss": 7.25}
        logger.warning(json.dumps({"tracker": "json_logger", "event": "log", "step": 2, "metrics": metrics}))
        logger.warning('{"tracker": "json_logger", "event": "log", "st')
    finally:
        logger.removeHandler(handler)
        handler.close()
    log = one(path)
    assert log.name == "run"
    assert dict(log.config) == {"lr": 0.1, "model.layers": 2}
    assert log.series["train/loss"].step.tolist() == [0, 1, 2]
    assert log.series["train/loss"].line.tolist() == [4, 7, 10]
    assert log.series["optim/learning_rate"].value.tolist() == [0, 0.1, 0.2]
    assert log.series["eval/loss"].step.tolist() == log.series["eval/c4/loss"].step.tolist() == [3]
    assert "1 lines of the tracker are cut or garbled and were left out" in log.report


def test_rows_that_nest_their_losses(tmp_path):
    rows = [
        {"step": 1, "train": {"loss": 3.0, "lr": 0.1}},
        {"step": 2, "train": {"loss": 2.5, "lr": 0.2}, "val": {"loss": 2.7}},
    ]
    log = one(put(tmp_path / "a run", rows))
    assert log.name == "a run"
    assert {key: one.step.tolist() for key, one in log.series.items()} == {
        "train/loss": [1, 2],
        "train/lr": [1, 2],
        "val/loss": [2],
    }


def test_many_runs_in_a_file(tmp_path, monkeypatch):
    rows = [lingua(k, loss=float(k), run=f"r{k % 2}") for k in range(1, 9)]
    for size in (1 << 22, 100):
        monkeypatch.setattr(text_lines, "BLOCK", size)
        found = {log.name: log for log in logs(put(tmp_path, rows))}
        assert sorted(found) == ["r0", "r1"]
        assert found["r1"].series["loss/out"].value.tolist() == [1, 3, 5, 7]
        assert found["r1"].report == ("names of lingua: steps by global_step",)
    rows = [lingua(1, run_id=f"{k}" * 9, run_name=name) for k, name in enumerate(["fox", "hen", "fox"])]
    assert sorted(log.name for log in logs(put(tmp_path, rows))) == ["fox-00000000", "fox-22222222", "hen"]


def test_a_resumed_log_keeps_its_order(tmp_path):
    log = one(put(tmp_path, [lingua(k) for k in (10, 20, 30, 20, 30, 40)]))
    assert log.series["loss/out"].step.tolist() == [9, 19, 29, 19, 29, 39]


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[1]\n", b"[]\n", b"1\n", b'{"step": 1, "loss": 2.0}\n', b"a,b\n1,2\n",
        b'{"step": 1, "train/loss": 2.0}\n',
        b'{"lehr_run_log": 1}\n{"step": 1, "train_loss": 2.0}\n', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000,
        b'{"_step": 1, "train/CE loss": 2.0, "step": 1}\n', b'{"step": 1, "train": {"accuracy": 2.0}}\n',
        b'{"train": {"loss": 2.0}}\n',
    ],
)  # fmt: skip
def test_what_is_left_to_other_readers(tmp_path, content):
    assert not sniff(put(tmp_path, content))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"global_step": 1}\n\n{"global_step": x}\n', "line 3 is not valid JSON: mend or remove the line"),
        (b'{"global_step": 1}\n[2]\n', "line 2 must be a JSON object, got list: mend or remove the line"),
        (b'{"global_step": 1}, {"a": 2}\n{"global_step": 1}\n', "line 1 is not valid JSON"),
        (b'{"global_step": 1, "a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\n", "line 1 is nested too deep"),
        (b'{"global_step": ' + b"9" * 5000 + b"}\n", "line 1 is not valid JSON"),
        (b'{"acc_step": 0, "global_step": 1.5}\n', r"line 1: global_step must be a whole number .*, got 1\.5"),
        (b'{"acc_step": 0, "global_step": -1}\n', r"line 1: global_step must be a whole number .*, got -1\.0"),
        (b'{"x": 0}\n', "has no step: give rows with a step"),
        (b"\n", "has no row of metrics yet: wait for the first log of the training"),
        (b'{"gl', "has no row of metrics yet"),
    ],
)  # fmt: skip
def test_malformed_files(tmp_path, content, message):
    with pytest.raises(InputError, match=message) as caught:
        list(logs(put(tmp_path, content)))
    assert "metrics.jsonl" in str(caught.value)


def test_cut_at_every_byte(tmp_path):
    content = "".join(json.dumps(lingua(k)) + "\n" for k in (10, 20, 30)).encode()
    assert cut_everywhere(logs, tmp_path / "metrics.jsonl", content, boundary=(b"\n", b"}")) > 300


def test_the_tracker_cut_at_every_byte(tmp_path):
    rows = [
        {
            "tracker": "json_logger",
            "event": "log",
            "step": k,
            "metrics": {"train/loss": 3.0, "run_progress": 0.1},
        }
        for k in range(3)
    ]
    content = "".join(f"INFO {json.dumps(row)}\n" for row in rows).encode()
    path = tmp_path / "run.log"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        found, text = read_all(logs, path)
        if found is None:
            assert "run.log" in text
        else:
            assert found[0].series["train/loss"].value.size == content[:length].count(b"}}\n") + content[
                :length
            ].endswith(b"}}")


@pytest.mark.parametrize("size", [1, 50, 333])
def test_blocks_of_any_size(tmp_path, monkeypatch, size):
    path = put(tmp_path, [lingua(k) for k in range(1, 20)] + [{"global_step": 19, "eval": {"a": {"b": 1.0}}}])
    (whole,) = logs(path)
    monkeypatch.setattr(text_lines, "BLOCK", size)
    (log,) = logs(path)
    assert values(log) == values(whole)


@settings(max_examples=150, deadline=None)
@given(
    content=mutations("".join(json.dumps(lingua(k)) + "\n" for k in (1, 2)).encode())
    | st.binary(max_size=200)
)
def test_noise_is_refused_or_read(tmp_path_factory, content):
    path = put(tmp_path_factory.getbasetemp() / "noise", content or b" ")
    sniff(path)
    read_all(logs, path)


NAMES = st.sampled_from(["loss/out", "optim/lr", "a", "b c", "ü/é"])
CELLS = st.floats() | st.integers(-(2**70), 2**70) | st.none() | st.text(max_size=3) | st.booleans()


@settings(max_examples=80, deadline=None)
@given(rows=st.lists(st.dictionaries(NAMES, CELLS), min_size=1, max_size=20))
def test_what_is_written_is_read(tmp_path_factory, rows):
    rows = [{"global_step": at + 1, "acc_step": 0, **row} for at, row in enumerate(rows)]
    (log,) = logs(put(tmp_path_factory.getbasetemp() / "written", rows))
    words = {"NaN", "nan", "Infinity", "inf", "-Infinity", "-inf"}
    for key in set().union(*rows) - {"global_step"}:
        told = [
            (row["global_step"], row[key])
            for row in rows
            if type(row.get(key)) in (int, float) or row.get(key) in words
        ]
        shift = 1 if key in ("loss/out", "optim/lr") else 0
        if told:
            assert log.series[key].step.tolist() == [step - shift for step, _ in told]
            assert np.array_equal(log.series[key].value, [float(value) for _, value in told], equal_nan=True)
        else:
            assert key not in log.series
