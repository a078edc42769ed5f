"""The best free-form schedule under a fitted law: the LR at every knot, by gradient.

A schedule is a chain of straight lines between some forty knots (`lehr.anneal.knots`), below the peak, above the
final LR and, unless told otherwise, never rising after the warm-up. The gradient of the final loss
is taken by differences: a law sees fixed pieces, so one evaluation costs about a tenth of a millisecond, and
the search needs two thousand. Non-increasing LRs are products of factors in [0, 1] times the peak,
which turns the constraints into bounds and suits L-BFGS-B.

Chains of lines leave out schedules that jump. That is on purpose: the Multi-Power Law lets a fall relax at the
LR right after it, to the power -gamma, and so rewards jumps without end (`docs/optimize.md`). `stairs` allows
them, for multi-step schedules under the other laws. Degenerate laws, whose best schedule is a drop in the last
moment, are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from lehr.anneal.family_search import CLOSE, Bounds, Member, check_bounds, search_family
from lehr.anneal.knots import Knots, place_knots
from lehr.errors import InputError, bad
from lehr.fit.batch_check import check_planned
from lehr.fit.result import FitResult
from lehr.laws.law import Conditions
from lehr.predict import half_width, outside, planned
from lehr.schedule.schedule import Schedule

COUNT = 40  # knots
COARSER = 3  # the search begins with a third of them
DIFFERENCE = 1e-5  # of a search coordinate in [0, 1], for the gradient
LOWEST = 1e-3  # share of the peak below which the LR after the warm-up is not let go: no law has a value at 0
PRECISION = 1e-8  # relative change of the loss at which the search stops
STARTS = ("linear", "power(2)", "sqrt")  # shapes of the WSD schedules that the search begins at
RESOLUTION = 5e-4  # of the loss: two runs of one schedule differ by .03 to .07 %
SUDDEN = 0.02  # share of the run: an LR that falls faster is near to a drop in the last moment


@dataclass(frozen=True)
class Optimum:
    """The schedule with the lowest predicted final loss.

    Parameters
    ----------
    schedule : chain of straight lines after the warm-up.
    final_loss, final_loss_low, final_loss_high : predicted, nats per token, with its band.
    wsd : the best WSD schedule under the same bounds.
    gain : loss by which `schedule` is below it.
    fall_steps : updates from the last one at 90 % of the highest LR after the warm-up to the first one at 10 %
        or less; None if the LR does not fall that far.
    warnings : what the answer rests on beyond the data.
    """

    schedule: Schedule
    final_loss: float
    final_loss_low: float
    final_loss_high: float
    wsd: Member
    gain: float
    fall_steps: int | None
    warnings: tuple[str, ...]


def optimize_schedule(
    result: FitResult, *, steps: int, peak: float, final: float = 0.0, warmup: int | None = None,
    monotone: bool = True, stairs: bool = False, base: Schedule | None = None, knots: int = COUNT,
    params: float | None = None, batch_tokens: float | None = None, weight_decay: float | None = None,
    params_total: float | None = None, level: float = 0.9,
) -> Optimum:  # fmt: skip
    """Find the free-form schedule with the lowest predicted final loss.

    Parameters
    ----------
    result : a fit of a law that is not degenerate.
    steps : budget, updates, warm-up included; with a `base`, its updates count too.
    peak, final : highest and lowest LR allowed after the warm-up.
    warmup : updates; by default the longest of the fitted runs, at most a tenth of the updates still to do.
    monotone : whether the LR may never rise after the warm-up.
    stairs : hold the LR between knots, as multi-step schedules do, instead of straight lines.
    base : the schedule so far of a run that is to go on; the warm-up then starts from its last LR, and
        what it rises or falls to is searched like every other LR.
    knots : number of knots; a short run has fewer.
    params, batch_tokens, weight_decay, params_total : of the planned run, as in `lehr.predict.predict`.
    level : probability of the band.

    Raises
    ------
    InputError
        If the law is degenerate or does not hold at this batch, or the plan leaves nothing to search.
    """
    refuse_degenerate(result)
    plan = check_bounds(result, steps, peak, final, warmup, base)
    if knots < 3:
        raise bad("knots", "must be at least 3", knots, "a few dozen do")
    if not 0 < level < 1:
        raise bad("level", "must lie between 0 and 1", level, "use e.g. 0.9")
    if not final < peak:
        raise bad("final", f"must lie below the peak {peak:g}", final, "leave room between them")
    wsd = search_family(
        result, steps=steps, peak=peak, final=final, warmup=plan.warmup, shapes=STARTS, finals=(final,), base=base,
        params=params, batch_tokens=batch_tokens, weight_decay=weight_decay, params_total=params_total,
    )[0]  # fmt: skip
    conditions = planned(result, wsd.schedule, params, batch_tokens, weight_decay, params_total)
    grid, lr, converged = search(result, conditions, plan, knots, monotone, stairs)
    conditions = replace(conditions, schedule=grid.schedule(lr))
    end = np.array([float(steps)])
    loss = result.evaluate(conditions, end, tolerance=CLOSE)
    half = float(half_width(result, conditions, end, loss, level)[0])
    fall, gain = fall_steps(grid, lr), wsd.final_loss - float(loss[0])
    notes = (*outside(result, conditions, end), *check_planned(result, conditions, float(loss[0])))
    return Optimum(
        schedule=conditions.schedule,
        final_loss=float(loss[0]),
        final_loss_low=float(loss[0]) - half,
        final_loss_high=float(loss[0]) + half,
        wsd=wsd,
        gain=gain,
        fall_steps=fall,
        warnings=(*notes, *_warnings(result, gain / float(loss[0]), fall, steps, converged)),
    )


def refuse_degenerate(result: FitResult) -> None:
    """Refuse laws under which free-form optimisation is meaningless.

    Raises
    ------
    InputError
        With the reason.
    """
    law = result.get_law()
    if law.needs_anneal and law.degenerate:
        raise InputError(
            f"law {law.name} is degenerate ({law.degenerate}), so a free-form schedule under it means nothing: "
            "search the WSD family (--family wsd), or use a law that is not, such as weight_norm."
        )


def search(
    result: FitResult, conditions: Conditions, plan: Bounds, count: int, monotone: bool, stairs: bool = False
) -> tuple[Knots, np.ndarray, bool]:
    """Lower the final loss, first on few knots from two starts, then on `count`.

    Parameters
    ----------
    conditions : of the planned run; its schedule is one start, a straight line the other.

    Returns
    -------
    The knots, the LRs at them, shape (K,), and whether the search converged.
    """
    law, vector, end = result.get_law(), result.vector, np.array([float(plan.steps)])
    theta, amplitudes = vector[None, : len(law.nonlinear)], vector[len(law.nonlinear) :]
    span = plan.peak - plan.final

    def loss(grid: Knots, share: np.ndarray) -> float:
        pieces = grid.pieces(plan.final + span * share)
        return float(law.bind(replace(conditions, pieces=pieces), end).values(theta)[0, 0] @ amplitudes)

    def falling(grid: Knots, share: np.ndarray) -> tuple[float, np.ndarray, bool]:
        factors = np.clip(np.append(share[0], share[1:] / np.maximum(share[:-1], 1e-6)), 1e-3, 1.0)
        lowest, x, converged = _descend(lambda x: loss(grid, np.cumprod(x)), factors)
        return lowest, np.cumprod(x), converged

    coarse = place_knots(plan.steps, plan.warmup, max(count // COARSER, 3), plan.base, stairs)
    given = (conditions.schedule.lr(np.minimum(coarse.at, plan.steps - 1)) - plan.final) / span
    line = (plan.steps - coarse.at) / (plan.steps - coarse.at[0])
    share = min((falling(coarse, start) for start in (given, line)), key=lambda found: found[0])[1]
    grid = place_knots(plan.steps, plan.warmup, count, plan.base, stairs)
    _, share, converged = falling(grid, np.interp(grid.at, coarse.at, share))
    if not monotone:
        _, share, converged = _descend(lambda x: loss(grid, x), share)
    return grid, plan.final + span * share, converged


def _descend(loss: Callable[[np.ndarray], float], x: np.ndarray) -> tuple[float, np.ndarray, bool]:
    """Minimise over [0, 1]^K with slopes by differences: the lowest loss, where, and whether it converged."""
    from scipy.optimize import minimize  # slow to load

    def with_slope(x: np.ndarray) -> tuple[float, np.ndarray]:
        here, slope = loss(x), np.empty(len(x))
        for i in range(len(x)):
            moved = x.copy()
            moved[i] += DIFFERENCE if x[i] < 0.5 else -DIFFERENCE
            slope[i] = (loss(moved) - here) / (moved[i] - x[i])
        return here, slope

    bounds = [(LOWEST, 1.0), *[(0.0, 1.0)] * (len(x) - 1)]
    x[0] = max(x[0], LOWEST)
    found = minimize(
        with_slope, x, jac=True, method="L-BFGS-B", bounds=bounds,
        options={"ftol": PRECISION, "gtol": 1e-8, "maxcor": 30, "maxiter": 300},
    )  # fmt: skip
    return float(found.fun), found.x, bool(found.success)


def fall_steps(grid: Knots, lr: np.ndarray) -> int | None:
    """Updates from the last at 90 % of the highest LR to the first at 10 % after that; None if there is none."""
    k = np.arange(grid.at[0], grid.at[-1] + 1)
    values = (
        lr[np.searchsorted(grid.at[:-1], k, side="right") - 1] if grid.stairs else np.interp(k, grid.at, lr)
    )
    high = k[values >= 0.9 * values.max()][-1]
    low = k[(values <= 0.1 * (1 + 1e-6) * values.max()) & (k > high)]
    return int(low[0] - high) if low.size else None


def _warnings(result: FitResult, gain: float, fall: int | None, steps: int, converged: bool) -> list[str]:
    notes = []
    if gain < RESOLUTION:
        notes.append(
            f"it gains {max(gain, 0.0):.3%} of the loss over the best WSD schedule, less than two runs of one "
            "schedule differ by: the simpler schedule does as well."
        )
    if fall is not None and fall < SUDDEN * steps:
        notes.append(
            f"the LR falls within {fall} updates, {fall / steps:.2%} of the run: under these parameters law "
            f"{result.law} is near to degenerate, so do not trust the schedule."
        )
    if not converged:
        notes.append("the search stopped before it converged: try other bounds or fewer knots.")
    if result.status == "not_converged":
        notes.append("the fit did not converge: fit again with more starts or more runs.")
    return notes
