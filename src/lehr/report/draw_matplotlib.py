"""Charts drawn by matplotlib, for papers: PNG, SVG and PDF, the same bytes for the same chart."""

from __future__ import annotations

import io
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from lehr.errors import unknown
from lehr.report.chart import Axis, Chart, Panel, Series, lines_of, plain_text
from lehr.report.palette import DASHES, MARKERS, THEMES, Theme, colour_of

WIDTHS = {"one": 3.5, "two": 7.0}  # inches: one column of a paper, or both
SIZES = {"one": 7.0, "two": 8.5}  # points of the text
LETTERS = {"one": 54, "two": 96}  # of text that stand side by side
PANEL = {"one": 2.4, "two": 2.9}  # inches of height of a panel
FEW_DOTS = 60  # up to which dots are large and have markers of their own
DECADES = 1.2  # of an axis, from which only powers of ten are labelled
TICK = 6  # letters that the label of a tick takes, with the gap to the next
LINES = {
    "solid": "-", "dash": (0, (5, 2)), "dot": (0, (1, 1.4)), "dashdot": (0, (5, 1.5, 1, 1.5)),
    "longdash": (0, (9, 2.5)), "longdashdot": (0, (9, 2, 1, 2)),
}  # fmt: skip
SHAPES = {
    "circle": "o",
    "square": "s",
    "diamond": "D",
    "triangle-up": "^",
    "triangle-down": "v",
    "cross": "X",
}


def draw(chart: Chart, theme: str = "light", width: str = "two") -> Figure:
    """Draw `chart`.

    Parameters
    ----------
    chart : what to draw.
    theme : "light" or "dark".
    width : "one" or "two" columns of a paper (3.5 or 7 inches).

    Raises
    ------
    InputError
        If the theme or width is unknown.
    """
    if theme not in THEMES:
        raise unknown("theme", theme, THEMES)
    if width not in WIDTHS:
        raise unknown("width", width, WIDTHS)
    colours = THEMES[theme]
    with mpl.rc_context(style_of(colours, SIZES[width])):
        columns = chart.columns if width == "two" else 1
        rows = -(-len(chart.panels) // columns)
        heights = [
            max(panel.height for panel in chart.panels[i * columns : (i + 1) * columns]) for i in range(rows)
        ]
        size = (WIDTHS[width], PANEL[width] * sum(heights) + 0.5)
        figure = Figure(figsize=size, layout="constrained")
        grid: Any = figure.subplots(rows, columns, squeeze=False, height_ratios=heights,
                                    sharex="col" if chart.share_x else False)  # fmt: skip
        for axes, panel in zip(grid.flat, chart.panels, strict=False):
            _panel(axes, panel, colours, round(LETTERS[width] / columns))
        for axes in grid.flat[len(chart.panels) :]:
            axes.set_visible(False)
        if chart.share_x:
            for axes in grid[:-1].flat:
                axes.set_xlabel("")
        if chart.title:
            figure.suptitle(plain(chart.title), x=0.01, ha="left", fontsize=SIZES[width] + 1, wrap=True)
        _legend(figure, grid, width)
    return figure


def plain(name: str) -> str:
    """Return `name` as short text to matplotlib: no mathematics, no control characters, never left out of a legend."""
    text = plain_text(name).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def to_svg(figure: Figure) -> str:
    """Return the figure as SVG text, the same bytes for the same figure."""
    buffer = io.StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "lehr"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def to_png(figure: Figure, dpi: int = 200) -> bytes:
    """Return the figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()


def to_pdf(figure: Figure) -> bytes:
    """Return the figure as a PDF file with its fonts embedded."""
    buffer = io.BytesIO()
    with mpl.rc_context({"pdf.fonttype": 42}):
        figure.savefig(
            buffer, format="pdf", metadata={"CreationDate": None, "Creator": None, "Producer": None}
        )
    return buffer.getvalue()


def style_of(theme: Theme, size: float) -> Any:
    """Return matplotlib's settings for a theme and a size of text in points."""
    ink = ("text.color", "axes.labelcolor", "xtick.color", "ytick.color")
    return {
        "font.size": size, "axes.titlesize": size, "axes.labelsize": size, "legend.fontsize": size - 1,
        "xtick.labelsize": size - 1, "ytick.labelsize": size - 1, "axes.spines.top": False,
        "axes.spines.right": False, "axes.grid": True, "grid.linewidth": 0.5, "axes.linewidth": 0.6,
        "legend.frameon": False, "svg.fonttype": "none", "svg.hashsalt": "lehr", "axes.axisbelow": True,
        "figure.facecolor": theme.background, "savefig.facecolor": theme.background,
        "axes.facecolor": theme.background, "axes.edgecolor": theme.quiet, "grid.color": theme.grid,
        "xtick.major.width": 0.6, "ytick.major.width": 0.6, **dict.fromkeys(ink, theme.ink),
    }  # fmt: skip


def _panel(axes: Any, panel: Panel, theme: Theme, room: int) -> None:
    for one in panel.series:
        _SERIES[one.kind](axes, one, colour_of(theme, one.colour))
    _axis(axes, axes.xaxis, "x", panel.x, room)
    _axis(axes, axes.yaxis, "y", panel.y)
    if panel.title:
        axes.set_title("\n".join(map(plain, lines_of(panel.title, room))), loc="left")


def _axis(axes: Any, axis: Any, which: str, shown: Axis, room: float = np.inf) -> None:
    """Put title, limits and ticks at an axis; `room` is how many letters fit along it."""
    axis.set_label_text(plain(shown.title))
    if shown.limits:
        getattr(axes, f"set_{which}lim")(*shown.limits)
    if shown.names:
        axis.set_ticks(range(len(shown.names)), [plain(name) for name in shown.names])
    if shown.log:
        getattr(axes, f"set_{which}scale")("log")
        low, high = sorted(getattr(axes, f"get_{which}lim")())
        decades = np.log10(high / low)
        narrow = decades < 2 * DECADES and 3 * decades * TICK < room
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if narrow else (1,), numticks=12))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    if shown.ticks:
        axis.set_major_locator(FixedLocator(shown.ticks))
        axis.set_minor_locator(NullLocator())


