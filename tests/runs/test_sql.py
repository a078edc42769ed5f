"""SQL over a store: what it answers, and what it must refuse."""

import json
import math
import os

import numpy as np
import pytest
from tests.cli.conftest import call

from lehr.errors import InputError, ResultError
from lehr.runs import sql
from lehr.runs.run import Run
from lehr.runs.sql import query
from lehr.runs.store import SHARED_FROM, add_runs, compact, list_runs, load_runs
from lehr.schedule.families import wsd


def make(name, version=1.0, **more):
    step = np.arange(0, 101, 10)
    return Run(name, wsd(steps=100, peak=1e-3, decay=20), step, version + 1 / (step + 1), **more)


def mixed(folder):
    """A store with shared files, shared files of which some runs were replaced, and files of one run."""
    runs = [make(f"r{index:02d}", params=1e6 * (index + 1)) for index in range(SHARED_FROM)]
    add_runs(folder, runs)
    add_runs(folder, [make(f"s{index:02d}", 2) for index in range(SHARED_FROM)])
    add_runs(folder, [make("r03", 5, meta={"split": "val", "seed": 3})], replace=True)
    add_runs(folder, [make('it\'s "odd" ☃ \udcff', 3, parent="r00", branch_step=5)], reports={"r03": ["x"]})
    return load_runs(folder)


def test_views_hold_what_the_store_holds(tmp_path):
    runs = mixed(tmp_path / "st'ore *[1]?")
    store = tmp_path / "st'ore *[1]?"
    for _ in range(2):
        points = query(
            store, "SELECT run, list(step ORDER BY step), list(loss ORDER BY step) FROM points GROUP BY run"
        )
        assert points.columns[0] == "run"
        wanted = {run.name.replace("\udcff", "?"): (run.step.tolist(), run.loss.tolist()) for run in runs}
        assert {name: (step, loss) for name, step, loss in points.rows} == wanted
        columns = ", ".join(sql._FIELDS)
        rows = query(store, f"SELECT {columns} FROM runs ORDER BY name").rows
        for row, record in zip(rows, list_runs(store), strict=True):
            told = dict(zip(sql._FIELDS, row, strict=True))
            told["meta"] = json.loads(told["meta"])
            assert told == {**record, "name": record["name"].replace("\udcff", "?")}
        compact(store)


def test_joins_and_values(tmp_path):
    mixed(tmp_path)
    text = """SELECT r.params, min(p.loss) AS best, count(*) FROM runs r JOIN points p ON p.run = r.name
              WHERE r.name = 'r05' GROUP BY r.params"""
    answer = query(tmp_path, text)
    assert answer.columns == ("params", "best", "count_star()")
    assert answer.rows == ((6e6, 1 + 1 / 101, 11),)
    assert query(tmp_path, "SELECT meta->>'seed' FROM runs WHERE split = 'val'").rows == (("3",),)
    assert query(tmp_path, "SELECT 1.5::DECIMAL(4,1), DATE '2026-01-02', {'a': [1, NULL]}, true;").rows == (
        (1.5, "2026-01-02", {"a": [1, None]}, True),
    )
    assert query(tmp_path, "SELECT * FROM runs WHERE false").rows == ()


def test_an_empty_store(tmp_path):
    add_runs(tmp_path, [])
    assert query(tmp_path, "SELECT count(*) FROM points").rows == ((0,),)
    assert query(tmp_path, "SELECT count(*) FROM runs").rows == ((0,),)
    with pytest.raises(InputError, match="is no store of runs"):
        query(tmp_path / "nowhere", "SELECT 1")


