"""Fitting against transfer: which way of choosing the peak LR of the largest model is right on one's own proxies.

A study (`lehr.proxy.study`) measures, along each axis of growth and under each rule of transfer, the valley of final
loss over the peak LR at every level from the base to the largest. Two ways predict the best LR of the largest from
what is smaller:

    keep   the base's best LR, which is what a rule of transfer promises (under `sp`: doing nothing)
    fit    the straight line of ln LR_opt over ln N, ln D or ln B, whichever grows, through all levels but the largest;
           under `sp` this is the fitting paradigm of arXiv 2601.05049, eq. 6, under another rule it mends what drift
           the rule leaves

and published exponents stand beside them where the axis is one of tokens, or of batch size. Each is charged with the
loss above the largest level's own valley, and above the lowest loss that any rule reached there. Intervals are 90 %,
by draws of every optimum within its valley's deviation.

Seeds differ in the level of all their losses, which moves no optimum, and by less in how one LR lies to another. So a
valley is fitted to means over seeds, and its noise is what repeated seeds leave (`lehr.peaklr.study_noise`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError
from lehr.peaklr.study_noise import Noise, measure_noise
from lehr.peaklr.study_table import StudyRow
from lehr.peaklr.valley import Valley, fit_valley

DRAWS = 2000
# Exponents of the best LR where nothing else grows: of the tokens by arXiv 2512.22382, 2601.05049 (eq. 6) and
# 2409.19913, of the batch at the same tokens the square root that arXiv 2205.10287 derives for Adam
PUBLISHED = {
    "tokens^-.5": ("tokens", -0.5), "tokens^-.3509": ("tokens", -0.3509), "tokens^-.32": ("tokens", -0.32),
    "batch^.5": ("batch", 0.5),
}  # fmt: skip
FEWEST_FITTED = 2  # levels that a line needs
NARROWEST = 0.1  # range of ln N (D, B) among the smaller levels, under which a line has no slope to speak of
FITTING = ("sp", "fit")  # the fitting paradigm: a law through optima found without any rule of transfer


@dataclass(frozen=True)
class Level:
    """One valley of a study, or why there is none."""

    target: str
    level: int
    params: float
    tokens: float
    batch: float | None
    valley: Valley | None
    refused: str = ""


@dataclass(frozen=True)
class Forecast:
    """What one way of choosing the LR would have cost at the largest level of an axis.

    Parameters
    ----------
    rule, way : rule of transfer; "keep", "fit", or a published power of the tokens or the batch.
    lr, low, high : predicted, with its interval.
    excess, excess_low, excess_high : loss above the lowest of the rule's own valley there, nats.
    above_best : loss above the lowest that any rule reached there, nats.
    """

    rule: str
    way: str
    lr: float
    low: float
    high: float
    excess: float
    excess_low: float
    excess_high: float
    above_best: float


@dataclass(frozen=True)
class Shift:
    """Best LR of the largest level over the base's, under a rule, with its interval."""

    rule: str
    factor: float
    low: float
    high: float

    @property
    def size(self) -> float:
        """The factor, or one over it: 1 where nothing shifts."""
        return max(self.factor, 1 / self.factor)


@dataclass(frozen=True)
class AxisComparison:
    """One axis of a study: its levels by rule, how far optima shift, and what each way costs."""

    study: str
    axis: str
    levels: Mapping[str, tuple[Level, ...]]
    shifts: tuple[Shift, ...]
    forecasts: tuple[Forecast, ...]


@dataclass(frozen=True)
class Standing:
    """A way over all axes where it and the fitting paradigm were tried.

    Parameters
    ----------
    rule, way : which.
    axes : how many.
    above_best, fitting : mean loss above the lowest that any rule reached, of this way and of fitting there, nats.
    """

    rule: str
    way: str
    axes: int
    above_best: float
    fitting: float


@dataclass(frozen=True)
class Comparison:
    """All axes of all studies."""

    axes: tuple[AxisComparison, ...]

    def standings(self) -> tuple[Standing, ...]:
        """Every way beside the fitting paradigm on the axes where both were tried, the best against it first."""
        found: dict[tuple[str, str], list[tuple[float, float]]] = {}
        for axis in self.axes:
            fitted = [each.above_best for each in axis.forecasts if (each.rule, each.way) == FITTING]
            for each in axis.forecasts if fitted else ():
                found.setdefault((each.rule, each.way), []).append((each.above_best, fitted[0]))
        standings = [
            Standing(*key, len(pairs), *(float(value) for value in np.mean(pairs, axis=0)))
            for key, pairs in found.items()
        ]
        return tuple(sorted(standings, key=lambda each: each.above_best - each.fitting))


def compare_ways(rows: Iterable[StudyRow], seed: int = 0) -> Comparison:
    """Compare the ways on every axis of the studies in `rows`.

    Parameters
    ----------
    rows : trainings; runs of several seeds at one LR count as repeats.
    seed : of the draws behind intervals.

    Raises
    ------
    InputError
        If there is no base, its own optimum is not enclosed, or trainings of one level differ in size, tokens or batch.
    """
    rows = tuple(rows)
    found = []
    for study in dict.fromkeys(row.study for row in rows):
        mine = [row for row in rows if row.study == study]
        noise = measure_noise(mine)
        base = _level([row for row in mine if row.level == 0], study, noise)
        if base.valley is None:
            raise InputError(f"study {study!r}: the base has no valley to start from: {base.refused}")
        for axis in dict.fromkeys(row.axis for row in mine if row.level):
            found.append(_axis(study, axis, base, [row for row in mine if row.axis == axis], noise, seed))
    if not found:
        raise InputError("there is no training beyond the bases: give studies with at least one axis.")
    return Comparison(tuple(found))


