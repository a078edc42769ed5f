"""Does a ratio law hold elsewhere? Its ratios against valleys of another size, data set or model kind.

Two questions, which can have different answers: are the best ratios the same within their noise,
and what would it cost to follow the law there? A shift that costs less than runs differ by
themselves does not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lehr.anneal.ratio_law import RatioLaw
from lehr.anneal.valley import NOISE, Valley
from lehr.errors import InputError
from lehr.quantiles import normal_half


@dataclass(frozen=True)
class TransferRow:
    """One group: the law's ratio with its interval, the measured one, and what following the law costs, nats."""

    peak: float
    steps: int
    told: float
    low: float
    high: float
    measured: float
    excess_loss: float


@dataclass(frozen=True)
class Transfer:
    """Whether a ratio law holds for other runs.

    Parameters
    ----------
    rows : one a group.
    mean_error : mean |measured - told|.
    shift, shift_low, shift_high : mean of logit(measured) - logit(told), and its interval.
    same : whether that interval holds 0.
    excess_loss : mean cost of following the law, nats.
    noise : what two runs of one schedule differ by, nats.
    harmless : whether following the law costs less than that.
    verdict : one sentence.
    """

    rows: tuple[TransferRow, ...]
    mean_error: float
    shift: float
    shift_low: float
    shift_high: float
    same: bool
    excess_loss: float
    noise: float
    harmless: bool
    verdict: str


def check_transfer(law: RatioLaw, valleys: Sequence[Valley], level: float = 0.9) -> Transfer:
    """Hold `law` against measured `valleys` that it was not fitted to.

    Parameters
    ----------
    law : fitted to the best ratios of other runs.
    valleys : from `lehr.anneal.valley.measure_valleys`; those at an edge of their ratios are left out.
    level : probability of the intervals.

    Raises
    ------
    InputError
        If no valley is left.
    """
    inside = [valley for valley in valleys if not valley.at_edge]
    if not inside:
        raise InputError(
            "every measured optimum lies at the shortest or longest decay that was run: run ratios beyond it."
        )
    rows, gaps, variances = [], [], []
    for valley in inside:
        told, low, high = law.ratio(valley.peak, valley.steps, level)
        rows.append(
            TransferRow(valley.peak, valley.steps, told, low, high, valley.ratio, valley.excess(told))
        )
        gaps.append(_logit(valley.ratio) - _logit(told))
        width = (_logit(high) - _logit(low)) / (2 * normal_half(level))
        variances.append(valley.deviation**2 + width**2)
    weight = 1 / np.maximum(variances, 1e-8)
    shift = float(np.average(gaps, weights=weight))
    half = float(normal_half(level) / np.sqrt(weight.sum()))
    cost = float(np.mean([row.excess_loss for row in rows]))
    noise = NOISE * float(np.mean([min(loss for _, loss in valley.points) for valley in inside]))
    same, harmless = abs(shift) <= half, cost <= noise
    return Transfer(
        tuple(rows), float(np.mean([abs(r.measured - r.told) for r in rows])), shift, shift - half, shift + half,
        same, cost, noise, harmless, _verdict(same, harmless, shift, cost),
    )  # fmt: skip


def contradictions(measured: RatioLaw, told: RatioLaw) -> tuple[str, ...]:
    """Trends of a fitted law's best ratios that the measured ones contradict.

    Parameters
    ----------
    measured : ratio law of measured valleys.
    told : ratio law of the optima that a fitted law tells at the same places.
    """
    notes = []
    own = told.trends()
    for name, (value, low, high) in measured.trends().items():
        if low * high > 0 and own[name][0] * value < 0:
            rises, falls = ("rises", "falls") if value > 0 else ("falls", "rises")
            notes.append(
                f"the measured ratio {rises} with {name.replace('_', ' ')} (coefficient {value:+.2f}, {low:+.2f} to "
                f"{high:+.2f}), but the law's {falls} ({own[name][0]:+.2f}): do not follow the law there."
            )
    return tuple(notes)


def _verdict(same: bool, harmless: bool, shift: float, cost: float) -> str:
    where = "longer" if shift > 0 else "shorter"
    if same:
        return "transfer held: the best ratios agree within their noise."
    if harmless:
        return (
            f"the best ratios are {where} here, but following the law costs only {cost:.4f} nats: "
            "less than the noise of a run."
        )
    return f"transfer failed: the best ratios are {where} here, and following the law costs {cost:.4f} nats on average."


def _logit(ratio: float) -> float:
    ratio = min(max(ratio, 1e-4), 1 - 1e-4)
    return float(np.log(ratio / (1 - ratio)))
