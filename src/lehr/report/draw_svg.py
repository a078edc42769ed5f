"""Charts drawn as SVG for pages: an SVG a panel, coloured by the style sheet of the page, for light and dark alike.

The legend is a list, which wraps on narrow screens. No script, no address; dots tell their numbers when pointed at.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import numpy as np

from lehr.drawing import thin
from lehr.report.chart import Axis, Chart, Panel, Series, plain_text
from lehr.report.palette import DASHES, MARKERS, THEMES, Theme
from lehr.report.ticks import linear_ticks, log_ticks, tick_text

WIDTH, HEIGHT = 560.0, 250.0  # of a panel, in units of the drawing; HEIGHT is that of a panel of height 1
LEFT, RIGHT, ABOVE, BELOW = 84.0, 22.0, 32.0, 56.0  # margins, for the larger letters of narrow screens too
LETTER = 10.5  # width of a letter of a name beside an axis
WIDEST = 215.0  # margin for names
BUCKETS = 150  # of a line's width, each with its lowest and highest value: no spike is lost
EDGE = 0.04  # of the span, left free beyond the outermost points
DASH_ARRAYS = {
    "solid": "",
    "dash": "7 3",
    "dot": "2 3",
    "dashdot": "7 3 2 3",
    "longdash": "12 4",
    "longdashdot": "12 4 2 4",
}
SHAPES = {
    "circle": "M-3.2 0a3.2 3.2 0 1 0 6.4 0a3.2 3.2 0 1 0-6.4 0z", "square": "M-2.8-2.8h5.6v5.6h-5.6z",
    "diamond": "M0-4L4 0L0 4L-4 0z", "triangle-up": "M0-3.8L3.8 3L-3.8 3z", "triangle-down": "M0 3.8L3.8-3L-3.8-3z",
    "cross": "M-3.2-1h2.2v-2.2h2v2.2h2.2v2h-2.2v2.2h-2v-2.2h-2.2z",
}  # fmt: skip


def draw(chart: Chart) -> tuple[str, ...]:
    """Draw every panel of `chart`: an SVG each, to be styled by `style_sheet`."""
    shared = [one.x for panel in chart.panels for one in panel.series] if chart.share_x else None
    return tuple(_panel(panel, shared) for panel in chart.panels)


def legend(chart: Chart) -> tuple[tuple[str, str], ...]:
    """Name and a small picture (SVG) of every named group of series, in order."""
    named: dict[str, list[Series]] = {}
    for panel in chart.panels:
        for one in panel.series:
            if one.name:
                named.setdefault(one.name, []).append(one)
    return tuple((plain_text(name), _swatch(mine)) for name, mine in named.items())


def style_sheet() -> str:
    """Colours of the light theme, and of the dark one where the reader prefers it; templates/figures.css uses them."""
    light, dark = (_colours(THEMES[name]) for name in ("light", "dark"))
    dashes = "".join(
        f".c{i}.l{{stroke-dasharray:{DASH_ARRAYS[dash]}}}\n"
        for i, dash in enumerate(DASHES)
        if DASH_ARRAYS[dash]
    )
    tones = "".join(f".c{i} {{ --c: var(--c{i}); }}\n" for i in range(len(DASHES)))
    dark_too = f"@media screen and (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    return f":root {{ {light} }}\n{dark_too}{tones}{dashes}"


def _colours(theme: Theme) -> str:
    named = {"paper": theme.background, "ink": theme.ink, "quiet": theme.quiet, "grid": theme.grid}
    named |= {f"c{i}": colour for i, colour in enumerate(theme.colours)}
    return "".join(f"--{name}:{colour};" for name, colour in named.items())


@dataclass(frozen=True)
class _Scale:
    """One axis: from numbers to units of the drawing."""

    axis: Axis
    low: float
    high: float
    start: float
    end: float

    def __call__(self, values: np.ndarray) -> np.ndarray:
        values = np.asarray(values, dtype=float)
        values = np.where(np.isfinite(values) & ((values > 0) | (not self.axis.log)), values, np.nan)
        values = np.log(values) if self.axis.log else values
        low, high = (math.log(v) if self.axis.log else v for v in (self.low, self.high))
        # what lies far outside is drawn a little outside: huge coordinates upset renderers
        share = np.clip((values - low) / (high - low), -3.0, 4.0)
        return self.start + share * (self.end - self.start)

    def ticks(self) -> list[float]:
        """Places of the ticks."""
        if self.axis.names:
            return [float(i) for i in range(len(self.axis.names))]
        if self.axis.ticks:
            return list(self.axis.ticks)
        return log_ticks(self.low, self.high) if self.axis.log else linear_ticks(self.low, self.high)

    def texts(self) -> list[str]:
        """What is written at the ticks."""
        if self.axis.names:
            return [plain_text(name, 24) for name in self.axis.names]
        ticks = self.ticks()
        return [tick_text(tick, ticks) for tick in ticks]


def _scale(axis: Axis, values: list[np.ndarray], start: float, end: float) -> _Scale:
    """The scale that shows all finite `values`, or the axis's own limits."""
    every = np.concatenate(values) if values else np.zeros(0)
    every = every[np.isfinite(every) & ((every > 0) | (not axis.log))]
    low, high = (float(every.min()), float(every.max())) if every.size else (1.0, 2.0)
    if axis.limits and all(map(math.isfinite, axis.limits)):
        low, high = axis.limits
    elif axis.log:
        room = max((high / low) ** EDGE, 1.02)
        low, high = low / room, high * room
    else:
        room = EDGE * (high - low)
        low, high = low - room if low != 0 else low, high + room
    if not high > low:
        low, high = (
            (low / 1.5, high * 1.5) if axis.log else (low - 0.5 * abs(low or 1), high + 0.5 * abs(high or 1))
        )
    return _Scale(axis, low, high, start, end)


