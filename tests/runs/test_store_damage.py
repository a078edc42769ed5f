"""Stores of many runs that are damaged, of unknown versions, or on a disk that refuses."""

import errno
import hashlib
import json
import os
from pathlib import Path

import pytest
from tests.runs.many_runs import MANY, files, make, many, same

from lehr.errors import InputError, ResultError
from lehr.runs import duck, folding, registry
from lehr.runs.store import add_runs, compact, list_runs, load_runs


def test_versions_not_known_are_refused(tmp_path):
    add_runs(tmp_path, many())
    (path,) = (tmp_path / "runs").glob("*.json")
    with pytest.raises(
        InputError, match="schema_version must be 1, got 2: read the store with the version of lehr"
    ):
        registry.decode(path.read_bytes(), path)  # what lehr did before it had segments
    data = path.read_bytes().replace(b'"schema_version": 2', b'"schema_version": 3')
    path.write_bytes(data)
    for call in (list_runs, load_runs, lambda folder: add_runs(folder, [make("a")])):
        with pytest.raises(
            InputError, match="schema_version must be 2, got 3: read the store with the version of"
        ):
            call(tmp_path)


def test_damaged_segments_are_named(tmp_path):
    add_runs(tmp_path, many())
    (path,) = (tmp_path / "runs").glob("*.json")
    whole = path.read_bytes()
    broken = [whole[:cut] for cut in range(0, len(whole) - 1, 97)]
    broken += [whole.replace(b"run-0003", b"run-0009"), b"[]", b"{}", b"\xff", b"[" * 100_000]
    for data in broken:
        path.write_bytes(data)
        with pytest.raises(
            InputError, match=rf"{path.name} is damaged: .*bring it back from a copy of the store"
        ):
            list_runs(tmp_path)
    path.write_bytes(whole)
    same(tmp_path, many())


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ({"schema_version": 2}, "no generation or no records"),
        ({"schema_version": 2, "generation": 1, "records": [1]}, "a record is no JSON object"),
        ({"schema_version": 2, "generation": 1, "records": [{}]}, "field 'name' is absent"),
        ({"generation": 1, "records": []}, "no schema_version"),
    ],
)
def test_segments_of_another_make(tmp_path, content, text):
    add_runs(tmp_path, [])
    data = json.dumps(content).encode()
    name = f"segment.{1:012d}.{hashlib.sha256(data).hexdigest()[:16]}.json"
    (tmp_path / "runs" / name).write_bytes(data)
    with pytest.raises(InputError, match=rf"{name} is damaged: {text}"):
        list_runs(tmp_path)


def test_damaged_shared_points_are_named(tmp_path):
    add_runs(tmp_path, many())
    (path,) = (tmp_path / "runs").glob("*.parquet")
    whole = path.read_bytes()
    path.write_bytes(whole[:60] + b"x" + whole[61:])
    with pytest.raises(InputError, match=rf"{path.name} is damaged .its SHA-256 .*: import 'run-0002' again"):
        load_runs(tmp_path, ["run-0002"])
    with pytest.raises(InputError, match=rf"{path.name} is damaged: its SHA-256 is not the recorded one"):
        compact(tmp_path)
    path.unlink()
    with pytest.raises(InputError, match=rf"{path.name} cannot be read .*: import 'run-0000' again"):
        load_runs(tmp_path)
    assert len(list_runs(tmp_path)) == MANY


def test_a_damaged_record_does_not_hinder_other_imports(tmp_path, monkeypatch):
    monkeypatch.setattr(folding, "MOST_SMALL", 2)
    add_runs(tmp_path, [make("bad")])
    (tmp_path / "runs" / f"{registry.safe_id('bad')}.json").write_text("{")
    for index in range(4):
        add_runs(tmp_path, [make(f"good-{index}")])
    add_runs(tmp_path, many())
    with pytest.raises(InputError, match="is damaged: not JSON"):
        compact(tmp_path)
    (tmp_path / "runs" / f"{registry.safe_id('bad')}.json").unlink()
    compact(tmp_path)
    same(tmp_path, [*many(), *(make(f"good-{index}") for index in range(4))])
    assert len(files(tmp_path)) == 2


@pytest.mark.parametrize("function", [(os, "replace"), (os, "fsync"), (Path, "write_bytes"), (os, "open")])
def test_a_full_disk_leaves_the_store_as_it_was(tmp_path, monkeypatch, function):
    owner, name = function
    add_runs(tmp_path, [make("run-0000"), make("other")])
    before, original = files(tmp_path), getattr(owner, name)
    for at in range(1, 20):
        calls = 0

        def failing(*arguments, at=at):
            nonlocal calls
            calls += 1
            if calls == at:
                raise OSError(errno.ENOSPC, "No space left on device", str(arguments[0]))
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, failing)
            try:
                add_runs(tmp_path, many(version=2), replace=True)
            except ResultError as error:
                assert "No space left on device" in str(error) and "the store is as it was" in str(error)
            else:
                assert calls < at
                break
        assert files(tmp_path) == before
        same(tmp_path, [make("run-0000"), make("other")])
    assert at > 1
    same(tmp_path, [*many(version=2), make("other")])


def test_a_fold_that_fails_does_not_fail_the_import(tmp_path, monkeypatch):
    monkeypatch.setattr(folding, "MOST_SMALL", 3)
    monkeypatch.setattr(duck, "write_shared", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    for index in range(6):
        add_runs(tmp_path, [make(f"r{index}")])
    same(tmp_path, [make(f"r{index}") for index in range(6)])
    with pytest.raises(ResultError, match="could not be written .full.; the store is as it was"):
        compact(tmp_path)
    same(tmp_path, [make(f"r{index}") for index in range(6)])
