"""The store: a folder of Parquet files with the points of runs, and of records that make runs visible.

::

    STORE/runs/<id>-<content>.parquet                 columns step (BIGINT) and loss (DOUBLE), as logged
    STORE/runs/<id>.json                              the record of that run (`lehr.runs.registry`)
    STORE/runs/shared.<content>.parquet               the same of many runs, with a column run (VARCHAR)
    STORE/runs/segment.<generation>.<content>.json    their records (`lehr.runs.segments`)

Runs that are added one by one have two files each; `SHARED_FROM` and more that are added at once share files,
and when more than `lehr.runs.folding.MOST_SMALL` small files have gathered the writer folds them into shared
ones. So a store of any size is a few files, and listing it reads those with records alone. There is no
index beside them that could be wrong. Of several records of one run that of the highest generation counts.

Every file is written under a temporary name, brought to disk, and renamed; records come last. So a
write that is interrupted leaves each run as it was or as it was to be, never in between, and one that
fails takes back the runs it had already made visible. Writers wait for one another (`flock`); readers
need not. A file is changed by nobody: what takes its place has another name, or is renamed onto it.

Stores that lehr wrote before it had segments (schema version 1) are the first two lines of the above, so they
are read as they are, and the first fold upgrades them. A later version than the ones known here is refused.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lehr.errors import InputError, LehrError, ResultError, unknown
from lehr.runs import duck, folding
from lehr.runs.catalogue import Catalogue, Entry, read_catalogue
from lehr.runs.location import Location, is_remote, locate
from lehr.runs.registry import ASIDE, describe, safe_id, same_run, to_run
from lehr.runs.run import Run, RunSet
from lehr.runs.shared import Points, write_shared
from lehr.runs.writing import file_sha256, remove, sweep, write_runs, writing

FOLDER = "runs"
SHARED_FROM = 16  # runs added at once that are written into shared files


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
        If two of the runs share a name, a different run of that name is stored, or the store is an address
        instead of a folder; nothing is written then.
    ResultError
        If the disk refuses (full, not writable): the store is as it was before.
    """
    if is_remote(store):
        raise InputError(
            f"{store} can only be read: import into a folder (--into FOLDER) and copy that to the address."
        )
    incoming = RunSet(runs)
    records = {run.name: describe(run, (reports or {}).get(run.name, ())) for run in incoming}
    folder = Path(store) / FOLDER
    with _refusals(Path(store)):
        folder.mkdir(parents=True, exist_ok=True)
        with writing(Path(store)):
            catalogue = read_catalogue(Location(str(folder)), records)
            old = {name: catalogue.runs[name].record for name in records if name in catalogue.runs}
            same = {name: record for name, record in old.items() if same_run(record, records[name])}
            clashes = [name for name in old if name not in same]
            if clashes and not replace:
                raise _clash(Path(store), clashes)
            new = [run for run in incoming if run.name not in same]
            _write(folder, new, records, catalogue)
            kept = {name: record["parquet"] for name, record in same.items()}
            sweep(folder, kept, catalogue.files)
            _tidy(folder, catalogue, len(new))
    return Added(
        added=tuple(name for name in records if name not in old),
        replaced=tuple(clashes),
        unchanged=tuple(same),
    )


@contextlib.contextmanager
def _refusals(store: Path) -> Iterator[None]:
    """Say what it means that the disk refused to be written."""
    try:
        yield
    except OSError as error:
        raise ResultError(
            f"{error.filename or store} could not be written ({error.strerror or error}); the store is as it was: "
            "free some space, or choose another folder with --into."
        ) from error
    except duck.error_type() as error:
        raise ResultError(
            f"{store / FOLDER} could not be written ({duck.one_line(error)}); the store is as it was."
        ) from error


def _write(
    folder: Path, runs: Sequence[Run], records: Mapping[str, dict[str, Any]], catalogue: Catalogue
) -> None:
    """Write runs one by one or together; remove the files of those they replace."""
    generation = catalogue.next_generation
    old = {record["name"]: record for record in catalogue.loose.values()}
    if len(runs) >= SHARED_FROM:
        write_shared(folder, (Points(records[run.name], run.step, run.loss) for run in runs), generation)
        for run in runs:
            if run.name in old:
                remove(folder / f"{safe_id(run.name)}.json")
        sweep(folder, {run.name: "" for run in runs}, catalogue.files)
        return
    dated = {name: {**record, "generation": generation} for name, record in records.items()}
    sweep(folder, write_runs(folder, runs, dated, old), catalogue.files)


def _tidy(folder: Path, before: Catalogue, written: int) -> None:
    """Fold or clear away files where that is due; the runs are safe already, so it may also fail."""
    shared = written >= SHARED_FROM
    with contextlib.suppress(OSError, LehrError, duck.error_type()):
        if folding.due(before, segments=int(shared), loose=0 if shared else written):
            folding.fold(folder)
        elif shared:
            folding.collect(folder)