@pytest.mark.parametrize(
    "text",
    [
        "COPY (SELECT 1) TO '{}/out.csv'", "SELECT 1; SELECT 2", "", "   ", "-- nothing", "DROP TABLE runs",
        "INSERT INTO runs SELECT * FROM runs", "CREATE TABLE x AS SELECT 1", "ATTACH '{}/x.db'", "INSTALL httpfs",
        "LOAD httpfs", "SET threads = 9", "PRAGMA enable_profile", "EXPORT DATABASE '{}/out'", "CALL pragma_version()",
        "EXPLAIN ANALYZE SELECT 1", "UPDATE runs SET name = 'x'", "DELETE FROM runs", "CHECKPOINT", "VACUUM",
        "SELECT 1; COPY runs TO '{}/out.csv'", "RESET lock_configuration", "USE memory", "BEGIN TRANSACTION",
    ],
)  # fmt: skip
def test_only_one_select_is_run(tmp_path, text):
    add_runs(tmp_path / "store", [make("a")])
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(InputError, match="the query must be one SELECT, got"):
        query(tmp_path / "store", text.replace("{}", str(tmp_path)))
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    "text",
    [
        "SELECT * FROM read_text('{}/secret.txt')", "SELECT * FROM '{}/secret.csv'", "SELECT * FROM glob('{}/*')",
        "SELECT * FROM read_csv('{}/secret.csv')", "SELECT * FROM read_blob('/etc/passwd')", "SELECT * FROM hidden",
        "SELECT * FROM read_parquet('{}/store/runs/*.parquet')", "SELECT * FROM read_json('{}/store/runs/*.json')",
        "SELECT * FROM read_csv('https://example.org/x.csv')", "SELECT getenv('HOME')",
        "SELECT * FROM query('COPY runs TO ''{}/out.csv''')", "SELECT nme FROM runs", "SELECT 1 +", "SELEC 1",
        "SELECT (SELECT content FROM read_text('{}/secret.txt')) FROM points", "FROM sniff_csv('{}/secret.csv')",
    ],
)  # fmt: skip
def test_nothing_outside_is_read(tmp_path, text):
    hidden = {"a": np.arange(3)}  # DuckDB would find it by its name
    assert hidden
    (tmp_path / "secret.csv").write_text("a,b\n1,2\n")
    (tmp_path / "secret.txt").write_text("secret")
    add_runs(tmp_path / "store", [make("a")])
    with pytest.raises(InputError, match="the query was refused: ") as caught:
        query(tmp_path / "store", text.replace("{}", str(tmp_path)))
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out.csv").exists()


def test_limits(tmp_path, monkeypatch):
    add_runs(tmp_path, [make("a")])
    with pytest.raises(InputError, match=r"the query took longer than 0.2 s: ask for fewer points"):
        query(
            tmp_path,
            "SELECT sum(sqrt(a.range * b.range)) FROM range(1000000) a, range(100000) b",
            seconds=0.2,
        )
    monkeypatch.setattr(sql, "MEMORY", "20MB")
    with pytest.raises(InputError, match="the query needs more than 20MB of memory: aggregate"):
        query(tmp_path, "SELECT list(range::VARCHAR ORDER BY -range) FROM range(5000000)")
    monkeypatch.setattr(sql, "MOST_ROWS", 10)
    assert len(query(tmp_path, "SELECT * FROM range(10)").rows) == 10
    with pytest.raises(InputError, match="gives more than 10 rows: aggregate, or add a LIMIT"):
        query(tmp_path, "SELECT * FROM range(11)")


def test_files_that_are_folded_meanwhile(tmp_path, monkeypatch):
    for name in "ab":
        add_runs(tmp_path, [make(name)])
    original = sql._lock

    def folded(connection, paths):
        monkeypatch.setattr(sql, "_lock", original)
        compact(tmp_path)
        original(connection, paths)

    monkeypatch.setattr(sql, "_lock", folded)
    assert query(tmp_path, "SELECT DISTINCT run FROM points ORDER BY run").rows == (("a",), ("b",))
    next((tmp_path / "runs").glob("*.parquet")).unlink()
    with pytest.raises(ResultError, match="changes faster than it can be read, or lacks a file: try again"):
        query(tmp_path, "SELECT * FROM points")
    assert query(tmp_path, "SELECT count(*) FROM runs").rows == ((2,),)


def test_the_verb(tmp_path):
    add_runs(tmp_path / "s", [make("a\x1b[31m"), make("b", meta={"seed": 1})])
    out = call("runs", tmp_path / "s", "--sql", "SELECT name, final_loss, parent FROM runs ORDER BY name")
    assert out.code == 0
    assert out.out.splitlines() == [
        "name    final_loss  parent", "a?[31m      1.0099       -", "b           1.0099       -",
    ]  # fmt: skip
    found = call(
        "runs", tmp_path / "s", "--json", "--sql", "SELECT run, loss, 'nan'::DOUBLE FROM points LIMIT 1"
    ).json
    assert found["columns"] == ["run", "loss", "CAST('nan' AS DOUBLE)"]
    assert found["rows"][0][1] == pytest.approx(2.0) and found["rows"][0][2] is None
    refused = call("runs", tmp_path / "s", "--sql", "SELECT nme FROM runs").refused(2)
    assert refused.startswith('error: the query was refused: Referenced column "nme" not found')
    assert len(refused.splitlines()) == 1
    assert "must be one SELECT" in call("runs", tmp_path / "s", "--sql", "DROP TABLE runs").refused(2)
    listed = call("runs", tmp_path / "s", "--json").json["runs"]
    assert [run["name"] for run in listed] == ["a\x1b[31m", "b"]
    assert listed == list_runs(tmp_path / "s")
    assert call("runs", tmp_path / "s", "--compact").code == 0
    assert len(os.listdir(tmp_path / "s" / "runs")) == 2
    assert math.isclose(load_runs(tmp_path / "s")["b"].final_loss, 1 + 1 / 101)
