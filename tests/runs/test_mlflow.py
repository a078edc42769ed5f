"""MLflow's database, and both of its stores as MLflow itself writes them."""

import math
import os
import shutil
import sqlite3
import time
import warnings
from contextlib import closing

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.broken_files import mutations, read_all

from lehr.errors import InputError
from lehr.runs.readers import databases, mlflow_files, mlflow_sqlite
from lehr.schedule.families import wsd

SCHEMA = """
CREATE TABLE runs (run_uuid VARCHAR(32) PRIMARY KEY, name VARCHAR(250), lifecycle_stage VARCHAR(20), experiment_id INT);
CREATE TABLE metrics (
    key VARCHAR(250), value FLOAT, timestamp BIGINT, run_uuid VARCHAR(32), step BIGINT, is_nan BOOLEAN,
    PRIMARY KEY (key, timestamp, step, run_uuid, value, is_nan));
CREATE TABLE params (key VARCHAR(250), value VARCHAR(8000), run_uuid VARCHAR(32), PRIMARY KEY (key, run_uuid));
CREATE TABLE tags (key VARCHAR(250), value VARCHAR(8000), run_uuid VARCHAR(32), PRIMARY KEY (key, run_uuid));
CREATE INDEX index_metrics_run_uuid ON metrics (run_uuid);
"""
RUNS = [
    ("a" * 32, "fox", "active"),
    ("b" * 32, "", "active"),
    ("c" * 32, "hen", "deleted"),
    ("d" * 32, "fox", "active"),
]
METRICS = [
    ("loss", 9.0, 1000, "a" * 32, 1, 0), ("lr", 0.1, 1000, "a" * 32, 1, 0), ("loss", 0.0, 2000, "a" * 32, 2, 1),
    ("loss", 1.7976931348623157e308, 3000, "a" * 32, 3, 0), ("loss", 7.0, 1500, "b" * 32, 5, 0),
    ("loss", 6.0, 1500, "c" * 32, 5, 0), ("loss", 5.0, 1500, "d" * 32, 5, 0), ("loss", 4.0, 1600, "d" * 32, 5, 0),
]  # fmt: skip


def store(path, metrics=METRICS, schema=SCHEMA, runs=RUNS, mode="delete"):
    connection = sqlite3.connect(path)
    connection.executescript(f"PRAGMA page_size = 512; PRAGMA journal_mode = {mode};" + schema)
    connection.executemany("INSERT INTO runs VALUES (?, ?, ?, 1)", runs)
    connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", metrics)
    connection.execute("INSERT INTO tags VALUES ('mlflow.runName', 'owl', ?)", ("b" * 32,))
    params = [("lr", "1e-3", "a" * 32), ("opt", "AdamW", "a" * 32)]
    connection.executemany("INSERT INTO params VALUES (?, ?, ?)", params)
    connection.commit()
    return connection


@pytest.fixture
def made(tmp_path):
    path = tmp_path / "mlflow.db"
    store(path).close()
    return path


def test_every_run_of_a_database(made):
    assert mlflow_sqlite.sniff(made)
    logs = {log.name: log for log in mlflow_sqlite.logs(made)}
    assert sorted(logs) == ["fox-aaaaaaaa", "fox-dddddddd", "owl"]
    log = logs["fox-aaaaaaaa"]
    loss = log.series["loss"]
    assert loss.step.tolist() == [1, 2, 3]
    assert np.array_equal(loss.value, [9.0, np.nan, np.inf], equal_nan=True)
    assert loss.time.tolist() == [1, 2, 3]
    assert dict(log.config) == {"lr": 0.001, "opt": "AdamW"}
    assert log.report == ("1 runs that were deleted in MLflow were left out",)
    assert logs["fox-dddddddd"].report == ("logged without steps: loss",)


def test_metrics_of_many_fetches(tmp_path, monkeypatch):
    monkeypatch.setattr(databases, "FETCH", 3)
    path = tmp_path / "m.db"
    rng = np.random.default_rng(0)
    rows = [
        (f"k{rng.integers(4)}", float(rng.normal()), 1000 + at, "abd"[rng.integers(3)] * 32, at, 0)
        for at in range(200)
    ]
    store(path, rows).close()
    for log in mlflow_sqlite.logs(path):
        run = {"owl": "b", "fox-aaaaaaaa": "a", "fox-dddddddd": "d"}[log.name] * 32
        for key in {row[0] for row in rows if row[3] == run}:
            expected = [(row[4], row[1]) for row in rows if row[3] == run and row[0] == key]
            assert list(zip(log.series[key].step, log.series[key].value, strict=True)) == expected


def snapshot(folder):
    return {
        path.name: path.read_bytes() for path in folder.iterdir() if not path.name.endswith("-shm")
    }, sorted(path.name for path in folder.iterdir())


