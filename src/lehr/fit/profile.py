"""Profile intervals: which values of a parameter the runs allow, and how much of that a prior says.

The objective C is minimised over all other parameters with one held at z. The interval holds the z at which

    2 (C(z) - C(best)) <= scale * chi^2(level; 1 degree of freedom)

C is no likelihood: errors along a curve are correlated, and the weights are not the inverse variances.
With its gradient's covariance V (from `lehr.fit.noise`; a prior in it counts with its own spread) and
its curvature H, 2 (C(true) - C(best)) of one parameter is distributed as chi^2 times

    scale = (H^-1 V H^-1)_kk / (H^-1)_kk

(Chandler and Bate, Biometrika 94, 2007; Varin, Reid and Firth, Statistica Sinica 21, 2011, section 2.3).
The noise is told from few independent errors: its part of V is made larger by Student's t.

The scale is that at z, with all parameters free again: the test of z supposes that z is true.

Unlike the bootstrap it shows where an interval is open: one that reaches a bound is not limited by
the runs. Amplitudes follow from the others; their intervals are the linear ones of the same H and V.
Coverage on simulated runs: `python -m benchmarks.calibration`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from lehr.errors import bad
from lehr.fit.fit import FitOptions, search
from lehr.fit.linearised import Linearised, linearise, reopen, without_priors
from lehr.fit.noise import Noise, estimate_noise
from lehr.fit.projection import Point, Problem, polish, prior_unit, search_box
from lehr.fit.result import FitResult
from lehr.laws.law import Parameter
from lehr.quantiles import normal_half, student_half
from lehr.runs.run import Run

CLOSE = 0.05  # a root of the profile is taken within this many standard deviations
MOST = 30  # points of a profile on one side
BETTER = 1e-3  # share by which a profile must beat the optimum to be taken for a better one
ROUNDS = 3  # times the whole is begun again from a better optimum that a profile came by


@dataclass(frozen=True)
class Interval:
    """Values from `low` to `high`; on an open side it ends at a bound of the law, not at what the runs say."""

    low: float
    high: float
    open_low: bool = False
    open_high: bool = False


@dataclass(frozen=True)
class Profile:
    """What is known of one parameter.

    Parameters
    ----------
    name : of the parameter.
    value : the fitted one.
    interval : by the runs and the priors together.
    data : by the runs alone, all priors left out; equal to `interval` where the law has none, and None for an
        amplitude that then comes out as 0.
    prior_share : share of its variance that the spread of the priors makes, not the noise of the runs;
        where both are weighed by what they are worth, the share of information from the priors.
    by_prior : whether the runs alone tell it no better than its prior: without the priors its interval is open,
        or wider than its prior's.
    """

    name: str
    value: float
    interval: Interval
    data: Interval | None
    prior_share: float
    by_prior: bool


def profile(result: FitResult, runs: Iterable[Run], level: float = 0.9) -> tuple[Profile, ...]:
    """Profile intervals of the nonlinear parameters of `result` and linear ones of its amplitudes.

    Parameters
    ----------
    result : a fit.
    runs : the runs it was made from.
    level : probability of the intervals, in (0, 1).

    Returns
    -------
    One profile a parameter, in the order of `result.parameters`; amplitudes of 0 are left out.

    Raises
    ------
    InputError
        If the level is out of range, or the runs are not those of the fit.
    """
    if not 0 < level < 1:
        raise bad("level", "must lie between 0 and 1", level, "use e.g. 0.9")
    fit = reopen(result, runs)
    told = _intervals(fit, level)
    alone = told
    if any(p.prior for p in fit.problem.law.nonlinear):
        bare = without_priors(fit.problem)
        fresh = search(bare, FitOptions(**result.options))[0]
        warm = polish(bare, fit.point.search)[0]
        best = min(fresh, warm, key=lambda point: point.cost)
        alone = _intervals(linearise(bare, best.search, fit.steps), level)
    shares = prior_shares(fit)
    by_prior = {p.name for p in fit.problem.law.nonlinear if _prior_alone(p, alone[p.name], level)}
    return tuple(
        Profile(name, value, told[name], alone.get(name), shares[name], name in by_prior)
        for name, value in result.parameters.items()
        if name in told
    )


def _prior_alone(parameter: Parameter, data: Interval, level: float) -> bool:
    """Whether `data`, the interval of `parameter` by the runs alone, tells no more than its prior does."""
    if parameter.prior is None:
        return False
    width = parameter.to_search(data.high) - parameter.to_search(data.low)
    known = 2 * normal_half(level) * parameter.prior[1]
    return bool(data.open_low or data.open_high or width >= known)


def _intervals(fit: Linearised, level: float) -> dict[str, Interval]:
    """Intervals of all parameters by the objective of `fit`, begun anew from any better optimum met."""
    limit = normal_half(level)
    for _ in range(ROUNDS):
        noise = inflated(estimate_noise(fit), fit, level)
        reach = limit * np.sqrt(np.diag(spread(fit, noise)))
        found: dict[str, Interval] = {}
        better = fit.point
        for k, parameter in enumerate(fit.problem.law.nonlinear):
            edges = [_edge(fit, noise, k, sign * reach[k], limit) for sign in (-1, 1)]
            better = min([better, *(edge.lowest for edge in edges)], key=lambda point: point.cost)
            low, high = (parameter.from_search(edge.at) for edge in edges)
            found[parameter.name] = Interval(low, high, edges[0].open, edges[1].open)
        if better.cost >= fit.point.cost * (1 - BETTER):
            break
        free = polish(fit.problem, better.search)[0]
        fit = linearise(fit.problem, free.search, fit.steps)
    count = len(fit.problem.law.nonlinear)
    live = fit.point.linear[fit.point.linear > 0]
    for name, value, half in zip(fit.names[count:], live, reach[count:], strict=True):
        factor = float(np.exp(min(half / value, 300.0)))
        found[name] = Interval(float(value / factor), float(value * factor))
    return found


def inflated(noise: Noise, fit: Linearised, level: float) -> Noise:
    """Return `noise` made larger by Student's t over the normal law at `level`, for how little it is told from."""
    more = student_half(level, noise.freedom(fit)) / normal_half(level)
    return replace(noise, white=noise.white * more, slow=noise.slow * more)


