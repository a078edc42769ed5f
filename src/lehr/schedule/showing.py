"""A schedule as a line of text and as a curve, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lehr import drawing

if TYPE_CHECKING:
    from lehr.schedule.schedule import Schedule

POINTS = 160  # updates of a segment that are looked at: enough for any shape
LONGEST = 100  # characters of a call that are shown


def in_words(schedule: Schedule) -> str:
    """The call that made it, or its number of segments; its updates and its peak LR."""
    if schedule.call is None:
        count = len(schedule.segments)
        what = f"{count} segment{'s' if count > 1 else ''}"
    else:
        family, arguments = schedule.call
        what = f"{family}({', '.join(f'{name}={_value(value)}' for name, value in arguments)})"
        what = what if len(what) <= LONGEST else f"{what[: LONGEST - 3]}..."
    what = "".join(c if c.isprintable() else "?" for c in what)
    return f"{what}, {schedule.steps} updates, peak LR {schedule.peak:.4g}"


def _value(value: object) -> str:
    if isinstance(value, (int, float)):
        return f"{value:.12g}"
    return str(value) if isinstance(value, str) else "..."


def path(schedule: Schedule) -> tuple[np.ndarray, np.ndarray]:
    """Updates and their LRs, few enough to draw: some of each segment, its first and its last among them."""
    updates, lrs = [], []
    for part, start in zip(schedule.segments, schedule.starts, strict=False):
        if hasattr(part, "values"):
            at, lr = drawing.thin(np.arange(part.steps), part.values)
        else:
            count = 2 if part.flat else POINTS
            at = np.unique(np.linspace(0, part.steps - 1, min(count, part.steps)).astype(int))
            lr = part.lr(at)
        updates.append(start + at)
        lrs.append(lr)
    updates.append(np.array([schedule.steps]))  # the last update lasts until T
    lrs.append(lrs[-1][-1:])
    return np.concatenate(updates), np.concatenate(lrs)


def to_html(schedule: Schedule) -> str:
    """The LR over the updates, as HTML."""
    words = in_words(schedule)
    x, y = path(schedule)
    return drawing.card("Schedule", words, picture(x, y, f"LR of every update of {words}"))


def picture(x: np.ndarray, y: np.ndarray, described: str) -> drawing.Markup:
    """An LR over the updates, from 0."""
    return drawing.chart([drawing.Curve(x, y)], described, y_range=(0.0, float(np.max(y)) or 1.0))
