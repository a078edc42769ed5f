"""A table file as columns of numbers: CSV, TSV, Parquet, JSON-lines or a JSON array, through DuckDB.

Nothing is guessed from the data: the header names the columns, every cell asked for must be a
number or empty, and each error names its line (its row in Parquet and in a JSON array).
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lehr.errors import InputError
from lehr.runs import duck
from lehr.runs.readers.fields import parse_json
from lehr.runs.readers.reading import check_file

EMPTY_CELLS = ("", "None", "none", "null", "NULL", "NA", "N/A")
HEAD = 1 << 16  # bytes looked at to tell a format
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
    """

    path: Path
    kind: str
    names: tuple[str, ...]
    relation: Any
    connection: Any

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


@dataclass(frozen=True, eq=False)
class Column:
    """The n cells of a column: `values` (NaN where empty) and which are `present`, shape (n,)."""

    values: np.ndarray
    present: np.ndarray


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
    kind = kind_of(check_file(path))
    if kind is None:
        raise InputError(
            f"{path} is not a table: give CSV or TSV with a header line, Parquet, or JSON-lines, uncompressed."
        )
    connection = duck.connect()
    try:
        if kind == "csv":
            names, relation = _open_csv(connection, path)
        else:
            relation = _open_other(connection, path, kind)
            names = tuple(relation.columns)
    except duck.error_type() as error:
        raise _unreadable(path, error) from None
    return Frame(path, kind, names, relation, connection)


def fetch(frame: Frame, wanted: Sequence[str]) -> dict[str, Column]:
    """Read the named columns as numbers.

    Raises
    ------
    InputError
        Naming the line of the first cell that is not a number, or of the first broken row.
    """
    places = [frame.names.index(name) for name in wanted]
    parts = []
    for index, place in enumerate(places):
        number = _as_number(frame, place)
        raw = duck.quoted(frame.relation.columns[place])
        parts.append(f"{number} AS v{index}, ({raw} IS NOT NULL AND {number} IS NULL) AS b{index}")
    try:
        cells = frame.relation.project(", ".join(parts)).fetchnumpy() if parts else {}
    except duck.error_type() as error:
        raise _unreadable(frame.path, error) from None
    columns: dict[str, Column] = {}
    for index, name in enumerate(wanted):
        values: Any = np.ma.asarray(cells[f"v{index}"], dtype=float)
        present = ~np.ma.getmaskarray(values)
        bad_rows = np.flatnonzero(np.asarray(cells[f"b{index}"]) & ~present)
        if bad_rows.size:
            raise _not_a_number(frame, places[index], int(bad_rows[0]))
        columns[name] = Column(np.where(present, values.filled(np.nan), np.nan), present)
    return columns


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


def _open_csv(connection: Any, path: Path) -> tuple[tuple[str, ...], Any]:
    """Names from the header line, and the rows under the neutral names c0, c1, ..."""
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
        header = file.readline(HEADER_LIMIT).rstrip("\r\n")
    delimiter = max(_DELIMITERS, key=header.count)
    names = tuple(cell.strip() for cell in next(csv.reader([header], delimiter=delimiter)))
    if all(_is_number(cell) for cell in names if cell):
        raise InputError(f"{path}, line 1 holds no column names: add a header line such as step,lr,loss.")
    listed = ", ".join(f"'c{index}': 'VARCHAR'" for index in range(len(names)))
    # no sniffing: on a ragged file it would skip the header in silence
    relation = connection.sql(
        f"SELECT * FROM read_csv(?, delim=?, header=true, auto_detect=false, columns={{{listed}}}, "
        "nullstr=?, quote='\"', escape='\"', compression='none', null_padding=false)",
        params=[duck.literal_path(path), delimiter, list(EMPTY_CELLS)],
    )
    return names, relation


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
