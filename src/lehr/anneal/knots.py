"""A schedule under search: straight lines or stairs between knots, after a warm-up and perhaps a past.

The knots stand at distances from the end that shrink by a constant factor, because what an LR does
to the final loss changes with the logarithm of how long before the end it is used. The pieces that laws see
are cut once and keep their edges while the LRs at the knots change, so that the loss is a smooth
function of these.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.schedule.pieces import Pieces, to_pieces
from lehr.schedule.schedule import Schedule, Segment

NEAREST = 0.002  # distance of the last knot before the end, as a share of what is searched
INSIDE, RISING = 4, 8  # pieces between two knots, pieces of the warm-up
DIGITS = 6  # significant digits of the LRs of the schedule that is written


@dataclass(frozen=True, eq=False)
class Knots:
    """Where the LR is free, and what comes before.

    Parameters
    ----------
    base : the schedule so far, or None for a run from scratch.
    past : its pieces, or None.
    warmup : updates that rise from the base's last LR (0 without a base) to that of the first knot.
    at : shape (K,), steps of the knots; the first ends the warm-up, the last is the end of training.
    edges : shape (P + 1,), steps of the edges of the pieces after the past, warm-up included.
    stairs : whether the LR is held from each knot to the next; otherwise it follows a straight line.
    """

    base: Schedule | None
    past: Pieces | None
    warmup: int
    at: np.ndarray
    edges: np.ndarray
    stairs: bool = False

    @property
    def begin(self) -> int:
        """Updates done before the search begins."""
        return self.base.steps if self.base else 0

    @property
    def low(self) -> float:
        """LR that the warm-up starts from."""
        return float(self.base.lr(np.array([self.base.steps - 1]))[0]) if self.base else 0.0

    def pieces(self, lr: np.ndarray) -> Pieces:
        """Return the whole schedule as the laws see it, for the LRs (shape (K,)) at the knots."""
        start, steps = self.edges[:-1], np.diff(self.edges)
        at_edge = np.interp(self.edges, self.at, lr)
        # each line ends where the next begins: a difference of less than an update, which would make kinks
        # look like jumps
        first, last = at_edge[:-1].copy(), at_edge[1:].copy()
        if self.stairs:
            first = lr[np.maximum(np.searchsorted(self.at, start, side="right") - 1, 0)]
            last = first.copy()
        warm = start < self.begin + self.warmup
        done, low = start[warm] - self.begin, self.low
        first[warm] = low + (lr[0] - low) * (done + 1) / max(self.warmup, 1)
        last[warm] = low + (lr[0] - low) * (done + steps[warm]) / max(self.warmup, 1)
        # mean over the updates: all of a rise lies between its ends, a line stops one update before its end
        mean = first + (last - first) * np.where(warm, 0.5, 0.5 * (steps - 1) / steps)
        if self.past is None:
            return Pieces(start, steps, mean, first, last, warm)
        after = (start, steps, mean, first, last, np.zeros(len(start), dtype=bool))
        before = (getattr(self.past, n) for n in ("start", "steps", "lr", "first", "last", "warm"))
        return Pieces(*(np.concatenate(pair) for pair in zip(before, after, strict=True)))

    def schedule(self, lr: np.ndarray) -> Schedule:
        """Return the schedule with the given LRs (shape (K,)) at the knots; flat neighbours are joined."""
        values = [float(f"{value:.{DIGITS}g}") for value in lr]
        low = float(f"{self.low:.{DIGITS}g}")
        parts = [Segment(self.warmup, low, values[0], phase=1.0)] if self.warmup else []
        ends = list(
            zip(self.at[1:].tolist(), values[:-1], values[:-1] if self.stairs else values[1:], strict=True)
        )
        begin = int(self.at[0])
        for i, (end, here, there) in enumerate(ends):
            flat = here == there
            if flat and i + 1 < len(ends) and here == ends[i + 1][1] == ends[i + 1][2]:
                continue  # the next stretch has the same LR: one segment for both
            parts.append(Segment(int(end) - begin, here, there))
            begin = int(end)
        return Schedule((*(self.base.segments if self.base else ()), *parts))


def place_knots(
    steps: int, warmup: int, count: int, base: Schedule | None = None, stairs: bool = False
) -> Knots:
    """Place `count` knots, or fewer in a short run, between the warm-up's end and update `steps`.

    Parameters
    ----------
    steps : length of the whole run, updates, the past included.
    warmup : updates of warm-up after the past.
    base, stairs : see `Knots`.
    """
    begin = (base.steps if base else 0) + warmup
    room = steps - begin
    distance = np.append(np.geomspace(room, max(NEAREST * room, 1.0), count - 1), 0.0)
    at = np.unique(np.round(steps - distance)).astype(np.int64)
    rise = np.linspace(begin - warmup, begin, RISING + 1)[:-1] if warmup else np.array([])
    lines = [np.linspace(a, b, INSIDE + 1)[:-1] for a, b in zip(at[:-1], at[1:], strict=True)]
    edges = np.unique(np.round(np.concatenate([rise, *lines, [steps]]))).astype(np.int64)
    return Knots(base, to_pieces(base) if base else None, warmup, at, edges, stairs)
