"""Exports of W&B: charts as CSV, and histories as Parquet, JSON, JSON lines or CSV.

A chart's CSV has the x axis in its first column ("Step" is W&B's `_step`) and for each run and metric the columns
`RUN - METRIC`, `RUN - METRIC__MIN`, `RUN - METRIC__MAX`; where another x axis was chosen, also `RUN - _step`. It holds
the points that were drawn, which are sampled or averaged; where MIN and MAX differ, a value is a mean over rows.

A history has a row for each call of `log`, and the keys `_step`, `_runtime`, `_timestamp` beside the run's own. It is
whole from `run.scan_history()` and `run.download_history_exports()`, and sampled from `run.history()`, to 500 rows
unless told otherwise. It is told from other tables by the key `_step`.
"""

from __future__ import annotations

import csv
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lehr.errors import InputError
from lehr.runs import duck
from lehr.runs.readers import conventions
from lehr.runs.readers.frame import Column as Cells
from lehr.runs.readers.frame import Frame, fetch, kind_of, open_frame
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions, check_file
from lehr.runs.readers.wandb_rows import COUNTERS, OWN_STEP, Column, meaning_of

SAMPLED = 500  # rows that run.history() gives unless told otherwise
HEAD = 1 << 16  # bytes looked at to tell an export
FOOTER = 1 << 24  # bytes of Parquet's footer that are looked at
BATCH = 256  # columns read at a time: a text is read as a whole each time
PARQUET_BATCH = 32  # Parquet is not, and may have more rows than fit otherwise
_SEPARATOR = " - "
_BOUNDS = ("__MIN", "__MAX")
_NUMERIC = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|REAL|DOUBLE|DECIMAL\(.*\))\Z")
_TEXT = ("VARCHAR", "NULL", '"NULL"')


def sniff(path: Path) -> bool:
    """Whether a file is a chart's CSV, or a history by its key `_step`."""
    kind = kind_of(path)
    if kind == "parquet":
        footer = _footer(path)
        return b"_step" in footer and (b"_runtime" in footer or b"_timestamp" in footer)
    with path.open("rb") as file:
        head = file.read(HEAD).removeprefix(b"\xef\xbb\xbf")
    if kind == "csv":
        names = _cells(head.splitlines()[0].decode("utf-8", errors="replace"))
        return _is_chart(names) or _is_history(names)
    return kind is not None and b'"_step"' in head


def logs(path: Path, options: ReadOptions | None = None) -> tuple[Log, ...]:
    """Read an export as one log a run, in the order of the file.

    Raises
    ------
    InputError
        If it is no export of W&B, or cannot be read; naming the line or the column.
    """
    check_file(path)
    frame = open_frame(path)
    if frame.kind == "csv" and _is_chart(frame.names):
        return tuple(_chart(frame))
    if frame.kind == "json-array" and not _last(path, 64).rstrip().endswith(b"]"):
        raise InputError(f"{path} is cut off: it does not end with ']'; export the history again.")
    if "_step" not in frame.names:
        raise InputError(
            f"{path} is not an export of W&B: it has neither columns 'RUN - METRIC' nor a column _step; "
            "export a chart as CSV or the run's history."
        )
    return (_history(frame),)


def _cells(line: str) -> tuple[str, ...]:
    try:
        return tuple(cell.strip() for cell in next(csv.reader([line]), ()))
    except csv.Error:
        return ()


def _is_chart(names: tuple[str, ...]) -> bool:
    """Whether a header is that of a chart: `RUN - METRIC` in all columns but the first."""
    rest = [name for name in names[1:] if name]
    if not rest or _SEPARATOR in names[0] or not all(_SEPARATOR in name for name in rest[:-1] or rest):
        return False
    return names[0] == "Step" or any(name.endswith(_BOUNDS) for name in rest)


def _is_history(names: tuple[str, ...]) -> bool:
    return "_step" in names and ("_runtime" in names or "_timestamp" in names)


def _unended(frame: Frame) -> list[str]:
    """Say that a text does not end as a line does: were it cut off in a number, nothing else would tell."""
    ended = frame.kind != "csv" or _last(frame.path, 1) in b"\r\n"
    return (
        []
        if ended
        else ["the last line has no end: if the file was cut off, the numbers in it are not whole"]
    )


def _last(path: Path, size: int) -> bytes:
    """Return the last bytes of a file."""
    with path.open("rb") as file:
        file.seek(max(file.seek(0, 2) - size, 0))
        return file.read(size)


