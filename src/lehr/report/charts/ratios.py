"""The annealing ratio: the valley of the final loss over it, and how its optimum moves with LR and length."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lehr.anneal.ratio import Recommendation
from lehr.anneal.ratio_law import RatioLaw
from lehr.anneal.valley import Valley
from lehr.fit.result import FitResult
from lehr.predict import predict
from lehr.report.chart import Axis, Chart, Panel, Series, words_of
from lehr.schedule.families import wsd

GRID = 40  # ratios of a band, and places along an axis
LEAST, MOST = 0.02, 0.95
BEYOND = 1.5  # factor by which a law is drawn beyond what was measured


class Band(NamedTuple):
    """Predicted final loss over annealing ratios; all of shape (n,), losses in nats per token."""

    ratios: np.ndarray
    loss: np.ndarray
    low: np.ndarray
    high: np.ndarray


def ratio_band(
    result: FitResult, *, steps: int, peak: float, warmup: int, shape: str = "linear", final: float = 0.0,
    params: float | None = None, batch_tokens: float | None = None, weight_decay: float | None = None,
    params_total: float | None = None, level: float = 0.9, grid: int = GRID,
) -> Band:  # fmt: skip
    """Predict the final loss of a WSD run over `grid` annealing ratios; other arguments as of `recommend_ratio`."""
    ratios = np.linspace(LEAST, min(MOST, 1 - warmup / steps), grid)
    at = np.array([float(steps)])
    ends = [
        predict(result, wsd(steps=steps, peak=peak, warmup=warmup, decay=max(1, int(r * steps)), shape=shape,
                            final=final), at, params=params, batch_tokens=batch_tokens, weight_decay=weight_decay,
                params_total=params_total, level=level)
        for r in ratios
    ]  # fmt: skip
    loss, low, high = (np.array([getattr(end, part)[0] for end in ends]) for part in ("loss", "low", "high"))
    return Band(ratios, loss, low, high)


def ratio_valley(
    found: Recommendation, band: Band, measured: Sequence[tuple[float, float]] = (), title: str = ""
) -> Chart:
    """Predicted final loss against the annealing ratio, measured runs, the best ratio and its interval.

    Parameters
    ----------
    measured : pairs of ratio and final loss of real runs.
    """
    series = [
        Series(
            "interval of the best ratio",
            "span",
            "predicted",
            1,
            np.array([found.ratio_low, found.ratio_high]),
        ),
        Series(f"recommended, {found.ratio:.2f}", "rule", "predicted", 1, np.array([found.ratio])),
        Series("predicted", "band", "predicted", 0, band.ratios, low=band.low, high=band.high),
        Series("predicted", "line", "predicted", 0, band.ratios, band.loss),
    ]
    alt = (
        f"Predicted final loss against the annealing ratio: lowest, {found.final_loss:.4f} nats, at {found.ratio:.2f} "
        f"(interval {found.ratio_low:.2f} to {found.ratio_high:.2f})."
    )
    if measured:
        ratios, losses = np.array(sorted(measured)).T
        series.append(Series("measured", "dots", "measured", 2, ratios, losses))
        best = int(np.argmin(losses))
        alt += f" Of {len(losses)} runs the best, at {ratios[best]:.2f}, ended at {losses[best]:.4f}."
    panel = Panel(Axis("annealing ratio", "share of updates that decay the LR"), Axis("final loss", "nats per token"),
                  tuple(series))  # fmt: skip
    return Chart("ratio_valley", title, alt, (panel,))


def ratio_law(law: RatioLaw, valleys: Sequence[Valley], title: str = "") -> Chart:
    """Best annealing ratio against the peak LR, and against the updates; measured optima and the fitted law.

    Each measured value of the other quantity has a line of its own, and its optima have its colour. Optima at an edge
    of their ratios are bounds: they are drawn, but the law was not fitted to them.
    """
    peaks, steps = sorted({v.peak for v in valleys}), sorted({v.steps for v in valleys})
    by_lr, by_steps = [], []
    for i, length in enumerate(steps):
        grid = np.geomspace(peaks[0] / BEYOND, peaks[-1] * BEYOND, GRID)
        mine = [v for v in valleys if v.steps == length]
        by_lr += _lines(f"{length} updates", i, grid, [law.ratio(x, length) for x in grid], mine, "peak")
    for i, peak in enumerate(peaks, len(steps)):  # a colour stands for one thing in both panels
        grid = np.geomspace(steps[0] / BEYOND, steps[-1] * BEYOND, GRID)
        mine = [v for v in valleys if v.peak == peak]
        by_steps += _lines(f"peak LR {peak:.3g}", i, grid, [law.ratio(peak, x) for x in grid], mine, "steps")
    trends = "; ".join(
        f"with ln {words_of(name)} {value:+.2f} ({low:+.2f} to {high:+.2f})"
        for name, (value, low, high) in law.trends().items()
    )
    alt = (f"Best annealing ratio of {len(valleys)} groups of runs and a {law.form} law, which moves {trends}; its "
           f"mean error on groups left out is {law.held_out_error:.3f}.")  # fmt: skip
    best = Axis("best annealing ratio", limits=(0.0, 1.0))
    panels = (Panel(Axis("peak LR", log=True), best, tuple(by_lr), "against the peak LR"),
              Panel(Axis("updates", log=True), best, tuple(by_steps), "against the length"))  # fmt: skip
    return Chart("ratio_law", title, alt, panels, columns=2)


def _lines(
    name: str, colour: int, grid: np.ndarray, told: Sequence[tuple[float, float, float]], valleys: Sequence[Valley],
    along: str,
) -> list[Series]:  # fmt: skip
    middle, low, high = np.array(told).T
    places = np.array([getattr(v, along) for v in valleys], dtype=float)
    ratios = np.array([v.ratio for v in valleys])
    logit = np.log(ratios) - np.log1p(-np.minimum(ratios, 1 - 1e-6))
    wide = 1.645 * np.array([v.deviation if np.isfinite(v.deviation) else 0.0 for v in valleys])
    ends = [1 / (1 + np.exp(-(logit + d))) for d in (-wide, wide)]
    return [
        Series(name, "band", "fitted", colour, grid, low=low, high=high),
        Series(name, "line", "fitted", colour, grid, middle),
        Series(name, "dots", "measured", colour, places, ratios, np.minimum(ends[0], ratios),
               np.maximum(ends[1], ratios)),
    ]  # fmt: skip
