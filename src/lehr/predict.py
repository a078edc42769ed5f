"""Predict: a fitted law, a schedule and sizes give the whole loss curve with a band.

The band joins three errors in quadrature: the spread of the bootstrap draws at each step, which
grows by itself beyond the fitted horizon; the error on left-out runs, which tells how wrong the
law's form is (with few of them times Student's t); and, outside the fitted peak LRs, the error that
the form was measured to make there (`lehr.fit.reach`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr import drawing
from lehr.errors import InputError, bad
from lehr.fit.batch_check import check_planned
from lehr.fit.pooling import SAME_SPARSITY
from lehr.fit.reach import reach_error
from lehr.fit.result import FitResult, check_data
from lehr.fit.stack import Stack
from lehr.laws.law import Conditions
from lehr.quantiles import normal_half, student_half
from lehr.schedule.schedule import Schedule

NEAR = 1.05  # times the fitted horizon: the last log of a run often comes a little before its end
FAR = 10.0  # times the fitted horizon beyond which a prediction is marked as a guess

# params, batch_tokens, weight_decay and params_total of a planned run, in the order that `planned` takes them
Sizes = tuple[float | None, float | None, float | None, float | None]


@dataclass(frozen=True, eq=False)
class Prediction:
    """A predicted curve.

    Parameters
    ----------
    steps : shape (n,), updates done.
    loss, low, high : shape (n,), nats per token; low and high bound the band.
    level : probability of the band.
    warnings : what lies outside the fitted range.
    """

    steps: np.ndarray
    loss: np.ndarray
    low: np.ndarray
    high: np.ndarray
    level: float
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Prediction of {self._in_words()}>"

    def _repr_html_(self) -> str:
        """The curve with its band as notebooks show it."""
        words = self._in_words()
        if not self.steps.size:
            return drawing.card("Prediction", words, drawing.notes(self.warnings))
        late = self.steps >= 0.1 * self.steps[-1]  # the first losses would dwarf the rest
        bounds = float(np.min(self.low[late])), float(np.max(self.high[late]))
        known = bounds if np.all(np.isfinite(bounds)) else None
        curve = drawing.Curve(self.steps, self.loss, self.low, self.high)
        picture = drawing.chart([curve], f"predicted curve with its band: {words}", y_range=known)
        return drawing.card("Prediction", words, picture, drawing.notes(self.warnings))

    def _in_words(self) -> str:
        if not self.steps.size:
            return "no step"
        band = f"({self.low[-1]:.4f} to {self.high[-1]:.4f}, {self.level:.0%} band)"
        return f"loss {self.loss[-1]:.4f} {band} at step {self.steps[-1]:.0f}, {len(self.steps)} steps"


def predict(
    result: FitResult, schedule: Schedule, steps: np.ndarray | None = None, *, params: float | None = None,
    batch_tokens: float | None = None, weight_decay: float | None = None, level: float = 0.9,
    params_total: float | None = None, data: str | None = None,
) -> Prediction:  # fmt: skip
    """Predict the loss at `steps` of a run under `schedule`.

    Parameters
    ----------
    result : a fit; with draws (`lehr.fit.uncertainty.bootstrap`) the band is complete.
    schedule : LR of every update.
    steps : whole numbers in 1 .. T, shape (n,); by default 200 from the warm-up's end to T.
    params : of the run, for laws with sizes.
    batch_tokens : of the run, by default that of the fitted runs; for laws that count tokens, needed. See
        `lehr.fit.batch_check` for where another batch is refused.
    weight_decay : of the run, for laws that ask; by default that of the fitted runs.
    level : probability of the band, in (0, 1).
    params_total : all parameters of a model of experts without embeddings; None for a dense one.
    data : data set and split, for a fit to several.

    Raises
    ------
    InputError
        If a step lies outside the schedule, a size the law needs is missing, or the law does not hold at
        this batch.
    """
    check_level(level)
    if steps is None:
        first = max(1, min(result.domain.warmup, schedule.steps // 2))
        steps = np.unique(np.linspace(first, schedule.steps, 200).round())
    steps = np.asarray(steps, dtype=float)
    conditions = planned(result, schedule, params, batch_tokens, weight_decay, params_total, data)
    loss = result.evaluate(conditions, steps)
    batch_notes = check_planned(result, conditions, float(np.min(loss, initial=np.inf)))
    half = half_width(result, conditions, steps, loss, level)
    notes = (*outside(result, conditions, steps), *batch_notes)
    return Prediction(steps, loss, loss - half, loss + half, level, notes)


def predict_stack(
    stack: Stack, schedule: Schedule, steps: np.ndarray | None = None, *, params: float | None = None,
    batch_tokens: float | None = None, weight_decay: float | None = None, level: float = 0.9,
    params_total: float | None = None, data: str | None = None,
) -> Prediction:  # fmt: skip
    """Predict the loss at `steps` by a weighted mean of laws; arguments and errors as of `predict`.

    The band is that of the mixture of its members, taken as normal: the weighted mean of their
    squared half widths and, where they disagree, of their squared distances from the mean.
    """
    found = [
        predict(
            member, schedule, steps, params=params, batch_tokens=batch_tokens, weight_decay=weight_decay,
            level=level, params_total=params_total, data=data,
        )
        for member in (stack.members[law] for law in stack.weights)
    ]  # fmt: skip
    weights = np.array(list(stack.weights.values()))
    curves = np.array([one.loss for one in found])
    loss = weights @ curves
    own = weights @ np.array([one.high - one.loss for one in found]) ** 2
    apart = weights @ (curves - loss) ** 2
    half = np.sqrt(own + normal_half(level) ** 2 * apart)
    warnings = dict.fromkeys(warning for one in found for warning in one.warnings)
    return Prediction(found[0].steps, loss, loss - half, loss + half, level, tuple(warnings))


def planned(
    result: FitResult, schedule: Schedule, params: float | None, batch_tokens: float | None,
    weight_decay: float | None, params_total: float | None = None, data: str | None = None,
) -> Conditions:  # fmt: skip
    """Conditions of a planned run; a weight decay that is not given is that of the fitted runs.

    Raises
    ------
    InputError
        If the law asks for the weight decay and the fitted runs had several, or `data` is not the fit's.
    """
    check_data(result, data)
    if weight_decay is None and result.domain.weight_decay is not None:
        low, high = result.domain.weight_decay
        if low != high and result.get_law().uses_weight_decay:
            raise InputError(
                f"the fitted runs had weight decays from {low:g} to {high:g}: give that of the planned run "
                "(--weight-decay)."
            )
        weight_decay = low
    return Conditions(schedule, params, batch_tokens, weight_decay, params_total, data)


def check_level(level: float) -> float:
    """Return a probability of a band if it is one; raises InputError if not."""
    if not 0 < level < 1:
        raise bad("level", "must lie between 0 and 1", level, "use e.g. 0.9")
    return level


def half_width(
    result: FitResult, conditions: Conditions, steps: np.ndarray, loss: np.ndarray, level: float
) -> np.ndarray:
    """Half the width of the band at each step, nats; shape (n,)."""
    spread = np.zeros(len(steps))
    if result.draws:
        curves = result.evaluate(conditions, steps, np.array(result.draws))
        # half the distance of the quantiles that hold 68 %: a standard deviation that outliers leave alone
        spread = 0.5 * np.diff(np.nanquantile(curves, [0.16, 0.84], axis=0), axis=0)[0]
    return join_errors(result, conditions.schedule, loss, spread, level)


def join_errors(
    result: FitResult, schedule: Schedule, loss: np.ndarray, spread: np.ndarray, level: float
) -> np.ndarray:
    """Half the width of the band from the `spread` of the draws (a standard deviation) at each step; shape (n,)."""
    held = np.array(result.spread)
    if held.size:
        form = student_half(level, held.size) * np.sqrt(np.mean(held**2)) * loss
    else:
        typical = max(r["mean_absolute"] for r in result.residuals.values())
        form = normal_half(level) * typical * loss
    reach = reach_error(result.law, result.domain, schedule.peak) * loss
    return np.hypot(normal_half(level) * np.hypot(spread, reach), form)


def outside(result: FitResult, conditions: Conditions, steps: np.ndarray) -> tuple[str, ...]:
    """Say in which respects a prediction leaves what was fitted."""
    notes, domain, params = [], result.domain, conditions.params
    horizon = float(np.max(steps, initial=0.0))
    if horizon > FAR * domain.steps:
        notes.append(
            f"step {horizon:g} is more than {FAR:g} times the longest fitted run ({domain.steps} updates): "
            "a guess, whatever its band; fit a longer run."
        )
    elif horizon > NEAR * domain.steps:
        notes.append(f"step {horizon:g} lies beyond the longest fitted run ({domain.steps} updates).")
    low, high = domain.peak_lr
    if not low * (1 - 1e-9) <= conditions.schedule.peak <= high * (1 + 1e-9):
        notes.append(f"peak LR {conditions.schedule.peak:g} lies outside the fitted {low:g} .. {high:g}.")
    if params is not None and domain.params and not domain.params[0] <= params <= domain.params[1]:
        notes.append(
            f"{params:g} parameters lie outside the fitted {domain.params[0]:g} .. {domain.params[1]:g}."
        )
    if not result.draws:
        notes.append("no bootstrap was run: the band holds the error of the form only.")
    return (*notes, *_outside_sparsity(result, conditions))


def _outside_sparsity(result: FitResult, conditions: Conditions) -> tuple[str, ...]:
    """Say if a model has another share of active parameters than those fitted."""
    span, params = result.domain.sparsity, conditions.params
    if span is None or params is None or not result.get_law().needs_sizes:
        return ()
    here = (conditions.params_total or params) / params
    if span[0] * (1 - SAME_SPARSITY) <= here <= span[1] * (1 + SAME_SPARSITY):
        return ()
    return (
        f"a model of {here:.3g} times as many parameters as active ones (--params-total) lies outside the fitted "
        f"{span[0]:.3g} .. {span[1]:.3g}.",
    )
