import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.runs.many_runs import MANY, files, make, many, same

from lehr.cli.fit import other_batches
from lehr.errors import InputError, ResultError
from lehr.runs import catalogue, duck, folding, segments, store
from lehr.runs.location import Location
from lehr.runs.run import Run
from lehr.runs.store import Added, add_runs, compact, list_runs, load_runs
from lehr.schedule.families import constant

ROOT = Path(__file__).resolve().parents[2]


def test_many_runs_share_files(tmp_path):
    odd = [make("../it's", meta={"a": 1, "b": None}), make("nul\0 \udcff"), make("x" * 3000, params=5.0)]
    runs = [*many(), *odd]
    reports = {"run-0003": ["stitch: 2 segments"]}
    assert add_runs(tmp_path, runs, reports=reports) == Added(added=tuple(run.name for run in runs))
    same(tmp_path, runs)
    part, segment = sorted(files(tmp_path), key=lambda name: name.startswith("segment"))
    assert segments.PART.match(part) and segments.SEGMENT.match(segment)
    assert next(r for r in list_runs(tmp_path) if r["name"] == "run-0003")["report"] == ["stitch: 2 segments"]
    assert load_runs(tmp_path, ["run-0005", "run-0001"]).names == ("run-0005", "run-0001")
    table = duck.connect().execute(
        "SELECT run, list(step), list(loss) FROM read_parquet(?) WHERE run LIKE 'run-%' GROUP BY run ORDER BY run",
        [str(tmp_path / "runs" / part)],
    )  # fmt: skip
    assert table.fetchall() == [(run.name, run.step.tolist(), run.loss.tolist()) for run in many()]


def test_a_listing_of_shared_runs_is_as_of_runs_alone(tmp_path):
    runs = [make(f"r{i}", params=float(i + 1), meta={"split": "val"}) for i in range(MANY)]
    add_runs(tmp_path / "shared", runs)
    for run in runs:
        add_runs(tmp_path / "alone", [run])
    assert list_runs(tmp_path / "shared") == list_runs(tmp_path / "alone")
    assert len(files(tmp_path / "shared")) == 2
    assert len(files(tmp_path / "alone")) == 2 * MANY


def test_points_are_cut_into_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr("lehr.runs.shared.PART_POINTS", 40)
    add_runs(tmp_path, many())
    assert len(files(tmp_path)) > 4
    same(tmp_path, many())


def test_replacing_one_of_many_and_many_of_one(tmp_path):
    add_runs(tmp_path, [make("run-0000"), make("other")])
    with pytest.raises(InputError, match="already holds a different run 'run-0000': add --replace"):
        add_runs(tmp_path, many(version=2))
    assert add_runs(tmp_path, many(version=2), replace=True).replaced == ("run-0000",)
    same(tmp_path, [*many(version=2), make("other")])
    assert len(files(tmp_path)) == 4  # the points and the record of the old run-0000 are gone
    assert add_runs(tmp_path, many(version=2)).unchanged == tuple(run.name for run in many())
    add_runs(tmp_path, [make("run-0001", 3)], replace=True)
    same(tmp_path, [*many(1, 2), make("run-0001", 3), *many(MANY - 2, 2, 2), make("other")])
    add_runs(tmp_path, many(version=4), replace=True)
    same(tmp_path, [*many(version=4), make("other")])
    assert len(files(tmp_path)) == 4  # the old segment and its points too


def test_runs_added_one_by_one_are_folded(tmp_path, monkeypatch):
    assert folding.MOST_SMALL <= 100  # listing opens as many files
    monkeypatch.setattr(folding, "MOST_SMALL", 12)
    runs = [make(f"one-{i}", meta={"i": i}) for i in range(folding.MOST_SMALL + 6)]
    for run in runs:
        add_runs(tmp_path, [run], reports={run.name: [f"report of {run.name}"]})
    same(tmp_path, runs)
    assert len(files(tmp_path)) == 2 + 2 * 5
    assert all(record["report"] == [f"report of {record['name']}"] for record in list_runs(tmp_path))
    assert add_runs(tmp_path, runs).added == ()


