"""Values as small pieces of HTML with SVG curves, for notebooks: text alone, without a plotting package.

Everything is drawn in the colour of the surrounding text or in two colours that light and dark pages bear. What goes in
is escaped; only `Markup`, which functions of this module return, is taken as it is. The output is
well-formed XML too, and holds no script, no style sheet and no address.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape as escape_html

import numpy as np

LONGEST = 120  # characters of a name that are shown
UNBROKEN = 40  # characters of a cell that stays on one line
COLOURS = ("#3a87c8", "#d9720f", "#1f9d78", "#c0629b")  # at least 3:1 against white and against #111
BUCKETS = 120  # of a curve's width: each holds the lowest and the highest value, so that no spike is lost
WIDTH, HEIGHT = 460, 130  # pixels of a chart
LEFT, BELOW, ABOVE, RIGHT = 64, 20, 8, 12  # its margins


class Markup(str):
    """Text that is HTML already."""


@dataclass(frozen=True, eq=False)
class Curve:
    """A line, and the band around it if it has one; every array has shape (n,)."""

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None


def text(value: object) -> Markup:
    """The text of `value` as HTML: escaped, of at most `LONGEST` characters, nothing unprintable."""
    if isinstance(value, Markup):
        return value
    whole = str(value)
    short = whole if len(whole) <= LONGEST else f"{whole[: LONGEST - 3]}..."
    return Markup(escape_html("".join(c if c.isprintable() else "?" for c in short)))


def card(title: str, what: object, *parts: Markup) -> Markup:
    """A value: its kind in bold, what it is, and parts below."""
    head = f"<div><b>{text(title)}</b> {text(what)}</div>"
    style = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.45;overflow-x:auto"
    return Markup(f'<div class="lehr-value" style="{style}">{head}{"".join(parts)}</div>')


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> Markup:
    """A table; cells that are no `Markup` are escaped."""

    def line(tag: str, cells: Sequence[object]) -> str:
        style = "text-align:left;padding:1px 14px 1px 0;border:0;background:none;color:inherit"
        keep = {cell: ";white-space:nowrap" if len(str(cell)) <= UNBROKEN else "" for cell in cells}
        inner = (f'<{tag} style="{style}{keep[cell]}">{text(cell)}</{tag}>' for cell in cells)
        return f"<tr>{''.join(inner)}</tr>"

    head = f"<thead>{line('th', header)}</thead>" if header else ""
    body = "".join(line("td", row) for row in rows)
    style = "border-collapse:collapse;margin:4px 0;font-size:12px;color:inherit"
    return Markup(f'<table style="{style}">{head}<tbody>{body}</tbody></table>')


def notes(lines: Iterable[str]) -> Markup:
    """A list of warnings; nothing where there is none."""
    items = "".join(f"<li>{_long(line)}</li>" for line in lines)
    return Markup(f'<ul style="margin:2px 0 2px 18px;padding:0">{items}</ul>' if items else "")


def _long(line: str) -> str:
    """A sentence as HTML: whole, for it is lehr's own, but for the names in it."""
    return escape_html("".join(c if c.isprintable() else "?" for c in line[:1000]))


def chart(
    curves: Sequence[Curve], described: str, *, y_range: tuple[float, float] | None = None, x_from: float = 0.0,
    unit: str = "updates", span: tuple[float, float] | None = None, rule: float | None = None,
) -> Markup:  # fmt: skip
    """Curves over one axis, as SVG.

    Parameters
    ----------
    curves : at least one; colours repeat after the fourth.
    described : what is to be seen, for readers of screens.
    y_range : lowest and highest value shown, by default those of the curves.
    x_from : least value of the axis.
    unit : what the axis counts.
    span : stretch of the axis that is shaded, such as an interval.
    rule : place of a vertical line.
    """
    lows = [curve.y if curve.low is None else curve.low for curve in curves]
    highs = [curve.y if curve.high is None else curve.high for curve in curves]
    bottom, top = y_range or (_extreme(np.nanmin, lows), _extreme(np.nanmax, highs))
    right = max(float(curve.x[-1]) for curve in curves)
    frame = _Frame(
        x_from, right if right > x_from else x_from + 1, bottom, top if top > bottom else bottom + 1
    )
    parts: list[str] = []
    if span is not None:
        a, b = frame.across(np.array(span))
        parts.append(
            f'<rect x="{a:.1f}" y="{ABOVE}" width="{max(b - a, 1):.1f}" height="{HEIGHT - BELOW - ABOVE}" '
            f'fill="{COLOURS[2]}" fill-opacity="0.2"/>'
        )
    if rule is not None:
        x = float(frame.across(np.array([rule]))[0])
        ends = f'x1="{x:.1f}" x2="{x:.1f}" y1="{ABOVE}" y2="{HEIGHT - BELOW}"'
        parts.append(f'<line {ends} stroke="{COLOURS[2]}" stroke-width="1.5"/>')
    for place, curve in enumerate(curves):
        parts.append(_drawn(frame, curve, COLOURS[place % len(COLOURS)]))
    head = f'<svg width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img"'
    label = f'aria-label="{text(described)}" style="max-width:100%;display:block"'
    inside = f"{LEFT} {ABOVE} {WIDTH - LEFT - RIGHT} {HEIGHT - BELOW - ABOVE}"
    size = f'width="{WIDTH - LEFT - RIGHT}" height="{HEIGHT - BELOW - ABOVE}"'
    window = f'<svg x="{LEFT}" y="{ABOVE}" {size} viewBox="{inside}" overflow="hidden">'
    return Markup(f"{head} {label}>{_axes(frame, unit)}{window}{''.join(parts)}</svg></svg>")


