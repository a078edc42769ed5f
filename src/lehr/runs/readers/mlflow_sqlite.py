"""mlflow.db, the SQLite store of MLflow: every run of it.

Read in MLflow 3.17 (store/tracking/dbmodels/models.py, sqlalchemy_store.py). `metrics` has a row for each value
logged: NaN is kept as `is_nan` with value 0, an infinity as the largest float. Runs that were deleted
(`lifecycle_stage`) are left out. The name is the tag mlflow.runName, else `runs.name`; names need not be unique.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lehr.errors import InputError, bad
from lehr.runs.readers import mlflow
from lehr.runs.readers.databases import fetched, groups, has_tables, opened, tables, unique_names
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions, check_file

TABLES = {
    "metrics": {"key", "value", "timestamp", "run_uuid", "step", "is_nan"}, "params": {"key", "value", "run_uuid"},
    "runs": {"run_uuid", "name", "lifecycle_stage", "experiment_id"}, "tags": {"key", "value", "run_uuid"},
}  # fmt: skip
LARGEST = sys.float_info.max  # how an infinity is stored

Parts = dict[str, list[tuple[np.ndarray, ...]]]


def sniff(path: Path) -> bool:
    """Whether a file is an SQLite database with MLflow's tables."""
    return has_tables(path, TABLES)


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the runs of a store.

    Raises
    ------
    InputError
        Naming the file, and the run and metric of a value that is no number.
    """
    del options
    where = str(check_file(path, streamed=True))
    with opened(path) as connection:
        missing = sorted(set(TABLES) - set(tables(connection)))
        if missing:
            raise InputError(f"{path} has no table {missing[0]!r}: give a database of MLflow, or upgrade it.")
        names, deleted = {}, 0
        query = (
            "SELECT runs.run_uuid, coalesce(tags.value, runs.name, ''), coalesce(lifecycle_stage, '') FROM runs "
            "LEFT JOIN tags ON tags.run_uuid = runs.run_uuid AND tags.key = 'mlflow.runName' ORDER BY runs.rowid"
        )
        for run, name, stage in connection.execute(query):
            if stage == "deleted":
                deleted += 1
            else:
                names[str(run)] = str(name)
        params: dict[str, dict[str, str]] = {}
        for run, key, value in connection.execute("SELECT run_uuid, key, value FROM params"):
            params.setdefault(str(run), {})[str(key)] = str(value)
        report = [f"{deleted} runs that were deleted in MLflow were left out"] if deleted else []
        called = unique_names(names)
        found = 0
        for run, series in _runs(connection, where):
            if run in called:
                found += 1
                yield mlflow.log(where, called[run], series, params.get(run, {}), report)
                report = []
    if not found:
        raise InputError(
            f"{path} has no run with metrics{' that is not deleted' if deleted else ''}: log some first."
        )


def _runs(connection: object, where: str) -> Iterator[tuple[str, dict[str, Series]]]:
    """Series of each run, run by run, in the order in which they were logged."""
    query = "SELECT run_uuid, key, step, value, is_nan, timestamp FROM metrics ORDER BY run_uuid, rowid"
    current: object = None
    parts: Parts = {}
    for rows in fetched(connection, query):  # type: ignore[arg-type]
        for run, places in groups([row[0] for row in rows]):
            if run != current:
                if current is not None:
                    yield str(current), _series(parts)
                current, parts = run, {}
            _take([rows[place] for place in places], parts, where)
    if current is not None:
        yield str(current), _series(parts)


def _take(rows: list[tuple[object, ...]], parts: Parts, where: str) -> None:
    """Add rows of one run to its parts."""
    for key, places in groups([row[1] for row in rows]):
        _, _, *cells = zip(*(rows[place] for place in places), strict=True)
        try:
            step, value, nan, time = (np.array(column, dtype=float) for column in cells)
        except (TypeError, ValueError):
            raise bad(
                f"{where}: metric {str(key)!r} of run {str(rows[0][0])!r}", "must have numbers as values and steps",
                next(cell for column in cells for cell in column if isinstance(cell, str | bytes)),
                "mend the row in the database",
            ) from None  # fmt: skip
        value[np.abs(value) >= LARGEST] *= np.inf
        value[nan != 0] = np.nan
        parts.setdefault(str(key), []).append((step, value, time / 1000))


def _series(parts: Parts) -> dict[str, Series]:
    out = {}
    for key, told in parts.items():
        step, value, time = (np.concatenate(column) for column in zip(*told, strict=True))
        there = np.isfinite(step)  # a step is never NULL but in a damaged row
        out[key] = Series(step[there], value[there], time[there])
    return out
