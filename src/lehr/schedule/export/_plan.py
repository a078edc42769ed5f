"""A warm-up, a hold and one decay: all that the settings of most trainers can say.

`recognise` reads it off a schedule's segments exactly; `nearest` finds the one that lies nearest to any LRs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TypeVar

import numpy as np

from lehr.schedule.export.export import RELATIVE, differing
from lehr.schedule.schedule import Schedule, Segment
from lehr.schedule.shapes import remaining

T = TypeVar("T")
Share = Callable[[np.ndarray], np.ndarray]
SAMPLES, GRID = 4096, 33


@dataclass(frozen=True)
class Plan:
    """LRs of `steps` updates as a straight rise, a hold and a decay.

    Parameters
    ----------
    steps : number of updates T.
    peak : LR of the hold.
    first : LR of update 0; the rise is a straight line from it to the peak at update `top`.
    top : first update at the peak.
    begin : update at which the decay begins; it still uses the peak. `steps` or more: no decay.
    end : update that would be the first to use `final`; may lie past the last one.
    final : LR from `end` on.
    shape : of the decay (`lehr.schedule.shapes`); empty if there is none.
    """

    steps: int
    peak: float
    first: float
    top: int
    begin: int
    end: int
    final: float
    shape: str

    @property
    def falls(self) -> bool:
        """Whether the plan has a decay."""
        return self.begin < self.steps

    @property
    def ratio(self) -> float:
        """The LR the decay goes to, as a fraction of the peak."""
        return self.final / self.peak


def recognise(schedule: Schedule) -> Plan | None:
    """Return the plan that the segments of `schedule` are, or None if they are none."""
    parts = list(schedule.segments)
    if not all(isinstance(part, Segment) for part in parts):
        return None
    segments = [part for part in parts if isinstance(part, Segment)]
    peak = max(max(s.start, s.end) for s in segments)
    first, top, at = peak, 0, 0
    if segments[0].end > segments[0].start:
        rise = segments.pop(0)
        reach = rise.span - rise.phase  # the update at which the line reaches its end
        reached = reach == rise.steps - 1 or (reach == rise.steps and segments)
        if rise.shape != "linear" or rise.end != peak or not reached:
            return None
        first, top, at = rise.start + (peak - rise.start) * rise.phase / rise.span, int(reach), rise.steps
        if top == at and segments[0].start != peak:
            return None
    while segments and segments[0].flat and segments[0].start == peak:
        at += segments.pop(0).steps
    if not segments:
        return Plan(schedule.steps, peak, first, top, schedule.steps, schedule.steps, peak, "")
    fall = segments.pop(0)
    rest_holds = fall.span == fall.steps and all(s.flat and s.start == fall.end for s in segments)
    if (
        fall.start != peak
        or fall.end >= peak
        or fall.phase != 0
        or fall.span % 1
        or (segments and not rest_holds)
    ):
        return None
    return Plan(schedule.steps, peak, first, top, at, at + int(fall.span), fall.end, fall.shape)


def held(wanted: np.ndarray) -> Plan:
    """A plan that rises to the highest of the LRs `wanted`, shape (T,), and holds it."""
    steps, top = len(wanted), int(np.argmax(wanted))
    peak = float(wanted[top])
    first = min(_rounded(wanted[0]), peak)
    return Plan(steps, peak, first, top, steps, steps, peak, "")


def _rounded(value: float) -> float:
    """The value to 12 digits: without the rounding errors of sums, and short where it can be."""
    return float(f"{value:.12g}")


def nearest(
    wanted: np.ndarray, shape: str, final: float, *, share: Share | None = None, begin: int | None = None
) -> Plan:
    """Return the plan nearest to the LRs `wanted`, with a decay of `shape` up to the end.

    Nearest is by least squares among the plans whose decay goes to `final`: a plan that ends at a higher LR
    may lie nearer and yet lose the annealing. Where another final LR makes the plan exact it is taken.

    Parameters
    ----------
    wanted : LR of every update, shape (T,).
    shape : name of the shape in the plan.
    final : LR that the decay goes to.
    share : share of the way still to go at progress x; by default that of `shape`.
    begin : update at which the decay must begin; None searches for the best one.
    """
    share = share or partial(remaining, shape)
    flat = held(wanted)
    k = np.unique(np.linspace(flat.top, flat.steps - 1, SAMPLES).round().astype(np.int64))
    values = wanted[k]

    def fit(start: int, free: bool) -> tuple[float, float]:
        """Mean square difference, and the final LR."""
        left = share(np.clip((k - start) / (flat.steps - start), 0.0, 1.0))
        low = least_squares(values, left, flat.peak) if free else final
        return float(np.mean((values - low - (flat.peak - low) * left) ** 2)), low

    def search(free: bool) -> tuple[int, float, float]:
        """The best begin, its difference and its final LR."""
        start = _lowest(lambda at: fit(at, free)[0], flat.top, flat.steps - 1) if begin is None else begin
        return (start, *fit(start, free))

    start, error, low = search(True)
    if error > (RELATIVE * flat.peak) ** 2:
        start, _, low = search(False)
    return replace(flat, begin=start, end=flat.steps, final=min(_rounded(low), flat.peak), shape=shape)


def least_squares(values: np.ndarray, share: np.ndarray, peak: float) -> float:
    """LR within 0 and the peak for which low + (peak - low) * share lies nearest to `values`, both shape (n,)."""
    weight = 1 - share
    norm = float(weight @ weight)
    return float(np.clip((values - peak * share) @ weight / norm, 0.0, peak)) if norm else peak


def _lowest(value: Callable[[int], float], low: int, high: int) -> int:
    """Whole number in low .. high at which `value` is lowest, from coarse to fine."""
    while True:
        tried = np.unique(np.linspace(low, high, GRID).round().astype(np.int64)).tolist()
        best = min(range(len(tried)), key=lambda i: value(tried[i]))
        if len(tried) == high - low + 1:
            return int(tried[best])
        low, high = tried[max(best - 1, 0)], tried[min(best + 1, len(tried) - 1)]


def aim(schedule: Schedule, wanted: np.ndarray) -> float:
    """LR that the decay of `schedule` goes to; the last one where it is no plan."""
    known = recognise(schedule)
    return known.final if known else float(wanted[-1])


def plans(schedule: Schedule, wanted: np.ndarray, shapes: Iterable[str]) -> Iterator[Plan]:
    """Give the plan that `schedule` is, if it is one, then the nearest of each shape.

    A plan without a decay is given only if the schedule ends at its peak.
    """
    known = recognise(schedule)
    if known is not None:
        yield known
    final = aim(schedule, wanted)
    if final >= wanted.max():
        yield held(wanted)
    for shape in shapes:
        yield nearest(wanted, shape, final)


def choose(wanted: np.ndarray, candidates: Iterable[tuple[T, np.ndarray]]) -> tuple[T, np.ndarray]:
    """Return the first candidate whose LRs are exact, or the nearest by least squares."""
    remaining = iter(candidates)
    best = next(remaining)
    if not differing(wanted, best[1]).any():
        return best
    for candidate in remaining:
        if not differing(wanted, candidate[1]).any():
            return candidate
        if np.mean((candidate[1] - wanted) ** 2) < np.mean((best[1] - wanted) ** 2):
            best = candidate
    return best
