"""A schedule as Python code that needs no lehr: rows of segments and one function of the update.

The text is made of numbers (`repr`) and of names from the tables below alone, so that it is safe to paste.
Tables of LRs become straight lines between knots, exact to 1e-10 of each value.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lehr.errors import InputError
from lehr.schedule.schedule import Schedule, Segment, Table
from lehr.schedule.shapes import EXPONENTIAL
from lehr.schedule.spec import to_text

EXACT, ROUNDING = 1e-10, 1e-15  # of each value and of the highest one
MOST_ROWS = 100_000
LONGEST_TEXT = 200

# share of the way still to go after progress x, as in lehr.schedule.shapes
SHARES = {
    "linear": "1.0 - x",
    "sqrt": "1.0 - math.sqrt(x)",
    "square": "1.0 - x * x",
    "cosine": "0.5 * (1.0 + math.cos(math.pi * x))",
    "mirror_cosine": "2.0 * (1.0 - x) - 0.5 * (1.0 + math.cos(math.pi * x))",
}


def title(schedule: Schedule) -> str:
    """The schedule's text, cut where it is long."""
    text = to_text(schedule)
    return text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} ..."


def number(value: float) -> str:
    """Text of a number that reads back to the same one; whole ones as integers."""
    return repr(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(float(value))


def segments(schedule: Schedule) -> tuple[Segment, ...]:
    """Segments of `schedule`, with straight lines in place of tables.

    Raises
    ------
    InputError
        If a table needs more than 100,000 lines.
    """
    parts: list[Segment] = []
    for part in schedule.segments:
        parts += lines(part.values) if isinstance(part, Table) else [part]
    if len(parts) > MOST_ROWS:
        raise _too_many(len(parts))
    return tuple(parts)


def lines(values: np.ndarray, tolerance: np.ndarray | None = None) -> list[Segment]:
    """Straight lines through some of `values`, shape (n,), that stay within `tolerance` of the others.

    Parameters
    ----------
    values : LR of each update.
    tolerance : largest error at each, shape (n,); by default 1e-10 of the value.
    """
    if tolerance is None:
        tolerance = EXACT * values + ROUNDING * values.max()
    knots = _knots(values, tolerance)
    ends = [*knots[1:], knots[-1]]
    return [
        Segment(max(b - a, 1), float(values[a]), float(values[b])) for a, b in zip(knots, ends, strict=True)
    ]


def _knots(values: np.ndarray, tolerance: np.ndarray) -> list[int]:
    """Indices between which straight lines are near enough: a line is cut where it is farthest off."""
    kept, stack = {0, len(values) - 1}, [(0, len(values) - 1)]
    while stack:
        a, b = stack.pop()
        inner = slice(a + 1, b)
        if b - a < 2:
            continue
        line = values[a] + (values[b] - values[a]) * np.arange(1, b - a) / (b - a)
        excess = np.abs(line - values[inner]) - tolerance[inner]
        worst = int(np.argmax(excess))
        if excess[worst] > 0:
            cut = a + 1 + worst
            kept.add(cut)
            stack += [(a, cut), (cut, b)]
            if len(kept) > MOST_ROWS:
                raise _too_many(len(kept))
    return sorted(kept)


def _too_many(count: int) -> InputError:
    return InputError(
        f"the schedule needs more than {MOST_ROWS} straight lines to be written as code, got {count} or more: "
        "export it as csv, or write it with a family."
    )


def starts(parts: tuple[Segment, ...]) -> list[int]:
    """Index of the first update of each segment."""
    return np.concatenate([[0], np.cumsum([part.steps for part in parts])[:-1]]).astype(int).tolist()


def shape_names(parts: tuple[Segment, ...]) -> dict[str, str]:
    """Name in the code of each shape that the segments use; what is flat counts as linear."""
    names: dict[str, str] = {}
    for part in parts:
        shape = "linear" if part.flat else part.shape
        plain = shape in SHARES or shape == EXPONENTIAL
        names.setdefault(shape, shape if plain else f"power_{len(names)}")
    return names


def _functions(names: dict[str, str]) -> Iterator[str]:
    for shape, name in names.items():
        if shape == EXPONENTIAL:
            body = "start * (end / start) ** x"
        else:
            share = SHARES.get(shape) or f"(1.0 - x) ** {number(float(shape[6:-1]))}"
            body = f"end + (start - end) * ({share})"
        yield f"def {name}(x, start, end):\n    return {body}\n"


def function(schedule: Schedule, parts: tuple[Segment, ...]) -> str:
    """Code of PEAK, STEPS and lr_at(update); it needs the modules bisect and math."""
    names = shape_names(parts)
    rows = "".join(
        f"    ({first}, {number(s.start)}, {number(s.end)}, "
        f"{names['linear' if s.flat else s.shape]}, {number(s.phase)}, {number(s.span)}),\n"
        for first, s in zip(starts(parts), parts, strict=True)
    )
    shapes = "\n\n".join(_functions(names))
    return f"""\
PEAK = {number(schedule.peak)}  # the optimiser's lr
STEPS = {schedule.steps}  # updates


{shapes}

SEGMENTS = (  # first update, LR from, LR to, shape, and progress x = (update - first + phase) / span
{rows})
FIRSTS = tuple(row[0] for row in SEGMENTS)


def lr_at(update):
    \"\"\"LR of update 0, 1, ...; past the last one, its LR.\"\"\"
    update = min(max(int(update), 0), STEPS - 1)
    first, start, end, shape, phase, span = SEGMENTS[bisect.bisect_right(FIRSTS, update) - 1]
    return shape(min((update - first + phase) / span, 1.0), start, end)
"""


FACTOR = '''\
class LehrSchedule:
    """Factor on each group's own LR. It keeps no state: on resuming this file decides, not the checkpoint."""

    def __call__(self, update):
        return lr_at(update) / PEAK
'''


def module(schedule: Schedule, parts: tuple[Segment, ...], imports: str, body: str, comment: str = "") -> str:
    """Text of a Python module.

    Parameters
    ----------
    schedule, parts : the schedule and its `segments`.
    imports : lines that import from the framework.
    body : code that uses lr_at, PEAK and STEPS.
    comment : how to use it, without the comment signs.
    """
    remarks = "".join(
        f"# {line}\n" for line in (f"LR schedule {title(schedule)}, by lehr", *comment.splitlines())
    )
    return f"{remarks}import bisect\nimport math\n\n{imports}\n{function(schedule, parts)}\n\n{body}"


def replay(parts: tuple[Segment, ...]) -> np.ndarray:
    """LR of every update by the code, shape (T,)."""
    return Schedule(parts).to_array()
