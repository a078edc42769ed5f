import errno
import hashlib
import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from lehr.errors import InputError, ResultError
from lehr.runs import duck
from lehr.runs.readers import read
from lehr.runs.registry import safe_id
from lehr.runs.run import Run
from lehr.runs.store import Added, add_runs, list_runs, load_runs
from lehr.schedule.families import branch, constant, from_array, wsd
from lehr.schedule.schedule import Schedule, Segment

ODD_NAMES = [
    "it's", 'say "hi"', "../../escape", "/etc/passwd", "a/b\\c", "..", ".", "CON", "ünïcode ☃", "x" * 5000, "UPPER",
    "upper", " ", "a\nb", "nul\0", "\udcff", "*?[a]", "'; DROP TABLE runs; --", "a.json", "a.parquet",
]  # fmt: skip


def make(name="a", scale=1.0, schedule=None, **more):
    schedule = schedule or wsd(steps=1000, peak=1e-3, warmup=100, decay=200)
    step = np.arange(0, 1001, 50)
    return Run(name, schedule, step, scale * (2 + 1 / np.sqrt(step + 3)), **more)


def same(one, other):
    assert one.name == other.name
    assert one.schedule == other.schedule
    assert np.array_equal(one.step, other.step)
    assert np.array_equal(one.loss, other.loss)
    for field in ("parent", "branch_step", "params", "params_total", "batch_tokens"):
        assert getattr(one, field) == getattr(other, field)
    assert dict(one.meta) == dict(other.meta)
    assert one.fingerprint() == other.fingerprint()


def files(store):
    return sorted(path.name for path in (store / "runs").iterdir())


def test_round_trip_is_exact(tmp_path):
    meta = {"split": "val", "seed": 3, "lr": 0.1 + 0.2, "moe": False, "note": None, "data": "ü"}
    trunk = constant(steps=700, peak=1e-3)
    runs = [
        make("full", params=1e8, params_total=1.5e8, batch_tokens=102_400.0, meta=meta),
        make("branch", schedule=branch(base=trunk, at=500, then=wsd(steps=500, peak=1e-3, decay=500)), parent="full",
             branch_step=np.int64(500)),
        make("table", schedule=from_array(values=np.random.default_rng(0).random(1000))),
        make("raw", schedule=Schedule((Segment(1000, 1e-3, 1e-5, "exponential", 0.0, 1500.0),))),
    ]  # fmt: skip
    added = add_runs(tmp_path, runs, reports={"full": ["stitch: 2 segments"]})
    assert added == Added(added=("full", "branch", "table", "raw"))
    loaded = load_runs(tmp_path)
    assert loaded.names == ("branch", "full", "raw", "table")
    for run in runs:
        same(loaded[run.name], run)
    assert load_runs(tmp_path, ["table", "full"]).names == ("table", "full")
    with pytest.raises(InputError, match="unknown run in .* 'tabel': did you mean 'table'"):
        load_runs(tmp_path, ["tabel"])


def test_listing_reads_no_points(tmp_path):
    add_runs(tmp_path, [make("b", meta={"split": "val"}), make("a", params=5)], reports={"a": ["x"]})
    for path in (tmp_path / "runs").glob("*.parquet"):
        path.unlink()
    first, second = list_runs(tmp_path)
    run = make("a", params=5)
    assert first == {
        "name": "a", "schedule": "wsd(steps=1000, peak=0.001, warmup=100, decay=200)", "steps": 1000, "peak_lr": 1e-3,
        "points": 21, "first_step": 0, "last_step": 1000, "final_loss": run.final_loss, "parent": None,
        "branch_step": None, "params": 5.0, "params_total": None, "batch_tokens": None, "meta": {}, "report": ["x"],
        "fingerprint": run.fingerprint(), "split": None,
    }  # fmt: skip
    assert (second["name"], second["split"]) == ("b", "val")


