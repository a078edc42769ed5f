"""Predictions within some milliseconds, for controls that move: the curve is exact, its band approximate.

`lehr.predict` evaluates a law for every draw at every step. Here a few draws stand for all, at a few steps between
which the spread is interpolated. They are every so-manieth in the order of the final loss that the draws predict for a
plain schedule of the fitted length, so that their quantiles are near to those of all. The errors of the form and of
the reach are exact. The page says "about" of such a band, and asks for the exact one at rest.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from lehr.fit.batch_check import check_planned
from lehr.fit.result import FitResult
from lehr.laws.law import Conditions
from lehr.predict import Prediction, join_errors, outside
from lehr.schedule.families import wsd
from lehr.schedule.pieces import Pieces
from lehr.studio.state import Memory

DRAWS, KNOTS = 20, 6  # draws that stand for all, and steps at which they are evaluated
COARSE = 0.05  # tolerance of the pieces that draws see: what they miss is nearly the same for all draws


def quick_predict(
    result: FitResult, conditions: Conditions, coarse: Pieces, steps: np.ndarray, level: float, memory: Memory
) -> Prediction:
    """Predict the loss at `steps` (increasing, shape (n,)), with an approximate band; raises as `lehr.predict.predict`.

    `coarse` is the schedule of `conditions` cut to `COARSE`, `memory` keeps which draws stand for all.
    """
    loss = result.evaluate(conditions, steps)
    notes = check_planned(result, conditions, float(np.min(loss)))
    spread = np.zeros(len(steps))
    if result.draws:
        few = memory.recall((id(result), "draws"), lambda: (result, chosen_draws(result, conditions)))[1]
        # nearer to one another at first, where the curve bends
        knots = steps[np.unique((np.linspace(0, 1, KNOTS) ** 2 * (len(steps) - 1)).round().astype(int))]
        cut = replace(conditions, pieces=coarse)
        low, high = np.percentile(result.evaluate(cut, knots, few, COARSE), [16, 84], axis=0)
        spread = np.interp(steps, knots, 0.5 * (high - low))
    half = join_errors(result, conditions.schedule, loss, spread, level)
    told = (*outside(result, conditions, steps), *notes)
    return Prediction(steps, loss, loss - half, loss + half, level, told)


def chosen_draws(result: FitResult, conditions: Conditions) -> np.ndarray:
    """The draws that stand for all, shape (`DRAWS` at most, K + L); sizes as in `conditions`."""
    draws, total = np.array(result.draws), result.domain.steps
    plain = wsd(steps=total, peak=result.domain.peak_lr[1], warmup=min(result.domain.warmup, total // 10),
                decay=total // 5)  # fmt: skip
    like = Conditions(
        plain, conditions.params, conditions.batch_tokens, conditions.weight_decay, conditions.params_total,
        conditions.data,
    )  # fmt: skip
    ends = result.evaluate(like, np.array([float(total)]), draws)[:, 0]
    places = (np.arange(DRAWS) + 0.5) / DRAWS * len(draws)
    return draws[np.argsort(ends)[np.unique(places.astype(int))]]
