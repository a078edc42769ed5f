"""Which run to add: the one that would most narrow the best annealing ratio and the final loss of a planned run.

Each bootstrap draw of a fit is a law that the runs allow. What a draw says of the planned run and what it says a
candidate would show are correlated over the draws; so are the errors of the law's form at both
(`lehr.anneal.form_error`). By that a look at the candidate
narrows the loss of the planned run at every ratio, l, by the linear-Gaussian update

    cov after = S_ll - S_ly (S_yy + R)^-1 S_yl

with y eight losses along each run of the candidate. R, their noise, holds a part of its own for each point and
one that a run shares with those that branch from the same trunk: two runs of one schedule differ, early
several times more than late. (Lindley, Ann. Math. Stat. 27, 1956; Chaloner and Verdinelli, Statistical
Science 10, 1995.) The ratio's interval is that of the minima of curves drawn from the covariance.

The regret is the expected loss from taking the ratio that looks best in place of the one that is: now, and
after the candidate was seen (expected value of sample information: Raiffa and Schlaifer, 1961).
Measured on real runs: `python -m benchmarks.suggest`; what it is worth is in `docs/trusting-a-fit.md`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from lehr.anneal.form_error import RUN_ERROR
from lehr.anneal.outlook import Look, Question, ask, would_show
from lehr.anneal.plans import Plan, make_plans
from lehr.anneal.ratio import Recommendation, valley
from lehr.fit.result import FitResult
from lehr.quantiles import normal_half

CURVES = 400  # drawn to see where their minima lie


@dataclass(frozen=True)
class Suggestion:
    """A candidate and what it is expected to do.

    Parameters
    ----------
    plan : the runs.
    gain : share of the variance it takes away, mean of those of the ratio and of the final loss.
    ratio_low, ratio_high : expected interval of the best ratio once it is seen, about the present one.
    final_loss_low, final_loss_high : that of the final loss, nats per token.
    regret : expected loss from a wrong ratio once it is seen, nats per token.
    """

    plan: Plan
    gain: float
    ratio_low: float
    ratio_high: float
    final_loss_low: float
    final_loss_high: float
    regret: float

    @property
    def gain_per_cost(self) -> float:
        """Gain for every 1000 updates."""
        return 1000 * self.gain / max(self.plan.cost, 1)


@dataclass(frozen=True)
class Suggestions:
    """Candidates by what they tell.

    Parameters
    ----------
    now : the recommendation without them.
    before : what is known without them, in the terms of the candidates (a plan of no runs).
    budget : updates allowed.
    best : by gain, the largest first.
    per_cost : by gain per update.
    """

    now: Recommendation
    before: Suggestion
    budget: int
    best: tuple[Suggestion, ...]
    per_cost: tuple[Suggestion, ...]


def suggest_runs(
    result: FitResult, *, steps: int, peak: float, budget: int | None = None, plans: Sequence[Plan] | None = None,
    top: int = 5, params: float | None = None, batch_tokens: float | None = None,
    weight_decay: float | None = None, params_total: float | None = None, level: float = 0.9,
    progress: Callable[[], None] | None = None,
) -> Suggestions:  # fmt: skip
    """Rank runs to add by how far they narrow the best ratio and the final loss of a planned WSD run.

    Parameters
    ----------
    result : a fit with at least 20 bootstrap draws.
    steps, peak : the planned run.
    budget : updates that the added runs may cost; by default those of the longest fitted run.
    plans : candidates; by default those of `lehr.anneal.plans.make_plans`.
    top : length of the lists.
    params, batch_tokens, weight_decay, params_total : of the planned run and the candidates, as in
        `lehr.predict.predict`.
    level : probability of the intervals.
    progress : called after each candidate.

    Raises
    ------
    InputError
        If the fit has too few draws, its law no annealing term, or the budget no room for a run.
    """
    sizes = (params, batch_tokens, weight_decay, params_total)
    question = ask(result, steps, peak, sizes, level)
    budget = result.domain.steps if budget is None else budget
    if plans is None:
        plans = make_plans(result.domain, steps, peak, budget)
    found = []
    for plan in plans:
        found.append(weigh(question, plan, would_show(result, plan, sizes)))
        if progress:
            progress()
    return Suggestions(
        now=question.now,
        before=weigh(question, Plan(()), None),
        budget=budget,
        best=tuple(sorted(found, key=lambda s: -s.gain)[:top]),
        per_cost=tuple(sorted(found, key=lambda s: -s.gain_per_cost)[:top]),
    )


def weigh(question: Question, plan: Plan, look: Look | None) -> Suggestion:
    """Say how far `plan` would narrow the answers to `question`; without a look at it, what is known now."""
    q, scale = question, question.losses[-1]
    before = q.draws.T @ q.draws / len(q.draws) + scale**2 * q.form.covariance(q.form)
    after = before
    if look is not None:
        across = q.draws.T @ look.draws / len(look.draws) + scale * q.form.covariance(look.form)
        known = look.draws.T @ look.draws / len(look.draws) + look.form.covariance(look.form) + look.noise
        after = before - across @ np.linalg.solve(known, across.T)
    was, (var, low, high, regret) = _minima(q, before, before)[0], _minima(q, before, after)
    share = np.clip([var / was if was > 0 else 1.0, after[-1, -1] / before[-1, -1]], 0.0, 1.0)
    half = normal_half(q.level) * np.sqrt(max(after[-1, -1], 0.0) + (RUN_ERROR * scale) ** 2)
    return Suggestion(
        plan, float(1 - share.mean()), low, high, float(scale - half), float(scale + half), regret
    )


def _minima(question: Question, before: np.ndarray, after: np.ndarray) -> tuple[float, float, float, float]:
    """Variance and interval of the best ratio under the covariance `after` of the curve, and the regret.

    The regret allows for what will be seen: the expected curve moves by the covariance that goes away.
    """
    rng = np.random.default_rng(0)
    grid = question.ratios[:-1]
    curve = question.losses[:-1]
    left = rng.standard_normal((CURVES, len(grid))) @ _root(after[:-1, :-1]).T
    moved = rng.standard_normal((CURVES, len(grid))) @ _root((before - after)[:-1, :-1]).T
    best = np.array([valley(grid, row) for row in curve + left])
    off = float(question.now.ratio - np.median(best))
    low, high = np.quantile(best, [0.5 - question.level / 2, 0.5 + question.level / 2]) + off
    truth = curve + moved + left
    taken = np.argmin(curve + moved, axis=1)
    regret = np.mean(truth[np.arange(CURVES), taken] - truth.min(axis=1))
    bounds = np.clip([min(low, question.now.ratio), max(high, question.now.ratio)], 0.0, grid[-1])
    return float(best.var()), float(bounds[0]), float(bounds[1]), float(regret)


def _root(covariance: np.ndarray) -> np.ndarray:
    """A square root of a covariance, shape (r, r), that rounding may have left with small negative eigenvalues."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return vectors * np.sqrt(np.maximum(values, 0.0))