def test_a_database_in_use_is_read_and_not_changed(tmp_path):
    folder = tmp_path / "live"
    folder.mkdir()
    path = folder / "mlflow.db"
    with closing(store(path, mode="wal")) as connection:
        before = snapshot(folder)
        assert sorted(before[1]) == ["mlflow.db", "mlflow.db-shm", "mlflow.db-wal"]
        assert mlflow_sqlite.sniff(path)
        assert len(list(mlflow_sqlite.logs(path))) == 3
        assert snapshot(folder) == before
        for kept, runs in (("mlflow.db mlflow.db-wal", 3), ("mlflow.db mlflow.db-wal mlflow.db-shm", 3)):
            copy = tmp_path / f"copy of {len(kept)}"
            copy.mkdir()
            for name in kept.split():
                shutil.copy(folder / name, copy / name)
            before = snapshot(copy)
            assert mlflow_sqlite.sniff(copy / "mlflow.db")
            assert len(list(mlflow_sqlite.logs(copy / "mlflow.db"))) == runs
            assert snapshot(copy) == before
        connection.execute("INSERT INTO metrics VALUES ('loss', 1.0, 1, ?, 9, 0)", ("a" * 32,))
        connection.commit()
        assert max(next(iter(mlflow_sqlite.logs(path))).series["loss"].step) == 9
    before = snapshot(folder)  # at rest, in the same mode
    assert before[1] == ["mlflow.db"]
    assert len(list(mlflow_sqlite.logs(path))) == 3
    assert snapshot(folder) == before