def test_listing_does_not_load_duckdb(tmp_path):
    add_runs(tmp_path, [make()])
    code = "import sys; from lehr.runs.store import list_runs; list_runs(sys.argv[1]); print('duckdb' in sys.modules)"
    out = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_any_engine_reads_the_points(tmp_path):
    add_runs(tmp_path, [make("a"), make("b", 2.0)])
    connection = duck.connect()
    query = "SELECT count(*), min(step), max(step), sum(loss) FROM read_parquet(?)"
    relation = connection.sql(query, params=[str(tmp_path / "runs" / "*.parquet")])
    count, first, last, total = relation.fetchall()[0]
    assert (count, first, last) == (42, 0, 1000)
    assert total == pytest.approx(3 * make().loss.sum())
    query = "SELECT * FROM read_parquet(?)"
    relation = connection.sql(query, params=[str(tmp_path / "runs" / "*.parquet")])
    assert list(zip(relation.columns, map(str, relation.types), strict=True)) == [
        ("step", "BIGINT"), ("loss", "DOUBLE"),
    ]  # fmt: skip


def test_any_name_is_stored_safely(tmp_path):
    store = tmp_path / "st'ore *[1]?"
    runs = [make(name, 1 + 0.01 * i) for i, name in enumerate(ODD_NAMES)]
    add_runs(store, runs)
    loaded = load_runs(store)
    assert len(loaded) == len(ODD_NAMES)
    for run in runs:
        same(loaded[run.name], run)
    assert sorted(path.name for path in tmp_path.iterdir()) == [store.name]
    assert sorted(path.name for path in store.iterdir()) == [".lock", "runs"]
    assert all(
        path.is_file() and len(path.name) < 120 and path.name.isascii() for path in (store / "runs").iterdir()
    )


def test_ids_are_their_own():
    ids = [safe_id(name) for name in ODD_NAMES]
    assert len({name.lower() for name in ids}) == len(ODD_NAMES)


def test_adding_again_changes_nothing(tmp_path):
    add_runs(tmp_path, [make("a")])
    before = files(tmp_path)
    assert add_runs(tmp_path, [make("a"), make("b")]) == Added(added=("b",), unchanged=("a",))
    assert set(before) < set(files(tmp_path))


def test_another_text_of_the_same_schedule_changes_nothing(tmp_path):
    add_runs(tmp_path, [make("a", schedule=constant(steps=1000, peak=1e-3))])
    other = make("a", schedule=wsd(steps=1000, peak=1e-3, decay=0))
    assert add_runs(tmp_path, [other]) == Added(unchanged=("a",))


@pytest.mark.parametrize("changed", [{"scale": 2.0}, {"meta": {"x": 1}}, {"params_total": 9.0}])
def test_a_different_run_of_the_same_name(tmp_path, changed):
    add_runs(tmp_path, [make("a"), make("b")])
    before = files(tmp_path)
    with pytest.raises(InputError, match="already holds a different run 'a': add --replace .* or --name"):
        add_runs(tmp_path, [make("new"), make("a", **changed)])
    assert files(tmp_path) == before
    assert add_runs(tmp_path, [make("new"), make("a", **changed)], replace=True) == Added(
        added=("new",), replaced=("a",)
    )
    same(load_runs(tmp_path)["a"], make("a", **changed))
    same(load_runs(tmp_path)["b"], make("b"))
    assert len(files(tmp_path)) == 6  # the old points are gone


def test_names_that_repeat_and_several_clashes(tmp_path):
    with pytest.raises(InputError, match="run names must be unique, got 'a'"):
        add_runs(tmp_path / "s", [make("a"), make("a", 2.0)])
    assert not (tmp_path / "s").exists()
    add_runs(tmp_path, [make("a"), make("b")])
    with pytest.raises(InputError, match="different run 'a' and 1 more"):
        add_runs(tmp_path, [make("a", 2.0), make("b", 2.0)])


@pytest.mark.parametrize("value", [np.int64(3), float("nan"), [1], {"a": 1}])
def test_meta_must_be_json_scalars(tmp_path, value):
    with pytest.raises(InputError, match="run 'a': meta 'x' must be a JSON scalar"):
        add_runs(tmp_path, [make(meta={"x": value})])


def test_a_schedule_that_its_text_does_not_give_back(tmp_path, monkeypatch):
    monkeypatch.setattr("lehr.runs.registry.parse", lambda _: constant(steps=1, peak=1.0))
    with pytest.raises(InputError, match="run 'a': its schedule cannot be written as text"):
        add_runs(tmp_path, [make()])


def test_a_record_that_cannot_be_read(tmp_path):
    add_runs(tmp_path, [make("a")])
    path = tmp_path / "runs" / f"{safe_id('a')}.json"
    path.unlink()
    path.mkdir()
    with pytest.raises(InputError, match=r"\.json cannot be read \(Is a directory\): check its permissions"):
        list_runs(tmp_path)


