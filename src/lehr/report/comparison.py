"""Figure and page of the comparison of fitting and transfer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lehr.peaklr.comparison import FITTING, AxisComparison, Comparison, Forecast, Level
from lehr.report.figures import COLOURS, STYLE, plain, to_svg
from lehr.report.page import Section, render

ABOVE = 0.12  # nats above the lowest loss that are drawn
TIE = 0.0015  # nats: what two runs of one configuration differ by
WAYS = {"keep": "the base's best LR", "fit": "a line through the smaller ones"}


def valleys(axis: AxisComparison) -> Figure:
    """Final loss over the peak LR, a panel a rule, a colour a level; diamonds are optima, with their intervals."""
    rules = list(axis.levels)
    tried = [
        lr
        for chain in axis.levels.values()
        for level in chain
        if level.valley
        for lr, _ in level.valley.points
    ]
    ticks = np.geomspace(min(tried), max(tried), 6)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(3.0 * len(rules) + 1.4, 3.6), layout="constrained")
        panels: Any = figure.subplots(1, len(rules), sharey=True, sharex=True, squeeze=False)[0]
        for rule, panel in zip(rules, panels, strict=True):
            for level in axis.levels[rule]:
                _draw(panel, level)
            panel.set_title(plain(rule), loc="left", fontsize=10)
            panel.set_xscale("log")
            panel.xaxis.set_minor_locator(NullLocator())
            panel.set_xticks(ticks, [f"{tick:.2g}" for tick in ticks], rotation=45)
            panel.set_xlabel("peak LR of the base")
        lowest = [v.lowest_loss for chain in axis.levels.values() for level in chain if (v := level.valley)]
        panels[0].set_ylim(min(lowest) - 0.1 * ABOVE, max(lowest) + ABOVE)
        panels[0].set_ylabel("final loss (nats per token)")
        shown = {
            label: line
            for panel in panels
            for line, label in zip(*panel.get_legend_handles_labels(), strict=True)
        }
        figure.legend(shown.values(), shown, loc="outside right center", fontsize=8)
    return figure


def _draw(panel: Any, level: Level) -> None:
    colour, valley = COLOURS[level.level % len(COLOURS)], level.valley
    if valley is None:
        return
    lr, loss = np.array(valley.points).T
    panel.plot(lr, loss, "o", color=colour, markersize=4)
    grid = np.geomspace(lr.min() / 1.3, lr.max() * 1.3, 80)
    panel.plot(grid, [valley.loss(x) for x in grid], color=colour, linewidth=1.2, label=plain(level.target))
    ends = np.clip([valley.low, valley.high], grid[0], grid[-1])
    panel.plot(ends, [valley.lowest_loss] * 2, color=colour, linewidth=3.5, alpha=0.35, solid_capstyle="butt")
    panel.plot(valley.lr, valley.lowest_loss, "D", color=colour, markersize=5)


def page(found: Comparison, command: str) -> str:
    """Return the report as HTML."""
    sections = [_summary(found)]
    for axis in found.axes:
        sections += _axis(axis)
    facts = {"command": command, "intervals": "90 %, by draws of each optimum within its valley's deviation"}
    return render("The peak LR: fitting or transfer?", conclusion(found), sections, facts)


def conclusion(found: Comparison) -> str:
    """Say which way to trust here, what either costs, and what was cheapest on each axis."""
    rules = [each for each in found.standings() if each.way == "keep" and each.rule != FITTING[0]]
    if not rules:
        return (
            "Fitting and transfer stand beside each other on no axis: fitting needs two smaller levels without a "
            f"rule of transfer (sp), transfer a rule at the same levels. {_per_axis(found)}"
        )
    best = rules[0]
    apart = best.above_best - best.fitting
    verdict = "trust neither more" if abs(apart) < TIE else f"trust {'transfer' if apart < 0 else 'fitting'}"
    axes = "1 axis" if best.axes == 1 else f"{best.axes} axes"
    return (
        f"Here {verdict}: at the largest level, over {axes}, the base's best LR under {best.rule} ends "
        f"{best.above_best:.4f} nats above the lowest loss that any rule reached, the law fitted without a rule "
        f"{best.fitting:.4f}. "
        f"{_per_axis(found)}"
    )


def name_of(key: tuple[str, str]) -> str:
    """Name of a rule and a way."""
    rule, way = key
    return f"{rule}, {WAYS.get(way, way)}"


def _per_axis(found: Comparison) -> str:
    told = []
    for axis in found.axes:
        if not axis.forecasts:
            told.append(f"{axis.study} over {axis.axis}: none, as the largest level has no valley")
            continue
        best = min(axis.forecasts, key=lambda each: each.above_best)
        told.append(f"{axis.study} over {axis.axis}: {name_of((best.rule, best.way))}")
    return "Cheapest on each: " + "; ".join(told) + "."


def _summary(found: Comparison) -> Section:
    return Section(
        "All axes",
        "Mean loss above the lowest that any rule reached at the largest level, on the axes where both a way and "
        "fitting were tried.",
        ("way", "its loss (nats)", "fitting's (nats)", "axes"),
        [(name_of((each.rule, each.way)), f"{each.above_best:.4f}", f"{each.fitting:.4f}", str(each.axes))
         for each in found.standings()],
    )  # fmt: skip


def _axis(axis: AxisComparison) -> list[Section]:
    title = f"{axis.study}: {axis.axis}"
    shifts = {shift.rule: shift for shift in axis.shifts}
    optima = [
        (rule, level.target, *_optimum(level)) for rule, chain in axis.levels.items() for level in chain
    ]
    refused = [level.refused for chain in axis.levels.values() for level in chain if level.refused]
    drift = "; ".join(
        f"{rule} shifts the best LR by a factor {s.factor:.2f} ({s.low:.2f} to {s.high:.2f})"
        for rule, s in shifts.items()
    )
    return [
        Section(f"{title}: valleys", " ".join((f"{drift}.", *refused)),
                ("rule", "at", "best LR", "from", "to", "lowest loss"), optima, to_svg(valleys(axis)),
                f"final loss against peak LR over {axis.axis}"),
        Section(f"{title}: predicting the largest", "", (
            "way", "LR", "from", "to", "excess (nats)", "from", "to", "above the best"),
            [_row(each) for each in sorted(axis.forecasts, key=lambda each: each.above_best)]),
    ]  # fmt: skip


def _optimum(level: Level) -> Sequence[str]:
    valley = level.valley
    if valley is None:
        return "-", "-", "-", "-"
    return f"{valley.lr:.4g}", f"{valley.low:.4g}", f"{valley.high:.4g}", f"{valley.lowest_loss:.4f}"


def _row(each: Forecast) -> Sequence[str]:
    return (
        name_of((each.rule, each.way)), f"{each.lr:.4g}", f"{each.low:.4g}", f"{each.high:.4g}",
        f"{each.excess:.4f}", f"{each.excess_low:.4f}", f"{each.excess_high:.4f}", f"{each.above_best:+.4f}",
    )  # fmt: skip