def compact(store: Path | str) -> None:
    """Put the runs of a store that have files of their own into shared ones, whatever their number.

    Raises
    ------
    InputError
        If there is no store, it is an address, or a file of it is damaged.
    ResultError
        If the disk refuses; the store is as it was.
    """
    _existing(store)
    if is_remote(store):
        raise InputError(f"{store} can only be read: compact the folder that it is a copy of.")
    with _refusals(Path(store)), writing(Path(store)):
        folding.fold(Path(store) / FOLDER)


def load_runs(store: Path | str, names: Iterable[str] | None = None) -> RunSet:
    """Load the runs of a store, sorted by name, or the named ones in the order given.

    Raises
    ------
    InputError
        If there is no store, a name is unknown, or a file is damaged (it is named).
    """
    entries = {entry.record["name"]: entry for entry in _records(store)}
    if names is not None:
        wanted = list(names)
        for name in wanted:
            if name not in entries:
                raise unknown(f"run in {store}", name, entries)
        entries = {name: entries[name] for name in wanted}
    loaded = _load(locate(store, FOLDER), list(entries.values()))
    return RunSet(loaded[name] for name in entries)


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
    found = []
    for entry in _records(store):
        described = {**entry.record, "split": entry.record["meta"].get("split")}
        for key in ASIDE:
            described.pop(key, None)
        found.append(described)
    return found


def records_of(store: Path | str) -> list[dict[str, Any]]:
    """The records of all runs, with the files that hold their points, sorted by name; raises as `list_runs`."""
    return [entry.record for entry in _records(store)]


def is_store(store: Path | str) -> bool:
    """Tell whether there is a store of runs at `store`."""
    return locate(store, FOLDER).exists()


def _existing(store: Path | str) -> Location:
    location = locate(store, FOLDER)
    if not location.exists():
        raise InputError(f"{store} is no store of runs: make one with `lehr import LOG... --into {store}`.")
    return location


def _records(store: Path | str) -> list[Entry]:
    """The record of every run, sorted by name."""
    catalogue = read_catalogue(_existing(store))
    return sorted(catalogue.runs.values(), key=lambda entry: str(entry.record["name"]))


def _load(location: Location, entries: Sequence[Entry]) -> dict[str, Run]:
    """Read the points of runs, each file once; by name."""
    by_file: dict[str, list[Entry]] = {}
    for entry in entries:
        by_file.setdefault(entry.record["parquet"], []).append(entry)
    connection = duck.connect() if entries else None
    runs: dict[str, Run] = {}
    for file, group in by_file.items():
        try:
            step, loss = _read_points(connection, location, file, group[0].record)
        except FileNotFoundError:  # replaced or folded since the records were read
            runs |= _load(location, _moved(location, file, group))
            continue
        for entry in group:
            record = entry.record
            own = (step, loss)
            if "row" in record:
                part = slice(record["row"], record["row"] + record["points"])
                own = (step[part], loss[part])
            runs[record["name"]] = to_run(record, *own, location.place(entry.file))
    return runs


def _moved(location: Location, file: str, group: Sequence[Entry]) -> list[Entry]:
    """Find where the runs of a file that is gone are now."""
    now = read_catalogue(location).runs
    name = group[0].record["name"]
    found = [now[entry.record["name"]] for entry in group if entry.record["name"] in now]
    if len(found) < len(group) or any(entry.record["parquet"] == file for entry in found):
        raise InputError(
            f"{location.place(file)} cannot be read (No such file or directory): import {name!r} again."
        )
    return found


def _read_points(
    connection: Any, location: Location, file: str, record: Mapping[str, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Read a Parquet file, which must be the one that `record` names."""
    place, again = location.place(file), f"import {record['name']!r} again"
    with contextlib.ExitStack() as stack:
        try:
            path = Path(place) if location.filesystem is None else _fetched(stack, location, file)
            digest = file_sha256(path)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise InputError(f"{place} cannot be read ({error.strerror or error}): {again}.") from None
        if digest != record["sha256"]:
            raise InputError(f"{place} is damaged (its SHA-256 is not the recorded one): {again}.")
        try:
            return duck.read_points(connection, path)
        except duck.error_type() as error:
            if not path.exists():  # gone between the two looks
                raise FileNotFoundError(place) from None
            raise InputError(f"{place} is damaged ({duck.one_line(error)}): {again}.") from None


def _fetched(stack: contextlib.ExitStack, location: Location, file: str) -> Path:
    """Copy a file from elsewhere, for the time being."""
    path = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lehr-"))) / "points.parquet"
    path.write_bytes(location.read(file))
    return path


def _clash(store: Path, names: Sequence[str]) -> InputError:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return InputError(
        f"{store} already holds a different run {names[0]!r}{more}: add --replace to take its place, "
        "or --name to store this one beside it."
    )