def _level(rows: Sequence[StudyRow], study: str, noise: Noise) -> Level:
    """Fit one valley through the means over seeds."""
    if not rows:
        raise InputError(f"study {study!r} has no training of its base (level 0): train it first.")
    first = rows[0]
    where = f"study {study!r}, {first.rule} at {first.target}"
    about = (first.target, first.level, first.params, first.tokens, first.batch)
    for name in ("params", "tokens", "batch"):
        if len(mixed := {getattr(row, name) for row in rows}) > 1:
            raise InputError(
                f"{where}: trainings of one level must have the same {name}, got "
                f"{' and '.join(sorted(f'{value:g}' if value else 'none' for value in mixed))}: "
                "give what differs a target of its own."
            )
    lrs = sorted({row.lr for row in rows})
    means = [float(np.mean([row.loss for row in rows if row.lr == lr])) for lr in lrs]
    own = noise.at(first.axis, first.level) / math.sqrt(len({row.seed for row in rows}))
    try:
        valley = fit_valley(np.array(lrs), np.array(means), noise=own, where=where)
    except InputError as error:
        return Level(*about, None, str(error))
    return Level(*about, valley)


def _axis(
    study: str, axis: str, base: Level, rows: Sequence[StudyRow], noise: Noise, seed: int
) -> AxisComparison:  # fmt: skip
    levels = {}
    for rule in dict.fromkeys(row.rule for row in rows):
        mine = [row for row in rows if row.rule == rule]
        numbers = sorted({row.level for row in mine})
        levels[rule] = (base, *(_level([r for r in mine if r.level == n], study, noise) for n in numbers))
    top = max(row.level for row in rows)
    reached = [
        chain[-1].valley.lowest_loss
        for chain in levels.values()
        if chain[-1].level == top and chain[-1].valley
    ]
    random = np.random.default_rng(seed)
    shifts, forecasts = [], []
    for rule, chain in levels.items():
        if chain[-1].level != top or chain[-1].valley is None:
            continue
        shifts.append(_shift(rule, chain, random))
        forecasts += _forecasts(rule, chain, min(reached), random)
    return AxisComparison(study, axis, levels, tuple(shifts), tuple(forecasts))


def _draws(level: Level, random: np.random.Generator) -> np.ndarray:
    """Draws of the ln LR of a level's optimum, shape (DRAWS,)."""
    assert level.valley is not None
    return math.log(level.valley.lr) + level.valley.deviation * random.standard_normal(DRAWS)


def _shift(rule: str, chain: Sequence[Level], random: np.random.Generator) -> Shift:
    drawn = _draws(chain[-1], random) - _draws(chain[0], random)
    assert chain[0].valley is not None and chain[-1].valley is not None
    low, high = np.exp(np.quantile(drawn, (0.05, 0.95)))
    return Shift(rule, chain[-1].valley.lr / chain[0].valley.lr, float(low), float(high))


def _forecasts(rule: str, chain: Sequence[Level], best: float, random: np.random.Generator) -> list[Forecast]:
    """Every way to predict the last of `chain` from those before it."""
    top, smaller = chain[-1], [level for level in chain[:-1] if level.valley is not None]
    drawn = np.array([_draws(level, random) for level in smaller])
    middle = np.log([level.valley.lr for level in smaller if level.valley])
    ways = {"keep": (middle[0], drawn[0])}
    grows, alone = _grows(chain[0], top)
    x = np.log([getattr(level, grows) for level in (*smaller, top)])
    if len(smaller) >= FEWEST_FITTED and np.ptp(x[:-1]) >= NARROWEST:
        spread = np.array([level.valley.deviation for level in smaller if level.valley])
        ways["fit"] = (
            _line(x, middle[:, None], spread)[0], _line(x, drawn, spread),
        )  # fmt: skip
    for name, (of, power) in PUBLISHED.items() if alone and rule == "sp" else ():
        if of == grows:
            moved = power * (x[-1] - x[0])
            ways[name] = (middle[0] + moved, drawn[0] + moved)
    return [_forecast(rule, way, float(at), cloud, top, best, random) for way, (at, cloud) in ways.items()]


def _grows(base: Level, top: Level) -> tuple[str, bool]:
    """What a line is drawn over, "tokens", "batch" or "params", and whether it alone of the three grows."""
    pairs = {name: (getattr(base, name), getattr(top, name)) for name in ("tokens", "batch", "params")}
    grown = [
        name for name, (before, after) in pairs.items() if None not in (before, after) and before != after
    ]
    return (grown[0] if grown else "params"), len(grown) == 1


def _line(x: np.ndarray, y: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Weighted straight lines of y (levels, n) over x[:-1], at x[-1]; shape (n,)."""
    design = np.column_stack([np.ones(len(x) - 1), x[:-1] - x[-1]]) / spread[:, None]
    return np.linalg.lstsq(design, y / spread[:, None], rcond=None)[0][0]


def _forecast(
    rule: str, way: str, at: float, cloud: np.ndarray, top: Level, best: float, random: np.random.Generator
) -> Forecast:  # fmt: skip
    assert top.valley is not None
    true = top.valley.deviation * random.standard_normal(cloud.size)
    excess = np.array([top.valley.excess(math.exp(value)) for value in cloud - true])
    low, high = np.exp(np.quantile(cloud, (0.05, 0.95)))
    excess_low, excess_high = np.quantile(excess, (0.05, 0.95))
    own = top.valley.excess(math.exp(at))
    return Forecast(
        rule, way, math.exp(at), float(low), float(high), own, float(excess_low), float(excess_high),
        top.valley.loss(math.exp(at)) - best,
    )  # fmt: skip