def test_small_segments_are_folded(tmp_path, monkeypatch):
    monkeypatch.setattr(folding, "MOST_SMALL", 3)
    for batch in range(5):
        add_runs(tmp_path, many(first=batch * MANY))
    same(tmp_path, many(5 * MANY))
    assert len(files(tmp_path)) == 4
    monkeypatch.setattr(folding, "SMALL_FILE", 10)
    compact(tmp_path)
    same(tmp_path, many(5 * MANY))
    assert len(files(tmp_path)) == 3  # their points stayed, in two files, with one segment


def version_1(folder, runs):
    """A store as lehr wrote it before it had segments."""
    for run in runs:
        add_runs(folder, [run])
    for path in (folder / "runs").glob("*.json"):
        record = json.loads(path.read_text())
        del record["generation"]
        path.write_text(json.dumps(record, indent=1) + "\n")


def test_a_store_of_version_1_is_read_and_upgraded(tmp_path, monkeypatch):
    runs = many(8)
    version_1(tmp_path, runs)
    assert all(name.startswith("run-") for name in files(tmp_path))
    same(tmp_path, runs)
    add_runs(tmp_path, [make("run-0002", 2)], replace=True)
    runs[2] = make("run-0002", 2)
    same(tmp_path, runs)
    monkeypatch.setattr(folding, "MOST_SMALL", 8)
    add_runs(tmp_path, [make("new")])
    same(tmp_path, [*runs, make("new")])
    assert len(files(tmp_path)) == 2


