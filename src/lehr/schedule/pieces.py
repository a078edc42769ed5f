"""A schedule as few pieces of nearly constant LR, with a stated error bound.

Laws sum over updates. A piece stands for a run of updates whose LRs differ by at most
`tolerance` times the peak (four times that in a rising segment); its LR is their mean (exact for
straight lines and for parabolas), so areas stay right to second order. Jumps between segments,
and so every kink that matters, always start a new piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.schedule.schedule import Schedule, Segment, Table

TOLERANCE = 0.01
RISING = 4.0  # warm-ups carry little area: their pieces may span this many times the tolerance


@dataclass(frozen=True, eq=False)
class Pieces:
    """P pieces that cover updates 0 .. T-1; every array has shape (P,).

    Parameters
    ----------
    start : index of the first update of each piece.
    steps : number of updates in it.
    lr : mean LR of its updates.
    first, last : LR of its first and of its last update.
    warm : whether the piece belongs to the initial rise of the LR (warm-up).
    """

    start: np.ndarray
    steps: np.ndarray
    lr: np.ndarray
    first: np.ndarray
    last: np.ndarray
    warm: np.ndarray

    @property
    def total(self) -> int:
        """Number of updates T."""
        return int(self.start[-1] + self.steps[-1])

    @property
    def edges(self) -> np.ndarray:
        """Step at which each piece starts, then T; shape (P + 1,)."""
        return np.append(self.start, self.total).astype(float)

    def integral(self, density: np.ndarray, steps: np.ndarray) -> np.ndarray:
        """Integrate a per-update density, constant over each piece, up to each of `steps`.

        Parameters
        ----------
        density : shape (P,), amount added by one update of each piece.
        steps : shape (n,), in [0, T].
        """
        return np.interp(steps, self.edges, np.concatenate([[0.0], np.cumsum(density * self.steps)]))


def to_pieces(schedule: Schedule, tolerance: float = TOLERANCE, cuts: tuple[int, ...] = ()) -> Pieces:
    """Cut `schedule` into pieces whose LRs differ by at most `tolerance` times the peak.

    Parameters
    ----------
    schedule : the schedule.
    tolerance : largest range of LR within a piece as a fraction of the peak; 0 gives one
        piece an update wherever the LR changes.
    cuts : steps that must be edges of pieces besides those of the segments.
    """
    starts = schedule.starts
    width = 0.8 * tolerance * schedule.peak  # the levels are found on a grid: leave a margin
    begin: list[np.ndarray] = []
    for part, offset in zip(schedule.segments, starts[:-1], strict=True):
        inner = [c - offset for c in cuts if offset < c < offset + part.steps]
        coarse = RISING if isinstance(part, Segment) and part.end > part.start else 1.0
        begin.append(offset + np.union1d(_cut(part, coarse * width), inner).astype(np.int64))
    start = np.concatenate(begin)
    steps = np.diff(np.append(start, schedule.steps))
    first, last = schedule.lr(start), schedule.lr(start + steps - 1)
    mean = _means(schedule, start, steps, first, last)
    alone = (steps == 1) & ~np.isin(start, starts)
    return Pieces(start, steps, mean, first, last, _rising(first, last, alone))


def _cut(part: Segment | Table, width: float) -> np.ndarray:
    """Return the indices within `part` at which a new piece starts."""
    if part.flat:
        return np.array([0])
    if width <= 0:
        return np.arange(part.steps)
    if isinstance(part, Table):
        return _cut_values(part.values, width)
    last = part.steps - 1
    ends = part.lr(np.array([0, last]))
    count = int(np.ceil(abs(ends[1] - ends[0]) / width)) + 1
    # Shapes are monotone but may be steep at either end: look closer there, then find the updates at
    # which the LR crosses `count` equal levels by interpolation.
    probe = np.unique(np.round(last * 0.5 * (1 - np.cos(np.linspace(0, np.pi, 4 * count + 1)))))
    way = (part.lr(probe) - ends[0]) / (ends[1] - ends[0] or 1.0)
    crossings = np.interp(np.arange(1, count) / count, way, probe)
    return np.unique(np.concatenate([[0], np.ceil(crossings)]).astype(np.int64))


def _cut_values(values: np.ndarray, width: float) -> np.ndarray:
    """Greedy cut of listed values: a piece ends where its range would exceed `width`."""
    begin, low, high = [0], values[0], values[0]
    change = np.flatnonzero(np.diff(values) != 0) + 1
    for index in change:
        value = values[index]
        low, high = min(low, value), max(high, value)
        if high - low > width:
            begin.append(int(index))
            low = high = value
    return np.array(begin)


def _means(
    schedule: Schedule, start: np.ndarray, steps: np.ndarray, first: np.ndarray, last: np.ndarray
) -> np.ndarray:
    """Mean LR of each piece: Simpson's rule for a discrete sum, exact up to parabolas."""
    mean = 0.5 * (first + last)
    tables = [isinstance(part, Table) for part in schedule.segments]
    where = np.searchsorted(schedule.starts, start, side="right") - 1
    listed = np.asarray(tables)[where]
    curved = (steps > 2) & (first != last) & ~listed
    n = steps[curved]
    weight = (n + 1) / (3 * (n - 1))
    middle = np.empty(len(n))
    for index in np.unique(where[curved]):
        mask = where[curved] == index
        offset = schedule.starts[index]
        middle[mask] = schedule.segments[index].lr(start[curved][mask] - offset + (n[mask] - 1) / 2)
    mean[curved] = (1 - weight) * middle + weight * mean[curved]
    for row in np.flatnonzero(listed):
        part, offset = schedule.segments[where[row]], schedule.starts[where[row]]
        mean[row] = part.lr(np.arange(start[row] - offset, start[row] - offset + steps[row])).mean()
    return mean


def _rising(first: np.ndarray, last: np.ndarray, alone: np.ndarray) -> np.ndarray:
    """Mark the leading pieces over which the LR only rises, up to the first maximum.

    `alone` marks single updates within a segment: one at the maximum still belongs to the rise.
    """
    ends = np.ravel(np.column_stack([first, last]))
    falls = np.flatnonzero(np.diff(ends) < 0)
    stop = falls[0] if falls.size else len(ends) - 1
    top = int(np.argmax(ends[: stop + 1]))
    warm = np.zeros(len(first), dtype=bool)
    if ends[top] > ends[0]:
        count = (top + 1) // 2
        warm[: count + int(top % 2 == 0 and alone[count])] = True
    return warm


def warmup_steps(schedule: Schedule) -> int:
    """Return how many updates pass before the LR first reaches the top of its initial rise."""
    pieces = to_pieces(schedule)
    return int(pieces.start[int(pieces.warm.sum())]) if not pieces.warm.all() else schedule.steps
