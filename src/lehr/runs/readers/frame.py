"""A table file as columns of numbers: CSV, TSV, Parquet, JSON-lines or a JSON array, through DuckDB.

Nothing is guessed from the data: the header names the columns, every cell asked for must be a
number or empty, and each error names its line (its row in Parquet and in a JSON array).
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lehr.errors import InputError
from lehr.runs import duck
from lehr.runs.arrow import Numbers, StreamError, read_numbers
from lehr.runs.readers.fields import parse_json
from lehr.runs.readers.reading import check_file

Column = Numbers
EMPTY_CELLS = ("", "None", "none", "null", "NULL", "NA", "N/A")
HEAD = 1 << 16  # bytes looked at to tell a format
THREADS = 2  # that parse CSV: each needs some 40 MB, and what follows takes longer than one of them
CSV_BUFFER = 1 << 21  # bytes that each thread reads at once; no line may be longer
HEADER_LIMIT = 1 << 24  # characters: exports of many runs have a column for each
DEPTH_LIMIT = 500  # of nested JSON; older DuckDBs crash on what is much deeper
MOST_ROWS = 50_000_000  # of Parquet; other kinds are bounded by the size of the file
_DELIMITERS = ",\t;|"
_OPENS = np.zeros(256, dtype=np.int32)
_OPENS[[ord("["), ord("{")]], _OPENS[[ord("]"), ord("}")]] = 1, -1
_NUMERIC = re.compile(r"(U?(TINY|SMALL|BIG|HUGE)?INT(EGER)?|FLOAT|REAL|DOUBLE|DECIMAL\(.*\))\Z")
_LINE = re.compile(r"[Ll]ine:? (\d+)")


@dataclass(frozen=True)
class Frame:
    """An open table.

    Parameters
    ----------
    path : the file.
    kind : "csv", "parquet", "json-lines" or "json-array".
    names : its columns, as the file calls them.
    relation : the same columns in DuckDB, in order.
    connection : kept so that the relation stays usable.
    delimiter : of a CSV file.
    """

    path: Path
    kind: str
    names: tuple[str, ...]
    relation: Any
    connection: Any
    delimiter: str = ""

    def place(self, row: int) -> str:
        """Name the place of data row `row` (from 0) in the file: its line or its row."""
        if self.kind not in ("csv", "json-lines"):
            return f"{self.path}, row {row + 1}"
        wanted = row + (1 if self.kind == "csv" else 0)
        with self.path.open(encoding="utf-8-sig", errors="replace") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    if not wanted:
                        return f"{self.path}, line {number}"
                    wanted -= 1
        return f"{self.path}, row {row + 1}"


def kind_of(path: Path) -> str | None:
    """Tell the kind of table in a file from its content; None if it is none."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    if head.startswith(b"PAR1"):
        return "parquet"
    if b"\0" in head:
        return None
    text = head.removeprefix(b"\xef\xbb\xbf").decode("utf-8", errors="replace")
    start = text.lstrip()[:1]
    if start in ("{", "["):
        return "json-lines" if start == "{" else "json-array"
    lines = text.splitlines()
    return "csv" if lines and any(mark in lines[0] for mark in _DELIMITERS) else None


def open_frame(path: Path) -> Frame:
    """Open a table file without reading its rows.

    Raises
    ------
    InputError
        If it is no table, has no header, or cannot be parsed.
    """
    kind = kind_of(check_file(path, streamed=True))
    if kind in ("json-lines", "json-array"):
        check_file(path)
    if kind is None:
        raise InputError(
            f"{path} is not a table: give CSV or TSV with a header line, Parquet, or JSON-lines, uncompressed."
        )
    connection = duck.connect()
    delimiter = ""
    try:
        if kind == "csv":
            names, delimiter = _header(path)
            relation = _read_csv(connection, path, delimiter, ["VARCHAR"] * len(names))
        else:
            relation = _open_other(connection, path, kind)
            names = tuple(relation.columns)
    except duck.error_type() as error:
        raise _unreadable(path, error) from None
    return Frame(path, kind, names, relation, connection, delimiter)


