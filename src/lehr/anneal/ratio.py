"""The best annealing ratio for a planned run: its interval, and what a wrong one costs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lehr import drawing
from lehr.errors import InputError, bad
from lehr.fit.batch_check import check_planned
from lehr.fit.result import FitResult
from lehr.laws.law import Conditions
from lehr.predict import half_width, outside, planned
from lehr.schedule.families import wsd
from lehr.schedule.schedule import Schedule

GRID = 48  # ratios tried for the fit itself
GRID_OF_DRAWS, DRAWS = 24, 60  # and for how many draws at most, whose optima give the interval
LOWEST = 0.01
APART = 0.15  # between ratios with and without the runs at a peak LR, from which the law is doubted
COSTS = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class Recommendation:
    """The annealing ratio to use.

    Parameters
    ----------
    ratio, ratio_low, ratio_high : decaying updates / all updates, and its interval: that of the bootstrap, widened
        by the ratios of fits without the runs at one peak LR.
    decay_steps : the same in updates.
    final_loss, final_loss_low, final_loss_high : predicted for that ratio, nats per token.
    costs : pairs of a ratio and the loss it costs above the best.
    schedule : the recommended schedule.
    warnings : what the recommendation rests on beyond the data.
    """

    ratio: float
    ratio_low: float
    ratio_high: float
    decay_steps: int
    final_loss: float
    final_loss_low: float
    final_loss_high: float
    costs: tuple[tuple[float, float], ...]
    schedule: Schedule
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<Recommendation: {self._in_words()}>"

    def _repr_html_(self) -> str:
        """What a ratio costs, with the best and its interval, as notebooks show it."""
        words, parts = self._in_words(), []
        if self.costs:
            ratios, costs = np.array(self.costs).T
            parts.append(
                drawing.chart(
                    [drawing.Curve(ratios, costs)], f"loss above the best over the annealing ratio: {words}",
                    span=(self.ratio_low, self.ratio_high), rule=self.ratio, unit="annealing ratio",
                    y_range=(0.0, float(costs.max())),
                )
            )  # fmt: skip
            cells = [[f"{ratio:.2f}" for ratio in ratios], [f"{cost:.4f}" for cost in costs]]
            parts.append(drawing.table((), [("ratio", *cells[0]), ("costs, nats", *cells[1])]))
        return drawing.card("Recommendation", words, *parts, drawing.notes(self.warnings))

    def _in_words(self) -> str:
        loss = f"{self.final_loss:.4f} ({self.final_loss_low:.4f} to {self.final_loss_high:.4f})"
        ratio = f"ratio {self.ratio:.2f} ({self.ratio_low:.2f} to {self.ratio_high:.2f})"
        return (
            f"decay the last {self.decay_steps} of {self.schedule.steps} updates, {ratio}; final loss {loss}"
        )


def recommend_ratio(
    result: FitResult, *, steps: int, peak: float, shape: str = "linear", final: float = 0.0,
    warmup: int | None = None, params: float | None = None, batch_tokens: float | None = None,
    weight_decay: float | None = None, params_total: float | None = None, level: float = 0.9,
) -> Recommendation:  # fmt: skip
    """Find the annealing ratio of a WSD run with the lowest predicted final loss.

    Parameters
    ----------
    result : a fit; with draws the interval is that of the best ratio over the draws, and over fits without a peak LR.
    steps, peak, shape, final : the planned run (`lehr.schedule.families.wsd`).
    warmup : updates; by default the longest of the fitted runs, at most a tenth of `steps`.
    params, batch_tokens, weight_decay, params_total : of the planned run, as in `lehr.predict.predict`.
    level : probability of the intervals.

    Raises
    ------
    InputError
        If the law has no annealing term, the run has no room for a decay, or the law does not hold at
        this batch.
    """
    law = result.get_law()
    if not law.needs_anneal:
        raise InputError(
            f"law {law.name} has no annealing term, so it cannot tell ratios apart: fit one that has, "
            "such as effective_time."
        )
    if not 0 < level < 1:
        raise bad("level", "must lie between 0 and 1", level, "use e.g. 0.9")
    warmup = min(result.domain.warmup, steps // 10) if warmup is None else warmup
    if steps - warmup < 2:
        raise bad("steps", "must leave room for a decay after the warm-up", steps, "plan a longer run")

    sizes = (params, batch_tokens, weight_decay, params_total)

    def plan(decay: int) -> Schedule:
        return wsd(steps=steps, peak=peak, warmup=warmup, decay=decay, shape=shape, final=final)

    def losses(decays: np.ndarray, vectors: np.ndarray) -> np.ndarray:
        at_end = np.array([float(steps)])
        columns = [
            result.evaluate(planned(result, plan(int(d)), *sizes), at_end, vectors)[:, 0] for d in decays
        ]
        return np.stack(columns, axis=1) if columns else np.empty((len(vectors), 0))

    room = steps - warmup
    decays = np.unique(np.linspace(min(max(1, LOWEST * steps), room), room, GRID).astype(int))
    told = result.vector[None, :]
    every = losses(decays, np.array([result.vector, *result.without_peak.values()]))
    best, *others = (float(np.clip(valley(decays, row), 1, room)) for row in every)
    best = float(np.round(best))  # an update
    low, high = _spread(result, decays, losses, [best, *others], level)
    decay = int(best)
    final_loss = float(losses(np.array([decay]), told)[0, 0])
    schedule = plan(decay)
    at_end = np.array([float(steps)])
    conditions = planned(result, schedule, *sizes)
    batch_notes = check_planned(result, conditions, final_loss)
    half = float(half_width(result, conditions, at_end, np.array([final_loss]), level)[0])
    shown = np.array([c for c in COSTS if 1 <= round(c * steps) <= room])
    excess = losses((shown * steps).round().astype(int), told)[0] - final_loss
    return Recommendation(
        ratio=decay / steps,
        ratio_low=float(min(low, decay)) / steps,
        ratio_high=float(max(high, decay)) / steps,
        decay_steps=decay,
        final_loss=final_loss,
        final_loss_low=final_loss - half,
        final_loss_high=final_loss + half,
        costs=tuple((float(r), float(max(e, 0.0))) for r, e in zip(shown, excess, strict=True)),
        schedule=schedule,
        warnings=(
            *_warnings(result, conditions, decay, decays, at_end),
            *_disagreement(
                decay / steps,
                {hidden: other / steps for hidden, other in zip(result.without_peak, others, strict=True)},
            ),
            *batch_notes,
        ),
    )


def _spread(
    result: FitResult, decays: np.ndarray, losses: Callable[[np.ndarray, np.ndarray], np.ndarray],
    best: Sequence[float], level: float,
) -> tuple[float, float]:  # fmt: skip
    """Lowest and highest best decay over the draws and over `best`, those of all runs and without a peak LR each."""
    low = high = best[0]
    if result.draws:
        coarse = decays[np.unique(np.linspace(0, len(decays) - 1, GRID_OF_DRAWS).astype(int))]
        drawn = losses(coarse, np.array(result.draws[:DRAWS]))
        optima = np.clip([valley(coarse, row) for row in drawn], 1, decays[-1])
        low, high = np.quantile(optima, [(1 - level) / 2, (1 + level) / 2])
    return min([low, *best[1:]]), max([high, *best[1:]])


def valley(decays: np.ndarray, values: np.ndarray) -> float:
    """Decay with the lowest value: a parabola through the lowest three grid points."""
    i = int(np.argmin(values))
    if i in (0, len(decays) - 1):
        return float(decays[i])
    x, y = decays[i - 1 : i + 2].astype(float), values[i - 1 : i + 2]
    slope1, slope2 = (y[1] - y[0]) / (x[1] - x[0]), (y[2] - y[1]) / (x[2] - x[1])
    bend = (slope2 - slope1) / (x[2] - x[0])
    if bend <= 0:
        return float(decays[i])
    return float(np.clip(0.5 * (x[0] + x[1]) - slope1 / (2 * bend), x[0], x[2]))


def _disagreement(ratio: float, others: Mapping[str, float]) -> tuple[str, ...]:
    """Warn where fits without the runs at one peak LR ask for other ratios: the law misses how the LR matters there."""
    if all(abs(other - ratio) <= APART for other in others.values()):
        return ()
    told = ", ".join(f"{other:.2f} without {hidden}" for hidden, other in others.items())
    return (
        f"all runs together ask for a ratio of {ratio:.2f}, but {told}: the law does not explain how the loss of these "
        "runs depends on the peak LR, as when one of the LRs is too high. Run several ratios at the planned peak LR, "
        "or fit the runs at that peak alone.",
    )


def _warnings(
    result: FitResult, conditions: Conditions, decay: int, decays: np.ndarray, at_end: np.ndarray
) -> tuple[str, ...]:
    notes = list(outside(result, conditions, at_end))
    if decay >= decays[-1]:
        notes.append("the best ratio is the longest possible: the law wants a decay right after the warm-up.")
    if decay <= decays[0]:
        notes.append("the best ratio is the shortest tried: these runs show no gain from a longer decay.")
    if result.get_law().degenerate:
        notes.append(f"law {result.law} is degenerate: {result.get_law().degenerate}.")
    if result.status == "not_converged":
        notes.append("the fit did not converge: fit again with more starts or more runs.")
    return tuple(notes)