def sparkline(x: np.ndarray, y: np.ndarray, described: str, width: int = 110, height: int = 22) -> Markup:
    """A curve from 0 to its highest value, the size of a word."""
    x, y = thin(x, y, 40)
    top = float(np.max(y)) or 1.0
    points = _points(x / max(float(x[-1]), 1.0) * width, height - 2 - y / top * (height - 4))
    return Markup(
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{text(described)}"><polyline points="{points}" fill="none" stroke="{COLOURS[0]}" '
        'stroke-width="1.5"/></svg>'
    )


def thin(x: np.ndarray, y: np.ndarray, buckets: int = BUCKETS) -> tuple[np.ndarray, np.ndarray]:
    """At most two points a bucket, its lowest and its highest, in order; what is not finite is left out."""
    x, y = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if not np.isfinite(y).all():
        x, y = x[np.isfinite(y)], y[np.isfinite(y)]
    if len(x) <= 2 * buckets:
        return x, y
    begin = np.linspace(0, len(x), buckets, endpoint=False).astype(int)
    end = np.append(begin[1:], len(x))
    keep = {0, len(x) - 1}
    for a, b in zip(begin, end, strict=True):
        keep |= {int(a + np.argmin(y[a:b])), int(a + np.argmax(y[a:b]))}
    order = np.array(sorted(keep))
    return x[order], y[order]


@dataclass(frozen=True)
class _Frame:
    """What a chart shows: from `left` to `right`, from `bottom` to `top`."""

    left: float
    right: float
    bottom: float
    top: float

    def across(self, x: np.ndarray) -> np.ndarray:
        """Pixels from the left."""
        share = (np.asarray(x) - self.left) / (self.right - self.left)
        return LEFT + np.clip(share, 0, 1) * (WIDTH - LEFT - RIGHT)

    def down(self, y: np.ndarray) -> np.ndarray:
        """Pixels from the top; what lies far outside is drawn a little outside."""
        share = (np.asarray(y) - self.bottom) / (self.top - self.bottom)
        return HEIGHT - BELOW - np.clip(share, -5, 5) * (HEIGHT - BELOW - ABOVE)


def _axes(frame: _Frame, unit: str) -> str:
    style = 'fill="currentColor" fill-opacity="0.75" font-size="11"'
    low, end = HEIGHT - BELOW, HEIGHT - 5
    return (
        f'<path d="M{LEFT} {ABOVE}V{low}H{WIDTH - RIGHT}" fill="none" stroke="currentColor" stroke-opacity="0.4"/>'
        f'<text x="{LEFT - 6}" y="{ABOVE + 8}" text-anchor="end" {style}>{frame.top:.4g}</text>'
        f'<text x="{LEFT - 6}" y="{low}" text-anchor="end" {style}>{frame.bottom:.4g}</text>'
        f'<text x="{LEFT}" y="{end}" {style}>{frame.left:.6g}</text>'
        f'<text x="{WIDTH - RIGHT}" y="{end}" text-anchor="end" {style}>{frame.right:.10g} {text(unit)}</text>'
    )


def _drawn(frame: _Frame, curve: Curve, colour: str) -> str:
    band = ""
    if curve.low is not None and curve.high is not None:
        there = thin(curve.x, curve.high, BUCKETS // 2)
        back = thin(curve.x, curve.low, BUCKETS // 2)
        x, y = (np.concatenate([a, b[::-1]]) for a, b in zip(there, back, strict=True))
        band = f'<polygon points="{_points(frame.across(x), frame.down(y))}" fill="{colour}" fill-opacity="0.25"/>'
    x, y = thin(curve.x, curve.y)
    points = _points(frame.across(x), frame.down(y))
    return f'{band}<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _points(x: np.ndarray, y: np.ndarray) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in zip(x.tolist(), y.tolist(), strict=True))


def _extreme(which: object, arrays: Sequence[np.ndarray]) -> float:
    values = np.concatenate([np.asarray(a, dtype=float) for a in arrays])
    values = values[np.isfinite(values)]
    return float(which(values)) if values.size else 0.0  # type: ignore[operator]
