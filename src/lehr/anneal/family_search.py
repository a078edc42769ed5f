"""The best schedule of the WSD family: decay shape x final LR x annealing ratio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, bad
from lehr.fit.batch_check import check_planned
from lehr.fit.result import FitResult
from lehr.laws.law import Conditions
from lehr.predict import outside, planned
from lehr.schedule.families import rewarm, wsd
from lehr.schedule.pieces import TOLERANCE
from lehr.schedule.schedule import Schedule
from lehr.schedule.shapes import EXPONENTIAL, SHAPES

SHAPES_TRIED = (*SHAPES, EXPONENTIAL, "power(1.5)", "power(2)")
FINALS = (0.0, 0.01, 0.03, 0.1)  # shares of the peak tried as LR at the end
COARSE, FINE = 12, 7  # decays tried over the whole range, then around the best
SHORTEST = 0.01  # share of the run below which no decay is tried
CLOSE = TOLERANCE / 4  # how finely schedules are cut: those compared here differ by .0001


@dataclass(frozen=True)
class Member:
    """The best decay of one shape and final LR.

    Parameters
    ----------
    shape, final : of the decay; `final` is the LR it ends at.
    ratio, decay_steps : decaying updates, as a share of all updates and as a number.
    final_loss : predicted, nats per token.
    schedule : with that decay.
    """

    shape: str
    final: float
    ratio: float
    decay_steps: int
    final_loss: float
    schedule: Schedule


@dataclass(frozen=True)
class Bounds:
    """What every schedule of a planned run keeps to.

    Parameters
    ----------
    steps : updates in all, those of `base` included.
    peak, final : highest and lowest LR after the warm-up.
    warmup : updates of it; after a `base` they start from its last LR.
    base : the schedule so far, or None.
    """

    steps: int
    peak: float
    final: float
    warmup: int
    base: Schedule | None = None

    @property
    def ahead(self) -> int:
        """Updates still to do."""
        return self.steps - (self.base.steps if self.base else 0)

    @property
    def room(self) -> int:
        """Updates after the warm-up."""
        return self.ahead - self.warmup

    def wsd(self, decay: int, shape: str, final: float) -> Schedule:
        """Return the WSD schedule with this decay, after the base if there is one."""
        more = {"peak": self.peak, "warmup": self.warmup, "decay": decay, "shape": shape, "final": final}
        if self.base is None:
            return wsd(steps=self.ahead, **more)
        return rewarm(base=self.base, steps=self.ahead, **more)


def search_family(
    result: FitResult, *, steps: int, peak: float, final: float = 0.0, warmup: int | None = None,
    shapes: Sequence[str] = SHAPES_TRIED, finals: Sequence[float] | None = None, base: Schedule | None = None,
    params: float | None = None, batch_tokens: float | None = None, weight_decay: float | None = None,
    params_total: float | None = None,
) -> tuple[Member, ...]:  # fmt: skip
    """Find the best annealing ratio for every decay shape and final LR of a WSD run, best first.

    Parameters
    ----------
    result : a fit.
    steps, peak : of the planned run; with a `base`, `steps` counts the base's too.
    final : lowest LR allowed.
    warmup : updates; by default the longest of the fitted runs, at most a tenth of the updates still to do.
    shapes : decay shapes tried (`lehr.schedule.shapes`); the exponential one only for a final LR above 0.
    finals : final LRs tried; by default `final` and those of 0, 1, 3 and 10 % of the peak that exceed it.
    base : the schedule so far, after which the run is warmed up again (`lehr.schedule.families.rewarm`).
    params, batch_tokens, weight_decay, params_total : of the planned run, as in `lehr.predict.predict`.

    Raises
    ------
    InputError
        If the law has no annealing term or does not hold at this batch, or the run has no room for a decay.
    """
    plan = check_bounds(result, steps, peak, final, warmup, base)
    if finals is None:
        finals = sorted({final, *(share * peak for share in FINALS if share * peak > final)})

    sizes = (params, batch_tokens, weight_decay, params_total)

    def loss(decay: int, shape: str, end: float) -> float:
        conditions = planned(result, plan.wsd(decay, shape, end), *sizes)
        return float(result.evaluate(conditions, np.array([float(steps)]), tolerance=CLOSE)[0])

    found = []
    for shape in shapes:
        for end in finals:
            if shape == EXPONENTIAL and end == 0:
                continue
            decays = np.geomspace(min(max(1.0, SHORTEST * plan.ahead), plan.room), plan.room, COARSE).round()
            losses = {int(d): loss(int(d), shape, end) for d in decays}
            tried = sorted(losses)
            i = tried.index(min(losses, key=lambda d: losses[d]))
            near = np.geomspace(tried[max(i - 1, 0)], tried[min(i + 1, len(tried) - 1)], FINE).round()
            losses |= {int(d): loss(int(d), shape, end) for d in near if int(d) not in losses}
            best = min(losses, key=lambda d: losses[d])
            found.append(Member(shape, end, best / steps, best, losses[best], plan.wsd(best, shape, end)))
    found.sort(key=lambda member: member.final_loss)
    conditions = planned(result, found[0].schedule, *sizes)
    check_planned(result, conditions, found[0].final_loss)
    return tuple(found)


def family_warnings(
    result: FitResult, best: Member, params: float | None = None, params_total: float | None = None
) -> tuple[str, ...]:
    """Say what the search rests on beyond the data."""
    law, end = result.get_law(), np.array([float(best.schedule.steps)])
    notes = [*outside(result, Conditions(best.schedule, params, params_total=params_total), end)]
    if law.degenerate:
        notes.append(f"law {law.name} is degenerate: {law.degenerate}.")
    if result.status == "not_converged":
        notes.append("the fit did not converge: fit again with more starts or more runs.")
    return tuple(notes)


def check_bounds(
    result: FitResult, steps: int, peak: float, final: float, warmup: int | None, base: Schedule | None
) -> Bounds:
    """Refuse a plan that the law or the schedule cannot take.

    Raises
    ------
    InputError
        Naming the argument.
    """
    law = result.get_law()
    if not law.needs_anneal:
        raise InputError(
            f"law {law.name} has no annealing term, so it cannot tell schedules apart: fit one that has, such "
            "as weight_norm."
        )
    begin = base.steps if base else 0
    if steps <= begin:
        raise bad("steps", f"must exceed the {begin} of the schedule so far", steps, "count those too")
    warmup = min(result.domain.warmup, (steps - begin) // 10) if warmup is None else warmup
    if steps - begin - warmup < 2:
        raise bad("steps", "must leave room for a decay after the warm-up", steps, "plan a longer run")
    plan = Bounds(steps, peak, final, warmup, base)
    plan.wsd(1, "linear", final)  # refuses wrong LRs and lengths
    return plan
