"""Exports of W&B: charts as CSV, and histories as Parquet, JSON, JSON lines or CSV.

For charts see `wandb_chart`.

A history has a row for each call of `log`, and the keys `_step`, `_runtime`, `_timestamp` beside the run's own. It is
whole from `run.scan_history()` and `run.download_history_exports()`, and sampled from `run.history()`, to 500 rows
unless told otherwise. It is told from other tables by the key `_step`.
"""

from __future__ import annotations

import csv
import json
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lehr.errors import InputError
from lehr.runs import duck
from lehr.runs.readers.frame import Frame, kind_of, open_frame
from lehr.runs.readers.raw import Log
from lehr.runs.readers.reading import ReadOptions, check_file
from lehr.runs.readers.wandb_chart import BATCH, charts, is_chart, last, unended
from lehr.runs.readers.wandb_rows import COUNTERS, Column, meaning_of

SAMPLED = 500  # rows that run.history() gives unless told otherwise
HEAD = 1 << 16  # bytes looked at to tell an export
FOOTER = 1 << 24  # bytes of Parquet's footer that are looked at
PARQUET_BATCH = 32  # columns read at a time: Parquet is not read as a whole, and may have more rows
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
        return is_chart(names) or _is_history(names)
    return kind is not None and _begins_with_a_row(head)


def logs(path: Path, options: ReadOptions | None = None) -> tuple[Log, ...]:
    """Read an export as one log a run, in the order of the file.

    Raises
    ------
    InputError
        If it is no export of W&B, or cannot be read; naming the line or the column.
    """
    check_file(path)
    try:
        frame = open_frame(path)
    except csv.Error as error:
        raise InputError(f"{path}, line 1 is no header of a table ({error}): export it again.") from None
    if frame.kind == "csv" and is_chart(frame.names):
        return tuple(charts(frame))
    if frame.kind == "json-array" and not last(path, 64).rstrip().endswith(b"]"):
        raise InputError(f"{path} is cut off: it does not end with ']'; export the history again.")
    if "_step" not in frame.names:
        raise InputError(
            f"{path} is not an export of W&B: it has neither columns 'RUN - METRIC' nor a column _step; "
            "export a chart as CSV or the run's history."
        )
    return (_history(frame),)


def _begins_with_a_row(head: bytes) -> bool:
    """Whether the first object of a JSON text has the key `_step`; of one longer than `head`, whether any has."""
    text = head.decode("utf-8", errors="replace")
    try:
        first, _ = json.JSONDecoder().raw_decode(text, max(text.find("{"), 0))
    except (ValueError, RecursionError):
        return '"_step"' in text
    return isinstance(first, dict) and "_step" in first


def _cells(line: str) -> tuple[str, ...]:
    try:
        return tuple(cell.strip() for cell in next(csv.reader([line]), ()))
    except csv.Error:
        return ()


def _is_history(names: tuple[str, ...]) -> bool:
    return "_step" in names and ("_runtime" in names or "_timestamp" in names)


def _footer(path: Path) -> bytes:
    """Return the metadata of a Parquet file, its last part if it is large; empty if there is none."""
    tail = last(path, 8)
    size = struct.unpack("<I", tail[:4])[0] if tail[4:] == b"PAR1" else 0
    return last(path, min(size, FOOTER) + 8)


def _history(frame: Frame) -> Log:
    """Return the run whose history a table is."""
    report = unended(frame)
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
