"""The store: a folder with one Parquet file and one record for each run.

::

    STORE/runs/<id>-<content>.parquet    columns step (BIGINT) and loss (DOUBLE), as logged
    STORE/runs/<id>.json                 the record that makes the run visible (`lehr.runs.registry`)

Any engine reads the points: `SELECT * FROM 'STORE/runs/*.parquet'`. Every file is written under
a temporary name, brought to disk, and renamed; records come last. So a write that is interrupted
leaves each run as it was or as it was to be, never in between, and one that fails takes back the
runs it had already made visible. Writers wait for one another; readers need not.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr.errors import InputError, ResultError, unknown
from lehr.runs import duck
from lehr.runs.registry import decode, describe, safe_id, same_run, to_run
from lehr.runs.run import Run, RunSet
from lehr.runs.writing import sweep, write_runs, writing

FOLDER = "runs"


@dataclass(frozen=True)
class Added:
    """Names of the runs that were new, that took another's place, and that were there already."""

    added: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    unchanged: tuple[str, ...] = ()


def add_runs(
    store: Path | str, runs: Iterable[Run], *, replace: bool = False,
    reports: Mapping[str, Sequence[str]] | None = None,
) -> Added:  # fmt: skip
    """Add runs to a store, all or none, making the store if need be.

    Parameters
    ----------
    store : the folder.
    runs : runs with names of their own.
    replace : let a run take the place of a different one of the same name.
    reports : by name, what reading and cleaning did, to be kept with the run.

    Raises
    ------
    InputError
        If two of the runs share a name, or a different run of that name is stored; nothing is
        written then.
    ResultError
        If the disk refuses (full, not writable): the store is as it was before.
    """
    incoming = RunSet(runs)
    old: dict[str, dict[str, Any]] = {}
    records = {run.name: describe(run, (reports or {}).get(run.name, ())) for run in incoming}
    folder = Path(store) / FOLDER
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with writing(Path(store)):
            found = {name: _read_record(folder / f"{safe_id(name)}.json") for name in records}
            old = {name: record for name, record in found.items() if record is not None}
            same = {name: record for name, record in old.items() if same_run(record, records[name])}
            clashes = [name for name in old if name not in same]
            if clashes and not replace:
                raise _clash(Path(store), clashes)
            written = write_runs(folder, [run for run in incoming if run.name not in same], records, old)
            sweep(folder, {name: record["parquet"] for name, record in same.items()} | written)
    except OSError as error:
        raise ResultError(
            f"{error.filename or store} could not be written ({error.strerror or error}); the store is as it was: "
            "free some space, or choose another folder with --into."
        ) from error
    except duck.error_type() as error:
        raise ResultError(
            f"{folder} could not be written ({duck.one_line(error)}); the store is as it was."
        ) from error
    return Added(
        added=tuple(name for name in records if name not in old),
        replaced=tuple(clashes),
        unchanged=tuple(same),
    )


def load_runs(store: Path | str, names: Iterable[str] | None = None) -> RunSet:
    """Load the runs of a store, sorted by name, or the named ones in the order given.

    Raises
    ------
    InputError
        If there is no store, a name is unknown, or a file is damaged (it is named).
    """
    paths = {record["name"]: (path, record) for path, record in _records(store)}
    if names is not None:
        wanted = list(names)
        for name in wanted:
            if name not in paths:
                raise unknown(f"run in {store}", name, paths)
        paths = {name: paths[name] for name in wanted}
    if not paths:
        return RunSet(())
    connection = duck.connect()
    return RunSet(_load(connection, path, record) for path, record in paths.values())


def list_runs(store: Path | str) -> list[dict[str, Any]]:
    """Describe every run of a store without reading its points, sorted by name.

    Each has the keys name, steps, points, peak_lr, schedule (its text), params, params_total,
    batch_tokens, parent, branch_step, first_step, last_step, final_loss, split, meta, report and
    fingerprint; what is not known is None.

    Raises
    ------
    InputError
        If there is no store, or a record is damaged (its file is named).
    """
    hidden = {"schema_version", "parquet", "sha256"}
    return [
        {
            **{key: value for key, value in record.items() if key not in hidden},
            "split": record["meta"].get("split"),
        }
        for _, record in _records(store)
    ]


def is_store(store: Path | str) -> bool:
    """Tell whether there is a store of runs at `store`."""
    return (Path(store) / FOLDER).is_dir()


def _records(store: Path | str) -> list[tuple[Path, dict[str, Any]]]:
    folder = Path(store) / FOLDER
    if not is_store(store):
        raise InputError(f"{store} is no store of runs: make one with `lehr import LOG... --into {store}`.")
    found = []
    for path in folder.glob("*.json"):
        record = _read_record(path)
        if record is not None:  # None: replaced by a writer at this moment
            found.append((path, record))
    return sorted(found, key=lambda item: str(item[1]["name"]))


def _read_record(path: Path) -> dict[str, Any] | None:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions.") from None
    return decode(data, path)


def _load(connection: Any, path: Path, record: Mapping[str, Any]) -> Run:
    points = path.parent / record["parquet"]
    try:
        data = points.read_bytes()
    except OSError as error:
        now = _read_record(path)
        if now is not None and now["parquet"] != record["parquet"]:  # replaced since the record was read
            return _load(connection, path, now)
        raise InputError(
            f"{points} cannot be read ({error.strerror}): import {record['name']!r} again."
        ) from None
    if hashlib.sha256(data).hexdigest() != record["sha256"]:
        raise InputError(
            f"{points} is damaged (its SHA-256 is not the recorded one): import {record['name']!r} again."
        )
    try:
        step, loss = duck.read_points(connection, points)
    except duck.error_type() as error:
        raise InputError(
            f"{points} is damaged ({duck.one_line(error)}): import {record['name']!r} again."
        ) from None
    return to_run(record, step, loss, path)


def _clash(store: Path, names: Sequence[str]) -> InputError:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return InputError(
        f"{store} already holds a different run {names[0]!r}{more}: add --replace to take its place, "
        "or --name to store this one beside it."
    )