def _panel(panel: Panel, shared: list[np.ndarray] | None) -> str:
    """One panel; the places along x that it must show are `shared` with others, or its own."""
    height = ABOVE + BELOW + HEIGHT * panel.height - 60
    left = LEFT
    if panel.y.names:
        left = min(max(LETTER * max(len(plain_text(n, 24)) for n in panel.y.names) + 14, LEFT), WIDEST + 40)
    foot = height - BELOW
    x = _scale(panel.x, shared or [one.x for one in panel.series], left, WIDTH - RIGHT)
    y = _scale(
        panel.y, [v for one in panel.series for v in (one.y, one.low, one.high) if v is not None], foot, ABOVE
    )
    inside = f'x="{left}" y="{ABOVE}" width="{WIDTH - RIGHT - left}" height="{foot - ABOVE:.0f}"'
    box = f"{left} {ABOVE} {WIDTH - RIGHT - left} {foot - ABOVE:.0f}"
    drawn = "".join(_SERIES[one.kind](one, x, y, foot) for one in panel.series)
    return (
        f'<svg class="panel" viewBox="0 0 {WIDTH:.0f} {height:.0f}" aria-hidden="true">{_axes(x, y, panel, left, foot)}'
        f'<svg {inside} viewBox="{box}" overflow="hidden">{drawn}</svg></svg>'
    )


def _axes(x: _Scale, y: _Scale, panel: Panel, left: float, foot: float) -> str:
    """Grid, ticks and the titles of both axes, that of y above it: turned text is hard to read."""
    parts = []
    for place, text in zip(x(np.array(x.ticks())).tolist(), x.texts(), strict=True):
        parts.append(f'<path class="g" d="M{place:.1f} {ABOVE}V{foot:.0f}"/>')
        parts.append(f'<text x="{place:.1f}" y="{foot + 20:.0f}" text-anchor="middle">{escape(text)}</text>')
    for place, text in zip(y(np.array(y.ticks())).tolist(), y.texts(), strict=True):
        parts.append(f'<path class="g" d="M{left} {place:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text x="{left - 8}" y="{place + 5:.1f}" text-anchor="end">{escape(text)}</text>')
    title = f"{panel.title}: {panel.y.title}" if panel.title else panel.y.title
    parts.append(f'<path class="a" d="M{left} {ABOVE}V{foot:.0f}H{WIDTH - RIGHT}"/>')
    parts.append(f'<text class="at" x="4" y="19">{escape(plain_text(title, 60))}</text>')
    parts.append(
        f'<text class="at" x="{WIDTH - RIGHT}" y="{foot + 45:.0f}" text-anchor="end">'
        f"{escape(plain_text(panel.x.title, 60))}</text>"
    )
    return "".join(parts)


def _tone(one: Series) -> str:
    return "cq" if one.colour < 0 else f"c{one.colour % len(DASHES)}"


def _title(text: str) -> str:
    return f"<title>{escape(plain_text(text, 160))}</title>"


def _path(x: np.ndarray, y: np.ndarray) -> str:
    """A path through the finite points, broken where one is missing."""
    parts, pen = [], "M"
    for a, b in zip(x.tolist(), y.tolist(), strict=True):
        if math.isfinite(a) and math.isfinite(b):
            parts.append(f"{pen}{a:.1f} {b:.1f}")
            pen = "L"
        else:
            pen = "M"
    return "".join(parts)


