"""How a run in progress may go on: hold the LR up to a step, then decay; and what loss it ends with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from lehr.anneal.ratio import valley
from lehr.errors import InputError
from lehr.fit.result import FitResult
from lehr.laws.law import Conditions
from lehr.predict import half_width
from lehr.schedule.families import wsd
from lehr.schedule.schedule import Schedule, Segment

GRID = 24  # lengths of the decay tried for each end
LOWEST = 0.01  # shortest of them, as a share of what is left
DECAYING = ("steps", "decay", "shape", "final")  # arguments of WSD that the decay decides
CLOSE = 5e-4  # of the total updates: how closely the soonest end is found


@dataclass(frozen=True)
class Decay:
    """One way for the run to end.

    Parameters
    ----------
    start : updates done when the decay starts.
    decay_steps : its length in updates.
    shape : of the decay.
    final_loss, final_loss_low, final_loss_high : predicted at its end, nats per token.
    cost : what it loses against the best: nats at the deadline, or updates more than the soonest
        (None: it misses the target within the horizon, or its end does not compare).
    schedule : of the run's whole life.
    """

    start: int
    decay_steps: int
    shape: str
    final_loss: float
    final_loss_low: float
    final_loss_high: float
    cost: float | None
    schedule: Schedule

    @property
    def steps(self) -> int:
        """Updates done at its end."""
        return self.schedule.steps


class Best(NamedTuple):
    """The best decay that ends at a given step: its predicted loss, where it starts and its shape."""

    loss: float
    start: int
    shape: str


@dataclass(frozen=True)
class Continuation:
    """A run at step `now`, from which its LR is held or decays to `final`.

    Parameters
    ----------
    result : the fit, updated with the run's log.
    conditions : the run's planned schedule and sizes.
    now : updates done.
    shapes : decay shapes to choose among.
    final : LR at the end of the decay.
    level : probability of the bands.
    """

    result: FitResult
    conditions: Conditions
    now: int
    shapes: tuple[str, ...]
    final: float
    level: float

    @property
    def held(self) -> float:
        """LR of the last update done."""
        return float(self.conditions.schedule.lr(np.array([max(self.now - 1, 0)]))[0])

    def schedule(self, start: int, length: int, shape: str) -> Schedule:
        """Return the whole schedule: as it was until now, held until `start`, then the decay."""
        family, arguments = self.conditions.schedule.call or ("", ())
        if family in ("constant", "wsd") and self.held == self.conditions.schedule.peak:
            kept: dict[str, Any] = {name: value for name, value in arguments if name not in DECAYING}
            return wsd(steps=start + length, decay=length, shape=shape, final=self.final, **kept)
        hold = (Segment(start - self.now, self.held, self.held),) if start > self.now else ()
        fall = (Segment(length, self.held, self.final, shape),)
        return self.conditions.schedule.first(self.now).then(Schedule((*hold, *fall)))

    def end(self, schedule: Schedule, vectors: np.ndarray | None = None) -> np.ndarray:
        """Predicted loss at the end of `schedule`, shape (1,), or (m, 1) for `vectors` (m, P)."""
        conditions = replace(self.conditions, schedule=schedule)
        return self.result.evaluate(conditions, np.array([float(schedule.steps)]), vectors)

    def loss(self, start: int, end: int, shape: str) -> float:
        """Predicted final loss of the decay from `start` to `end`."""
        return float(self.end(self.schedule(start, end - start, shape))[0])

    def half(self, schedule: Schedule, loss: float) -> float:
        """Half the width of the band at the end of `schedule`, nats."""
        conditions = replace(self.conditions, schedule=schedule)
        at_end = np.array([float(schedule.steps)])
        return float(half_width(self.result, conditions, at_end, np.array([loss]), self.level)[0])

    def decay(self, start: int, end: int, shape: str, cost: float | None) -> Decay:
        """Return the decay from `start` to `end` with its band."""
        return self.describe(self.schedule(start, end - start, shape), start, shape, cost)

    def describe(self, schedule: Schedule, start: int, shape: str, cost: float | None) -> Decay:
        """Return `schedule`, which decays from `start`, with its final loss and band."""
        loss = float(self.end(schedule)[0])
        half = self.half(schedule, loss)
        return Decay(start, schedule.steps - start, shape, loss, loss - half, loss + half, cost, schedule)

    def lengths(self, end: int, grid: int = GRID) -> np.ndarray:
        """Lengths to try for decays that end at `end`, ascending; shape (at most grid,)."""
        room = end - self.now
        return np.unique(np.linspace(max(1, round(LOWEST * room)), room, grid).astype(int))

    def best(self, end: int, grid: int = GRID) -> Best:
        """Find the decay to `end` with the lowest predicted loss."""
        lengths, found = self.lengths(end, grid), []
        for shape in self.shapes:
            losses = np.array([self.loss(end - int(n), end, shape) for n in lengths])
            length = int(np.clip(round(valley(lengths, losses)), 1, end - self.now))
            found.append(Best(self.loss(end - length, end, shape), end - length, shape))
        return min(found)

    def starts(self, end: int, shape: str, vectors: np.ndarray, grid: int = GRID) -> np.ndarray:
        """Best start of the decay to `end` for each of the parameter `vectors` (m, P); shape (m,)."""
        lengths = self.lengths(end, grid)
        table = np.stack(
            [self.end(self.schedule(end - int(n), int(n), shape), vectors)[:, 0] for n in lengths], axis=1
        )
        return end - np.array([valley(lengths, row) for row in table])

    def soonest(self, target: float, horizon: int, known: dict[int, Best]) -> tuple[int, Best] | None:
        """Find the smallest end at which the best decay reaches `target`, with that decay.

        Parameters
        ----------
        known : best decay by end, from `ends`; it is added to.

        Returns
        -------
        The end and its decay, or None if the target lies beyond the horizon.
        """
        reached = [end for end, best in sorted(known.items()) if best.loss <= target and end <= horizon]
        if not reached:
            return None
        high = reached[0]
        low = max((end for end in known if end < high), default=self.now)
        while high - low > max(1, CLOSE * high):
            middle = (low + high) // 2
            known.setdefault(middle, self.best(middle, GRID // 2))
            low, high = (low, middle) if known[middle].loss <= target else (middle, high)
        return high, known[high]

    def ends(self, horizon: int, count: int = 10) -> dict[int, Best]:
        """Best decay for each of `count` ends, closer together at first, up to the horizon."""
        gaps = np.unique(np.geomspace(min(10, horizon - self.now), horizon - self.now, count).astype(int))
        return {self.now + int(gap): self.best(self.now + int(gap), GRID // 2) for gap in gaps}

    def shortest(self, start: int, shape: str, target: float, horizon: int) -> int | None:
        """Find the length of the shortest decay from `start` that reaches `target`, None if none does."""
        low, high = 0, horizon - start
        if high < 1 or self.loss(start, horizon, shape) > target:
            return None
        while high - low > max(1, CLOSE * start):
            middle = (low + high) // 2
            low, high = (low, middle) if self.loss(start, start + middle, shape) <= target else (middle, high)
        return high


def check_open(continuation: Continuation, name: str) -> None:
    """Refuse a run whose LR has nowhere to fall.

    Raises
    ------
    InputError
        If its LR is already at the end of the decay asked for.
    """
    if continuation.held <= continuation.final:
        raise InputError(
            f"run {name!r}: its LR at step {continuation.now} is {continuation.held:g}, not above the "
            f"{continuation.final:g} that the decay would end at: it has been annealed already."
        )
