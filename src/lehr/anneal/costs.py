"""What other annealing ratios cost: in nats, and as a share of the updates that the best would not need.

A run that decays for too short or too long ends where a shorter one with the recommended ratio ends; the difference in
updates is what the wrong ratio wastes of the training's compute, for a given model and batch. Both have the interval of
the bootstrap: for every draw the loss of each ratio is compared with that of the recommended one under the same draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lehr.fit.result import FitResult
from lehr.predict import planned
from lehr.schedule.families import wsd
from lehr.schedule.schedule import Schedule

SHORTEST = 0.3  # share of the updates: what wastes more than the rest is not followed further
LENGTHS = 10


@dataclass(frozen=True)
class Cost:
    """What one ratio costs against the recommended one; without draws the ends of the intervals are None.

    Parameters
    ----------
    ratio : annealing ratio.
    excess, excess_low, excess_high : loss above that of the recommended ratio, nats per token.
    wasted, wasted_low, wasted_high : share of the updates that the recommended ratio would not need for the same loss;
        .7 stands for .7 or more, and where it is below 0 the draw prefers this ratio.
    """

    ratio: float
    excess: float
    excess_low: float | None
    excess_high: float | None
    wasted: float
    wasted_low: float | None
    wasted_high: float | None


def ratio_costs(
    result: FitResult, best: Schedule, ratios: Sequence[float], *, params: float | None = None,
    batch_tokens: float | None = None, weight_decay: float | None = None, params_total: float | None = None,
    level: float = 0.9,
) -> tuple[Cost, ...]:  # fmt: skip
    """What WSD runs like `best` with other ratios cost.

    Parameters
    ----------
    result : a fit.
    best : the recommended WSD schedule.
    ratios : decaying updates / all updates; those with no room before the warm-up's end are left out.
    params, batch_tokens, weight_decay, params_total : of the planned run, as in `lehr.predict.predict`.
    level : probability of the intervals.
    """
    sizes = (params, batch_tokens, weight_decay, params_total)
    vectors = np.vstack([result.vector, *result.draws])
    told = dict(best.call[1]) if best.call else {}
    steps, warmup, decay = best.steps, int(str(told.get("warmup", 0))), int(str(told["decay"]))

    def ends(length: int, fall: int) -> np.ndarray:
        parts: dict[str, Any] = {**told, "steps": length, "decay": fall, "warmup": min(warmup, length - fall)}
        schedule = wsd(**parts)
        return result.evaluate(planned(result, schedule, *sizes), np.array([float(length)]), vectors)[:, 0]

    lengths = np.unique(np.maximum(np.round(np.geomspace(SHORTEST, 1.0, LENGTHS) * steps), 1).astype(int))
    shorter = np.stack([ends(int(n), max(1, round(decay / steps * n))) for n in lengths])
    shares = 1 - lengths / steps
    found = []
    for ratio in ratios:
        fall = round(ratio * steps)
        if not 1 <= fall <= steps - warmup:
            continue
        excess = ends(steps, fall) - shorter[-1]
        wasted = np.array([_wasted(e + s[-1], s, shares) for e, s in zip(excess, shorter.T, strict=True)])
        found.append(
            Cost(ratio, float(excess[0]), *_ends(excess, level), float(wasted[0]), *_ends(wasted, level))
        )
    return tuple(found)


def _wasted(loss: float, shorter: np.ndarray, shares: np.ndarray) -> float:
    """Share of updates not needed for `loss`; `shorter` are the losses of the lengths that leave out `shares`."""
    falling = np.minimum.accumulate(shorter)  # a longer run of the same kind ends no higher
    if (
        loss < falling[-1]
    ):  # this ratio is better than the recommended one: updates that would be missing, by the last slope
        slope = (falling[-2] - falling[-1]) / max(shares[-2] - shares[-1], 1e-12)
        return float(max((loss - falling[-1]) / max(slope, 1e-12), -shares[0]))
    return float(np.interp(-loss, -falling, shares))


def _ends(values: np.ndarray, level: float) -> tuple[float | None, float | None]:
    """Ends of the interval of the draws, which holds the value of the fit itself."""
    if len(values) < 2:
        return None, None
    low, high = np.quantile(values[1:], [(1 - level) / 2, (1 + level) / 2])
    return float(min(low, values[0])), float(max(high, values[0]))