def _footer(path: Path) -> bytes:
    """Return the metadata of a Parquet file, its last part if it is large; empty if there is none."""
    tail = _last(path, 8)
    size = struct.unpack("<I", tail[:4])[0] if tail[4:] == b"PAR1" else 0
    return _last(path, min(size, FOOTER) + 8)


# --- charts -----------------------------------------------------------------------------------------------------


def _chart(frame: Frame) -> Iterator[Log]:
    """Yield the runs of a chart."""
    axis, names = frame.names[0], [name for name in frame.names[1:] if name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"{frame.path}: two columns are called {twice[0]!r}: two runs have one name; rename one in W&B, "
            "and export the chart again."
        )
    runs = _runs(names)
    x = _read(frame, [axis])[axis]
    if "" in runs or not x.present.any():
        raise InputError(f"{frame.path} holds no rows, or its header is cut off: export the chart again.")
    for run, metrics in runs.items():
        wanted = [part for name in metrics.values() for part in (name, *(name + bound for bound in _BOUNDS))]
        cells = _read(frame, [name for name in wanted if name in names])
        yield _drawn(frame, axis, x, run, metrics, cells)


def _runs(names: list[str]) -> dict[str, dict[str, str]]:
    """Return the columns of each run by metric.

    Names of runs may hold the separator; where there are columns `RUN - _step` they tell the names exactly.
    """
    stems = [name for name in names if not name.endswith(_BOUNDS)]
    step = _SEPARATOR + "_step"
    known = sorted((name.removesuffix(step) for name in stems if name.endswith(step)), key=len, reverse=True)
    runs: dict[str, dict[str, str]] = {}
    for name in stems:
        run = next((run for run in known if name.startswith(run + _SEPARATOR)), None)
        if run is None:
            run = name.rpartition(_SEPARATOR)[0]
        runs.setdefault(run, {})[name[len(run) + len(_SEPARATOR) :]] = name
    return runs


def _drawn(
    frame: Frame, axis: str, x: Cells, run: str, metrics: Mapping[str, str], cells: Mapping[str, Cells]
) -> Log:
    """Return one run of a chart."""
    report = [
        "a chart of W&B: points are those that were drawn, sampled from the run's history",
        *_unended(frame),
    ]
    steps, counts, told = _axis_of(frame, axis, x, cells.get(metrics.get("_step", "")))
    report.append(told)
    series = {}
    averaged = []
    for metric, name in metrics.items():
        if metric.startswith("_"):
            continue
        rows = np.flatnonzero(cells[name].present & steps.present)
        left = int(cells[name].present.sum()) - rows.size
        if left:
            report.append(f"{left} values of {metric} stand in rows without a step and were left out")
        line = None if frame.kind != "csv" else rows + 2
        series[metric] = Series(steps.values[rows], cells[name].values[rows], None, line)
        low, high = (cells.get(name + bound) for bound in _BOUNDS)
        if low is not None and high is not None:
            both = low.present & high.present
            if (low.values[both] != high.values[both]).any():
                averaged.append(metric)
    if averaged:
        report.append(
            f"{', '.join(averaged)}: means over several rows, as __MIN and __MAX differ; "
            "export the run's history instead"
        )
    if counts == "tokens":
        return Log(source=str(frame.path), name=run, series=series, axis=counts, report=tuple(report))
    meaning = conventions.interpret(series, {}, (axis,))
    return Log(
        source=str(frame.path), name=run, series=meaning.series, roles=meaning.roles, bits=meaning.bits,
        report=(*report, *meaning.report),
    )  # fmt: skip


def _axis_of(frame: Frame, axis: str, x: Cells, own: Cells | None) -> tuple[Cells, str, str]:
    """Return the steps of a run in a chart, what they count, and what to say of it."""
    name, counts = axis.lower(), _whole(x)
    if axis in ("Step", "_step", *COUNTERS) and not counts:
        raise InputError(f"{frame.path}: column {axis!r} must count updates, from 0: export the chart again.")
    if axis in ("Step", "_step"):
        return x, "updates", OWN_STEP
    if counts and "token" in name:
        return x, "tokens", f"the x axis is {axis!r}: losses are placed by tokens"
    if counts and "epoch" not in name and "time" not in name:
        return x, "updates", f"steps are those of {axis!r}, the chart's x axis"
    if own is not None and _whole(own):
        return own, "updates", f"the x axis {axis!r} counts no updates: steps are W&B's own _step"
    raise InputError(
        f"{frame.path}: the x axis {axis!r} counts no updates: choose Step, or the run's own counter, as x axis "
        "of the chart and export it again."
    )


