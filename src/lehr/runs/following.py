"""Follow a log that another process is writing: its whole lines so far, whatever happens to the file.

The file is opened for reading, for a moment, and never locked or written. A last line without its
end is left out until it has one. What may happen between two looks:

- the log grew, or was written anew with the same beginning: its present lines count;
- it was rotated or cut, and goes on with later rows, with or without a header: the lines seen before
  are kept before the new ones, those that the new file repeats only once;
- it is absent or empty: what was seen before stays.

Steps that go back, as after a restart from a checkpoint, are for the reader to join
(`ReadOptions.segments`). Files that are not made of lines (Parquet, a JSON document) count as a whole.
"""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from lehr.errors import InputError
from lehr.runs.readers import read
from lehr.runs.readers.reading import Reading, ReadOptions, check_file

_MARKS = re.compile(r"[,\t;|]")


@dataclass(frozen=True)
class Followed:
    """What a log has told so far.

    Parameters
    ----------
    past : lines of files that stood at the path before, without header.
    current : whole lines of the present file, header included, or all of a file without lines.
    header : first line of a table with a header, empty otherwise.
    cut_line : whether a last line without its end was left out.
    """

    past: bytes = b""
    current: bytes = b""
    header: bytes = b""
    cut_line: bool = False

    @property
    def content(self) -> bytes:
        """The log as one file."""
        return self.header + self.past + self.current.removeprefix(self.header)


def look(path: Path, before: Followed | None = None) -> Followed:
    """Read the log at `path` and join it to what was seen `before`.

    Raises
    ------
    InputError
        If there is a folder or a device at the path, or it may not be read.
    """
    before = before or Followed()
    data = _read(path)
    if not data.strip():
        return before
    if not _has_lines(data):
        return Followed(current=data)
    whole = data[: data.rfind(b"\n") + 1]
    seen = replace(before, cut_line=len(whole) < len(data))
    if not whole:
        return seen
    header = _header(whole)
    if before.header and not header:  # rotated by a logger that writes no second header
        whole, header = before.header + whole, before.header
    rows, known = whole.removeprefix(header), before.current.removeprefix(before.header)
    if not known or header != before.header:  # the first look, or other columns: nothing to join
        return Followed(b"", whole, header, seen.cut_line)
    first = rows[: rows.find(b"\n") + 1]
    if not first:
        return seen
    if known.startswith(first):
        return replace(seen, current=whole)
    repeated = known.find(b"\n" + first) + 1
    return Followed(before.past + (known[:repeated] if repeated else known), whole, header, seen.cut_line)


def read_followed(
    log: Followed, path: Path, options: ReadOptions, format: str = "auto"
) -> tuple[Reading, ...]:
    """Read the runs of what was seen of the log at `path`, from a private copy.

    Raises
    ------
    InputError
        As the reader does, naming `path`.
    """
    with tempfile.TemporaryDirectory(prefix="lehr-") as folder:
        # under the same name in a folder of the same name: runs are called after either
        copy = Path(folder) / (path.absolute().parent.name or "logs") / path.name
        copy.parent.mkdir()
        copy.write_bytes(log.content)
        try:
            return read(copy, options, format)
        except InputError as error:
            text = str(error).replace(str(copy), str(path))
            more = f" (Lines seen at {path} before it was rotated count as its first.)" if log.past else ""
            raise InputError(text + more) from None


def read_growing(path: Path, options: ReadOptions, format: str = "auto") -> tuple[Reading, ...]:
    """Read the runs of a log that may be growing; a report says if its last line has no end yet.

    Raises
    ------
    InputError
        As the reader does.
    """
    log = look(check_file(path))
    readings = read_followed(log, path, options, format)
    if not log.cut_line:
        return readings
    note = "the last line has no end yet and was left out"
    return tuple(replace(reading, report=(*reading.report, note)) for reading in readings)


def _read(path: Path) -> bytes:
    """Bytes of the file, none if it is absent; opening never waits, whatever the path is."""
    try:
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        return b""
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions.") from None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise InputError(f"{path} is not a regular file: give the log that training writes.")
    with os.fdopen(handle, "rb") as file:
        return file.read()


def _has_lines(data: bytes) -> bool:
    """Tell tables of text, in which each line is a row, from files that mean something only as a whole."""
    start = data.removeprefix(b"\xef\xbb\xbf").lstrip()
    if start.startswith((b"PAR1", b"[")):
        return False
    if not start.startswith(b"{"):
        return True
    line, end, _ = start.partition(b"\n")
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return bool(end) and line.rstrip().endswith(b"}")
    return isinstance(row, dict) and "history" not in row


def _header(whole: bytes) -> bytes:
    """First line of a table if it holds names; empty for JSON lines and for rows of numbers."""
    line = whole[: whole.find(b"\n") + 1]
    text = line.decode("utf-8", errors="replace").strip().removeprefix("\ufeff")
    if text.startswith("{"):
        return b""
    return b"" if all(_is_number(cell) for cell in _MARKS.split(text) if cell.strip()) else line


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
