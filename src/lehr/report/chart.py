"""A chart: what a figure shows, as a value that knows no drawing library.

`lehr.report.charts` makes charts from results; `draw_matplotlib` and `draw_plotly` draw the same chart alike, and
`chart_rows` gives every number in it. Roles are drawn alike in all figures: dots are measured, solid lines predicted
or fitted, bands their intervals, grey lines for reference.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lehr.errors import bad, unknown

Kind = Literal["line", "steps", "dots", "band", "span", "rule"]
Role = Literal["measured", "predicted", "fitted", "reference"]
KINDS = ("line", "steps", "dots", "band", "span", "rule")
ROLES = ("measured", "predicted", "fitted", "reference")
LONGEST = 100  # characters of a name in a figure


@dataclass(frozen=True)
class Axis:
    """One axis of a panel.

    Parameters
    ----------
    label, unit : what it shows, and in which unit ("" for none).
    log : whether it is logarithmic.
    limits : lowest and highest value shown; None for all.
    names : for an axis of things instead of numbers, what stands at 0, 1, ...
    ticks : rising numbers at which it is labelled; chosen if empty.
    """

    label: str
    unit: str = ""
    log: bool = False
    limits: tuple[float, float] | None = None
    names: tuple[str, ...] = ()
    ticks: tuple[float, ...] = ()

    @property
    def title(self) -> str:
        """Label and unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True, eq=False)
class Series:
    """What is drawn together under one name.

    Parameters
    ----------
    name : for the legend; series of one name share an entry, "" has none.
    kind : "line", "steps" (held from each x to the next), "dots" (with error bars if they have `low` and `high`),
        "band" (between `low` and `high` over x), "span" (all between the two x) or "rule" (a vertical line at each x).
    role : what the numbers are.
    colour : index into the palette; -1 is the quiet colour.
    x : shape (n,); for a span its two ends.
    y : shape (n,); of a line, steps or dots.
    low, high : shape (n,); of a band, or of the error bars of dots.

    Raises
    ------
    InputError
        If the kind or role is unknown, or the arrays do not pair.
    """

    name: str
    kind: Kind
    role: Role
    colour: int
    x: np.ndarray
    y: np.ndarray | None = None
    low: np.ndarray | None = None
    high: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Check the arrays and freeze them."""
        if self.kind not in KINDS:
            raise unknown("kind of a series", self.kind, KINDS)
        if self.role not in ROLES:
            raise unknown("role of a series", self.role, ROLES)
        shape = np.shape(self.x)
        for name in ("x", "y", "low", "high"):
            value = getattr(self, name)
            if value is None:
                if name in _NEEDS[self.kind]:
                    raise bad(f"{name} of a {self.kind}", "must be given", None, "give one number a point")
                continue
            array = np.array(value, dtype=float)
            if array.ndim != 1 or array.shape != shape or not array.size:
                raise bad(f"{name} of series {self.name!r}", f"must have the shape {shape} of its x, of one or more",
                          array.shape, "give one number a point")  # fmt: skip
            array.setflags(write=False)
            object.__setattr__(self, name, array)
        if (self.low is None) != (self.high is None):
            raise bad(f"low and high of series {self.name!r}", "go together", None, "give both")
        if self.kind == "span" and len(self.x) != 2:
            raise bad("x of a span", "must be its two ends", len(self.x), "give two numbers")


_NEEDS = {
    "line": ("x", "y"), "steps": ("x", "y"), "dots": ("x", "y"), "band": ("x", "low", "high"), "span": ("x",),
    "rule": ("x",),
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes and what is drawn in them, first series at the back."""

    x: Axis
    y: Axis
    series: tuple[Series, ...]
    title: str = ""
    height: float = 1.0  # share of the figure's height, relative to the other rows


@dataclass(frozen=True, eq=False)
class Chart:
    """A figure.

    Parameters
    ----------
    kind : which figure it is, such as "curves"; a word of a file name.
    title : shown above it.
    alt : a sentence or two that says what it shows, with its main numbers, for who cannot see it.
    panels : row by row.
    columns : panels in a row.
    share_x : whether the panels of a column have one x axis, labelled at the foot.
    """

    kind: str
    title: str
    alt: str
    panels: tuple[Panel, ...]
    columns: int = 1
    share_x: bool = False

    @property
    def rows(self) -> int:
        """Rows of panels."""
        return -(-len(self.panels) // self.columns)


COLUMNS = ("panel", "series", "kind", "role", "x", "y", "low", "high")


def chart_rows(chart: Chart) -> list[dict[str, str | float | None]]:
    """Every number drawn, a row a point, by the names of `COLUMNS`.

    `panel` is the panel's number and the label of its y axis; what a series does not have is None, and so is what is
    not finite.
    """
    rows: list[dict[str, str | float | None]] = []
    for number, panel in enumerate(chart.panels, 1):
        for one in panel.series:
            for i in range(len(one.x)):
                rows.append({
                    "panel": f"{number} {panel.title or panel.y.title}", "series": one.name, "kind": one.kind,
                    "role": one.role, **{key: _at(getattr(one, key), i) for key in ("x", "y", "low", "high")},
                })  # fmt: skip
    return rows


def _at(values: np.ndarray | None, i: int) -> float | None:
    return None if values is None or not np.isfinite(values[i]) else float(values[i])


def plain_text(name: str, longest: int = LONGEST) -> str:
    """Return `name` as short text of printable characters: none that steers, hides or turns the text around it."""
    short = name if len(name) <= longest else f"{name[: longest - 3]}..."
    return "".join(c if c.isprintable() else "?" for c in short)


def lines_of(name: str, room: int) -> list[str]:
    """Plain text in lines of at most `room` characters.

    >>> lines_of("size; off: query +0.50", 12)
    ['size; off:', 'query +0.50']
    """
    return textwrap.wrap(plain_text(name), room)


def words_of(name: str) -> str:
    """The name of a number as words.

    >>> words_of("peak_lr")
    'peak LR'
    """
    return name.replace("_", " ").replace(" lr", " LR")
