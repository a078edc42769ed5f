"""Figure of a coordinate check: a row a scale, a column a measure, and how changes grow with updates."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator

from lehr.report.draw_matplotlib import plain
from lehr.report.figures import COLOURS, STYLE
from lehr.transfer.slopes import JUDGED, STREAM, TOLERANCE, Measure, Reading, Trend, Verdict

FAMILIES = {  # by how the names of parts begin
    "attention": (COLOURS[0], ("query", "key", "value", "attention")),
    "feed-forward, experts": (COLOURS[2], ("ffn", "expert", "shared")),
    "logits, router": (COLOURS[1], ("logits", "router")),
    "embedding, stream": (COLOURS[6], ("embedding", STREAM)),
}
TITLES: dict[Measure, str] = {
    "size": "size of activations", "change": "change since initialisation", "update": "effect of a matrix's updates",
}  # fmt: skip
LABELLED = 4  # of what is off in a panel, those with the steepest slopes


def coordinates(verdicts: Sequence[Verdict], readings: Sequence[Reading], title: str) -> Figure:
    """Sizes of all parts against each scale, per that of the smallest model; level is what the rule promises.

    Dots are measured, lines are the fitted slopes; the grey cone holds slopes that pass, and what leaves it is
    labelled. The last column has changes against updates, one line a size.
    """
    rows = len(verdicts)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(13, 3.1 * rows + 0.7), layout="constrained")
        grid = figure.subplots(rows, len(JUDGED) + 1, squeeze=False)
        for row, verdict in zip(grid, verdicts, strict=True):
            for axes, measure in zip(row, JUDGED, strict=False):
                mine = [trend for trend in verdict.trends if trend.measure == measure]
                _panel(axes, mine, f"{verdict.scale}")
                axes.set_title(TITLES[measure], loc="left", fontsize=10)
            _growth(row[-1], [each for each in readings if each.scale == verdict.scale])
        for name, (colour, _) in FAMILIES.items():
            grid[0, 0].plot([], [], "o-", color=colour, markersize=3, label=name)
        grid[0, 0].legend(fontsize=7)
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=10)
    return figure


def _panel(axes: Axes, trends: Sequence[Trend], scale: str) -> None:
    """Draw one measure of every part."""
    sizes = np.array(trends[0].sizes, float)
    span = sizes / sizes[0]
    axes.fill_between(sizes, span**-TOLERANCE, span**TOLERANCE, color="0.85", linewidth=0)
    steepest = sorted((t for t in trends if not t.level), key=lambda t: -abs(t.slope))[:LABELLED]
    ends = {}
    for trend in trends:
        values = np.array(trend.values) / trend.values[0]
        level = math.exp(np.mean(np.log(values)) - trend.slope * np.mean(np.log(span)))
        colour = _colour(trend.part)
        axes.plot(sizes, level * span**trend.slope, color=colour, linewidth=0.8 if trend.level else 1.6)
        axes.plot(sizes, values, ".", color=colour, markersize=4)
        if trend in steepest:
            ends[f" {plain(trend.part)} {trend.slope:+.2f}"] = level * span[-1] ** trend.slope
    axes.set_yscale("log")
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, 0.4), max(high, 2.5))  # noise alone should not fill the panel
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.yaxis.set_minor_locator(NullLocator())
    _sizes(axes, trends[0].sizes, scale, room=1.6 if steepest else 1.05)
    axes.set_ylabel("per that of the smallest")
    for (text, _), place in zip(ends.items(), _apart(list(ends.values()), axes.get_ylim()), strict=True):
        axes.annotate(text, (sizes[-1], place), fontsize=7, va="center")


def _apart(values: Sequence[float], limits: tuple[float, float]) -> list[float]:
    """Move values up, on a logarithmic axis, until labels at them do not overlap; in the order given."""
    gap = (limits[1] / limits[0]) ** 0.055
    places: dict[int, float] = {}
    for i in sorted(range(len(values)), key=values.__getitem__):
        places[i] = max([values[i], *(gap * place for place in places.values())])
    return [places[i] for i in range(len(values))]


def _growth(axes: Axes, readings: Sequence[Reading]) -> None:
    """Draw how the stream and the logits change with updates."""
    found: dict[tuple[str, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in readings:
        if each.step and each.measure == "change" and each.part in (STREAM, "logits"):
            found[each.part, each.size][each.step].append(math.log(each.value))
    sizes = sorted({size for _, size in found})
    for (part, size), steps in found.items():
        shade = 0.3 + 0.7 * (sizes.index(size) + 1) / len(sizes)
        values = [math.exp(np.mean(logs)) for logs in steps.values()]
        label = f"{part}, {size}" if size in (sizes[0], sizes[-1]) else None
        axes.plot(
            list(steps),
            values,
            ".-",
            color=_colour(part),
            alpha=shade,
            linewidth=1,
            markersize=4,
            label=label,
        )
    axes.set_yscale("log")
    axes.set_title("change against updates", loc="left", fontsize=10)
    _sizes(axes, sorted({each.step for each in readings if each.step}), "updates", room=1.05)
    axes.legend(fontsize=7)


def _sizes(axes: Axes, sizes: Sequence[int], label: str, room: float) -> None:
    axes.set_xscale("log")
    axes.set_xticks(sizes, [str(size) for size in sizes])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlim(sizes[0] / 1.05, sizes[-1] * room)
    axes.set_xlabel(label)


def _colour(part: str) -> str:
    return next((colour for colour, starts in FAMILIES.values() if part.startswith(starts)), COLOURS[3])
