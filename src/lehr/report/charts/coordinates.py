"""A coordinate check: how large every part is against each scale, and how changes grow with updates."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from lehr.errors import InputError
from lehr.report.chart import Axis, Chart, Kind, Panel, Series
from lehr.transfer.slopes import JUDGED, STREAM, TOLERANCE, Measure, Reading, Trend, Verdict

FAMILIES = {  # by how the names of parts begin
    "attention": ("query", "key", "value", "attention"),
    "feed-forward, experts": ("ffn", "expert", "shared"),
    "logits, router": ("logits", "router"),
    "embedding, stream": ("embedding", STREAM),
}
TITLES: dict[Measure, str] = {
    "size": "size of activations", "change": "change since initialisation", "update": "effect of updates",
}  # fmt: skip
GROWING: dict[str, Kind] = {STREAM: "line", "logits": "dots"}
NAMED = 2  # of what is off in a panel's title, those with the steepest slopes
LEAST = 2.5  # factor about 1 that is shown at least: noise alone should not fill a panel
EDGE = 1.1


def coordinate_check(verdicts: Sequence[Verdict], readings: Sequence[Reading], title: str = "") -> Chart:
    """Sizes of all parts against each scale, per that of the smallest model; level is what the rule promises.

    Dots are measured, lines are the fitted slopes; the grey cone holds slopes that pass, and the title of a panel names
    what leaves it. The last panel of a scale has changes against updates, of the smallest and of the largest model,
    and greyed of those between.

    Parameters
    ----------
    verdicts : one a scale.
    readings : all that was measured.

    Raises
    ------
    InputError
        If there is no verdict.
    """
    if not verdicts:
        raise InputError("there is no scale to draw: give at least one verdict.")
    panels: list[Panel] = []
    for verdict in verdicts:
        for measure in JUDGED:
            mine = [trend for trend in verdict.trends if trend.measure == measure]
            panels.append(_slopes(mine, TITLES[measure]))
        panels.append(_growth([each for each in readings if each.scale == verdict.scale], verdict.scale))
    told = " ".join(f"It {verdict.text}" for verdict in verdicts)
    alt = f"Sizes of a model's parts against its {' and '.join(v.scale for v in verdicts)}. {told}"
    return Chart("coordinate_check", title, alt, tuple(panels), columns=2)


def _slopes(trends: Sequence[Trend], title: str) -> Panel:
    """One measure of every part."""
    sizes = np.array(trends[0].sizes, float)
    span = sizes / sizes[0]
    series = [
        Series("slopes that pass", "band", "reference", -1, sizes, low=span**-TOLERANCE, high=span**TOLERANCE)
    ]
    for trend in trends:
        values = np.array(trend.values) / trend.values[0]
        level = math.exp(np.mean(np.log(values)) - trend.slope * np.mean(np.log(span)))
        name, colour = _family(trend.part)
        series += [
            Series(name, "line", "fitted", colour, sizes, level * span**trend.slope),
            Series(name, "dots", "measured", colour, sizes, values),
        ]
    drawn = np.concatenate([one.y for one in series if one.y is not None])
    limits = min(drawn.min() / EDGE, 1 / LEAST), max(drawn.max() * EDGE, LEAST)
    return Panel(
        _sizes(trends[0].scale, trends[0].sizes), Axis("per the smallest", log=True, limits=limits), tuple(series),
        title + _off(trends),
    )  # fmt: skip


def _off(trends: Iterable[Trend]) -> str:
    """What is not level, the steepest first."""
    off = sorted((each for each in trends if not each.level), key=lambda each: -abs(each.slope))
    named = [f"{each.part} {each.slope:+.2f}" for each in off[:NAMED]]
    more = [f"{len(off) - NAMED} more"] if len(off) > NAMED else []
    return f"; off: {', '.join(named + more)}" if off else ""


def _growth(readings: Sequence[Reading], scale: str) -> Panel:
    """How the stream and the logits change with updates."""
    found: dict[tuple[str, int], dict[int, list[float]]] = defaultdict(lambda: defaultdict(list))
    for each in readings:
        if each.step and each.measure == "change" and each.part in GROWING:
            found[each.part, each.size][each.step].append(math.log(each.value))
    sizes = sorted({size for _, size in found})
    ends = {sizes[0]: ("smallest", len(FAMILIES)), sizes[-1]: ("largest", len(FAMILIES) + 1)}
    series: list[Series] = []
    for (part, size), changes in sorted(
        found.items(), key=lambda item: item[0][1] in ends
    ):  # greyed ones behind
        which, colour = ends.get(size, ("", -1))
        name = f"{part}, {which}" if which else ""
        values = np.exp([np.mean(logs) for logs in changes.values()])
        series.append(Series(name, GROWING[part], "measured", colour, np.array(list(changes)), values))
    steps = sorted({each.step for each in readings if each.step})
    title = f"{scale}: change against updates"
    return Panel(_sizes("updates", steps), Axis("change", log=True), tuple(series), title)


def _sizes(label: str, sizes: Sequence[int]) -> Axis:
    limits = sizes[0] / EDGE, sizes[-1] * EDGE
    return Axis(label, log=True, limits=limits, ticks=tuple(float(size) for size in sizes))


def _family(part: str) -> tuple[str, int]:
    """Name and colour of the family of a part; a part of none goes by its own name, without colour."""
    for colour, (name, starts) in enumerate(FAMILIES.items()):
        if part.startswith(starts):
            return name, colour
    return part, -1
