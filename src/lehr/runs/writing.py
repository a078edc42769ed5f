"""Writing runs so that an interruption, a full disk or another writer never leaves a half of one."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr.errors import ResultError
from lehr.runs import duck
from lehr.runs.registry import encode, safe_id
from lehr.runs.run import Run

TEMPORARY = ".tmp"
POINTS = re.compile(r"([a-z0-9-]+-[0-9a-f]{16})-[0-9a-f]{16}\.parquet\Z")  # of one run, with its id


@dataclass(frozen=True)
class _Staged:
    """The files of one run under their temporary names, and where they belong."""

    temporary_points: Path
    points: Path
    temporary_record: Path
    record: Path
    backup: Path | None  # copy of the record that will be replaced
    old_points: str | None  # the Parquet file that record names


def write_runs(
    folder: Path, runs: Sequence[Run], records: Mapping[str, dict[str, Any]],
    old: Mapping[str, dict[str, Any]],
) -> dict[str, str]:  # fmt: skip
    """Write two files a run, under temporary names; rename them, and undo everything if anything fails.

    Parameters
    ----------
    folder : where the files go.
    runs : what to write.
    records : by name, the record of each run, but for its Parquet file.
    old : by name, the records in files of their own that will be replaced.

    Returns
    -------
    By name, the Parquet file written.

    Raises
    ------
    OSError, duckdb.Error
        If the disk refuses; everything is as it was.
    ResultError
        If it refuses even to go back; the message says which runs are new.
    """
    if not runs:
        return {}
    connection = duck.connect()
    staged: list[_Staged] = []
    shown: list[_Staged] = []
    try:
        for run in runs:
            staged.append(_stage(connection, folder, run, records[run.name], old.get(run.name)))
        for item in staged:
            os.replace(item.temporary_points, item.points)
        sync_folder(folder)
        for item in staged:
            shown.append(item)  # before: an interrupt may fall between the two
            os.replace(item.temporary_record, item.record)
        sync_folder(folder)
    except BaseException as error:
        stuck = _undo(staged, shown)
        if stuck:
            raise ResultError(
                f"{folder} could not be written ({error}) and could not be set right: new and whole are "
                f"{', '.join(stuck)}; all other runs are as they were."
            ) from error
        raise
    finally:
        remove_temporary(folder)
    return {run.name: item.points.name for run, item in zip(runs, staged, strict=True)}


def sweep(folder: Path, points: Mapping[str, str], files: Iterable[str]) -> None:
    """Remove older points of the named runs among `files`, also those that a killed writer left."""
    current = {safe_id(name): file for name, file in points.items()}
    for file in files:
        told = POINTS.match(file)
        if told and current.get(told[1], file) != file:
            remove(folder / file)


def remove(path: Path) -> None:
    """Remove a file if that can be done; what stays is hidden or no longer referred to."""
    with contextlib.suppress(OSError):
        path.unlink()


def remove_temporary(folder: Path) -> None:
    """Remove what this writer or a killed one left under temporary names; the lock must be held."""
    for leftover in folder.glob(f"*{TEMPORARY}"):
        remove(leftover)


def _stage(
    connection: Any, folder: Path, run: Run, record: dict[str, Any], old: Mapping[str, Any] | None
) -> _Staged:
    """Write the points and the record of a run under temporary names, down to the disk."""
    name = safe_id(run.name)
    temporary_points = folder / f"{name}.parquet{TEMPORARY}"
    duck.write_points(connection, temporary_points, run.step, run.loss)
    sync_file(temporary_points)
    digest = file_sha256(temporary_points)
    points = folder / f"{name}-{digest[:16]}.parquet"
    place = folder / f"{name}.json"
    temporary_record = folder / f"{place.name}{TEMPORARY}"
    temporary_record.write_bytes(encode({**record, "parquet": points.name, "sha256": digest}))
    sync_file(temporary_record)
    backup = folder / f"{place.name}.old{TEMPORARY}" if old else None
    if backup is not None:
        shutil.copyfile(place, backup)
    return _Staged(temporary_points, points, temporary_record, place, backup, old["parquet"] if old else None)


def _undo(staged: Sequence[_Staged], shown: Sequence[_Staged]) -> list[str]:
    """Bring back the records that were replaced and remove what is new; return the files that stay."""
    stuck: list[str] = []
    for item in shown:
        try:
            if not item.temporary_record.exists():  # it was renamed
                if item.backup is not None:
                    os.replace(item.backup, item.record)
                else:
                    item.record.unlink(missing_ok=True)
        except OSError:
            stuck.append(item.record.name)
    for item in staged:
        if item.record.name not in stuck and item.points.name != item.old_points:
            with contextlib.suppress(OSError):
                item.points.unlink(missing_ok=True)
    return stuck


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_file(path: Path) -> None:
    """Bring a file to disk."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring renames to disk; Windows has no way to, and does so by itself."""
    if sys.platform != "win32":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextlib.contextmanager
def writing(store: Path) -> Iterator[None]:
    """Hold the store's lock, where the system has such locks; a killed writer loses it."""
    with (store / ".lock").open("ab") as file:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX)
        yield
