"""PROJECT.db of Trackio, an SQLite database a project: every run of it.

Read in Trackio 0.43 (sqlite_storage.py, run.py): `metrics` has a row a call of `log`, its values as JSON with NaN and
infinities as texts, and a step that counts calls from 0 unless it was given; `configs` has a run's settings. Before
version 0.24 a run was its name; since, names need not be unique. Where the rows hold a counter of updates of
their own, as those of Hugging Face's Trainer do (train/global_step), that is the step.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

import numpy as np

from lehr.errors import InputError, bad
from lehr.runs.readers import hugging_face, sparse
from lehr.runs.readers.databases import fetched, groups, has_tables, opened, tables, unique_names
from lehr.runs.readers.flat_yaml import Scalar
from lehr.runs.readers.raw import Log
from lehr.runs.readers.reading import ReadOptions, check_file
from lehr.runs.readers.trainer_schedule import trainer_schedule

TABLES = {"metrics": {"id", "timestamp", "run_name", "step", "metrics"}}
COUNTERS = ("train/global_step", "trainer/global_step", "global_step")
OWN = "Trackio's step"
_ROLES = {
    "train": "train/loss", "val": "eval/loss", "lr": "train/learning_rate", "tokens": "train/num_input_tokens_seen"
}  # fmt: skip


def sniff(path: Path) -> bool:
    """Whether a file is an SQLite database with Trackio's table of metrics."""
    return has_tables(path, TABLES)


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the runs of a project.

    Raises
    ------
    InputError
        Naming the file, and the record whose metrics are not JSON or whose step is no whole number.
    """
    del options
    where = str(check_file(path, streamed=True))
    columns: dict[str, sparse.Columns] = {}
    times: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {}
    names: dict[str, str] = {}
    with opened(path) as connection:
        found = tables(connection)
        if not TABLES["metrics"] <= found.get("metrics", set()):
            raise InputError(f"{path} has no table of metrics as Trackio's: give the project's .db file.")
        key = "run_id" if "run_id" in found["metrics"] else "run_name"
        configs = _configs(connection, key) if {key, "config"} <= found.get("configs", set()) else {}
        query = f"SELECT {key}, run_name, id, step, timestamp, metrics FROM metrics ORDER BY id"
        for rows in fetched(connection, query):
            values = _values(rows, where)
            ids = _ids(rows, where)
            for run, places in groups([row[0] for row in rows]):
                name = str(run)
                names.setdefault(name, str(rows[places[0]][1]))
                record = ids[places]
                told = [{OWN: rows[place][3], **values[place]} for place in places]
                columns.setdefault(name, sparse.Columns()).add(told, record)
                clock = np.array([_seconds(rows[place][4]) for place in places])
                times.setdefault(name, []).append((record, clock))
    if not columns:
        raise InputError(f"{path} has no row of metrics yet: log some first.")
    called = unique_names(names)
    for run, own in columns.items():
        record, clock = (np.concatenate(part) for part in zip(*times[run], strict=True))
        yield _log(where, called[run], own, (record, clock), configs.get(run, {}))


def _configs(connection: object, key: str) -> dict[str, dict[str, Scalar]]:
    """Scalars of each run's settings; Trackio's own begin with an underscore."""
    out: dict[str, dict[str, Scalar]] = {}
    for rows in fetched(connection, f"SELECT {key}, config FROM configs"):  # type: ignore[arg-type]
        for run, text in rows:
            try:
                told = json.loads(text)  # type: ignore[arg-type]
            except (ValueError, TypeError, RecursionError):
                continue
            flat = sparse.flat(told, ".") if isinstance(told, dict) else {}
            out[str(run)] = {
                name: value
                for name, value in flat.items()
                if not name.startswith("_") and (value is None or isinstance(value, str | int | float))
            }
    return out


def _ids(rows: list[tuple[object, ...]], where: str) -> np.ndarray:
    """Numbers of the records, shape (rows,)."""
    wrong = [row[2] for row in rows if type(row[2]) is not int]
    if wrong:
        raise bad(f"{where}: id of a row", "must be a whole number", wrong[0], "copy the database again")
    return np.array([row[2] for row in rows], dtype=np.int64)


def _values(rows: list[tuple[object, ...]], where: str) -> list[Mapping[str, object]]:
    """Metrics of each row."""
    texts = [cell.decode("utf-8", "replace") if isinstance(cell, bytes) else str(cell) for *_, cell in rows]
    try:  # all at once
        told = json.loads("[" + ",".join(texts) + "]")
        if len(told) == len(rows) and all(type(value) is dict for value in told):
            return told
    except (ValueError, RecursionError):
        pass
    out: list[Mapping[str, object]] = []
    for row, text in zip(rows, texts, strict=True):
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise InputError(
                f"{where}, record {row[2]}: its metrics are not a JSON object ({text[:40]!r}): remove the row."
            )
        out.append(value)
    return out


def _seconds(text: object) -> float:
    try:
        return datetime.fromisoformat(str(text)).timestamp()
    except (ValueError, OverflowError):
        return float("nan")


def _log(
    where: str, name: str, own: sparse.Columns, time: tuple[np.ndarray, np.ndarray], config: dict[str, Scalar]
) -> Log:
    columns = own.columns()
    if OWN not in columns:
        raise InputError(f"{where}: run {name!r} has no step that is a number: log it again.")
    counter, report = _counter(columns), list(own.told())
    if counter != OWN:
        del columns[OWN]
        report.append(f"steps are {counter}, not the count of calls of log")
    series, lost = sparse.series(columns, counter, where, lines=False, time=time)
    if lost:
        report.append(f"{lost} values are in rows without {counter} and were left out")
    roles: dict[str, str] = {}
    schedule = None
    if counter == COUNTERS[0] and isinstance(config.get("transformers_version"), str):
        schedule = trainer_schedule(config)
        lr = series.get("train/learning_rate")
        after, why = hugging_face.lr_is_next(config["transformers_version"], {}, lr)
        series = hugging_face.moved(series, "train/loss", "train/learning_rate", after)
        report.append(f"logged by Hugging Face's Trainer: {why}; train/loss is the mean since the log before")
        roles = {role: metric for role, metric in _ROLES.items() if metric in series}
    return Log(
        source=where, name=name, series=series, config=config, schedule=schedule, roles=roles, report=tuple(report)
    )  # fmt: skip


def _counter(columns: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> str:
    """Name of the counter of updates that stands in every row, else Trackio's own."""
    rows = columns[OWN][0].size
    return next((name for name in COUNTERS if name in columns and columns[name][0].size == rows), OWN)
