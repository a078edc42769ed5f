"""Plan a run: ratio, shape, final LR and, if asked, peak LR, with what each is worth against the usual.

`recommend_ratio` answers for a given peak, shape and final LR; here those left open are searched on
a grid by the predicted final loss, and the gain over the schedules people use otherwise is told with
an interval. The draws of the fit answer for both schedules at once, so what they share cancels.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np

from lehr.anneal.ratio import Recommendation, recommend_ratio
from lehr.errors import InputError, bad
from lehr.fit.result import Evidence, FitResult
from lehr.predict import Sizes, planned
from lehr.quantiles import normal_half
from lehr.schedule.families import cosine, wsd
from lehr.schedule.schedule import Schedule
from lehr.units import steps_for_tokens, tokens_for_flops

SHAPES = ("linear", "sqrt", "cosine", "square", "power(1.5)", "mirror_cosine")
FINALS = (0.0, 0.02, 0.05, 0.1)  # of the peak
PEAKS = 9  # peak LRs tried between the lowest and the highest fitted
SAME = 1e-4  # nats: shapes and final LRs that differ by less are alike, and the first is taken
Choice = TypeVar("Choice", str, float)
USUAL = (0.1, 0.2)  # annealing ratios of the WSD runs that gains are told against


@dataclass(frozen=True)
class Gain:
    """By how much the planned run ends below another schedule at the same peak LR, nats."""

    against: str
    gain: float
    low: float
    high: float


@dataclass(frozen=True)
class Plan:
    """A planned run.

    Parameters
    ----------
    best : the schedule, its ratio, predicted loss and what other ratios cost.
    peak, shape, final : of the schedule.
    gains : against the schedules people use otherwise.
    evidence : the fitted runs nearest to the plan, nearest first.
    explanation : why, in plain words.
    """

    best: Recommendation
    peak: float
    shape: str
    final: float
    gains: tuple[Gain, ...]
    evidence: tuple[Evidence, ...]
    explanation: str


def budget_steps(
    *, steps: int | None = None, tokens: float | None = None, flops: float | None = None,
    batch_tokens: float | None = None, params: float | None = None,
) -> int:  # fmt: skip
    """Updates that a budget buys: given as updates, as tokens, or as FLOPs (6 N D).

    Raises
    ------
    InputError
        If not exactly one budget is given, or the batch (for tokens) or the size (for FLOPs) is missing.
    """
    given = [
        name for name, value in (("steps", steps), ("tokens", tokens), ("flops", flops)) if value is not None
    ]
    if len(given) != 1:
        raise InputError(
            f"give the budget once, as steps, tokens or flops; got {', '.join(given) or 'none of them'}."
        )
    if steps is not None:
        return steps
    if flops is not None:
        if params is None:
            raise InputError("a budget in FLOPs needs the number of parameters: give --params.")
        tokens = tokens_for_flops(flops, params)
    if batch_tokens is None:
        raise InputError(
            "a budget in tokens or FLOPs needs the batch, which the fitted runs do not tell or which differs "
            "among them: give it with --batch-tokens."
        )
    if tokens is None or not 0 < tokens < math.inf:
        raise bad("tokens", "must be a finite number above 0", tokens, "give the tokens of the whole run")
    return steps_for_tokens(tokens, batch_tokens)


def plan_run(
    result: FitResult, *, steps: int, peak: float | None, shape: str | None = None, final: float | None = None,
    warmup: int | None = None, params: float | None = None, batch_tokens: float | None = None,
    weight_decay: float | None = None, params_total: float | None = None, level: float = 0.9,
) -> Plan:  # fmt: skip
    """Plan a WSD run of `steps` updates; what is None is chosen by the predicted final loss.

    Parameters
    ----------
    result : a fit; with draws all answers have intervals.
    peak : peak LR; None searches between the lowest and the highest that were fitted, not beyond.
    shape, final : of the decay; None searches `SHAPES` and shares `FINALS` of the peak. Differences below
        1e-4 nats are ties, and the plainer one is taken.
    warmup, params, batch_tokens, weight_decay, params_total, level : as in `recommend_ratio`.

    Raises
    ------
    InputError
        As `recommend_ratio`; also if the peak is to be searched but all runs share one.
    """
    if peak is not None and not peak > 0:
        raise bad("peak", "must be above 0", peak, "give the highest LR, e.g. 1e-3")
    plain = replace(result, draws=())

    def ask(fit: FitResult, peak: float, shape: str, final: float) -> Recommendation:
        return recommend_ratio(
            fit, steps=steps, peak=peak, shape=shape, final=final, warmup=warmup, params=params,
            batch_tokens=batch_tokens, weight_decay=weight_decay, params_total=params_total, level=level,
        )  # fmt: skip

    notes: list[str] = []
    told = peak if peak is not None else _best_peak(plain, lambda x: ask(plain, x, "linear", 0.0), notes)
    shares = FINALS if final is None else (final / told,)
    shapes = (shape,) if shape is not None else SHAPES
    # a laxer grid than every pair: the shape is chosen at the lowest final LR, then the final LR for it
    taken = _first_best(shapes, lambda name: ask(plain, told, name, shares[0] * told).final_loss)
    share = _first_best(shares, lambda part: ask(plain, told, taken, part * told).final_loss)
    best = ask(result, told, taken, share * told)
    best = replace(best, warnings=(*best.warnings, *notes))
    sizes = (params, batch_tokens, weight_decay, params_total)
    gains = _gains(result, best.schedule, _usual(steps, told, best.schedule, warmup, result), sizes, level)
    evidence = nearest_evidence(result, told, steps, best.ratio)
    return Plan(
        best, told, taken, share * told, gains, evidence, _explain(result, best, gains, evidence, level)
    )


def _first_best(choices: tuple[Choice, ...], loss: Callable[[Choice], float]) -> Choice:
    """The first of `choices` whose loss is within `SAME` of the lowest."""
    if len(choices) == 1:
        return choices[0]
    losses = [loss(choice) for choice in choices]
    return next(c for c, value in zip(choices, losses, strict=True) if value <= min(losses) + SAME)


def _best_peak(result: FitResult, ask: Callable[[float], Recommendation], notes: list[str]) -> float:
    """Peak LR with the lowest predicted loss at its best ratio, within the fitted range."""
    low, high = result.domain.peak_lr
    if not low < high:
        raise InputError(
            f"all fitted runs share the peak LR {low:g}, so they cannot tell the best one: give --peak-lr, or fit runs "
            "at other peak LRs."
        )
    peaks = np.geomspace(low, high, PEAKS)
    losses = [ask(float(peak)).final_loss for peak in peaks]
    i = int(np.argmin(losses))
    if i in (0, PEAKS - 1):
        edge = "lowest" if i == 0 else "highest"
        notes.append(
            f"the best peak LR is the {edge} that was fitted ({peaks[i]:g}): a better one may lie beyond, where no run "
            "tells whether training is stable."
        )
        return float(peaks[i])
    x = np.log(peaks[i - 1 : i + 2])
    bend, slope, _ = np.polyfit(x - x[1], losses[i - 1 : i + 2], 2)
    return float(np.exp(x[1] - slope / (2 * bend))) if bend > 0 else float(peaks[i])


def _usual(
    steps: int, peak: float, best: Schedule, warmup: int | None, result: FitResult
) -> dict[str, Schedule]:
    """Schedules people use otherwise, at the same peak and length."""
    up = min(result.domain.warmup, steps // 10) if warmup is None else warmup
    plans = {"cosine to 10 %": cosine(steps=steps, peak=peak, warmup=up, final=0.1 * peak)}
    for ratio in USUAL:
        decay = min(max(1, round(ratio * steps)), steps - up)
        plans[f"linear WSD {ratio:.0%}"] = wsd(steps=steps, peak=peak, warmup=up, decay=decay)
    return plans


def _gains(
    result: FitResult, best: Schedule, usual: dict[str, Schedule],
    sizes: Sizes, level: float,
) -> tuple[Gain, ...]:  # fmt: skip
    """Loss of each usual schedule minus that of the best.

    The interval joins the draws' spread of the difference with the scatter of the errors on left-out
    runs: what shifts all runs alike cancels, what differs between two of them adds up.
    """
    end = np.array([float(best.steps)])
    vectors = np.vstack([result.vector, *result.draws])
    mine = result.evaluate(planned(result, best, *sizes), end, vectors)[:, 0]
    scatter = float(np.std(result.spread)) if len(result.spread) > 1 else 0.0
    form = normal_half(level) * math.sqrt(2) * scatter * mine[0]
    gains = []
    for name, schedule in usual.items():
        gain = result.evaluate(planned(result, schedule, *sizes), end, vectors)[:, 0] - mine
        low, high = np.quantile(gain, [(1 - level) / 2, (1 + level) / 2])
        down, up = (
            math.hypot(gain[0] - min(low, gain[0]), form),
            math.hypot(max(high, gain[0]) - gain[0], form),
        )
        gains.append(Gain(name, float(gain[0]), float(gain[0] - down), float(gain[0] + up)))
    return tuple(gains)


def nearest_evidence(
    result: FitResult, peak: float, steps: int, ratio: float, count: int = 2
) -> tuple[Evidence, ...]:
    """Fitted runs nearest to a plan: a factor of two in LR or length counts as .25 of the ratio."""

    def distance(run: Evidence) -> float:
        gap = abs(math.log2(run.peak / peak)) + abs(math.log2(run.steps / steps))
        return gap + 4 * abs(run.ratio - ratio)

    return tuple(sorted(result.evidence, key=distance)[:count])


def _explain(
    result: FitResult, best: Recommendation, gains: tuple[Gain, ...], evidence: tuple[Evidence, ...], level: float
) -> str:  # fmt: skip
    """Why this plan, in plain words."""
    short = next((c for r, c in best.costs if r <= 0.5 * best.ratio + 1e-9 and r >= 0.25 * best.ratio), None)
    parts = [
        f"Decaying for {best.ratio:.0%} of training trades progress at the peak LR against the noise that only a decay "
        f"removes; by the law {result.law}, fitted to {max(len(result.residuals), 1)} runs, the two balance there."
    ]
    if short is not None:
        parts.append(f"About half as long a decay would cost {short:.4f} nats.")
    sure = [gain for gain in gains if gain.low > 0]
    unsure = [gain for gain in gains if gain.low <= 0 < gain.high]
    if sure:
        parts.append(
            "It ends below "
            + ", ".join(f"{g.against} (by {g.gain:.4f}, {g.low:.4f} to {g.high:.4f})" for g in sure)
            + "."
        )
    if unsure:
        parts.append(
            f"Against {', '.join(g.against for g in unsure)} the difference is within the {level:.0%} interval."
        )
    if evidence:
        parts.append("Nearest fitted runs: " + "; ".join(run.describe() for run in evidence) + ".")
    return " ".join(parts)
