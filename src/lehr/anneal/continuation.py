"""What to do with a run that exists: how to go on with it, and whether to decay it on the way (WSD-S).

The data are taken to stay the same: no law here knows of a shift between two data sets. Unless a fitted run
raised its LR again, what a law says of re-warming is an extrapolation.

WSD-S: Wen et al., arXiv 2410.05192.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

from lehr.anneal.family_search import CLOSE, search_family
from lehr.anneal.optimize import optimize_schedule
from lehr.errors import bad
from lehr.fit.batch_check import check_planned
from lehr.fit.result import FitResult
from lehr.predict import half_width, planned
from lehr.schedule.families import wsd, wsd_s
from lehr.schedule.schedule import Schedule, Segment

PEAKS = (1.0, 0.6, 0.3, 0.1)  # shares of the peak tried for re-warming
AT_PEAK = 1 - 1e-6  # share of its peak down to which a run counts as not yet decaying


@dataclass(frozen=True)
class Option:
    """A way to go on.

    Parameters
    ----------
    name : "hold" (stay at the last LR), "decay" (hold, then decay), "rewarm" (back up, hold, decay), "free"
        (free-form from the last LR) or "before decay" (from a checkpoint before the last decay: hold, then
        decay).
    schedule : of the whole life of the run.
    updates : that are still to be done, those redone included.
    loss, low, high : predicted final loss and its band, nats per token.
    excess : loss above that of the best option.
    """

    name: str
    schedule: Schedule
    updates: int
    loss: float
    low: float
    high: float
    excess: float


def compare_continuations(
    result: FitResult, base: Schedule, *, steps: int, peak: float | None = None, final: float = 0.0,
    warmup: int | None = None, params: float | None = None, batch_tokens: float | None = None,
    weight_decay: float | None = None, params_total: float | None = None, level: float = 0.9,
) -> tuple[Option, ...]:  # fmt: skip
    """Compare ways to extend a run to `steps` updates, best first.

    Parameters
    ----------
    result : a fit; a degenerate law has no option "free".
    base : the schedule of the run so far.
    steps : updates in all when it will end.
    peak : highest LR to warm up to again; by default the highest of `base`.
    final : lowest LR.
    warmup : updates of re-warming; by default the longest of the fitted runs, at most a tenth of what is left.
    params, batch_tokens, weight_decay, params_total, level : as in `lehr.predict.predict`.

    Raises
    ------
    InputError
        If `steps` leaves no room after `base`, or as `lehr.anneal.family_search.search_family` does.
    """
    peak = base.peak if peak is None else peak
    low = float(base.lr(np.array([base.steps - 1]))[0])
    sizes = Sizes(
        params=params, batch_tokens=batch_tokens, weight_decay=weight_decay, params_total=params_total
    )

    def best(start: Schedule, top: float, rise: int | None) -> Schedule:
        floor = min(final, top)
        members = search_family(
            result, steps=steps, peak=top, final=floor, finals=(floor,), warmup=rise, shapes=("linear",),
            base=start, **sizes,
        )  # fmt: skip
        return members[0].schedule

    warmed = [best(base, share * peak, warmup) for share in PEAKS if share * peak > low]
    plans = {"rewarm": min(warmed, key=lambda plan: _end(result, plan, sizes, level)[0])} if warmed else {}
    if low > 0:
        plans["hold"] = Schedule((*base.segments, Segment(steps - base.steps, low, low)))
        plans["decay"] = best(base, low, 0)
    at = _decay_start(base)
    if at is not None:
        plans["before decay"] = best(base.first(at), base.peak, 0)
    if not result.get_law().degenerate:
        plans["free"] = optimize_schedule(
            result, steps=steps, peak=peak, final=final, warmup=warmup, base=base, level=level, **sizes
        ).schedule
    ends = {name: _end(result, plan, sizes, level) for name, plan in plans.items()}
    lowest = min(end[0] for end in ends.values())
    kept = {name: base.steps if name != "before decay" else at or 0 for name in plans}
    options = [
        Option(name, plans[name], steps - kept[name], *end, end[0] - lowest) for name, end in ends.items()
    ]
    return tuple(sorted(options, key=lambda option: option.loss))


@dataclass(frozen=True)
class Checkpoint:
    """One horizon at which a decayed model is wanted.

    Parameters
    ----------
    steps : updates of that model.
    wsd_s, wsd : predicted loss, low and high: of a run that decayed at every horizon so far and went on from
        there, and of a trunk that decays for this one alone.
    extra_updates : that the trunk with its branches costs in all, up to here, beyond the one run.
    """

    steps: int
    wsd_s: tuple[float, float, float]
    wsd: tuple[float, float, float]
    extra_updates: int


def compare_wsd_s(
    result: FitResult, *, horizons: Sequence[int], peak: float, decay: int, shape: str = "linear",
    final: float = 0.0, warmup: int | None = None, params: float | None = None,
    batch_tokens: float | None = None, weight_decay: float | None = None, params_total: float | None = None,
    level: float = 0.9,
) -> tuple[Checkpoint, ...]:  # fmt: skip
    """Compare WSD-S with WSD branches from one trunk where several horizons are wanted.

    Parameters
    ----------
    result : a fit.
    horizons : increasing, updates.
    peak, shape, final : of every decay.
    decay : updates of every decay.
    warmup : updates; by default the longest of the fitted runs, at most a tenth of the first horizon.
    params, batch_tokens, weight_decay, params_total, level : as in `lehr.predict.predict`.

    Raises
    ------
    InputError
        If the horizons do not increase by more than `decay`.
    """
    periods = np.diff([0, *horizons]).tolist()
    if not periods or min(periods) <= decay:
        raise bad(
            "horizons", f"must increase by more than the {decay} updates of a decay", list(horizons),
            "space them further apart",
        )  # fmt: skip
    warmup = min(result.domain.warmup, periods[0] // 10) if warmup is None else warmup
    shared: dict[str, Any] = {
        "peak": peak, "warmup": warmup, "decay": decay, "shape": shape, "final": final,
    }  # fmt: skip
    sizes = Sizes(
        params=params, batch_tokens=batch_tokens, weight_decay=weight_decay, params_total=params_total
    )
    one = wsd_s(periods=periods, **shared)
    return tuple(
        Checkpoint(
            int(horizon), _end(result, one.first(int(horizon)), sizes, level),
            _end(result, wsd(steps=int(horizon), **shared), sizes, level), i * decay,
        )
        for i, horizon in enumerate(horizons)
    )  # fmt: skip


class Sizes(TypedDict):
    """Of the planned run, as in `lehr.predict.predict`."""

    params: float | None
    batch_tokens: float | None
    weight_decay: float | None
    params_total: float | None


def _end(result: FitResult, schedule: Schedule, sizes: Sizes, level: float) -> tuple[float, float, float]:
    """Predicted final loss of `schedule` with the band of `lehr.predict.predict`, cut more finely."""
    end = np.array([float(schedule.steps)])
    conditions = planned(result, schedule, **sizes)
    loss = result.evaluate(conditions, end, tolerance=CLOSE)
    check_planned(result, conditions, float(loss[0]))
    half = float(half_width(result, conditions, end, loss, level)[0])
    return float(loss[0]), float(loss[0]) - half, float(loss[0]) + half


def _decay_start(base: Schedule) -> int | None:
    """Update before which the last decay of `base` begins, if it held its peak for half of its length."""
    high = np.flatnonzero(base.to_array() >= AT_PEAK * base.peak)
    return int(high[-1]) if base.steps - 1 > high[-1] >= base.steps / 2 else None
