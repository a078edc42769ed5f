"""What it costs in final loss to train under other LRs than a schedule's.

Frameworks cannot say every schedule in their own settings (`lehr.schedule.export`); a fitted law tells
whether that matters. The law sees both LRs as tables, so that its way of cutting schedules into pieces
(`lehr.schedule.pieces`) treats both alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, bad
from lehr.fit.batch_check import check_planned
from lehr.fit.result import FitResult
from lehr.predict import outside, planned
from lehr.schedule.schedule import Schedule, Table


@dataclass(frozen=True)
class DeviationCost:
    """Predicted cost of a deviation.

    Parameters
    ----------
    excess_loss : final loss under the other LRs less that under the schedule, nats per token.
    low, high : interval of it over the bootstrap draws; NaN without draws.
    final_loss : under the schedule.
    level : probability of the interval.
    warnings : what lies outside the fitted range.
    """

    excess_loss: float
    low: float
    high: float
    final_loss: float
    level: float
    warnings: tuple[str, ...]


def deviation_cost(
    result: FitResult, schedule: Schedule, lr: np.ndarray, *, params: float | None = None,
    batch_tokens: float | None = None, weight_decay: float | None = None, level: float = 0.9,
    params_total: float | None = None, data: str | None = None,
) -> DeviationCost:  # fmt: skip
    """Predict what training under `lr` costs against training under `schedule`.

    Parameters
    ----------
    result : a fit; with draws the cost has an interval.
    schedule : the schedule that was meant.
    lr : LR that update k really uses, shape (T,).
    params, batch_tokens : of the run, for laws with sizes.
    weight_decay : of the run, for laws that ask; by default that of the fitted runs.
    level : probability of the interval, in (0, 1).
    params_total : all parameters but embeddings, for a model of experts.
    data : data set of the run, for a fit to several.

    Raises
    ------
    InputError
        If `lr` has another length than the schedule, the law does not see how the LR falls, a size that it
        needs is missing, or it does not hold at this batch.
    """
    if len(lr) != schedule.steps:
        raise bad("lr", f"must have {schedule.steps} values, one an update", len(lr), "give all of them")
    if not 0 < level < 1:
        raise bad("level", "must lie between 0 and 1", level, "use e.g. 0.9")
    if not result.get_law().needs_anneal:
        raise InputError(
            f"law {result.law} has no annealing term, so it cannot tell what a deviation costs: "
            "fit one that has, such as effective_time."
        )
    at_end = np.array([float(schedule.steps)])
    vectors = np.array([result.vector, *result.draws])
    runs = [
        planned(result, Schedule((Table(values),)), params, batch_tokens, weight_decay, params_total, data)
        for values in (schedule.to_array(), lr)
    ]
    losses = [result.evaluate(run, at_end, vectors)[:, 0] for run in runs]
    final_loss = float(losses[0][0])
    excess = losses[1] - losses[0]
    low = high = float("nan")
    if result.draws:
        low, high = np.nanquantile(excess[1:], [(1 - level) / 2, (1 + level) / 2])
    return DeviationCost(
        excess_loss=float(excess[0]),
        low=float(low),
        high=float(high),
        final_loss=final_loss,
        level=level,
        warnings=(*outside(result, runs[0], at_end), *check_planned(result, runs[0], final_loss)),
    )
