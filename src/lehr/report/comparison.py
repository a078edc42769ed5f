"""Figure and page of the comparison of fitting and transfer."""

from __future__ import annotations

from dataclasses import replace

from lehr.fit.result import versions
from lehr.peaklr.comparison import FITTING, AxisComparison, Comparison, Forecast, Level
from lehr.report.chart import Axis, Chart
from lehr.report.charts.lrs import lr_valleys
from lehr.report.page import to_html
from lehr.report.report import Cell, Column, Command, Part, Report, Table

ABOVE = 0.12  # nats above the lowest loss that are drawn
TIE = 0.0015  # nats: what two runs of one configuration differ by
WAYS = {"keep": "the base's best LR", "fit": "a line through the smaller ones"}


def valleys(axis: AxisComparison) -> Chart:
    """Final loss over the peak LR of the base, a panel a rule, a colour a level."""
    named = {
        rule: {level.target: level.valley for level in chain if level.valley}
        for rule, chain in axis.levels.items()
    }
    charts = {rule: lr_valleys(mine) for rule, mine in named.items() if mine}
    lowest = [valley.lowest_loss for mine in named.values() for valley in mine.values()]
    limits = (min(lowest) - 0.1 * ABOVE, max(lowest) + ABOVE)
    panels = [
        replace(
            chart.panels[0], title=rule, x=Axis("peak LR of the base", log=True),
            y=replace(chart.panels[0].y, limits=limits),
        )
        for rule, chart in charts.items()
    ]  # fmt: skip
    alt = " ".join(f"{rule}: {chart.alt}" for rule, chart in charts.items())
    return Chart("lr_valleys", "", alt, tuple(panels), columns=len(panels))


def page(found: Comparison, command: str) -> str:
    """Return the report as HTML."""
    parts = [_summary(found), *(_axis(axis) for axis in found.axes)]
    facts = {"intervals": "90 %, by draws of each optimum within its valley's deviation"}
    return to_html(Report(
        "The peak LR: fitting or transfer?", "", conclusion(found), parts=tuple(parts),
        commands=(Command("make this report", command),), facts={**facts, **versions()},
    ))  # fmt: skip


def conclusion(found: Comparison) -> str:
    """Say which way to trust here, what either costs, and what was cheapest on each axis."""
    rules = [each for each in found.standings() if each.way == "keep" and each.rule != FITTING[0]]
    if not rules:
        return (
            "Fitting and transfer stand beside each other on no axis: fitting needs two smaller levels without a "
            f"rule of transfer (sp), transfer a rule at the same levels. {_per_axis(found)}"
        )
    # by its own cost: what it gains on fitting is of its axes, and one where all else fails would decide
    best = min(rules, key=lambda each: each.above_best)
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


def _summary(found: Comparison) -> Part:
    rows = tuple(
        (name_of((each.rule, each.way)), each.above_best, each.fitting, each.axes)
        for each in found.standings()
    )
    return Part("all", "All axes", (
        "Mean loss above the lowest that any rule reached at the largest level, on the axes where both a way and "
        "fitting were tried.",
    ), tables=(Table("standings", "Ways, by what they cost", (
        Column("way", "way"), Column("above_best", "its loss (nats)", ".4f"),
        Column("fitting", "fitting's (nats)", ".4f"), Column("axes", "axes")), rows),))  # fmt: skip


def _axis(axis: AxisComparison) -> Part:
    refused = [level.refused for chain in axis.levels.values() for level in chain if level.refused]
    drift = "; ".join(
        f"{s.rule} shifts the best LR by a factor {s.factor:.2f} ({s.low:.2f} to {s.high:.2f})"
        for s in axis.shifts
    )
    optima = tuple(
        (rule, level.target, *_optimum(level)) for rule, chain in axis.levels.items() for level in chain
    )
    forecasts = tuple(map(_row, sorted(axis.forecasts, key=lambda each: each.above_best)))
    return Part(
        f"{axis.study}/{axis.axis}", f"{axis.study}: {axis.axis}", (f"{drift}.", *refused), (valleys(axis),), (
            Table("optima", "Valleys", (
                Column("rule", "rule"), Column("target", "at"), Column("lr", "best LR", ".4g"),
                Column("low", "from", ".4g"), Column("high", "to", ".4g"),
                Column("lowest_loss", "lowest loss", ".4f")), optima),
            Table("forecasts", "Predicting the largest", (
                Column("way", "way"), Column("lr", "LR", ".4g"), Column("low", "from", ".4g"),
                Column("high", "to", ".4g"), Column("excess", "excess (nats)", ".4f"),
                Column("excess_low", "from", ".4f"), Column("excess_high", "to", ".4f"),
                Column("above_best", "above the best", "+.4f")), forecasts)),
    )  # fmt: skip


def _optimum(level: Level) -> tuple[Cell, ...]:
    valley = level.valley
    return (valley.lr, valley.low, valley.high, valley.lowest_loss) if valley else (None,) * 4


def _row(each: Forecast) -> tuple[Cell, ...]:
    return (
        name_of((each.rule, each.way)), each.lr, each.low, each.high, each.excess, each.excess_low, each.excess_high,
        each.above_best,
    )  # fmt: skip
