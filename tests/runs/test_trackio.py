import json
import os
import sqlite3
import warnings
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.broken_files import mutations, read_all

from lehr.errors import InputError
from lehr.runs.readers import databases, mlflow_sqlite
from lehr.runs.readers.trackio import logs, sniff
from lehr.schedule.families import wsd

SCHEMA = """
CREATE TABLE metrics (id INTEGER PRIMARY KEY AUTOINCREMENT, run_id TEXT NOT NULL, timestamp TEXT NOT NULL,
    run_name TEXT NOT NULL, step INTEGER NOT NULL, metrics TEXT NOT NULL);
CREATE TABLE configs (id INTEGER PRIMARY KEY, run_id TEXT NOT NULL, run_name TEXT, config TEXT, created_at TEXT);
"""
TIME = "2026-01-02T03:04:05.500000+00:00"
ROWS = [
    ("a" * 9, "fox", 0, {"train/loss": 9.0, "lr": 0.1}),
    ("b" * 9, "hen", 0, {"loss": 5.0}),
    ("a" * 9, "fox", 1, {"train/loss": "NaN", "lr": 0.2, "text": "x"}),
    ("a" * 9, "fox", 2, {"train/loss": "Infinity", "eval": {"loss": 4.5}}),
    ("c" * 9, "hen", 7, {"loss": 6.0}),
]


def project(
    path, rows=ROWS, schema=SCHEMA, config='{"lr": 0.1, "model": {"width": 64}, "_Username": "me", "l": [1]}'
):
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("PRAGMA page_size = 512;" + schema)
        for run, name, step, metrics in rows:
            text = metrics if isinstance(metrics, str) else json.dumps(metrics).encode()
            values = {"run_id": run, "timestamp": TIME, "run_name": name, "step": step, "metrics": text}
            if "run_id" not in schema:
                del values["run_id"]
            marks = ", ".join("?" * len(values))
            connection.execute(
                f"INSERT INTO metrics ({', '.join(values)}) VALUES ({marks})", list(values.values())
            )
        if "run_id" in schema:
            connection.execute(
                "INSERT INTO configs (run_id, config) VALUES (?, ?)", (rows[0][0] if rows else "", config)
            )
        connection.commit()
    return path


def test_every_run_of_a_project(tmp_path, monkeypatch):
    path = project(tmp_path / "p.db")
    assert sniff(path)
    assert not mlflow_sqlite.sniff(path)
    for fetch in (50_000, 2):
        monkeypatch.setattr(databases, "FETCH", fetch)
        found = {log.name: log for log in logs(path)}
        assert sorted(found) == ["fox", "hen-bbbbbbbb", "hen-cccccccc"]
        log = found["fox"]
        loss = log.series["train/loss"]
        assert loss.step.tolist() == [0, 1, 2]
        assert np.array_equal(loss.value, [9.0, np.nan, np.inf], equal_nan=True)
        assert loss.time.tolist() == [1767323045.5] * 3
        assert log.series["eval/loss"].step.tolist() == [2]
        assert dict(log.config) == {"lr": 0.1, "model.width": 64}
        assert log.report == ("left out, as they are no numbers: text",)
        assert found["hen-cccccccc"].series["loss"].step.tolist() == [7]


def test_projects_of_before_runs_had_ids(tmp_path):
    path = project(tmp_path / "p.db", schema=SCHEMA.replace("run_id TEXT NOT NULL, ", ""))
    assert sniff(path)
    found = {log.name: log for log in logs(path)}
    assert sorted(found) == ["fox", "hen"]
    assert found["hen"].series["loss"].step.tolist() == [0, 7]