def _whole(cells: Cells) -> bool:
    value = cells.values[cells.present]
    return bool(np.isfinite(value).all() and (value >= 0).all() and (value == np.floor(value)).all())


def _read(frame: Frame, names: list[str]) -> dict[str, Cells]:
    """Read columns of numbers, a batch at a time."""
    out: dict[str, Cells] = {}
    for first in range(0, len(names), BATCH):
        out |= fetch(frame, names[first : first + BATCH])
    return out


# --- histories --------------------------------------------------------------------------------------------------


def _history(frame: Frame) -> Log:
    """Return the run whose history a table is."""
    report = _unended(frame)
    # pandas writes what is missing as NaN
    holes = frame.kind == "parquet" and b"pandas" in _footer(frame.path)
    columns, rows, skipped, other = _numbers(frame, holes)
    if rows == SAMPLED:
        report.append(
            f"{SAMPLED} rows, as many as run.history() samples: take run.scan_history() if there are more"
        )
    if skipped:
        report.append(
            f"columns without numbers were left out: {', '.join(skipped[:8])}{', ...' * (len(skipped) > 8)}"
        )
    if other:
        report.append(f"{other} cells are no numbers and were left out")
    if holes:
        report.append("the table was written by pandas: NaN was taken as a missing cell")
    meaning = meaning_of(columns, rows, {})
    path = frame.path.absolute()
    # W&B calls the parts of its exports 0000.parquet
    name = path.parent.name if path.stem.isdecimal() and path.parent.name else path.stem
    return Log(
        source=str(frame.path), name=name, series=meaning.series, roles=meaning.roles, bits=meaning.bits,
        report=(*report, *meaning.report),
    )  # fmt: skip


def _numbers(frame: Frame, holes: bool) -> tuple[dict[str, Column], int, list[str], int]:
    """Return the numbers by key, the rows, the keys without any, and how many cells are neither empty nor numbers."""
    columns: dict[str, Column] = {}
    skipped, other, rows = [], 0, 0
    places = [place for place, name in enumerate(frame.names) if name]
    many = PARQUET_BATCH if frame.kind == "parquet" else BATCH
    for first in range(0, len(places), many):
        batch = {place: _number(frame, place) for place in places[first : first + many]}
        asked = {place: sql for place, sql in batch.items() if sql}
        skipped += [frame.names[place] for place, sql in batch.items() if not sql]
        cells = _fetch(frame, asked)
        for place in asked:
            name = frame.names[place]
            masked: Any = np.ma.asarray(cells[f"v{place}"], dtype=float)
            rows = masked.size
            value, present = masked.filled(np.nan), ~np.ma.getmaskarray(masked)
            other += int(np.count_nonzero(np.asarray(cells[f"b{place}"])))
            if holes or name in COUNTERS or name.startswith("_"):
                present &= ~np.isnan(value)
            if name in columns:
                raise InputError(f"{frame.path}: two columns are called {name!r}: rename or remove one.")
            if present.any():
                columns[name] = Column(np.flatnonzero(present), value[present])
            else:
                skipped.append(name)
    return columns, rows, skipped, other


def _number(frame: Frame, place: int) -> str:
    """SQL for a cell as a DOUBLE, NULL where it is no number; "" for columns that hold none."""
    raw, kind = duck.quoted(frame.relation.columns[place]), str(frame.relation.types[place])
    if _NUMERIC.match(kind):
        return f"{raw}::DOUBLE"
    if kind == "JSON":
        raw = f"({raw}->>'$')"
    elif kind not in _TEXT:
        return ""
    return f"TRY_CAST({raw} AS DOUBLE)"


def _fetch(frame: Frame, asked: Mapping[int, str]) -> dict[str, Any]:
    """Cells as numbers (v and the place), and where there is something else (b and the place)."""
    parts = []
    for place, sql in asked.items():
        raw = duck.quoted(frame.relation.columns[place])
        parts.append(f"{sql} AS v{place}, ({raw} IS NOT NULL AND {sql} IS NULL) AS b{place}")
    if not parts:
        return {}
    try:
        return frame.relation.project(", ".join(parts)).fetchnumpy()
    except duck.error_type() as error:
        raise InputError(
            f"{frame.path} cannot be read as a table ({duck.one_line(error).rstrip('. ')}): export it again."
        ) from None
