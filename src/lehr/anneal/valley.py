"""The valley of final loss over the annealing ratio, measured on WSD runs that differ in it only.

The valley is skewed: too short a decay costs more than too long a one. A parabola in the square
root of the ratio follows it: put through five ratios of a law's own losses, it misses the law's
own optimum by .005, a parabola in the ratio itself by .05 (`docs/diary.md`, step 14).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError
from lehr.runs.run import Run

NEAREST = 5  # ratios around the lowest loss that the parabola goes through
FEWEST = 4  # ratios a valley needs: one more than the parabola's coefficients
NOISE = 5e-4  # of a final loss, relative: two runs of one schedule differ by .03 to .07 %
AT_END = 0.995  # share of the schedule that a log must reach to hold the final loss


@dataclass(frozen=True)
class Valley:
    """The best annealing ratio of a group of runs: one peak LR, length, shape, size and data set.

    Parameters
    ----------
    peak, steps, shape, final : of the WSD schedules; `final` is the LR at the end.
    params, dataset : number of parameters and data set, where the runs tell them.
    ratio : best annealing ratio.
    deviation : its standard deviation in logit units, from the noise of the final losses.
    curvature : loss at ratio R is the lowest plus `curvature` x (sqrt(R) - sqrt(ratio))^2, nats.
    points : measured pairs (ratio, final loss).
    at_edge : the lowest loss is that of the shortest or longest decay run: the optimum may lie beyond.
    """

    peak: float
    steps: int
    shape: str
    final: float
    params: float | None
    dataset: str | None
    ratio: float
    deviation: float
    curvature: float
    points: tuple[tuple[float, float], ...]
    at_edge: bool

    def excess(self, ratio: float) -> float:
        """Loss that `ratio` costs above the best, nats."""
        return float(self.curvature * (np.sqrt(ratio) - np.sqrt(self.ratio)) ** 2)


def final_loss(run: Run) -> float | None:
    """Loss at the end of `run`: its `final_val_loss` if it tells one, else its last point if that is the end's."""
    told = run.meta.get("final_val_loss")
    if isinstance(told, float) and np.isfinite(told):
        return told
    return run.final_loss if run.step[-1] >= AT_END * run.steps else None


def measure_valleys(runs: Iterable[Run], noise: float = NOISE) -> tuple[Valley, ...]:
    """Measure the best annealing ratio of every group of WSD runs with at least four ratios.

    Parameters
    ----------
    runs : any runs; those that are no WSD run, or whose log ends early, are passed over. Runs that differ in nothing
        but their seed count by the mean of their losses.
    noise : standard deviation of a final loss, as a share of it.

    Raises
    ------
    InputError
        If no group has enough ratios.
    """
    found: dict[tuple[float, int, str, float, float, float, str], dict[float, list[float]]] = {}
    for run in runs:
        family, arguments = run.schedule.call or ("", ())
        loss = final_loss(run)
        if family != "wsd" or loss is None:
            continue
        values = dict(arguments)
        decay = int(str(values["decay"]))
        if decay < 1:
            continue
        key = (
            float(f"{run.schedule.peak:.9g}"), run.steps, str(values.get("shape", "linear")),
            float(str(values.get("final", 0.0))), run.params or 0.0,
            run.batch_tokens or 0.0, str(run.meta.get("dataset") or ""),
        )  # fmt: skip
        found.setdefault(key, {}).setdefault(round(decay / run.steps, 4), []).append(loss)
    valleys = []
    for key, points in sorted(found.items()):
        if len(points) >= FEWEST:
            peak, steps, shape, final, params, _, dataset = key
            ratios = np.array(sorted(points))
            losses = np.array([np.mean(points[r]) for r in ratios])
            bottom = fit_valley(ratios, losses, noise)
            valleys.append(
                Valley(
                    peak,
                    steps,
                    shape,
                    final,
                    params or None,
                    dataset or None,
                    *bottom[:3],
                    tuple(zip(ratios.tolist(), losses.tolist(), strict=True)),
                    bottom[3],
                )  # fmt: skip
            )
    if not valleys:
        most = max((len(points) for points in found.values()), default=0)
        raise InputError(
            f"no group of WSD runs (one peak LR, length and shape) has {FEWEST} annealing ratios whose final loss is "
            f"logged; the fullest has {most}: run more ratios, such as 0.1, 0.2, 0.4, 0.6 and 0.8."
        )
    return tuple(valleys)


def fit_valley(
    ratios: np.ndarray, losses: np.ndarray, noise: float = NOISE
) -> tuple[float, float, float, bool]:
    """Fit the parabola in sqrt(ratio) through the five ratios around the lowest loss.

    Returns
    -------
    The best ratio, its standard deviation in logit units, the parabola's curvature (nats per unit of sqrt(ratio)
    squared) and whether the optimum lies at an edge of the ratios.
    """
    lowest = int(np.argmin(losses))
    first = int(np.clip(lowest - NEAREST // 2, 0, max(len(ratios) - NEAREST, 0)))
    near = slice(first, first + NEAREST)
    x = np.sqrt(ratios[near])
    centre = x.mean()
    basis = np.stack([np.ones_like(x), x - centre, (x - centre) ** 2], axis=1)
    solve = np.linalg.pinv(basis)
    _, slope, bend = solve @ losses[near]
    edge = lowest in (0, len(ratios) - 1)
    if bend <= 0:  # no valley within the noise
        return float(ratios[lowest]), float("inf"), 0.0, True
    shift = -slope / (2 * bend)
    best = float(np.clip(centre + shift, x[0], x[-1]))
    # error of -slope / (2 bend) by the noise of each loss, to first order
    by_loss = (-solve[1] - 2 * shift * solve[2]) / (2 * bend)
    spread = float(np.sqrt(np.sum((by_loss * noise * losses[near]) ** 2)))
    ratio = best**2
    edge = edge and not x[0] < centre + shift < x[-1]
    by_root = 2 / (best * max(1 - ratio, 1e-6))  # d logit(R) / d sqrt(R)
    return ratio, spread * by_root, float(bend), edge