KILLED = """
    import os, shutil, sys
    from pathlib import Path
    from tests.runs.many_runs import make, many
    from lehr.runs import folding
    from lehr.runs.store import add_runs, compact
    import duckdb
    def dying(function, at):
        def call(*arguments, **more):
            global calls
            calls += 1
            if calls == at:
                os._exit(9)
            return function(*arguments, **more)
        return call
    for at in range(1, 200):
        folder = Path(sys.argv[1]) / f"{sys.argv[2]}-{at}"
        shutil.copytree(Path(sys.argv[1]) / "start", folder)
        child = os.fork()  # this process never opens DuckDB, whose threads a fork does not copy
        if child == 0:
            calls = 0
            os.replace, os.fsync, os.unlink = (dying(f, at) for f in (os.replace, os.fsync, os.unlink))
            Path.unlink = dying(Path.unlink, at)
            if sys.argv[2] == "add":
                add_runs(folder, many(version=2), replace=True)
            else:
                compact(folder)
            os._exit(0)
        if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
            break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the test forks")
@pytest.mark.parametrize("task", ["add", "compact"])
def test_a_writer_killed_at_any_moment_leaves_all_or_none(tmp_path, task):
    start = [make("run-0000"), make("run-0001"), make("other")]
    for run in start:
        add_runs(tmp_path / "start", [run])
    add_runs(tmp_path / "start", many(first=MANY))
    start += many(first=MANY)
    command = [sys.executable, "-c", textwrap.dedent(KILLED), tmp_path, task]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    subprocess.run(command, check=True, env=environment)
    after = [*many(version=2), make("other"), *many(first=MANY)] if task == "add" else start
    seen = set()
    for index, folder in enumerate(sorted(tmp_path.glob(f"{task}-*"))):
        new = len(list_runs(folder)) == len(after)
        seen.add(new)
        same(folder, after if new else start)
        if index % 3:
            continue
        add_runs(folder, many(version=2), replace=True)
        compact(folder)
        same(folder, [*many(version=2), make("other"), *many(first=MANY)])
        assert len(files(folder)) == 2
    assert len(list(tmp_path.glob(f"{task}-*"))) > 8
    assert seen == ({True, False} if task == "add" else {True})


def test_a_store_that_is_folded_while_it_is_read(tmp_path, monkeypatch):
    runs = [make(f"r{index}") for index in range(5)]
    for run in runs:
        add_runs(tmp_path, [run])
    original, calls = Location.read, 0

    def meanwhile(self, name):
        nonlocal calls
        calls += 1
        if calls in (3, 11):
            monkeypatch.setattr(Location, "read", original)
            add_runs(tmp_path, [make(f"new-{calls}")])
            compact(tmp_path)
            monkeypatch.setattr(Location, "read", meanwhile)
        return original(self, name)

    monkeypatch.setattr(Location, "read", meanwhile)
    loaded = load_runs(tmp_path)
    assert calls > 3
    assert set(loaded.names) >= {run.name for run in runs} | {"new-3"}


def test_points_that_move_between_listing_and_loading(tmp_path, monkeypatch):
    runs = [make(f"r{index}") for index in range(5)]
    for run in runs:
        add_runs(tmp_path, [run])
    stale = store._records(tmp_path)
    compact(tmp_path)
    monkeypatch.setattr(store, "_records", lambda _: stale)
    same_names = load_runs(tmp_path)
    assert [run.fingerprint() for run in same_names] == [run.fingerprint() for run in runs]


def test_points_that_move_between_two_looks_at_them(tmp_path, monkeypatch):
    for name in "ab":
        add_runs(tmp_path, [make(name)])
    original = duck.read_points

    def moved(connection, *paths):
        monkeypatch.setattr(duck, "read_points", original)
        compact(tmp_path)
        return original(connection, *paths)

    monkeypatch.setattr(duck, "read_points", moved)
    same(tmp_path, [make("a"), make("b")])
    assert len(files(tmp_path)) == 2


def test_a_store_that_never_rests(tmp_path, monkeypatch):
    add_runs(tmp_path, many())
    monkeypatch.setattr(catalogue, "_read_once", lambda *_: None)
    monkeypatch.setattr(catalogue, "TRIES", 3)
    with pytest.raises(ResultError, match="changes faster than it can be read: try again"):
        list_runs(tmp_path)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("few"), st.integers(0, 30), st.integers(1, 3), st.integers(1, 5)),
            st.tuples(st.just("many"), st.integers(0, 30), st.integers(1, 3), st.integers(MANY, 30)),
            st.just(("compact", 0, 0, 0)),
        ),
        max_size=6,
    )
)
def test_any_sequence_of_writes_is_as_of_a_dictionary(tmp_path_factory, actions):
    folder = tmp_path_factory.mktemp("store")
    held = {}
    add_runs(folder, [])
    for kind, first, version, count in actions:
        if kind == "compact":
            compact(folder)
            continue
        runs = many(count, version, first)
        known = {run.name for run in runs if run.name in held}
        changed = {run.name for run in runs if run.name in known and held[run.name] != version}
        added = add_runs(folder, runs, replace=True)
        assert set(added.added) == {run.name for run in runs} - known
        assert set(added.replaced) == changed
        assert set(added.unchanged) == known - changed
        held |= {run.name: version for run in runs}
    same(folder, [make(name, version) for name, version in held.items()])
    shutil.rmtree(folder)


def test_compact_wants_a_store(tmp_path):
    with pytest.raises(InputError, match="is no store of runs: make one with"):
        compact(tmp_path / "nowhere")


def test_fitting_one_run_loads_those_of_other_batches_alone():
    def record(name, batch, peak=1e-3, params=1e8):
        return {"name": name, "batch_tokens": batch, "peak_lr": peak, "params": params}

    records = [
        record("a", 100.0), record("b", 200.0), record("c", None), record("d", 300.0, peak=2e-3),
        record("e", 300.0, params=2e8), record("f", 400.0),
    ]  # fmt: skip
    assert other_batches(records, {"a"}, {"f"}) == ["a", "b", "c"]
    assert other_batches(records, {"d"}, set()) == []
    assert other_batches(records, {"a"}, {"b", "f"}) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the benchmark forks")
def test_writers_that_are_killed_lose_nothing():
    command = [sys.executable, "-m", "benchmarks.kill_store", "--kills", "10", "--writers", "4", "--json"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "src")])}
    done = subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, check=True, timeout=300, env=environment
    )
    found = json.loads(done.stdout)
    assert found["damaged"] == 0 and found["left_over"] == 0, found
    assert found["acknowledged"] > 0


def test_constant_schedules_are_stored_too(tmp_path):
    runs = [Run(f"c{i}", constant(steps=10, peak=1e-3), [1, 5 + i % 3], [2.0, 1.0]) for i in range(MANY)]
    add_runs(tmp_path, runs)
    same(tmp_path, runs)
