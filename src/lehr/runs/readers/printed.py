"""What a training printed, as whole clean lines in chunks, and the numbers that patterns find in them.

A captured console holds more than the tool wrote: colours, progress bars that go back to the start of the line,
prefixes of ranks and loggers, lines of other libraries, lines cut in two by another process. So readers look
for their lines anywhere in a line of the file, ask for the sign that ends each number (a number cut off would
read as another one), and never read a last line that has no end: it may have been cut there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lehr.errors import InputError
from lehr.runs.readers.raw import Series
from lehr.runs.readers.reading import check_file

CHUNK = 8 << 20  # bytes read at a time
LONGEST_LINE = (
    16 << 20
)  # bytes; longer ones, such as progress bars without an end, are cut at a return or a space
SMALL_CHUNK = 1 << 20  # where every match is an object for a while
_FAR = 400  # bytes from line to line, beyond which a log is mostly something else
HEAD, TAIL = 1 << 20, 1 << 16  # bytes looked at to tell a format

NUMBER = rb"[-+]?(?:\d{1,30}(?:\.\d{0,30})?(?:[eE][-+]?\d{1,3})?|nan|inf)"
COUNT = rb"\d{1,15}"  # exact as a float
_ESCAPE = re.compile(rb"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[@-Z\\^_=>])")
_SIZES = {b"K": 1e3, b"M": 1e6, b"B": 1e9, b"T": 1e12, b"P": 1e15, b"E": 1e18}
_ORDINARY = {"stdout", "stderr", "output", "out", "log", "logs", "main", "train", "console", "run"}


@dataclass(frozen=True)
class Chunk:
    """Bytes of a log.

    Parameters
    ----------
    data : whole lines without escape sequences; a carriage return within a line stays.
    line : of the first of them in the file, from 1.
    ended : False for a last line that has no line end.
    """

    data: bytes
    line: int
    ended: bool = True

    @cached_property
    def ends(self) -> np.ndarray:
        """Where its line ends stand in `data`, shape (lines,)."""
        return np.flatnonzero(np.frombuffer(self.data, dtype=np.uint8) == 10)


@dataclass(frozen=True)
class Entry:
    """What a tool writes into a line: the lines that hold `needle` are searched for `pattern`.

    To look for plain bytes is many times faster than to try a pattern everywhere, and most lines of a log are none of
    the tool's. Each group of the pattern that is named is a number; no match spans lines.
    """

    needle: bytes
    pattern: re.Pattern[bytes]

    def matches(self, data: bytes) -> Iterator[re.Match[bytes]]:
        """Find the matches in order."""
        if data.count(self.needle) * _FAR > len(data):  # in most lines: to go line by line would cost more
            yield from self.pattern.finditer(data)
            return
        place = 0
        while (place := data.find(self.needle, place)) >= 0:
            end = data.find(b"\n", place) + 1 or len(data)
            yield from self.pattern.finditer(data, data.rfind(b"\n", 0, place) + 1, end)
            place = end

    def within(self, data: bytes) -> bool:
        """Whether there is a match."""
        return next(self.matches(data), None) is not None


def entry(needle: bytes, pattern: bytes) -> Entry:
    """Return an `Entry` of a pattern that matches no line without `needle`."""
    return Entry(needle, re.compile(pattern))


@dataclass(frozen=True, eq=False)
class Found:
    """The n matches of one pattern in the order of the file.

    Parameters
    ----------
    line : shape (n,), the line of each, from 1.
    values : group of the pattern -> shape (n,), NaN where the group took no part.
    present : group -> shape (n,), whether it took part.
    """

    line: np.ndarray
    values: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]

    def series(self, group: str, step: np.ndarray) -> Series:
        """Return the numbers of a group at `step`, shape (n,), without the lines that lack it."""
        kept = self.present[group]
        return Series(step[kept], self.values[group][kept], line=self.line[kept])

    def __len__(self) -> int:
        """Return the number of matches."""
        return len(self.line)


def chunks(path: Path, size: int = CHUNK) -> Iterator[Chunk]:
    """Read a file as chunks of whole lines; an unended last line comes alone at the end."""
    size = min(size, path.stat().st_size + 1)
    rest, line, room = b"", 1, bytearray(size)
    with path.open("rb") as file:
        while True:
            if len(room) < len(rest) + size:
                room = bytearray(len(rest) + size)
            room[: len(rest)] = rest
            with memoryview(room) as view:  # one buffer for all: fresh memory costs more than reading
                full = len(rest) + file.readinto(view[len(rest) :])
            if full == len(rest):
                break
            end = room.rfind(b"\n", 0, full) + 1
            if not end and full > LONGEST_LINE:
                end = (room.rfind(b"\r", 0, full) + 1) or (room.rfind(b" ", 0, full) + 1) or full
            rest = bytes(room[end:full])
            if end:
                chunk = Chunk(clean(bytes(memoryview(room)[:end])), line)
                yield chunk
                line += len(chunk.ends)
    if rest:
        yield Chunk(clean(rest), line, ended=False)


def clean(data: bytes) -> bytes:
    """Return text without escape sequences and with plain line ends."""
    if b"\r" in data:  # one byte is looked for much faster than two
        data = data.replace(b"\r\n", b"\n")
    return _ESCAPE.sub(b"", data) if b"\x1b" in data else data


def peek(path: Path) -> bytes:
    """Return the clean beginning and end of a file, enough to tell its format."""
    with path.open("rb") as file:
        data = file.read(HEAD)
        if len(data) == HEAD:
            file.seek(-TAIL, 2)
            data += b"\n" + file.read(TAIL)
    return clean(data)


def line_numbers(chunk: Chunk, places: list[int]) -> np.ndarray:
    """Lines of the file in which the bytes at `places` of a chunk stand, shape (n,)."""
    return chunk.line + np.searchsorted(chunk.ends, np.array(places, dtype=np.int64))


def find(
    path: Path, entries: Mapping[str, Entry], report: list[str], chunk_size: int = SMALL_CHUNK
) -> dict[str, Found]:
    """Find all entries in one pass over a log.

    Parameters
    ----------
    path : the log.
    entries : what to look for, by a name.
    report : gets a sentence if the log's last line has no end.
    """
    check_file(path, streamed=True)
    parts: dict[str, list[Found]] = {name: [] for name in entries}
    for chunk in chunks(path, chunk_size):
        if not chunk.ended:
            note_tail(chunk, report)
            break
        for name, each in entries.items():
            matches = list(each.matches(chunk.data))
            if matches:
                parts[name].append(_found(chunk, each.pattern, matches))
    return {name: _joined(entries[name].pattern, some) for name, some in parts.items()}


def note_tail(chunk: Chunk, report: list[str]) -> None:
    """Say that the last line was not read."""
    text = chunk.data[:40].decode("utf-8", errors="replace").strip()
    report.append(
        f"line {chunk.line}, the last, has no line end ({len(chunk.data)} bytes, {text!r}): "
        "it may have been cut off and was left out"
    )


def texts(path: Path, patterns: Mapping[str, re.Pattern[bytes]], most: int = 10_000) -> dict[str, list[str]]:
    """Find texts such as settings in the first chunk of a log: group 1 of each match, at most `most`."""
    first = next(chunks(path), Chunk(b"", 1))
    found: dict[str, list[str]] = {}
    for name, pattern in patterns.items():
        some = (match[1] for match, _ in zip(pattern.finditer(first.data), range(most), strict=False))
        found[name] = [text.decode("utf-8", errors="replace").strip() for text in some]
    return found


def run_name(path: Path) -> str:
    """Name of a run whose tool gave none: of the file, or of the folder of a file of an ordinary name."""
    folder = path.absolute().parent.name
    return folder if path.stem.lower() in _ORDINARY and folder else path.stem


def nothing_found(path: Path, tool: str, example: str) -> InputError:
    """Build the error of a log without a line of the tool."""
    return InputError(
        f"{path} holds no training line of {tool}, such as {example!r}: give the output that its rank 0 "
        "(or last rank) printed, as a text file."
    )


def as_numbers(texts: Sequence[bytes | None]) -> np.ndarray:
    """Numbers of texts such as b"1.5e-3", b"1,234" or b"1.31M", NaN for None, shape (n,)."""
    try:
        return np.fromiter((np.nan if text is None else float(text) for text in texts), float, len(texts))
    except ValueError:
        return np.array([np.nan if text is None else _for_people(text) for text in texts], dtype=float)


def _for_people(text: bytes) -> float:
    """Return the number that a text with thousands marks or a letter for its size stands for."""
    if text[-1:] in _SIZES:
        return float(text[:-1].replace(b",", b"")) * _SIZES[text[-1:]]
    return float(text.replace(b",", b""))


def number_of(text: str) -> float | None:
    """Return the number that a text with thousands marks stands for; None if it is none."""
    try:
        return float(text.replace(",", "").replace("_", ""))
    except ValueError:
        return None


def scalar(text: str) -> str | float | int | bool | None:
    """Return the value that a printed Python setting stands for; a text where it is no plain one."""
    plain: dict[str, bool | None] = {"None": None, "True": True, "False": False, "true": True, "false": False}
    if text in plain:
        return plain[text]
    if re.fullmatch(r"[-+]?\d{1,18}", text):
        return int(text)
    if re.fullmatch(r"[-+]?(\d{1,30}\.?\d{0,30}|\.\d{1,30})([eE][-+]?\d{1,3})?", text) and np.isfinite(
        float(text)
    ):
        return float(text)
    return text.strip("'\"")[:1000]


def _found(chunk: Chunk, pattern: re.Pattern[bytes], matches: list[re.Match[bytes]]) -> Found:
    values, present = {}, {}
    columns = list(zip(*[match.groups() for match in matches], strict=True))
    for group, index in pattern.groupindex.items():
        some = columns[index - 1]
        values[group] = as_numbers(some)
        told = (text is not None for text in some) if None in some else (True for _ in some)
        present[group] = np.fromiter(told, dtype=bool, count=len(some))
    return Found(line_numbers(chunk, [match.start() for match in matches]), values, present)


def _joined(pattern: re.Pattern[bytes], parts: list[Found]) -> Found:
    empty = Found(
        np.zeros(0, dtype=np.int64),
        dict.fromkeys(pattern.groupindex, np.zeros(0)),
        dict.fromkeys(pattern.groupindex, np.zeros(0, dtype=bool)),
    )
    parts = parts or [empty]
    return Found(
        np.concatenate([part.line for part in parts]),
        {group: np.concatenate([part.values[group] for part in parts]) for group in pattern.groupindex},
        {group: np.concatenate([part.present[group] for part in parts]) for group in pattern.groupindex},
    )
