import csv
import io
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.runs import duck
from lehr.runs.readers import wandb_export
from lehr.runs.readers.wandb_export import SAMPLED

DRAWN = "a chart of W&B: points are those that were drawn, sampled from the run's history"
OWN_STEP = "steps are W&B's own _step: the number given to log(step=...), else a count of calls of log"


def chart(axis="Step", runs=("a",), metrics=("loss",), rows=((0, 3.0), (100, 2.5)), step=None, spread=0.0):
    """Write a chart's CSV as W&B does; each row is the x and the value of every column."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    names, values = [axis], []
    for run in runs:
        for metric in (("_step",) if step else ()) + tuple(metrics):
            names += [f"{run} - {metric}{bound}" for bound in ("", "__MIN", "__MAX")]
    writer.writerow(names)
    for place, (x, value) in enumerate(rows):
        values = [x]
        for _ in runs:
            if step:
                values += [step[place]] * 3
            for _ in metrics:
                values += ["", "", ""] if value is None else [value, value - spread, value + spread]
        writer.writerow(values)
    return out.getvalue().replace("\r\n", "\n")


@pytest.fixture
def load(tmp_path):
    def load_(content, name="wandb_export.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        assert wandb_export.sniff(path)
        return wandb_export.logs(path)

    return load_


def test_a_chart_of_several_runs(load):
    logs = load(chart(runs=("a - b", "lr=1e-3, wd - 0.1"), metrics=("train/loss", "val/loss")))
    assert [log.name for log in logs] == ["a - b", "lr=1e-3, wd - 0.1"]
    for log in logs:
        assert {name: (s.step.tolist(), s.value.tolist()) for name, s in log.series.items()} == {
            "train/loss": ([0, 100], [3.0, 2.5]), "val/loss": ([0, 100], [3.0, 2.5]),
        }  # fmt: skip
        assert log.report == (DRAWN, OWN_STEP)
        assert log.place("val/loss", 1).endswith("wandb_export.csv, line 3")


def test_empty_cells_belong_to_other_runs(load):
    text = "Step,a - loss,a - loss__MIN,a - loss__MAX,b - loss,b - loss__MIN,b - loss__MAX\n"
    (a, b) = load(text + "0,3,3,3,,,\n5,,,,2.5,2.5,2.5\n7,NaN,NaN,NaN,,,\n")
    assert a.series["loss"].step.tolist() == [0, 7]
    assert math.isnan(a.series["loss"].value[1])
    assert a.series["loss"].line.tolist() == [2, 4]
    assert b.series["loss"].step.tolist() == [5]


def test_means_over_rows_are_told(load):
    (log,) = load(chart(spread=0.25))
    assert (
        log.report[2]
        == "loss: means over several rows, as __MIN and __MAX differ; export the run's history instead"
    )


def test_another_counter_as_x_axis(load):
    (log,) = load(
        chart(axis="train/global_step", metrics=("train/loss",), rows=((10, 3.0), (20, 2.5)), step=(5, 9))
    )
    assert log.series["train/loss"].step.tolist() == [4, 14]  # the Trainer's means
    assert log.roles == {"train": "train/loss"}
    assert "steps are those of 'train/global_step', the chart's x axis" in log.report


def test_names_are_exact_where_their_steps_are_told(load):
    (log,) = load(chart(axis="iter", runs=("a",), metrics=("x - y",), step=(5, 9)))
    assert (log.name, list(log.series)) == ("a", ["x - y"])


def test_an_x_axis_that_counts_no_updates(load):
    (log,) = load(chart(axis="Relative Time (Process)", rows=((0.5, 3.0), (9.25, 2.5)), step=(7, 9)))
    assert log.series["loss"].step.tolist() == [7, 9]
    assert "the x axis 'Relative Time (Process)' counts no updates: steps are W&B's own _step" in log.report
    with pytest.raises(
        InputError, match=r"the x axis 'epoch' counts no updates: choose Step, or the run's own"
    ):
        load(chart(axis="epoch"))
    with pytest.raises(InputError, match="column 'Step' must count updates, from 0: export the chart again"):
        load(chart(rows=((0.5, 3.0), (1, 2.0))))


def test_tokens_as_x_axis(load):
    (log,) = load(chart(axis="n_tokens_seen", rows=((1_000_000, 3.0), (2_000_000, 2.5))))
    assert (log.axis, log.series["loss"].step.tolist()) == ("tokens", [1_000_000, 2_000_000])


def test_a_row_without_a_step_is_told(load):
    (log,) = load(chart(rows=((0, 3.0), ("", 2.5))))
    assert log.series["loss"].value.tolist() == [3.0]
    assert "1 values of loss stand in rows without a step and were left out" in log.report


def test_runs_of_one_name_are_refused(load):
    with pytest.raises(
        InputError, match=r"two columns are called 'a - loss': two runs have one name; rename one"
    ):
        load(chart(runs=("a", "a")))


def test_a_cell_that_is_no_number(load):
    text = chart().replace("2.5", "high", 1)
    with pytest.raises(
        InputError, match=r"wandb_export\.csv, line 3: column 'a - loss' must hold numbers, got 'high'"
    ):
        load(text)


def test_cut_off_anywhere_is_an_error_or_told(tmp_path):
    path = tmp_path / "cut.csv"
    whole = chart(metrics=("x",), rows=((0, 3), (10, 25)))
    path.write_text(whole)
    assert not any("has no end" in line for line in wandb_export.logs(path)[0].report)
    for size in range(1, len(whole)):
        path.write_text(whole[:size])
        wandb_export.sniff(path)
        try:
            (log,) = wandb_export.logs(path)
        except InputError:
            continue
        ended = whole[size - 1] == "\n"
        assert ended != (
            "the last line has no end: if the file was cut off, the numbers in it are not whole" in log.report
        )


HISTORY = [
    {
        "_step": 0,
        "_runtime": 1.5,
        "_timestamp": 1e9,
        "iter": 0,
        "train/loss": 4.0,
        "lr": 0.0,
        "note": "hello",
    },
    {"_step": 1, "_runtime": 2.5, "_timestamp": 1e9 + 1, "iter": 0, "val/loss": 5.0},
    {"_step": 2, "_runtime": 3.5, "_timestamp": 1e9 + 2, "iter": 10, "train/loss": math.nan, "lr": 1e-3},
    {"_step": 3, "_runtime": 4.5, "_timestamp": 1e9 + 3, "iter": 20, "train/loss": 2.0, "lr": 1e-3},
]


def as_text(kind):
    if kind == "json-lines":
        return "\n".join(json.dumps(row) for row in HISTORY)
    if kind == "json":
        return json.dumps(HISTORY)
    out = io.StringIO()
    writer = csv.DictWriter(
        out, ["_step", "_runtime", "_timestamp", "iter", "train/loss", "val/loss", "lr", "note"]
    )
    writer.writeheader()
    writer.writerows(HISTORY)
    return out.getvalue()


def check(log):
    assert {name: (s.step.tolist(), s.time.tolist()) for name, s in log.series.items()} == {
        "train/loss": ([0, 10, 20], [1e9, 1e9 + 2, 1e9 + 3]), "val/loss": ([0], [1e9 + 1]),
        "lr": ([0, 10, 20], [1e9, 1e9 + 2, 1e9 + 3]),
    }  # fmt: skip
    np.testing.assert_array_equal(log.series["train/loss"].value, [4, math.nan, 2])
    assert "columns without numbers were left out: note" in log.report
    assert "steps are those of 'iter', not W&B's own _step" in log.report


@pytest.mark.parametrize("kind", ["json-lines", "json", "csv"])
def test_histories_as_text(load, kind):
    (log,) = load(as_text(kind), name="my run.txt")
    check(log)
    assert log.name == "my run"


def test_history_as_parquet(load, tmp_path):
    source, target = tmp_path / "rows.json", tmp_path / "abc-history" / "0000.parquet"
    source.write_text(as_text("json-lines"))
    target.parent.mkdir()
    duck.connect().execute(f"COPY (SELECT * FROM read_json('{source}')) TO '{target}' (FORMAT PARQUET)")
    (log,) = load(target.read_bytes(), name="abc.parquet")
    check(log)
    (log,) = wandb_export.logs(target)
    assert log.name == "abc-history"


def test_nan_of_pandas_is_a_missing_cell(tmp_path):
    target = tmp_path / "run.parquet"
    sql = (
        "COPY (SELECT * FROM (VALUES (0::BIGINT, 1.5, 3.0::DOUBLE, 'nan'::DOUBLE), (1, 2.5, 'nan', 2.0)) "
        "AS t(_step, _runtime, train, val)) TO '{}' (FORMAT PARQUET, KV_METADATA {{pandas: 'x'}})"
    )
    duck.connect().execute(sql.format(target))
    assert wandb_export.sniff(target)
    (log,) = wandb_export.logs(target)
    assert {name: s.step.tolist() for name, s in log.series.items()} == {"train": [0], "val": [1]}
    assert log.report[0] == "the table was written by pandas: NaN was taken as a missing cell"


def test_a_sampled_history_is_told(load):
    (log,) = load("\n".join(json.dumps({"_step": 7 * n, "loss": 1.0}) for n in range(SAMPLED)))
    assert log.report[0].startswith("500 rows, as many as run.history() samples")


def test_values_of_the_public_interface(load):
    rows = [{"_step": 0, "loss": "NaN"}, {"_step": 1, "loss": "Infinity"}, {"_step": 2, "loss": "x"}]
    (log,) = load("\n".join(json.dumps(row) for row in rows))
    np.testing.assert_array_equal(log.series["loss"].value, [math.nan, math.inf])
    assert log.report[0] == "1 cells are no numbers and were left out"


def test_cut_off_json_is_an_error_or_a_whole_number_of_rows(tmp_path):
    path = tmp_path / "cut.json"
    rows = [f'{{"_step":{step},"x":25}}' for step in range(2)]
    for whole in (f"[{','.join(rows)}]", "\n".join(rows)):
        for size in range(1, len(whole)):
            path.write_text(whole[:size])
            wandb_export.sniff(path)
            try:
                wandb_export.logs(path)
            except InputError:
                continue
            assert whole[size - 1] in "}\n"
            assert whole[0] == "{"


@pytest.mark.parametrize(
    "content",
    [
        "step,loss\n0,1\n",
        "Step,loss\n0,1\n",
        "a - b,c\n1,2\n",
        '{"step": 1}\n',
        "PAR1",
        "x",
        '{"history": {}}',
        "Step\n",
    ],
)
def test_what_is_no_export(tmp_path, content):
    path = tmp_path / "file"
    path.write_text(content)
    assert not wandb_export.sniff(path)
    with pytest.raises(InputError, match="is not an export of W&B|is not a table|cannot be read"):
        wandb_export.logs(path)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_mutations_raise_nothing_else(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("mutated") / "export"
    whole = bytearray(
        data.draw(st.sampled_from([chart(), as_text("csv"), as_text("json"), as_text("json-lines")])).encode()
    )
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    wandb_export.sniff(path)
    try:
        found = wandb_export.logs(path)
    except InputError:
        return
    for log in found:
        assert all(np.isfinite(series.step).all() for series in log.series.values())


@settings(max_examples=60, deadline=None)
@given(st.binary(min_size=1, max_size=300))
def test_random_bytes_raise_nothing_else(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("random") / "export"
    path.write_bytes(content)
    if wandb_export.sniff(path):
        try:
            wandb_export.logs(path)
        except InputError:
            return


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8),
        min_size=1,
        max_size=3,
        unique=True,
    ),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=8),
)
def test_what_is_written_is_read(tmp_path_factory, runs, values):
    path = tmp_path_factory.mktemp("round") / "export.csv"
    runs = [run for run in runs if not run.endswith(("__MIN", "__MAX"))] or ["a"]
    path.write_text(
        chart(runs=runs, rows=[(10 * n, value) for n, value in enumerate(values)]), encoding="utf-8"
    )
    assert wandb_export.sniff(path)
    logs = wandb_export.logs(path)
    assert [log.name for log in logs] == runs
    for log in logs:
        assert log.series["loss"].value.tolist() == values
        assert log.series["loss"].step.tolist() == [10 * n for n in range(len(values))]