def spread(fit: Linearised, noise: Noise) -> np.ndarray:
    """Covariance of the fitted parameters, shape (p, p): the noise's, and the priors' by their own spread."""
    inverse = fit.inverse()
    gradient = noise.spread_of(fit.problem, fit.steps, fit.jacobian * fit.weight[:, None])
    gradient[np.diag_indices_from(gradient)] += prior_unit(fit.problem) * fit.precision
    return inverse @ gradient @ inverse


def prior_shares(fit: Linearised) -> dict[str, float]:
    """Share of each parameter's variance that comes from the spread of the priors, by name."""
    inverse = fit.inverse()
    priors = np.einsum("kj,j,kj->k", inverse, prior_unit(fit.problem) * fit.precision, inverse)
    whole = np.diag(spread(fit, estimate_noise(fit)))
    return dict(zip(fit.names, (priors / whole).tolist(), strict=True))


@dataclass(frozen=True)
class _Edge:
    """Where a profile leaves the interval: search coordinate, whether it is a bound, the lowest point met."""

    at: float
    open: bool
    lowest: Point


def _edge(fit: Linearised, noise: Noise, k: int, reach: float, limit: float) -> _Edge:
    """Follow the profile of parameter `k` from the optimum until it has risen by `limit` deviations.

    The root of the rise in units of its scale is nearly straight, so the false position finds it soon.
    """
    low, high = search_box(fit.problem.law)
    start, bound = fit.point.search[k], (high if reach > 0 else low)[k]
    point = lowest = fit.point
    inner, inner_rise, outer, outer_rise = start, 0.0, np.nan, np.nan
    at = start + reach
    for _ in range(MOST):
        at = float(np.clip(at, low[k], high[k]))
        point = _hold(fit.problem, point, k, at)
        lowest = min(lowest, point, key=lambda p: p.cost)
        here = linearise(fit.problem, point.search, fit.steps)
        scale = float(spread(here, noise)[k, k] / here.inverse()[k, k])
        gain = max(point.cost - fit.point.cost, 0.0)
        rise = float(np.sqrt(2 * gain / scale)) if scale > 0 else 0.0  # 0: nothing here tells the parameter
        if rise < limit and at == bound:
            return _Edge(at, True, lowest)
        if abs(rise - limit) < CLOSE:
            break
        if rise < limit:
            inner, inner_rise = at, rise
        else:
            outer, outer_rise = at, rise
        if np.isnan(outer):
            at += reach * float(np.clip((limit - rise) / limit * 1.2, 0.1, 2.0))
        else:
            share = float(np.clip((limit - inner_rise) / (outer_rise - inner_rise), 0.1, 0.9))
            at = inner + share * (outer - inner)
    return _Edge(at, False, lowest)


def _hold(problem: Problem, near: Point, k: int, at: float) -> Point:
    """Best point of `problem` with parameter `k` held at the search coordinate `at`, looked for from `near`."""
    fixed = np.full(len(near.search), np.nan)
    fixed[k] = at
    start = near.search.copy()
    start[k] = at
    return polish(replace(problem, fixed=fixed), start)[0]
