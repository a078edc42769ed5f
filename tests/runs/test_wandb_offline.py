import json
import math
import struct
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.protobuf_writer import part
from tests.runs.wandb_journal import history, item, journal, read_one, rows, run

from lehr.runs.readers import leveldb_log, wandb_offline


@pytest.fixture
def load(tmp_path):
    def load_(*records, content=None):
        return read_one(tmp_path / "run-abc123.wandb", journal(*records) if content is None else content)

    return load_


def test_history_config_and_name(load):
    log = load(run(lr=1e-3, opt={"name": "adamw", "betas": [0.9, 0.95]}, _wandb={"x": 1}), *rows(3))
    assert log.name == "a run"
    assert log.config == {"lr": 1e-3, "opt.name": "adamw", "opt.betas.0": 0.9, "opt.betas.1": 0.95}
    assert list(log.series) == ["loss"]
    assert log.series["loss"].step.tolist() == [0, 1, 2]
    assert log.series["loss"].value.tolist() == [4, 3.5, 3 + 1 / 3]
    assert log.series["loss"].time.tolist() == [1e9, 1e9 + 1, 1e9 + 2]
    assert log.report == (
        "steps are W&B's own _step: the number given to log(step=...), else a count of calls of log",
    )


def test_name_falls_back_on_the_id_and_the_file(load):
    assert load(run(name=""), *rows(1)).name == "abc123"
    assert load(*rows(1)).name == "run-abc123"


def test_keys_of_either_kind_and_the_step_of_the_row(load):
    log = load(
        run(), history(1, nested=False, row=7, loss="2.5"), history(2, nested=False, row=-1, loss="2.25")
    )
    assert log.series["loss"].step.tolist() == [0, 1]  # -1 is no counter
    log = load(
        run(), history(1, nested=False, row=7, loss="2.5"), history(2, nested=False, row=9, loss="2.25")
    )
    assert log.series["loss"].step.tolist() == [7, 9]
    long = "key" * 60
    assert load(history(_step="5", **{long: "1.5"})).series[long].step.tolist() == [5]


def test_not_a_number_infinite_and_other_values(load):
    values = (
        "NaN",
        "Infinity",
        "-Infinity",
        '"NaN"',
        '"Infinity"',
        '"-Infinity"',
        "1e-3",
        "true",
        '"text"',
        "null",
        "[1]",
        "",
    )
    log = load(*(history(n, _step=str(n), x=value) for n, value in enumerate(values)))
    np.testing.assert_array_equal(
        log.series["x"].value, [math.nan, math.inf, -math.inf, math.nan, math.inf, -math.inf, 1e-3]
    )
    assert log.series["x"].step.tolist() == [0, 1, 2, 3, 4, 5, 6]
    assert log.report[0] == "5 values of the history are no numbers and were left out"


def test_nested_values(load):
    nested = b"\x08\x01" + part(2, part(1, item("_step", "3")) + part(1, item(("a", "b"), "1.5")))
    log = load(
        nested,
        history(2, _step="4", c='{"d": {"e": 2}, "f": true}', h='{"_type": "histogram", "bins": [1, 2]}'),
    )
    assert {name: (series.step.tolist(), series.value.tolist()) for name, series in log.series.items()} == {
        "a.b": ([3], [1.5]), "c.d.e": ([4], [2]),
    }  # fmt: skip
    deep = '{"x": ' * 5000 + "1" + "}" * 5000
    assert load(*rows(2), history(3, _step="4", deep=deep)).report[0].startswith("1 values of the history")


def test_of_two_values_of_a_row_the_last_counts(load):
    twice = b"\x08\x01" + part(
        2, b"".join(part(1, item(*pair)) for pair in (("_step", "1"), ("x", "2"), ("x", "3")))
    )
    log = load(history(0, _step="0", x="1"), twice, history(2, _step="2", x="4"))
    assert (log.series["x"].step.tolist(), log.series["x"].value.tolist()) == ([0, 1, 2], [1, 3, 4])


def test_a_counter_of_its_own_counts_before_the_step_of_wandb(load):
    log = load(
        history(0, _step="0", val="5.0"), history(1, _step="1", iter="100", loss="4.0"),
        history(2, _step="2", val="4.5"), history(3, _step="3", iter="200", loss="3.0"),
    )  # fmt: skip
    assert log.series["loss"].step.tolist() == [100, 200]
    assert log.series["val"].step.tolist() == [100, 100]
    assert "iter" not in log.series
    assert log.report == (
        "steps are those of 'iter', not W&B's own _step",
        "rows of val carry no iter: the last one logged before them was taken",
    )


def test_a_declared_step_metric_counts(load):
    declared = b"\x08\x01" + part(12, part(1, b"loss") + part(4, b"my_step"))
    log = load(declared, *(history(n, _step=str(n), my_step=str(50 * n), loss="1.0") for n in range(3)))
    assert log.series["loss"].step.tolist() == [0, 50, 100]


@pytest.mark.parametrize("values", [("0.5", "1.0"), ("7", "7"), ("-1", "0"), ("0", "NaN")])
def test_what_does_not_count_is_no_counter(load, values):
    log = load(*(history(n, _step=str(n), iter=value, loss="1.0") for n, value in enumerate(values)))
    assert log.series["loss"].step.tolist() == [0, 1]


