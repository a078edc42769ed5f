"""What a fit and its bootstrap draws say of a planned run, and of a candidate before it is run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.anneal.form_error import RUN_ERROR, FormError, early, form_error, join
from lehr.anneal.plans import Plan
from lehr.anneal.ratio import GRID_OF_DRAWS, Recommendation, recommend_ratio
from lehr.errors import InputError
from lehr.fit.projection import POINTS_A_RUN
from lehr.fit.result import FitResult
from lehr.predict import Sizes, planned
from lehr.schedule.families import wsd

POINT_ERROR = (
    5e-4  # of one of a run's points late in it, beside what it shares with the run; a share of the loss
)
DRAWS, FEWEST = 80, 20  # draws used at most; fewer than the latter tell no covariance
FAR = 3.0  # robust deviations at which a draw is held


@dataclass(frozen=True, eq=False)
class Question:
    """The planned run at each of r ratios, the last of them the recommended one.

    Parameters
    ----------
    now : the recommendation.
    ratios : shape (r,).
    losses : shape (r,), final losses by the fit.
    draws : shape (m, r), by its draws, less their mean.
    form : the law's own error at the ends of these runs.
    level : probability of the intervals.
    """

    now: Recommendation
    ratios: np.ndarray
    losses: np.ndarray
    draws: np.ndarray
    form: FormError
    level: float


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
    params, batch_tokens, weight_decay, params_total = sizes
    now = recommend_ratio(
        result, steps=steps, peak=peak, params=params, batch_tokens=batch_tokens, weight_decay=weight_decay,
        params_total=params_total, level=level,
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
        form=join([form_error(result, schedule, end) for schedule in schedules]),
        level=level,
    )


@dataclass(frozen=True, eq=False)
class Look:
    """What a candidate would show at y points, as shares of the loss.

    Parameters
    ----------
    draws : shape (m, y), by the draws, less their mean.
    form : the law's own error there.
    noise : shape (y, y), covariance of the noise.
    """

    draws: np.ndarray
    form: FormError
    noise: np.ndarray


def would_show(result: FitResult, plan: Plan, sizes: Sizes) -> Look:
    """Look at `plan`, eight points a run, through the draws of `result`."""
    columns, steps, form = [], [], []
    for part in plan.parts:
        first = min(max(part.first, result.domain.burn_in, 1), part.schedule.steps - 1)
        steps.append(np.linspace(first, part.schedule.steps, POINTS_A_RUN + 1)[1:].round())
        columns.append(result.evaluate(planned(result, part.schedule, *sizes), steps[-1], draws_of(result)))
        form.append(form_error(result, part.schedule, steps[-1]))
    part_of = np.repeat(np.arange(len(plan.parts)), POINTS_A_RUN)
    owner = np.array([0 if part.first else index for index, part in enumerate(plan.parts)])[part_of]
    more = early(result, np.concatenate(steps))
    noise = RUN_ERROR**2 * (owner[:, None] == owner) + POINT_ERROR**2 * np.eye(len(owner))
    return Look(centred(np.log(np.concatenate(columns, axis=1))), join(form), np.outer(more, more) * noise)


def draws_of(result: FitResult) -> np.ndarray:
    """The draws that are used, shape (m, K + L)."""
    return np.array(result.draws[:DRAWS])


def centred(values: np.ndarray) -> np.ndarray:
    """Columns less their mean, what lies far out pulled in to `FAR` robust deviations so that no draw decides alone."""
    low, middle, high = np.quantile(values, [0.16, 0.5, 0.84], axis=0)
    reach = FAR * 0.5 * (high - low)
    kept = np.clip(values, middle - reach, middle + reach)
    return kept - kept.mean(axis=0)
