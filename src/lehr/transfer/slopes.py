"""What a coordinate check finds: slopes of sizes against a scale of the model, on logarithms, and a verdict. No torch.

| measure | what it is (a root mean square) | should be level |
| --- | --- | --- |
| size | of an activation, on a fixed batch | yes, where it does not vanish by theory |
| change | of what became of the activation since initialisation | yes |
| update | of what a matrix's change makes of the matrix's present input, per that of the input | yes |
| gain | of what a matrix makes of its input, per that of the input | only tells where a fault lies |
| weights | of a matrix's change, per that of the matrix | no: under muP it falls as width^-1/2 |
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

Measure = Literal["size", "change", "update", "gain", "weights"]
ScaleName = Literal["width", "depth", "experts"]
JUDGED: tuple[Measure, ...] = ("size", "change", "update")
TOLERANCE = 0.1
# exponents of rules come in halves: what a module itself does wrong from the first update on is not less than this
FAULT = 0.25
STREAM, WRITER = "residual stream", "attention output"


@dataclass(frozen=True)
class Reading:
    """One measured number.

    Parameters
    ----------
    scale, size : what was varied, and how large it was.
    seed : of the initial weights.
    step : updates done.
    part, measure : of what, and which.
    value : positive.
    """

    scale: ScaleName
    size: int
    seed: int
    step: int
    part: str
    measure: Measure
    value: float


@dataclass(frozen=True)
class Trend:
    """One measure of one part against one scale.

    Parameters
    ----------
    scale, part, measure, step : of what, after how many updates.
    sizes : rising.
    values : at each size, the geometric mean over seeds.
    slope : of ln value against ln size, by least squares.
    error : standard error of the slope, from the scatter of the seeds' own slopes; None for one seed.
    """

    scale: ScaleName
    part: str
    measure: Measure
    step: int
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    slope: float
    error: float | None

    @property
    def judged(self) -> bool:
        """Whether the theory wants it level."""
        return self.measure in JUDGED

    @property
    def level(self) -> bool:
        """Whether the slope is within the tolerance."""
        return abs(self.slope) <= TOLERANCE


@dataclass(frozen=True)
class Origin:
    """What a fault begins with.

    Parameters
    ----------
    part : that is off by itself.
    what : "gain" of a matrix at initialisation; "update", of its first; "factor" of the residual branches: how much the
        stream changed with the first update, per change of what the attention adds to it.
    slope : against the scale.
    """

    part: str
    what: Literal["gain", "update", "factor"]
    slope: float


@dataclass(frozen=True)
class Verdict:
    """Whether a rule holds over one scale.

    Parameters
    ----------
    scale : that was varied.
    trends : after the last update, of all measures.
    origins : what is off by itself from the start, by `FAULT` or more; empty if the rule holds.
    """

    scale: ScaleName
    trends: tuple[Trend, ...]
    origins: tuple[Origin, ...]

    @property
    def off(self) -> tuple[Trend, ...]:
        """Trends that should be level and are not."""
        return tuple(trend for trend in self.trends if trend.judged and not trend.level)

    @property
    def holds(self) -> bool:
        """Whether all is level that should be."""
        return not self.off

    @property
    def text(self) -> str:
        """The verdict in a sentence or two."""
        judged = [trend for trend in self.trends if trend.judged]
        if self.holds:
            return f"holds over {self.scale}: all {len(judged)} slopes are within {TOLERANCE:g} of 0."
        worst = max(self.off, key=lambda trend: abs(trend.slope))
        told = f"does not hold over {self.scale}: {len(self.off)} of {len(judged)} slopes are off, "
        told += f"most that of the {worst.measure} of {worst.part} ({worst.slope:+.2f})."
        if self.origins:
            named = ", ".join(f"{each.part} ({each.what} {each.slope:+.2f})" for each in self.origins)
            return f"{told} It begins with {named}."
        return (
            f"{told} No module is off by {FAULT:g} or more from the first update on, so no exponent of the rule is "
            "the likely reason: leave out the smallest size, add seeds, or take fewer updates or a lower LR."
        )


def trends(readings: Iterable[Reading], step: int) -> tuple[Trend, ...]:
    """Fit every measure of every part against each scale, after `step` updates; parts in the order of the readings."""
    found: dict[tuple[ScaleName, str, Measure], dict[int, dict[int, float]]] = defaultdict(dict)
    for each in readings:
        if each.step == step:
            found[each.scale, each.part, each.measure].setdefault(each.seed, {})[each.size] = each.value
    return tuple(_trend(*key, step, list(by_seed.values())) for key, by_seed in found.items())


def _trend(
    scale: ScaleName, part: str, measure: Measure, step: int, seeds: Sequence[Mapping[int, float]]
) -> Trend:
    sizes = sorted(seeds[0])
    logs = np.log([[seed[size] for size in sizes] for seed in seeds])
    x = np.log(sizes) - np.mean(np.log(sizes))
    slopes = logs @ x / (x @ x)
    error = float(np.std(slopes, ddof=1) / np.sqrt(len(slopes))) if len(slopes) > 1 else None
    values = np.exp(logs.mean(0)).tolist()
    return Trend(scale, part, measure, step, tuple(sizes), tuple(values), float(slopes.mean()), error)


def judge(readings: Sequence[Reading], scale: ScaleName) -> Verdict:
    """Judge the readings of one scale after their last update; those after 0 and 1 tell where a fault lies."""
    mine = [each for each in readings if each.scale == scale]
    last = trends(mine, max(each.step for each in mine))
    if Verdict(scale, last, ()).holds:
        return Verdict(scale, last, ())
    return Verdict(scale, last, _origins(trends(mine, 0), trends(mine, 1)))


def _origins(initial: Sequence[Trend], first: Sequence[Trend]) -> tuple[Origin, ...]:
    """What is off by itself, of what is off at initialisation and after the first update."""
    found = [Origin(each.part, each.measure, each.slope) for each in initial if each.measure == "gain"]
    found += [Origin(each.part, each.measure, each.slope) for each in first if each.measure == "update"]
    changes = {each.part: each.slope for each in first if each.measure == "change"}
    if STREAM in changes and WRITER in changes:
        found.append(Origin(STREAM, "factor", changes[STREAM] - changes[WRITER]))
    # less than two thirds of the worst may be what that does to the others
    least = max([FAULT, *(abs(each.slope) * 2 / 3 for each in found)])
    return tuple(each for each in found if abs(each.slope) >= least)


def growth(readings: Iterable[Reading], scale: ScaleName, part: str, measure: Measure) -> dict[int, float]:
    """Exponent by which a measure grows with the number of updates, from the first on, by size."""
    found: dict[int, dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in readings:
        if (each.scale, each.part, each.measure) == (scale, part, measure) and each.step:
            found[each.size][each.step].append(np.log(each.value))
    return {
        size: float(np.polyfit(np.log(list(steps)), [np.mean(logs) for logs in steps.values()], 1)[0])
        for size, steps in sorted(found.items())
    }