def fetch(frame: Frame, wanted: Sequence[str]) -> dict[str, Column]:
    """Read the named columns as numbers.

    Raises
    ------
    InputError
        Naming the line of the first cell that is not a number, or of the first broken row.
    """
    places = [frame.names.index(name) for name in wanted]
    if not places:
        return {}
    columns = _plain_numbers(frame, places) if frame.kind == "csv" else None
    if columns is None:
        columns = _any_numbers(frame, places)
    return dict(zip(wanted, columns, strict=True))


def _plain_numbers(frame: Frame, places: Sequence[int]) -> tuple[Column, ...] | None:
    """Columns of a CSV file parsed as numbers at once; None if a cell or row is in the way, to be named then."""
    kinds = ["DOUBLE" if place in places else "VARCHAR" for place in range(len(frame.names))]
    try:
        frame.connection.execute(f"SET threads = {min(THREADS, os.cpu_count() or 1)}")
        relation = _read_csv(
            frame.connection, frame.path, frame.delimiter, kinds, f"buffer_size={CSV_BUFFER}, "
        )
        return read_numbers(
            relation.project(", ".join(f"c{place} AS v{i}" for i, place in enumerate(places)))
        )
    except (StreamError, duck.error_type()):
        return None


def _any_numbers(frame: Frame, places: Sequence[int]) -> tuple[Column, ...]:
    """Columns of any kind as numbers, each cell that is none being told by its place."""
    parts, flags = [], []
    for index, place in enumerate(places):
        number = _as_number(frame, place)
        raw = duck.quoted(frame.relation.columns[place])
        parts.append(f"{number} AS v{index}")
        if not _NUMERIC.match(str(frame.relation.types[place])):
            flags.append(
                (place, f"(CASE WHEN {raw} IS NOT NULL AND {number} IS NULL THEN 1 END)::DOUBLE AS b{index}")
            )
    try:
        cells = read_numbers(frame.relation.project(", ".join([*parts, *(flag for _, flag in flags)])))
    except (StreamError, duck.error_type()) as error:
        raise _unreadable(frame.path, error) from None
    for (place, _), wrong in zip(flags, cells[len(places) :], strict=True):
        if wrong.present.any():
            raise _not_a_number(frame, place, int(np.argmax(wrong.present)))
    return cells[: len(places)]


def fetch_text(frame: Frame, name: str) -> tuple[str, ...]:
    """Read the named column as text; empty cells as "".

    Raises
    ------
    InputError
        Naming the line of the first broken row.
    """
    raw = duck.quoted(frame.relation.columns[frame.names.index(name)])
    try:
        cells = frame.relation.project(f"coalesce({raw}::VARCHAR, '')").fetchall()
    except duck.error_type() as error:
        raise _unreadable(frame.path, error) from None
    return tuple(cell for (cell,) in cells)


