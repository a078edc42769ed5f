"""Training lines of Megatron-LM as columns of numbers, many lines at a time.

A line is ` [2026-01-01 00:00:00.000000] iteration       10/    1000 | consumed samples:         2560 | ... |
lm loss: 1.083420E+01 | ... |`: `training_log` in megatron/training/training.py. Forks and older versions leave out
fields, the date, or the colon after a key. Each field must be closed by its bar: one that was cut is not read.

Nearly all lines of a log have one of a few layouts: the same bytes but for their digits. Lines of one length are
laid on top of each other, each layout is parsed once from one of its lines, and its numbers are computed for all of
them from columns of digits. Such a number is an integer m below 10^15 times or over a power of ten up to 10^22, both
exact as floats: one rounding, so exactly what `float` makes of the text. Whatever else occurs (a rare layout, two
lines in one, longer numbers) goes through the plain parser, which defines what is read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lehr.runs.readers.printed import Chunk

HEAD = re.compile(rb"(?<![\w-])iteration +(\d{1,15})/ *(\d{1,15}) \|")
STAMP = re.compile(rb"\[(\d{4})-(\d\d)-(\d\d) (\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?\] *\Z")
STEP, TOTAL, TIME = "\0step", "\0total", "\0time"  # no key of a field
MEASURES_OF_SPEED = (
    "elapsed", "throughput", "energy", "power", "samples per second", "tflops", "tokens per gpu", "tokens-per",
    "approx flops",
)  # fmt: skip
_NUMBER = re.compile(rb"([-+]?)(\d{1,30})(?:\.(\d{0,30}))?(?:[eE]([-+]?)(\d{1,3}))?|([-+]?(?:nan|inf))")
_SHORTEST = 24  # bytes of a training line
_FEWEST = 8  # lines of one length that are worth laying on top of each other
_LONGEST_KEY = 80  # bytes
_LONGEST = 1 << 13  # bytes; longer lines are parsed one by one
_TEN = 10.0 ** np.arange(23)
# odd multipliers without a pattern, for a key of a line's layout
_MIXED = np.random.default_rng(0).integers(0, 1 << 63, _LONGEST // 8, dtype=np.uint64) * np.uint64(
    2
) + np.uint64(1)


@dataclass(frozen=True, eq=False)
class Rows:
    """n training lines that have the same fields: their `line`, shape (n,), and key -> value, shape (n,)."""

    line: np.ndarray
    values: dict[str, np.ndarray]


@dataclass(frozen=True)
class Field:
    """A number in a line: its text starts at byte `start` and ends before `end`; its key lies after `before`."""

    key: str
    start: int
    end: int
    before: int


def training_rows(chunk: Chunk) -> tuple[list[Rows], Chunk, np.ndarray]:
    """Read the training lines of a chunk.

    Returns
    -------
    The training lines, in no order; the text of all lines but the plain training lines, shape unchanged; and the
    line in the file of each line of that text.
    """
    ends = chunk.ends
    starts = np.append(0, ends[:-1] + 1)
    length = ends - starts
    rows: list[Rows] = []
    alone: list[np.ndarray] = []
    long_enough = np.flatnonzero(length >= _SHORTEST)
    order = long_enough[np.argsort(length[long_enough], kind="stable")]
    edges = np.flatnonzero(np.diff(length[order])) + 1
    for lines in np.split(order, edges):
        if len(lines) < _FEWEST or length[lines[0]] > _LONGEST:
            alone.append(lines)
        else:
            rows += _of_one_length(chunk, starts, lines, int(length[lines[0]]), alone)
    other = np.ones(len(ends), dtype=bool)
    for some in rows:
        other[some.line - chunk.line] = False
    for line in np.sort(np.concatenate(alone)) if alone else ():
        text = chunk.data[starts[line] : ends[line]]
        if b"iteration" in text:
            rows += parsed(text, chunk.line + int(line))
    return rows, *_rest(chunk, starts, other)


def _rest(chunk: Chunk, starts: np.ndarray, other: np.ndarray) -> tuple[Chunk, np.ndarray]:
    """Cut out the lines that are marked; they are few where training lines are many."""
    edges = np.flatnonzero(np.diff(other.astype(np.int8), prepend=0, append=0))
    firsts, lasts = edges[::2], edges[1::2] - 1
    spans = zip(starts[firsts].tolist(), (chunk.ends[lasts] + 1).tolist(), strict=True)
    text = b"".join([chunk.data[first:last] for first, last in spans])
    return Chunk(text, chunk.line), chunk.line + np.flatnonzero(other)


def parsed(text: bytes, line: int) -> Iterator[Rows]:
    """Read every training line in one line of a log, as the plain parser does."""
    for fields in records(text):
        values = {field.key: np.array([float(text[field.start : field.end])]) for field in fields}
        stamp = _stamp(text, fields[0].start)
        if stamp is not None:
            parts = [np.array([float(part)]) for part in stamp.groups(b"0")]
            values[TIME] = _seconds(parts) + parts[6] / _TEN[len(stamp[7] or b"")]
        yield Rows(np.array([line]), values)


def records(text: bytes) -> list[list[Field]]:
    """Find the training lines in a line of a log, and the numbers in each; the first two are STEP and TOTAL."""
    heads = list(HEAD.finditer(text))
    found = []
    for index, head in enumerate(heads):
        fields = [Field(STEP, *head.span(1), head.start(1)), Field(TOTAL, *head.span(2), head.start(2))]
        stop = heads[index + 1].start() if index + 1 < len(heads) else len(text)
        back = text.find(b"\r", head.end(), stop)
        place, stop = head.end(), stop if back < 0 else back
        while (bar := text.find(b"|", place, stop)) >= 0:
            field = _field(text, place, bar)
            if field is not None and not field.key.lower().startswith(MEASURES_OF_SPEED):
                fields.append(field)
            place = bar + 1
        found.append(fields)
    return found


def _field(text: bytes, start: int, end: int) -> Field | None:
    """Read `key: number ` or `key number ` between two bars; None for anything else."""
    part = text[start:end].rstrip(b" ")
    space = part.rfind(b" ") + 1
    key = part[:space].rstrip(b" ").removesuffix(b":").strip(b" ")
    if not 0 < len(key) <= _LONGEST_KEY or _NUMBER.fullmatch(part, space) is None:
        return None
    return Field(key.decode("utf-8", errors="replace"), start + space, start + len(part), start)


def _stamp(text: bytes, step: int) -> re.Match[bytes] | None:
    """Find the date before a training line whose STEP begins at byte `step`."""
    return STAMP.search(text, max(step - 64, 0), text.rfind(b"iteration", 0, step))


def _of_one_length(
    chunk: Chunk, starts: np.ndarray, lines: np.ndarray, length: int, alone: list[np.ndarray]
) -> Iterator[Rows]:
    """Read lines of one length, layout by layout; those that need the plain parser go to `alone`."""
    windows = np.lib.stride_tricks.sliding_window_view(np.frombuffer(chunk.data, dtype=np.uint8), length)
    table = windows[starts[lines]]
    shapes = np.zeros((len(lines), -(-length // 8) * 8), dtype=np.uint8)
    np.multiply(
        table, table - np.uint8(48) > 9, out=shapes[:, :length]
    )  # digits become 0, below 48 wraps around
    words = shapes.view(np.uint64)
    # lines of one layout have one key; that all lines of a key are of one layout is checked, not hoped
    keys = words @ _MIXED[: words.shape[1]]
    order = np.argsort(keys, kind="stable")
    for chosen in np.split(order, np.flatnonzero(np.diff(keys[order])) + 1):
        if len(chosen) < _FEWEST:
            alone.append(lines[chosen])
            continue
        text = table[chosen[0]].tobytes()
        found = records(text)
        if not found:
            continue
        same = bool(np.all(words[chosen] == words[chosen[0]]))
        plain = same and len(found) == 1 and b"validation" not in text
        values = _columns(text, found[0], table[chosen]) if plain else None
        if values is None:
            alone.append(lines[chosen])
        else:
            yield Rows(chunk.line + lines[chosen], values)


def _columns(text: bytes, fields: list[Field], table: np.ndarray) -> dict[str, np.ndarray] | None:
    """Numbers of all lines of one layout by key, each shape (n,); None if one needs the plain parser."""
    values: dict[str, np.ndarray] = {}
    for field in fields:
        column = _column(text, field, table)
        if column is None or not _same_key(text, field, table):
            return None
        values[field.key] = column
    stamp = _stamp(text, fields[0].start)
    if stamp is not None:
        parts = [_whole(table, *stamp.span(group)) for group in range(1, 7)]
        fraction = _whole(table, *stamp.span(7)) / _TEN[len(stamp[7])] if stamp[7] else np.zeros(len(table))
        values[TIME] = _seconds(parts) + fraction
    return values


def _same_key(text: bytes, field: Field, table: np.ndarray) -> bool:
    """Whether a key is the same in all lines of one layout: its digits may differ."""
    key = np.frombuffer(text[field.before : field.start], dtype=np.uint8)
    digits = np.flatnonzero((key >= 48) & (key <= 57))
    return bool(np.all(table[:, field.before + digits] == key[digits])) if digits.size else True


def _column(text: bytes, field: Field, table: np.ndarray) -> np.ndarray | None:
    match = _NUMBER.fullmatch(text, field.start, field.end)
    if match is None or match[6] is not None or len(match[2]) + len(match[3] or b"") > 15:
        return None
    mantissa = _whole(table, *match.span(2))
    places = len(match[3] or b"")
    if places:
        mantissa = mantissa * _TEN[places] + _whole(table, *match.span(3))
    if match[1] == b"-":
        mantissa = -mantissa
    if match[5] is None:
        return mantissa / _TEN[places]
    power = _whole(table, *match.span(5)) * (-1 if match[4] == b"-" else 1) - places
    if np.abs(power).max() > 22:
        return None
    ten = _TEN[np.abs(power).astype(np.int64)]
    return np.where(power < 0, mantissa / ten, mantissa * ten)


def _whole(table: np.ndarray, start: int, end: int) -> np.ndarray:
    """Whole numbers in the columns start .. end - 1 of a table of letters, shape (n,); below 2^53, so exact."""
    weights = 10.0 ** np.arange(end - start - 1, -1, -1)
    return table[:, start:end].astype(float) @ weights - 48.0 * weights.sum()


def _seconds(parts: list[np.ndarray]) -> np.ndarray:
    """Seconds since 1970 of dates (year, month, day, hour, minute, second), each shape (n,), taken as UTC."""
    year, month, day, hour, minute, second = parts[:6]
    # days of the proleptic Gregorian calendar, years beginning in March (H. Hinnant, days_from_civil)
    year = year - (month <= 2)
    of_year = np.floor((153 * (month + np.where(month > 2, -3, 9)) + 2) / 5) + day - 1
    days = 365 * year + np.floor(year / 4) - np.floor(year / 100) + np.floor(year / 400) + of_year - 719468
    return 86400 * days + 3600 * hour + 60 * minute + second
