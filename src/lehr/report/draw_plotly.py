"""Charts drawn by plotly, for pages: a figure as JSON values, without a script of its own.

Texts in plotly are a kind of HTML (bold, links, line breaks): names are escaped, so that they show as they are.
"""

from __future__ import annotations

import html
import math
from typing import Any

import numpy as np

from lehr.errors import unknown
from lehr.report.chart import LONGEST, Axis, Chart, Panel, Series, lines_of, plain_text
from lehr.report.palette import DASHES, MARKERS, THEMES, Theme, colour_of
from lehr.report.ticks import log_ticks, tick_text

FEW_DOTS = 60
GAP = 0.11  # share of the width between panels
HEIGHT = 260  # pixels of a panel
BETWEEN, SHARING = (
    62,
    30,
)  # pixels between rows of panels, and where they share the x axis, beside their headings
LINE, LEGEND_LINE = 18, 22  # pixels of a line of a heading, and of the legend
LETTERS = 110  # of text side by side in a figure of usual width
KEY = 8  # letters that the sign of a name takes in the legend
SHOWN = (
    "line",
    "steps",
    "dots",
    "rule",
    "band",
    "span",
)  # which kind stands in the legend where a name has several


def draw(chart: Chart, theme: str = "light") -> dict[str, Any]:
    """Return `chart` as plotly's figure: {"data": [...], "layout": {...}}, JSON values alone.

    `layout.meta` holds the chart's kind and its alternative text, escaped as HTML as all texts are.

    Parameters
    ----------
    chart : what to draw.
    theme : "light" or "dark".

    Raises
    ------
    InputError
        If the theme is unknown.
    """
    if theme not in THEMES:
        raise unknown("theme", theme, THEMES)
    colours = THEMES[theme]
    data: list[dict[str, Any]] = []
    layout = _layout(chart, colours)
    shown = _in_legend(chart)
    for number, (panel, place) in enumerate(zip(chart.panels, _places(chart), strict=True), 1):
        layout |= _axes(chart, panel, number, place, colours)
        if panel.title:
            layout["annotations"].append(_heading(panel.title, place, LETTERS // chart.columns))
        for one in panel.series:
            data += _traces(one, number, panel, colours, legend=one is shown.get(one.name))
    return {"data": data, "layout": layout}


def _in_legend(chart: Chart) -> dict[str, Series]:
    """The series by which a name stands in the legend."""
    shown: dict[str, Series] = {}
    for one in (series for panel in chart.panels for series in panel.series if series.name):
        if one.name not in shown or SHOWN.index(one.kind) < SHOWN.index(shown[one.name].kind):
            shown[one.name] = one
    return shown


def escape(name: str, longest: int = LONGEST) -> str:
    """Return `name` as short text to plotly: nothing in it is a tag, an entity, mathematics or a control character."""
    text = html.escape(plain_text(name, longest), quote=False)
    return text.replace("$", "&#36;")  # two of them would make plotly look for MathJax


def _layout(chart: Chart, theme: Theme) -> dict[str, Any]:
    top = 15 + (30 if chart.title else 0) + LINE * _heading_lines(chart)
    letters = sum(len(plain_text(name)) + KEY for name in _in_legend(chart))
    bottom = 55 + LEGEND_LINE * math.ceil(letters / LETTERS)
    return {
        "title": {"text": escape(chart.title), "x": 0.01, "xanchor": "left", "y": 1, "yanchor": "top",
                  "yref": "container", "pad": {"t": 12}, "font": {"size": 15}},
        "paper_bgcolor": theme.background, "plot_bgcolor": theme.background,
        "font": {"color": theme.ink, "size": 12}, "height": round(sum(_rows(chart))) + top + bottom,
        "margin": {"l": 65, "r": 15, "t": top, "b": bottom},
        "legend": {"orientation": "h", "yref": "container", "y": 0, "yanchor": "bottom", "x": 0},
        "hovermode": "closest", "annotations": [], "meta": {"kind": chart.kind, "alt": escape(chart.alt, 2000)},
    }  # fmt: skip


def _heading_lines(chart: Chart) -> int:
    return max(len(lines_of(panel.title, LETTERS // chart.columns)) for panel in chart.panels)


def _rows(chart: Chart) -> list[float]:
    """Pixels of each row of panels and of the gaps between them, from above."""
    gap = SHARING if chart.share_x else BETWEEN
    out: list[float] = []
    for i in range(0, len(chart.panels), chart.columns):
        tall = HEIGHT * max(panel.height for panel in chart.panels[i : i + chart.columns])
        out += [gap + LINE * _heading_lines(chart), tall] if i else [tall]
    return out


def _places(chart: Chart) -> list[tuple[tuple[float, float], tuple[float, float]]]:
    """Domain in x and y of each panel, shares of the figure."""
    rows, columns = _rows(chart), chart.columns
    wide, whole = (1 - GAP * (columns - 1)) / columns, sum(rows)
    out = []
    for i in range(len(chart.panels)):
        row, column = divmod(i, columns)
        left, top = column * (wide + GAP), 1 - sum(rows[: 2 * row]) / whole
        out.append(((left, left + wide), (max(0.0, top - rows[2 * row] / whole), min(1.0, top))))
    return out


def _axes(chart: Chart, panel: Panel, number: int, place: Any, theme: Theme) -> dict[str, Any]:
    end = "" if number == 1 else str(number)
    x, y = _axis(panel.x, theme, _reach(panel, "x")), _axis(panel.y, theme, _reach(panel, "y"))
    x |= {"domain": list(place[0]), "anchor": f"y{end}"}
    y |= {"domain": list(place[1]), "anchor": f"x{end}"}
    if chart.share_x:
        last = len(chart.panels) - chart.columns + (number - 1) % chart.columns + 1
        if number != last:
            x |= {"matches": f"x{last}", "showticklabels": False, "title": {"text": ""}}
    return {f"xaxis{end}": x, f"yaxis{end}": y}


def _axis(axis: Axis, theme: Theme, reach: tuple[float, float]) -> dict[str, Any]:
    out: dict[str, Any] = {
        "title": {"text": escape(axis.title)}, "type": "log" if axis.log else "linear", "gridcolor": theme.grid,
        "linecolor": theme.quiet, "showline": True, "zeroline": False, "ticks": "outside", "automargin": True,
    }  # fmt: skip
    if axis.limits:
        out["range"] = [float(np.log10(v)) if axis.log else float(v) for v in axis.limits]
    if axis.names:
        out |= {"tickmode": "array", "tickvals": list(range(len(axis.names))),
                "ticktext": [escape(name) for name in axis.names]}  # fmt: skip
    elif axis.log or axis.ticks:
        ticks = list(axis.ticks) or log_ticks(*reach)
        out |= {
            "tickmode": "array",
            "tickvals": ticks,
            "ticktext": [tick_text(tick, ticks) for tick in ticks],
        }
    return out


def _heading(title: str, place: Any, room: int) -> dict[str, Any]:
    return {"text": "<br>".join(map(escape, lines_of(title, room))), "x": place[0][0], "y": place[1][1],
            "xref": "paper", "yref": "paper", "align": "left", "xanchor": "left", "yanchor": "bottom",
            "showarrow": False}  # fmt: skip


def _traces(one: Series, number: int, panel: Panel, theme: Theme, legend: bool) -> list[dict[str, Any]]:
    end = "" if number == 1 else str(number)
    colour = colour_of(theme, one.colour)
    base = {"type": "scatter", "xaxis": f"x{end}", "yaxis": f"y{end}", "name": escape(one.name),
            "legendgroup": escape(one.name), "showlegend": legend,
            "meta": {"role": one.role, "kind": one.kind}}  # fmt: skip
    return _DRAW[one.kind](one, base, colour, panel)


def _line(one: Series, base: dict[str, Any], colour: str, panel: Panel) -> list[dict[str, Any]]:
    dash = DASHES[one.colour % len(DASHES)] if one.colour >= 0 else "dash"
    return [{**base, "mode": "lines", "x": _numbers(one.x), "y": _numbers(one.y), "hovertemplate": _hover(one, panel),
             "line": {"color": colour, "width": 1.8, "dash": dash,
                      "shape": "hv" if one.kind == "steps" else "linear"}}]  # fmt: skip


def _dots(one: Series, base: dict[str, Any], colour: str, panel: Panel) -> list[dict[str, Any]]:
    few = len(one.x) <= FEW_DOTS
    symbol = MARKERS[one.colour % len(MARKERS)] if one.colour >= 0 else "circle"
    trace = {**base, "mode": "markers", "x": _numbers(one.x), "y": _numbers(one.y),
             "hovertemplate": _hover(one, panel),
             "marker": {"color": colour, "symbol": symbol, "size": 8 if few else 4}}  # fmt: skip
    if one.low is not None and one.high is not None and one.y is not None:
        trace["error_y"] = {"type": "data", "symmetric": False, "array": _numbers(one.high - one.y),
                            "arrayminus": _numbers(one.y - one.low), "thickness": 1.2, "width": 3}  # fmt: skip
    return [trace]


def _band(one: Series, base: dict[str, Any], colour: str, panel: Panel) -> list[dict[str, Any]]:
    """One closed outline, so that a band is one trace."""
    assert one.low is not None and one.high is not None
    return [{**base, "mode": "lines", "x": _numbers(np.concatenate([one.x, one.x[::-1]])),
             "y": _numbers(np.concatenate([one.high, one.low[::-1]])), "fill": "toself",
             "fillcolor": _clear(colour, 0.2), "line": {"width": 0, "color": colour}, "hoverinfo": "skip"}]  # fmt: skip


def _span(one: Series, base: dict[str, Any], colour: str, panel: Panel) -> list[dict[str, Any]]:
    low, high = _reach(panel, "y")
    a, b = map(float, one.x)
    outline = {"x": [a, b, b, a, a], "y": [low, low, high, high, low], "fill": "toself"}
    return [{**base, "mode": "lines", **outline,
             "fillcolor": _clear(colour, 0.15), "line": {"width": 0, "color": colour},
             "hoverinfo": "skip"}]  # fmt: skip


def _rule(one: Series, base: dict[str, Any], colour: str, panel: Panel) -> list[dict[str, Any]]:
    low, high = _reach(panel, "y")
    x: list[float | None] = []
    y: list[float | None] = []
    for place in one.x:
        x += [float(place), float(place), None]
        y += [low, high, None]
    return [{**base, "mode": "lines", "x": x, "y": y, "line": {"color": colour, "width": 1.6},
             "hovertemplate": f"{_word(panel.x)} %{{x:.4g}}<extra>{_literal(one.name)}</extra>"}]  # fmt: skip


_DRAW = {"line": _line, "steps": _line, "dots": _dots, "band": _band, "span": _span, "rule": _rule}


def _reach(panel: Panel, which: str) -> tuple[float, float]:
    """Lowest and highest x or y that a panel shows."""
    axis, names = (panel.x, ("x",)) if which == "x" else (panel.y, ("y", "low", "high"))
    if axis.limits:
        return axis.limits
    parts = [v for s in panel.series for name in names if (v := getattr(s, name)) is not None]
    every = np.concatenate([*parts, []])
    every = every[np.isfinite(every) & ((every > 0) | (not axis.log))]
    return (float(every.min()), float(every.max())) if every.size else (1.0, 2.0)


def _hover(one: Series, panel: Panel) -> str:
    lines = [f"{_word(panel.x)} %{{x:.6g}}", f"{_word(panel.y)} %{{y:.5g}}", one.role]
    return "<br>".join(lines) + f"<extra>{_literal(one.name)}</extra>"


def _word(axis: Axis) -> str:
    return _literal(axis.title)


def _literal(name: str) -> str:
    """Return `name` for a hover template, in which %{...} would be a variable."""
    return escape(name).replace("%", "&#37;")


def _clear(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def _numbers(values: np.ndarray | None) -> list[float | None]:
    """JSON has no infinity: what is not finite is left out."""
    assert values is not None
    return [float(v) if np.isfinite(v) else None for v in values]
