"""Which run to add: the one that would most narrow the best annealing ratio and the final loss of a planned run.

Each bootstrap draw of a fit is a law that the runs allow. What a draw says of the planned run and what it says a
candidate would show are correlated over the draws; so are the errors of the law's form at both
(`lehr.anneal.form_error`), as large as its errors on left-out runs. By that a look at the candidate
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

from lehr.anneal.form_error import features, likeness
from lehr.anneal.plans import Plan, make_plans
from lehr.anneal.ratio import GRID_OF_DRAWS, Recommendation, recommend_ratio, valley
from lehr.errors import InputError
from lehr.fit.projection import POINTS_A_RUN
from lehr.fit.result import FitResult
from lehr.predict import planned
from lehr.schedule.families import wsd

POINT_ERROR, RUN_ERROR = 5e-4, 5e-4  # late in a run: of a point, and common to the run; shares of the loss
EARLY = 0.1  # share of the longest fitted run before which runs of one schedule differ at least twice as much
DRAWS, FEWEST = 80, 20  # draws used at most; fewer than the latter tell no covariance
CURVES = 400  # drawn to see where their minima lie
FAR = 3.0  # robust deviations at which a draw is held

Sizes = tuple[float | None, float | None, float | None]  # params, batch_tokens, weight_decay


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
        return 1000 * self.gain / self.plan.cost


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


@dataclass(frozen=True, eq=False)
class Question:
    """The planned run at each of r ratios, the last of them the recommended one.

    Parameters
    ----------
    now : the recommendation.
    ratios : shape (r,).
    losses : shape (r,), final losses by the fit.
    draws : shape (m, r), by its draws, less their mean.
    places : shape (r, 4), features of the ends of these runs.
    form : shape (r,), standard deviation of the law's own error there, a share of the loss.
    level : probability of the intervals.
    """

    now: Recommendation
    ratios: np.ndarray
    losses: np.ndarray
    draws: np.ndarray
    places: np.ndarray
    form: np.ndarray
    level: float


def suggest_runs(
    result: FitResult, *, steps: int, peak: float, budget: int | None = None, plans: Sequence[Plan] | None = None,
    top: int = 5, params: float | None = None, batch_tokens: float | None = None,
    weight_decay: float | None = None, level: float = 0.9, progress: Callable[[], None] | None = None,
) -> Suggestions:  # fmt: skip
    """Rank runs to add by how far they narrow the best ratio and the final loss of a planned WSD run.

    Parameters
    ----------
    result : a fit with at least 20 bootstrap draws.
    steps, peak : the planned run.
    budget : updates that the added runs may cost; by default those of the longest fitted run.
    plans : candidates; by default those of `lehr.anneal.plans.make_plans`.
    top : length of the lists.
    params, batch_tokens, weight_decay : of the planned run and the candidates, as in `lehr.predict.predict`.
    level : probability of the intervals.
    progress : called after each candidate.

    Raises
    ------
    InputError
        If the fit has too few draws, its law no annealing term, or the budget no room for a run.
    """
    sizes = (params, batch_tokens, weight_decay)
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


def ask(result: FitResult, steps: int, peak: float, sizes: Sizes, level: float = 0.9) -> Question:
    """Put the question of the best ratio to every draw of `result`.

    Raises
    ------
    InputError
        If the fit has too few draws, or its law no annealing term.
    """
    if len(result.draws) < FEWEST:
        raise InputError(
            f"the fit has {len(result.draws)} bootstrap draws, too few to tell what a run would add: fit with "
            f"--draws {FEWEST} or more (100 by default)."
        )
    params, batch_tokens, weight_decay = sizes
    now = recommend_ratio(
        result, steps=steps, peak=peak, params=params, batch_tokens=batch_tokens, weight_decay=weight_decay,
        level=level,
    )  # fmt: skip
    warmup = min(result.domain.warmup, steps // 10)
    decays = np.unique(np.linspace(max(1, steps // 100), steps - warmup, GRID_OF_DRAWS).astype(int))
    schedules = [wsd(steps=steps, peak=peak, warmup=warmup, decay=int(d)) for d in (*decays, now.decay_steps)]
    end = np.array([float(steps)])
    vectors = np.vstack([result.vector, draws_of(result)])
    table = np.column_stack([
        result.evaluate(planned(result, schedule, *sizes), end, vectors)[:, 0] for schedule in schedules
    ])  # fmt: skip
    return Question(
        now=now,
        ratios=np.array([*decays, now.decay_steps]) / steps,
        losses=table[0],
        draws=centred(table[1:]),
        places=np.concatenate([features(schedule, end) for schedule in schedules]),
        form=form_error(result) * early(result, np.full(len(schedules), float(steps))),
        level=level,
    )


@dataclass(frozen=True, eq=False)
class Look:
    """What a candidate would show at y points, as shares of the loss.

    Parameters
    ----------
    draws : shape (m, y), by the draws, less their mean.
    places : shape (y, 4), features of the points.
    form : shape (y,), standard deviation of the law's own error.
    noise : shape (y, y), covariance of the noise.
    """

    draws: np.ndarray
    places: np.ndarray
    form: np.ndarray
    noise: np.ndarray


def would_show(result: FitResult, plan: Plan, sizes: Sizes) -> Look:
    """Look at `plan`, eight points a run, through the draws of `result`."""
    columns, places, steps = [], [], []
    for part in plan.parts:
        first = max(part.first, result.domain.burn_in, 1)
        steps.append(np.linspace(first, part.schedule.steps, POINTS_A_RUN + 1)[1:].round())
        columns.append(result.evaluate(planned(result, part.schedule, *sizes), steps[-1], draws_of(result)))
        places.append(features(part.schedule, steps[-1]))
    part_of = np.repeat(np.arange(len(plan.parts)), POINTS_A_RUN)
    owner = np.array([0 if part.first else index for index, part in enumerate(plan.parts)])[part_of]
    more = early(result, np.concatenate(steps))
    noise = RUN_ERROR**2 * (owner[:, None] == owner) + POINT_ERROR**2 * np.eye(len(owner))
    return Look(
        centred(np.log(np.concatenate(columns, axis=1))), np.concatenate(places), form_error(result) * more,
        np.outer(more, more) * noise,
    )  # fmt: skip


def weigh(question: Question, plan: Plan, look: Look | None) -> Suggestion:
    """Say how far `plan` would narrow the answers to `question`; without a look at it, what is known now."""
    from scipy.stats import norm  # slow to load

    q, scale = question, question.losses[-1]
    own = np.outer(q.form, q.form) * likeness(q.places, q.places)
    before = q.draws.T @ q.draws / len(q.draws) + scale**2 * own
    after = before
    if look is not None:
        alike = np.outer(q.form, look.form) * likeness(q.places, look.places)
        across = q.draws.T @ look.draws / len(look.draws) + scale * alike
        own = np.outer(look.form, look.form) * likeness(look.places, look.places)
        known = look.draws.T @ look.draws / len(look.draws) + own + look.noise
        after = before - across @ np.linalg.solve(known, across.T)
    was, (var, low, high, regret) = _minima(q, before, before)[0], _minima(q, before, after)
    share = np.clip([var / was if was > 0 else 1.0, after[-1, -1] / before[-1, -1]], 0.0, 1.0)
    half = norm.ppf(0.5 + q.level / 2) * np.sqrt(max(after[-1, -1], 0.0) + (RUN_ERROR * scale) ** 2)
    return Suggestion(
        plan, float(1 - share.mean()), low, high, float(scale - half), float(scale + half), regret
    )


def early(result: FitResult, steps: np.ndarray) -> np.ndarray:
    """By what factor errors after `steps` updates are larger than late in a run, shape (n,)."""
    return 1 + EARLY * result.domain.steps / steps


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


def form_error(result: FitResult) -> float:
    """Root mean square error on left-out runs, a share of the loss; at least what runs of one schedule differ by."""
    held_out = float(np.sqrt(np.mean(np.square(result.spread)))) if result.spread else 0.0
    return max(held_out, RUN_ERROR)


def draws_of(result: FitResult) -> np.ndarray:
    """The draws that are used, shape (m, K + L)."""
    return np.array(result.draws[:DRAWS])


def centred(values: np.ndarray) -> np.ndarray:
    """Columns less their mean, what lies far out pulled in to `FAR` robust deviations so that no draw decides alone."""
    low, middle, high = np.quantile(values, [0.16, 0.5, 0.84], axis=0)
    reach = FAR * 0.5 * (high - low)
    kept = np.clip(values, middle - reach, middle + reach)
    return kept - kept.mean(axis=0)