def _line(one: Series, x: _Scale, y: _Scale, foot: float) -> str:
    assert one.y is not None
    whole = np.isfinite(one.y).all()
    across, up = thin(one.x, one.y, BUCKETS) if whole else (one.x, one.y)
    a, b = x(across), y(up)
    if one.kind == "steps":  # held until the next
        a, b = np.repeat(a, 2)[1:], np.repeat(b, 2)[:-1]
    return f'<path class="{_tone(one)} l" d="{_path(a, b)}">{_title(one.name)}</path>'


def _dots(one: Series, x: _Scale, y: _Scale, foot: float) -> str:
    assert one.y is not None
    across, up = thin(one.x, one.y, BUCKETS) if one.low is None else (one.x, one.y)
    parts = []
    if one.low is not None and one.high is not None:
        bars = zip(x(one.x).tolist(), y(one.low).tolist(), y(one.high).tolist(), strict=True)
        parts.append("".join(
            f"M{a:.1f} {b:.1f}V{c:.1f}" for a, b, c in bars if all(map(math.isfinite, (a, b, c)))))  # fmt: skip
        parts = [f'<path class="{_tone(one)} e" d="{parts[0]}"/>']
    shape = SHAPES[MARKERS[max(one.colour, 0) % len(MARKERS)]]
    size = "" if len(across) <= 60 else "scale(.6)"
    for a, b, told_x, told_y in zip(
        x(across).tolist(), y(up).tolist(), across.tolist(), up.tolist(), strict=True
    ):
        if math.isfinite(a) and math.isfinite(b):
            told = f"{one.name}: {x.axis.label} {told_x:.6g}"
            told += "" if y.axis.names else f", {y.axis.label} {told_y:.5g}"
            place = f"translate({a:.1f} {b:.1f}){size}"
            parts.append(
                f'<path class="{_tone(one)} m" transform="{place}" d="{shape}">{_title(told)}</path>'
            )
    return "".join(parts)


def _band(one: Series, x: _Scale, y: _Scale, foot: float) -> str:
    assert one.low is not None and one.high is not None
    keep = np.isfinite(one.low) & np.isfinite(one.high)
    if keep.sum() < 2:
        return ""
    across = np.concatenate([x(one.x[keep]), x(one.x[keep])[::-1]])
    up = np.concatenate([y(one.high[keep]), y(one.low[keep])[::-1]])
    return f'<path class="{_tone(one)} b" d="{_path(across, up)}z">{_title(f"{one.name}, band")}</path>'


def _span(one: Series, x: _Scale, y: _Scale, foot: float) -> str:
    a, b = sorted(x(one.x).tolist())
    if not (math.isfinite(a) and math.isfinite(b)):
        return ""
    told = _title(f"{one.name}: {one.x[0]:.4g} to {one.x[1]:.4g}")
    wide = max(b - a, 1.5)
    place = f'x="{a:.1f}" y="{ABOVE}" width="{wide:.1f}" height="{foot - ABOVE:.0f}"'
    return f'<rect class="{_tone(one)} b" {place}>{told}</rect>'


def _rule(one: Series, x: _Scale, y: _Scale, foot: float) -> str:
    return "".join(
        f'<path class="{_tone(one)} l" d="M{place:.1f} {ABOVE}V{foot:.0f}">{_title(f"{one.name}: {value:.5g}")}</path>'
        for place, value in zip(x(one.x).tolist(), one.x.tolist(), strict=True)
        if math.isfinite(place)
    )


_SERIES: dict[str, Callable[[Series, _Scale, _Scale, float], str]] = {
    "line": _line, "steps": _line, "dots": _dots, "band": _band, "span": _span, "rule": _rule,
}  # fmt: skip


def _swatch(mine: list[Series]) -> str:
    """Small picture of what series of one name look like."""
    kinds, first = {one.kind for one in mine}, mine[0]
    tone, parts = _tone(first), []
    if kinds & {"band", "span"}:
        parts.append(f'<rect class="{tone} b" x="1" y="1" width="32" height="12"/>')
    if kinds & {"line", "steps", "rule"}:
        parts.append(f'<path class="{tone} l" d="M1 7H33"/>')
    if "dots" in kinds:
        shape = SHAPES[MARKERS[max(first.colour, 0) % len(MARKERS)]]
        parts.append(f'<path class="{tone} m" transform="translate(17 7)" d="{shape}"/>')
    return f'<svg class="swatch" viewBox="0 0 34 14" aria-hidden="true">{"".join(parts)}</svg>'