class Failing:
    """Stands for a function that fails, as a full disk would, at one call or from one call on."""

    def __init__(self, function, at, forever):
        self.function, self.at, self.forever, self.calls = function, at, forever, 0

    def __call__(self, *arguments):
        self.calls += 1
        if self.calls == self.at or (self.forever and self.calls > self.at):
            raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))
        return self.function(*arguments)


PLACES = [(os, "replace"), (os, "fsync"), (os, "open"), (Path, "write_bytes"), (shutil, "copyfile")]


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize(("owner", "function"), PLACES, ids=lambda part: getattr(part, "__name__", part))
def test_a_full_disk_leaves_the_store_as_it_was(tmp_path, monkeypatch, owner, function, forever):
    add_runs(tmp_path, [make("a"), make("b")])
    listed, before = list_runs(tmp_path), files(tmp_path)
    new = [make("a", 2.0), make("c"), make("b", meta={"x": 1})]
    for at in range(1, 40):
        failing = Failing(getattr(owner, function), at, forever)
        with monkeypatch.context() as patch:
            patch.setattr(owner, function, lambda *arguments, call=failing: call(*arguments))
            try:
                add_runs(tmp_path, new, replace=True)
            except ResultError as error:
                assert "No space left on device" in str(error)
                stuck = "could not be set right" in str(error)
                assert stuck or "the store is as it was" in str(error)
            else:
                assert failing.calls < at
                break
        if stuck:  # only if even going back is refused: then each run is the old or the new one
            assert forever and function == "replace"
            assert [run.loss[0] for run in load_runs(tmp_path)] == [new[0].loss[0], make("b").loss[0]]
            break
        assert list_runs(tmp_path) == listed
        assert files(tmp_path) == before
    assert at > 1
    load_runs(tmp_path)
    add_runs(tmp_path, new, replace=True)
    for run in new:
        same(load_runs(tmp_path)[run.name], run)
    assert len(files(tmp_path)) == 6


KILLED = """
    import os, sys
    sys.path.insert(0, sys.argv[1])
    from test_store import make
    from lehr.runs.store import add_runs
    calls = 0
    def dying(function):
        def call(*arguments):
            global calls
            calls += 1
            if calls == int(sys.argv[3]):
                os._exit(9)
            return function(*arguments)
        return call
    os.replace, os.fsync = dying(os.replace), dying(os.fsync)
    add_runs(sys.argv[2], [make("a", 2.0), make("c")], replace=True)
"""


@pytest.mark.parametrize("at", [1, 6, 9, 10])
def test_a_killed_writer_leaves_whole_runs(tmp_path, at):
    add_runs(tmp_path, [make("a"), make("b")])
    command = [sys.executable, "-c", textwrap.dedent(KILLED), os.path.dirname(__file__), tmp_path, str(at)]
    assert subprocess.run(command, check=False).returncode == 9
    runs = load_runs(tmp_path)
    assert set(runs.names) - {"c"} == {"a", "b"}
    same(runs["b"], make("b"))
    same(runs["a"], make("a", 2.0 if runs["a"].loss[0] == make("a", 2.0).loss[0] else 1.0))
    add_runs(tmp_path, [make("a", 3.0), make("c")], replace=True)
    same(load_runs(tmp_path)["a"], make("a", 3.0))
    assert not [name for name in files(tmp_path) if name.endswith(".tmp")]
    assert len([name for name in files(tmp_path) if name.startswith("a-")]) == 2


def test_duckdb_that_cannot_write(tmp_path, monkeypatch):
    def full(*_):
        raise duck.error_type()("IO Error: No space left on device")

    monkeypatch.setattr(duck, "write_points", full)
    with pytest.raises(ResultError, match=r"runs could not be written \(No space left"):
        add_runs(tmp_path, [make()])
    assert list_runs(tmp_path) == []


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultError, match=r"file.* could not be written"):
        add_runs(tmp_path / "file", [make()])


def test_no_store(tmp_path):
    for call in (load_runs, list_runs):
        with pytest.raises(InputError, match="is no store of runs: make one with `lehr import LOG... --into"):
            call(tmp_path / "nowhere")
    add_runs(tmp_path, [])
    assert list_runs(tmp_path) == []
    assert len(load_runs(tmp_path)) == 0