def _line(axes: Any, one: Series, colour: str) -> None:
    axes.plot(one.x, one.y, color=colour, linewidth=1.3 if one.colour >= 0 else 0.9, label=plain(one.name),
              linestyle=LINES[DASHES[max(one.colour, 0) % len(DASHES)]] if one.colour >= 0 else (0, (4, 2)),
              drawstyle="steps-post" if one.kind == "steps" else "default")  # fmt: skip


def _dots(axes: Any, one: Series, colour: str) -> None:
    few = len(one.x) <= FEW_DOTS
    marker = SHAPES[MARKERS[max(one.colour, 0) % len(MARKERS)]]
    style = {"color": colour, "marker": marker, "linestyle": "none", "markersize": 4.5 if few else 2.2,
             "markeredgewidth": 0, "label": plain(one.name)}  # fmt: skip
    if one.low is None or one.high is None or one.y is None:
        axes.plot(one.x, one.y, alpha=1.0 if few else 0.75, **style)
    else:
        away = np.abs(np.stack([one.y - one.low, one.high - one.y]))
        axes.errorbar(one.x, one.y, yerr=away, elinewidth=1.0, capsize=2, **style)


def _band(axes: Any, one: Series, colour: str) -> None:
    axes.fill_between(one.x, one.low, one.high, color=colour, alpha=0.22, linewidth=0, label=plain(one.name))


def _span(axes: Any, one: Series, colour: str) -> None:
    axes.axvspan(*one.x, color=colour, alpha=0.16, linewidth=0, label=plain(one.name))


def _rule(axes: Any, one: Series, colour: str) -> None:
    for i, place in enumerate(one.x):
        axes.axvline(place, color=colour, linewidth=1.2, label=plain(one.name) if i == 0 else "")


_SERIES = {"line": _line, "steps": _line, "dots": _dots, "band": _band, "span": _span, "rule": _rule}


def _legend(figure: Figure, grid: Any, width: str) -> None:
    """One legend for all panels, at the foot: it covers no data and a name stands in it once."""
    shown: dict[str, list[Any]] = {}
    for axes in grid.flat:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            if label.strip():
                shown.setdefault(label, []).append(handle)
    if not shown:
        return
    longest = max(len(label) for label in shown)
    room = 46 if width == "one" else LETTERS[width]
    columns = max(1, min(len(shown), room // (longest + 7)))
    handles: Any = [tuple(_unlike(mine)) for mine in shown.values()]
    figure.legend(handles, [_fit(label, room) for label in shown], loc="outside lower center", ncols=columns,
                  handlelength=2.4)  # fmt: skip


def _unlike(handles: list[Any]) -> list[Any]:
    """One handle of each type: a band, a line and dots of one name make one picture."""
    return list({(type(handle), _dotted(handle)): handle for handle in handles}.values())


def _dotted(handle: Any) -> bool:
    return getattr(handle, "get_marker", lambda: "None")() not in ("None", None, "")


def _fit(label: str, room: int) -> str:
    return label if len(label) <= room else f"{label[: room - 3]}..."
