"""Stores that are not local folders."""

import sys
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import call

from lehr.errors import InputError
from lehr.runs.location import is_remote, locate
from lehr.runs.run import Run
from lehr.runs.sql import query
from lehr.runs.store import SHARED_FROM, add_runs, compact, is_store, list_runs, load_runs
from lehr.schedule.families import constant


def make(name, version=1):
    step = np.arange(1, 6)
    return Run(name, constant(steps=5, peak=1e-3), step, step + float(version))


@pytest.fixture
def remote(tmp_path):
    """A store in memory, the local one that it is a copy of, and the filesystem."""
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    add_runs(tmp_path / "s", [make(f"r{index}") for index in range(SHARED_FROM)])
    add_runs(tmp_path / "s", [make("alone")])
    folder = f"/{tmp_path.name}/s"
    memory.put(str(tmp_path / "s"), folder, recursive=True)
    yield f"memory:/{folder}", tmp_path / "s", memory
    memory.rm(f"/{tmp_path.name}", recursive=True)


def test_a_store_elsewhere_is_listed_loaded_and_asked(remote):
    address, local, _ = remote
    assert is_store(address)
    for place in (address, Path(address), f"{address}/"):  # a Path makes one slash of two
        assert list_runs(place) == list_runs(local)
        assert [run.fingerprint() for run in load_runs(place)] == [
            run.fingerprint() for run in load_runs(local)
        ]
        assert load_runs(place, ["r3"])["r3"].loss.tolist() == make("r3").loss.tolist()
        text = "SELECT run, sum(loss) FROM points GROUP BY run ORDER BY run"
        assert query(place, text) == query(local, text)
    assert call("runs", address).out == call("runs", local).out


def test_damage_elsewhere_is_named(remote):
    address, _, memory = remote
    part = next(path for path in memory.ls(f"{address}/runs", detail=False) if "shared" in path)
    memory.pipe(part, b"PAR1" + memory.cat(part)[4:-9] + b"x" * 9)
    with pytest.raises(InputError, match=r"memory:/.*parquet is damaged .its SHA-256"):
        load_runs(address)
    memory.rm(part)
    with pytest.raises(InputError, match=r"memory:/.*parquet cannot be read .*: import 'r0' again"):
        load_runs(address)


def test_a_store_elsewhere_is_not_written(remote):
    address, _, _ = remote
    with pytest.raises(
        InputError, match="can only be read: import into a folder .--into FOLDER. and copy that"
    ):
        add_runs(address, [make("x")])
    with pytest.raises(InputError, match="can only be read: compact the folder that it is a copy of"):
        compact(address)
    with pytest.raises(InputError, match="memory://nowhere is no store of runs"):
        list_runs("memory://nowhere")


def test_addresses_that_cannot_be_opened(monkeypatch):
    pytest.importorskip("fsspec")
    with pytest.raises(
        InputError, match=r"nosuch://a/b cannot be opened \(Protocol not known: nosuch.*copy the store"
    ):
        list_runs("nosuch://a/b")
    monkeypatch.setitem(sys.modules, "fsspec", None)
    with pytest.raises(
        InputError, match="s3://a/b is read through fsspec, which is not installed: pip install fsspec"
    ):
        list_runs(Path("s3:/a/b"))


def test_what_is_an_address(tmp_path, monkeypatch):
    assert is_remote("https://a/b") and is_remote(Path("gs://a/b")) and not is_remote("C:/store")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s3:").mkdir()
    (tmp_path / "s3:" / "a").mkdir()
    assert not is_remote("s3:/a")
    assert locate("s3:/a", "runs").filesystem is None