def spoil(store, **changes):
    path = store / "runs" / f"{safe_id('a')}.json"
    record = json.loads(path.read_text())
    record.update(changes)
    path.write_text(json.dumps({key: value for key, value in record.items() if value != "ABSENT"}))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"schema_version": 2},
            "schema_version must be 1, got 2: read the store with the version of lehr that wrote",
        ),
        ({"schema_version": "ABSENT"}, "is damaged: no schema_version. Delete it and import that run again"),
        ({"points": "ABSENT"}, "field 'points' is absent"),
        ({"points": "21"}, "field 'points' is of the wrong type"),
        ({"steps": True}, "field 'steps' is of the wrong type"),
        ({"parquet": "../../x.parquet"}, "field 'parquet' is no file name"),
        ({"name": "b"}, "it holds the run 'b', which belongs in another file"),
    ],
)
def test_damaged_records_are_named(tmp_path, changes, text):
    add_runs(tmp_path, [make("a")])
    spoil(tmp_path, **changes)
    for call in (load_runs, list_runs):
        with pytest.raises(InputError, match=text) as caught:
            call(tmp_path)
        assert safe_id("a") in str(caught.value)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000])
def test_records_that_are_no_json(tmp_path, data):
    add_runs(tmp_path, [make("a")])
    (tmp_path / "runs" / f"{safe_id('a')}.json").write_bytes(data)
    with pytest.raises(InputError, match=rf"{safe_id('a')}\.json is damaged"):
        list_runs(tmp_path)


def test_records_that_make_no_run(tmp_path):
    add_runs(tmp_path, [make("a")])
    spoil(tmp_path, schedule="wsd(steps=10)")
    with pytest.raises(InputError, match=r"\.json is damaged: .*peak"):
        load_runs(tmp_path)


def test_damaged_points_are_named(tmp_path):
    add_runs(tmp_path, [make("a")])
    (points,) = (tmp_path / "runs").glob("*.parquet")
    whole = points.read_bytes()
    points.write_bytes(whole[:50] + b"x" + whole[51:])
    with pytest.raises(InputError, match=rf"{points.name} is damaged .its SHA-256 is not the recorded"):
        load_runs(tmp_path)
    points.write_bytes(b"no parquet")
    spoil(tmp_path, sha256="1a0b5d4e9d9e4d8a2fcd2a47fcd0dc4f7b1a44a0d1b8c6f6e0f4f0a0b1b2c3d4")
    with pytest.raises(InputError, match=rf"{points.name} is damaged"):
        load_runs(tmp_path)
    spoil(tmp_path, sha256=hashlib.sha256(b"no parquet").hexdigest())
    with pytest.raises(InputError, match=rf"{points.name} is damaged \(.*: import 'a' again"):
        load_runs(tmp_path)
    points.unlink()
    with pytest.raises(InputError, match=rf"{points.name} cannot be read .*: import 'a' again"):
        load_runs(tmp_path)


def test_a_record_replaced_while_reading(tmp_path, monkeypatch):
    from lehr.runs import store

    add_runs(tmp_path, [make("a")])
    stale = store._records(tmp_path)
    add_runs(tmp_path, [make("a", 2.0)], replace=True)
    monkeypatch.setattr(store, "_records", lambda _: stale)
    same(load_runs(tmp_path)["a"], make("a", 2.0))


def test_writers_wait_for_one_another(tmp_path):
    code = """
        import sys
        sys.path.insert(0, sys.argv[1])
        from test_store import make
        from lehr.runs.store import add_runs
        for i in range(2):
            add_runs(sys.argv[2], [make(f"{sys.argv[3]}-{i}"), make("shared", 1 + i)], replace=True)
    """
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(code), os.path.dirname(__file__), tmp_path, name]
        )
        for name in "xy"
    ]
    assert [writer.wait() for writer in writers] == [0, 0]
    assert len(load_runs(tmp_path)) == 5
    assert len(files(tmp_path)) == 10


def test_public_logs_round_trip(lehr_data, tmp_path):
    paths = sorted((lehr_data / "wsd-runs").glob("*.json"))[::16]
    readings = [read(path)[0] for path in paths]
    reports = {reading.run.name: reading.report for reading in readings}
    add_runs(tmp_path, [reading.run for reading in readings], reports=reports)
    loaded = load_runs(tmp_path)
    for reading in readings:
        same(loaded[reading.run.name], reading.run)
    assert {record["name"]: tuple(record["report"]) for record in list_runs(tmp_path)} == reports