def test_a_database_that_is_being_written(made, monkeypatch):
    monkeypatch.setattr(databases, "WAIT", 0.1)
    with closing(sqlite3.connect(made, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        with pytest.raises(
            InputError, match=r"mlflow\.db is being written \(database is locked\): import it again when"
        ):
            list(mlflow_sqlite.logs(made))


def test_a_transaction_that_was_never_finished(made, tmp_path):
    with closing(sqlite3.connect(made, isolation_level=None)) as writer:
        writer.execute("PRAGMA cache_size = 2")
        writer.execute("BEGIN")
        writer.executemany(
            "INSERT INTO metrics VALUES ('x', ?, 0, ?, 1, 0)", [(float(k), "a" * 32) for k in range(2000)]
        )
        killed = tmp_path / "killed"
        killed.mkdir()
        for ending in ("", "-journal"):
            shutil.copy(f"{made}{ending}", killed / f"mlflow.db{ending}")
    before = snapshot(killed)
    with pytest.raises(InputError, match="has a transaction that was never finished"):
        list(mlflow_sqlite.logs(killed / "mlflow.db"))
    assert snapshot(killed) == before


def test_what_is_no_database_of_mlflow(tmp_path):
    path = tmp_path / "x.db"
    for content in (b"x", b"SQLite format 3\0", b"SQLite format 3\0" + b"\1" * 200):
        path.write_bytes(content)
        assert not mlflow_sqlite.sniff(path)
    path.unlink()
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE TABLE metrics (a); CREATE VIEW runs AS SELECT 1;")
    assert not mlflow_sqlite.sniff(path)
    with pytest.raises(InputError, match=r"has no table 'params': give a database of MLflow, or upgrade it"):
        list(mlflow_sqlite.logs(path))
    path.write_text("step,loss\n1,2\n")
    with pytest.raises(InputError, match="is not an SQLite database: give the file that the tracker wrote"):
        list(mlflow_sqlite.logs(path))


def test_views_in_place_of_tables_are_not_read(tmp_path):
    path = tmp_path / "x.db"
    schema = (
        "ALTER TABLE metrics RENAME TO m; CREATE VIEW metrics AS WITH RECURSIVE r(n) AS "
        "(SELECT 1 UNION ALL SELECT n FROM r) SELECT 'k' AS key, n AS value, 1 AS timestamp, 'a' AS run_uuid, "
        "1 AS step, 0 AS is_nan FROM r;"
    )
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(SCHEMA + schema)
    assert not mlflow_sqlite.sniff(path)
    with pytest.raises(InputError, match="has no table 'metrics'"):
        list(mlflow_sqlite.logs(path))


def test_malformed_rows_and_empty_stores(tmp_path):
    store(tmp_path / "a.db", [("loss", "high", 1, "a" * 32, 1, 0)]).close()
    with pytest.raises(
        InputError, match=r"metric 'loss' of run 'a+' must have numbers as values and steps, got 'high'"
    ):
        list(mlflow_sqlite.logs(tmp_path / "a.db"))
    store(tmp_path / "b.db", []).close()
    with pytest.raises(InputError, match="has no run with metrics that is not deleted: log some first"):
        list(mlflow_sqlite.logs(tmp_path / "b.db"))


def test_cut_at_every_sector(made):
    content = made.read_bytes()
    whole = len(list(mlflow_sqlite.logs(made)))
    refused = 0
    for length in (*range(0, 600, 7), *range(600, len(content), 101)):
        made.write_bytes(content[:length])
        mlflow_sqlite.sniff(made)
        found, text = read_all(mlflow_sqlite.logs, made)
        refused += found is None
        assert found is None, length
        assert "mlflow.db" in text
    assert refused > 100
    made.write_bytes(content)
    assert len(list(mlflow_sqlite.logs(made))) == whole


@pytest.fixture(scope="module")
def one_database(tmp_path_factory):
    path = tmp_path_factory.mktemp("noise") / "mlflow.db"
    store(path).close()
    return path, path.read_bytes()


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_noise_is_refused_or_read(one_database, data):
    path, content = one_database
    path.write_bytes(data.draw(mutations(content) | st.binary(min_size=1, max_size=300)))
    mlflow_sqlite.sniff(path)
    read_all(mlflow_sqlite.logs, path)


# ---- MLflow itself


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """Two runs logged by MLflow into both of its stores."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pytest.importorskip("mlflow")
        pytest.importorskip("sqlalchemy")
        import mlflow

        folder = tmp_path_factory.mktemp("mlflow")
        os.environ["MLFLOW_ALLOW_FILE_STORE"] = "true"
        expected = {}
        for address in (f"sqlite:///{folder}/mlflow.db", f"file://{folder}/mlruns"):
            client = mlflow.MlflowClient(tracking_uri=address)
            for name in ("one", "two"):
                run = client.create_run("0", run_name=name).info.run_id
                client.log_param(run, "peak_lr", 0.001)
                rows = [
                    mlflow.entities.Metric(key, value, int(time.time() * 1000), step)
                    for step in range(5)
                    for key, value in (
                        ("train/loss", 3.0 / (step + 1)),
                        ("lr", math.nan if step == 2 else 1e-3 * step),
                    )
                ]
                rows.append(mlflow.entities.Metric("bad", math.inf, 1, 3))
                client.log_batch(run, metrics=rows)
                told = expected[name] = {}
                for row in rows:
                    told.setdefault(row.key, []).append((row.step, row.value))
        yield folder, expected
        del os.environ["MLFLOW_ALLOW_FILE_STORE"]


@pytest.mark.parametrize("kind", ["files", "sqlite"])
def test_mlflow_itself(logged, kind):
    folder, expected = logged
    if kind == "sqlite":
        assert mlflow_sqlite.sniff(folder / "mlflow.db")
        logs = list(mlflow_sqlite.logs(folder / "mlflow.db"))
    else:
        assert mlflow_files.sniff_folder(folder / "mlruns")
        logs = list(mlflow_files.logs(folder / "mlruns"))
    assert sorted(log.name for log in logs) == ["one", "two"]
    for log in logs:
        assert log.config["peak_lr"] == 0.001
        assert sorted(log.series) == ["bad", "lr", "train/loss"]
        for key, rows in expected[log.name].items():
            assert log.series[key].step.tolist() == [step for step, _ in rows]
            assert np.array_equal(log.series[key].value, [value for _, value in rows], equal_nan=True)


def test_the_trainer_in_mlflow(made):
    with closing(sqlite3.connect(made)) as connection:
        params = [("transformers_version", "5.24.0"), ("max_steps", "40"), ("learning_rate", "0.1")]
        connection.executemany("INSERT INTO params VALUES (?, ?, ?)", [(*row, "b" * 32) for row in params])
        connection.execute("DELETE FROM metrics WHERE run_uuid = ?", ("b" * 32,))
        rows = [
            ("loss", 9.0, 10),
            ("learning_rate", 0.1, 10),
            ("loss", 8.0, 20),
            ("eval_loss", 7.5, 20),
            ("train_loss", 8.5, 40),
            ("train_runtime", 60.0, 40),
        ]
        connection.executemany(
            "INSERT INTO metrics VALUES (?, ?, 1, ?, ?, 0)",
            [(key, value, "b" * 32, step) for key, value, step in rows],
        )
        connection.commit()
    log = next(log for log in mlflow_sqlite.logs(made) if log.name == "owl")
    told = {key: one.step.tolist() for key, one in log.series.items()}
    assert told == {"loss": [4, 14], "learning_rate": [9], "eval_loss": [20]}
    assert (log.config["train_loss"], log.config["max_steps"]) == (8.5, 40)
    assert log.schedule == wsd(steps=40, peak=0.1, decay=40, warmup_phase=0)
    assert log.roles == {"train": "loss", "val": "eval_loss", "lr": "learning_rate"}
