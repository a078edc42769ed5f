"""Long LR logs: the few of their rows that tell the schedule, and the check against all the others.

Fitting needs some hundreds of rows, well spread, and those around every turn and jump, where the LR bends
most. What was found from them is then compared with every row; the rows that contradict it are added. All
is done block by block, so that no copy of the log is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

MANY = 100_000  # rows; shorter logs are fitted whole
SPREAD = 8_000  # rows kept evenly over the log
BENDS = 1_000  # rows kept where the LR bends most, each with its neighbours
_BLOCK = 1 << 18


def blocks(count: int) -> Iterator[slice]:
    """Slices of at most `_BLOCK` that cover 0 .. count - 1."""
    return (slice(begin, min(begin + _BLOCK, count)) for begin in range(0, count, _BLOCK))


def rising(step: np.ndarray) -> bool:
    """Whether every step lies above the one before."""
    return bool(np.all(step[1:] > step[:-1]))


def median_gap(step: np.ndarray) -> float:
    """Median distance of two neighbours in a row of at least two steps."""
    first = step[1] - step[0]
    if all(np.all(np.diff(step[part.start : part.stop + 1]) == first) for part in blocks(len(step) - 1)):
        return float(first)
    return float(np.median(np.diff(step)))


def telling(lr: np.ndarray) -> np.ndarray:
    """Indices of the rows to fit, rising: spread evenly, at both ends, and where the LR bends most."""
    count = len(lr)
    even = np.linspace(0, count - 1, SPREAD).astype(np.int64)
    sharpest = np.empty(0, dtype=np.int64)
    bend = np.empty(0)
    for part in blocks(count - 2):
        here = np.abs(np.diff(lr[part.start : part.stop + 2], 2))
        sharpest = np.concatenate([sharpest, part.start + 1 + np.arange(here.size)])
        bend = np.concatenate([bend, here])
        if bend.size > BENDS:
            top = np.argpartition(bend, -BENDS)[-BENDS:]
            sharpest, bend = sharpest[top], bend[top]
    return with_neighbours(np.concatenate([even, sharpest]), count)


def with_neighbours(rows: np.ndarray, count: int) -> np.ndarray:
    """The rows given and the two on either side of each, rising."""
    near = np.concatenate([rows + shift for shift in (-2, -1, 0, 1, 2)])
    return np.unique(near[(near >= 0) & (near < count)])


def worst_rows(
    step: np.ndarray, lr: np.ndarray, used: slice, error: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> tuple[float, np.ndarray]:
    """Largest error of the rows `used`, and the row that has it in each block.

    Parameters
    ----------
    step, lr : shape (n,).
    error : gives the errors of a block of both.
    """
    worst, rows = 0.0, []
    for part in blocks(used.stop - used.start):
        here = slice(used.start + part.start, used.start + part.stop)
        found = error(step[here], lr[here])
        place = int(np.argmax(found))
        worst = max(worst, float(found[place]))
        rows.append(here.start + place)
    return worst, np.array(rows)