def test_litgpt_counts_updates_by_step(load):
    more = {"iter_time": "1.0", "remaining_time": "1.0"}
    records = [
        history(
            n,
            _step=str(n),
            iter=str(8 * n),
            step=str(n),
            **{"trainer/global_step": str(8 * n), "loss": "3.0"},
            **more,
        )
        for n in range(1, 4)
    ]
    assert load(*records).series["loss"].step.tolist() == [
        0,
        1,
        2,
    ]  # the batch of the update that was counted


def test_config_may_change_and_shrink(load):
    def config(number, *items):
        return b"\x08\x01" + part(5, b"".join(part(number, data) for data in items))

    log = load(
        run(lr=1, opt={"a": 1, "b": 2}), *rows(2), config(1, item("opt", '{"c": 3}', nested=False)),
        config(1, item(("new", "deep"), "4")), config(2, item("lr", "", nested=False)),
        config(1, item("bad", "{", nested=False)),
    )  # fmt: skip
    assert log.config == {"opt.c": 3, "new.deep": 4, "bad": None}


def test_resumed_and_forked_runs_are_told(load):
    point = part(23, part(1, b"old") + b"\x11" + struct.pack("<d", 200.0) + part(3, b"_step"))
    log = load(run(extra=b"\x90\x01\x01" + point), *rows(1))
    assert log.report[:2] == (
        "the run abc123 was resumed",
        "the run abc123 was forked from the run old at _step 200",
    )


def test_long_records_cross_blocks(load):
    big = json.dumps("x" * 70_000)
    log = load(
        run(), *rows(20), history(20, _step="20", text=big, loss="9.0"), *rows(400, note=big[:300] + '"')
    )
    assert log.series["loss"].value.size == 421
    assert log.series["loss"].value[20] == 9.0


def test_a_file_of_many_reads(load, monkeypatch):
    monkeypatch.setattr(leveldb_log, "READ", leveldb_log.BLOCK)
    assert load(run(), *rows(1500)).series["loss"].value.size == 1500


def test_a_large_record_is_passed_over(load, monkeypatch):
    monkeypatch.setattr(leveldb_log, "LARGEST", 1000)
    log = load(run(), *rows(2), history(3, _step="3", loss="1.0", text=json.dumps("x" * 2000)), *rows(2))
    assert log.series["loss"].value.size == 4
    assert log.report[0] == "1 records above 64 MB were passed over"


# a text that is one of these words is how W&B writes the number
TEXTS = st.text(max_size=200).filter(lambda text: text not in ("NaN", "Infinity", "-Infinity"))


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.floats(), st.floats(allow_nan=False, allow_infinity=False), TEXTS),
        max_size=20,
    ),
    st.text(min_size=1, max_size=200).filter(lambda name: not name.startswith("_") and "*" not in name),
)
def test_what_is_written_is_read(tmp_path_factory, values, name):
    path = tmp_path_factory.mktemp("round") / "run-x.wandb"
    name = "m" + name.encode("utf-8", errors="replace").decode()
    records = [
        history(n, _step=str(3 * n), other=json.dumps(b), note=json.dumps(text), **{name: json.dumps(a)})
        for n, (a, b, text) in enumerate(values)
    ]
    path.write_bytes(journal(run(), *records))
    (log,) = wandb_offline.logs(path)
    assert set(log.series) == ({name, "other"} if values else set())
    for key, place in ((name, 0), ("other", 1)) if values else ():
        np.testing.assert_array_equal(log.series[key].value, [row[place] for row in values])
        # one row alone is a counter as well
        np.testing.assert_array_equal(log.series[key].step, [3 * n for n in range(len(values))])


@pytest.mark.filterwarnings("ignore")
def test_what_wandb_itself_writes(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    stdout, stderr = sys.stdout, sys.stderr
    rng = np.random.default_rng(0)
    loss, val = rng.normal(size=2000), rng.normal(size=2000)
    loss[5], loss[6] = math.nan, math.inf
    quiet = wandb.Settings(x_disable_stats=True, console="off")
    with wandb.init(
        project="p", name="my - run", dir=tmp_path, config={"lr": 1e-3, "o": {"b": [1]}}, settings=quiet
    ) as new:
        for step in range(2000):
            new.log({"train/loss": loss[step], "iter": 10 * step, "deep": {"x": np.float32(0.1)}})
            if step % 7 == 0:
                new.log({"val/loss": val[step], "image": "none"})
        new.config.update({"late": 5})
    sys.stdout, sys.stderr = stdout, stderr
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert wandb_offline.sniff(path)
    (log,) = wandb_offline.logs(path)
    assert (log.name, dict(log.config)) == ("my - run", {"lr": 1e-3, "o.b.0": 1, "late": 5})
    np.testing.assert_array_equal(log.series["train/loss"].value, loss)
    np.testing.assert_array_equal(log.series["train/loss"].step, 10 * np.arange(2000))
    np.testing.assert_array_equal(log.series["val/loss"].value, val[::7])
    np.testing.assert_array_equal(log.series["val/loss"].step, 10 * np.arange(0, 2000, 7))
    assert set(log.series["deep.x"].value) == {float(np.float32(0.1))}
    assert np.all(np.diff(log.series["train/loss"].time) >= 0)
    assert not any("cut off" in line or "checksum" in line for line in log.report)