def test_the_trainers_own_counter_is_the_step(tmp_path):
    rows = [
        ("r", "fox", 0, {"train/loss": 9.0, "train/learning_rate": 0.1, "train/global_step": 10}),
        ("r", "fox", 1, {"eval/loss": 8.5, "train/global_step": 10}),
        ("r", "fox", 2, {"train/loss": 8.0, "train/learning_rate": 0.2, "train/global_step": 20}),
    ]
    path = project(
        tmp_path / "a.db",
        rows,
        config='{"transformers_version": "5.24.0", "max_steps": 40, "learning_rate": 1}',
    )
    (log,) = logs(path)
    told = {key: one.step.tolist() for key, one in log.series.items()}
    assert told == {"train/loss": [4, 14], "train/learning_rate": [9, 19], "eval/loss": [10]}
    assert log.roles == {"train": "train/loss", "val": "eval/loss", "lr": "train/learning_rate"}
    assert log.schedule == wsd(steps=40, peak=1.0, decay=40, warmup_phase=0)
    assert "steps are train/global_step, not the count of calls of log" in log.report
    (log,) = logs(project(tmp_path / "b.db", rows, config="{}"))
    assert log.series["train/loss"].step.tolist() == [10, 20]
    (log,) = logs(project(tmp_path / "c.db", [*rows, ("r", "fox", 3, {"x": 1})]))
    assert log.series["train/loss"].step.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "has no row of metrics yet: log some first"),
        ([("r", "fox", 0, "[1]")], r"record 1: its metrics are not a JSON object \('\[1\]'\): remove the row"),
        ([ROWS[0], ("r", "fox", 0, '{"a": ')], r"record 2: its metrics are not a JSON object"),
        ([("r", "fox", 0, '{"a": 1}, {"a": 1}')], "record 1: its metrics are not a JSON object"),
        ([("r", "fox", 0, "[" * 100_000)], "record 1: its metrics are not a JSON object"),
        ([("r", "fox", -1, {"a": 1})], r"record 1: Trackio's step must be a whole number of at least 0, got -1\.0"),
        ([("r", "fox", "x", {"a": 1})], "run 'fox' has no step that is a number: log it again"),
    ],
)  # fmt: skip
def test_malformed_projects(tmp_path, rows, message):
    path = project(tmp_path / "p.db", rows)
    with pytest.raises(InputError, match=message) as caught:
        list(logs(path))
    assert "p.db" in str(caught.value)


def test_other_databases(tmp_path):
    path = project(tmp_path / "p.db", schema=SCHEMA)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("ALTER TABLE metrics RENAME COLUMN metrics TO m")
    assert not sniff(path)
    with pytest.raises(
        InputError, match=r"has no table of metrics as Trackio's: give the project's \.db file"
    ):
        list(logs(path))


def test_cut_at_every_sector(tmp_path):
    path = project(tmp_path / "p.db")
    content = path.read_bytes()
    for length in (*range(0, 600, 7), *range(600, len(content), 101)):
        path.write_bytes(content[:length])
        sniff(path)
        found, text = read_all(logs, path)
        assert found is None, length
        assert "p.db" in text


@pytest.fixture(scope="module")
def one_project(tmp_path_factory):
    path = project(tmp_path_factory.mktemp("noise") / "p.db")
    return path, path.read_bytes()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_noise_is_refused_or_read(one_project, data):
    path, content = one_project
    path.write_bytes(data.draw(mutations(content) | st.binary(min_size=1, max_size=300)))
    sniff(path)
    read_all(logs, path)


METRICS = st.dictionaries(
    st.sampled_from(["a", "b/c", "d e"]), st.floats() | st.integers(-(2**60), 2**60), min_size=1
)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(METRICS, min_size=1, max_size=20))
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.getbasetemp() / "written.db"
    path.unlink(missing_ok=True)
    words = {"inf": "Infinity", "-inf": "-Infinity", "nan": "NaN"}
    stored = [{key: words.get(str(value), value) for key, value in row.items()} for row in rows]
    (log,) = logs(project(path, [("r", "n", at, row) for at, row in enumerate(stored)]))
    for key in set().union(*rows):
        expected = [(at, float(row[key])) for at, row in enumerate(rows) if key in row]
        assert log.series[key].step.tolist() == [at for at, _ in expected]
        assert np.array_equal(log.series[key].value, [value for _, value in expected], equal_nan=True)


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """Two runs that Trackio itself logged."""
    folder = tmp_path_factory.mktemp("trackio")
    before = os.environ.get("TRACKIO_DIR")
    os.environ["TRACKIO_DIR"] = str(folder)
    expected = {}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            trackio = pytest.importorskip("trackio")
            for name in ("one", "two"):
                run = trackio.init(
                    project="tiny", name=name, config={"lr": 0.1, "model": {"width": 64}}, embed=False
                )
                expected[name] = [
                    {"train/loss": 3.0 / (step + 1), "lr": float("nan") if step == 2 else 1e-3 * step}
                    for step in range(6)
                ]
                for step, row in enumerate(expected[name]):
                    run.log(row, step=10 * step)
                run.finish()
        yield folder / "tiny.db", expected
    finally:
        del os.environ["TRACKIO_DIR"]
        if before is not None:
            os.environ["TRACKIO_DIR"] = before


def test_trackio_itself(logged):
    path, expected = logged
    assert sniff(path)
    found = {log.name: log for log in logs(path)}
    assert sorted(found) == ["one", "two"]
    for name, rows in expected.items():
        log = found[name]
        assert (log.config["lr"], log.config["model.width"]) == (0.1, 64)
        for key in ("train/loss", "lr"):
            assert log.series[key].step.tolist() == [10 * step for step in range(6)]
            assert np.array_equal(log.series[key].value, [row[key] for row in rows], equal_nan=True)