def _header(path: Path) -> tuple[tuple[str, ...], str]:
    """Names from the header line of a CSV file, and its delimiter."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline(HEADER_LIMIT).rstrip("\r\n")
    delimiter = max(_DELIMITERS, key=header.count)
    names = tuple(cell.strip() for cell in next(csv.reader([header], delimiter=delimiter)))
    if all(_is_number(cell) for cell in names if cell):
        raise InputError(f"{path}, line 1 holds no column names: add a header line such as step,lr,loss.")
    return names, delimiter


def _read_csv(connection: Any, path: Path, delimiter: str, kinds: Sequence[str], more: str = "") -> Any:
    """The rows of a CSV file under the neutral names c0, c1, ..., of the given types."""
    listed = ", ".join(f"'c{index}': '{kind}'" for index, kind in enumerate(kinds))
    # no sniffing: on a ragged file it would skip the header in silence
    return connection.sql(
        f"SELECT * FROM read_csv(?, delim=?, header=true, auto_detect=false, columns={{{listed}}}, {more}"
        "nullstr=?, quote='\"', escape='\"', compression='none', null_padding=false)",
        params=[duck.literal_path(path), delimiter, list(EMPTY_CELLS)],
    )


def _open_other(connection: Any, path: Path, kind: str) -> Any:
    """Open Parquet or JSON; JSON values below the top level stay text."""
    if kind == "parquet":
        _check_rows(connection, path)
        return connection.sql("SELECT * FROM read_parquet(?)", params=[duck.literal_path(path)])
    layout = "newline_delimited" if kind == "json-lines" else "array"
    if kind == "json-lines":
        with path.open(encoding="utf-8-sig", errors="replace") as file:
            first = next((line for line in file if line.strip()), "")
        parse_json(first, f"{path}, the first line")
    _check_depth(path, by_line=kind == "json-lines")
    return connection.sql(
        "SELECT * FROM read_json(?, format=?, maximum_depth=1, sample_size=-1, compression='uncompressed')",
        params=[duck.literal_path(path), layout],
    )


def _check_rows(connection: Any, path: Path) -> None:
    """Refuse Parquet that says it has more than `MOST_ROWS` rows: equal rows take no room in the file."""
    ((found,),) = connection.execute(
        "SELECT sum(n) FROM (SELECT max(row_group_num_rows) AS n FROM parquet_metadata(?) GROUP BY row_group_id)",
        [duck.literal_path(path)],
    ).fetchall()
    if found is not None and found > MOST_ROWS:
        raise InputError(f"{path} has {found} rows, more than {MOST_ROWS}: give the rows that were logged.")


def _check_depth(path: Path, by_line: bool) -> None:
    """Refuse JSON with more than `DEPTH_LIMIT` brackets open; brackets in strings count until the line ends."""
    depth = 0
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            letters = np.frombuffer(chunk, dtype=np.uint8)
            running = depth + np.cumsum(_OPENS[letters])
            if by_line:
                last = np.maximum.accumulate(np.where(letters == ord("\n"), np.arange(letters.size), -1))
                running = running - np.where(last >= 0, running[last], 0)
            if running.max() > DEPTH_LIMIT:
                raise InputError(
                    f"{path} is nested too deep (more than {DEPTH_LIMIT} levels): give a plain log."
                )
            depth = int(running[-1])


def _as_number(frame: Frame, place: int) -> str:
    """SQL for a column's value as a DOUBLE, NULL where it is no number."""
    raw, kind = duck.quoted(frame.relation.columns[place]), str(frame.relation.types[place])
    if _NUMERIC.match(kind):
        return f"{raw}::DOUBLE"
    if kind == "JSON":
        raw = f"({raw}->>'$')"
    elif kind not in ("VARCHAR", '"NULL"', "NULL"):
        raise InputError(
            f"{frame.path}: column {frame.names[place]!r} holds {kind}, not numbers: "
            f"choose another with --column ROLE=NAME among {', '.join(frame.names)}."
        )
    return f"TRY_CAST({raw} AS DOUBLE)"


def _not_a_number(frame: Frame, place: int, row: int) -> InputError:
    raw = duck.quoted(frame.relation.columns[place])
    cell = frame.relation.project(f"{raw}::VARCHAR").limit(1, row).fetchall()[0][0]
    return InputError(
        f"{frame.place(row)}: column {frame.names[place]!r} must hold numbers, got {cell[:60]!r}: "
        "mend the cell or leave it empty."
    )


def _unreadable(path: Path, error: Exception) -> InputError:
    """Put what DuckDB says into one line."""
    text = str(error)
    line = _LINE.search(text)
    where = f"{path}, line {line[1]}" if line else str(path)
    told = (part.strip() for part in text.splitlines() if part.startswith(("Expected", "Invalid unicode")))
    what = next(told, "") or duck.one_line(error).replace(f' in file "{path}"', "")
    return InputError(f"{where} cannot be read as a table ({what.rstrip('. ')}): mend or remove the row.")


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
