"""A fit as a line of text and as a table, for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lehr import drawing

if TYPE_CHECKING:
    from lehr.fit.result import FitResult

LISTED = 30  # runs in the table


def in_words(result: FitResult) -> str:
    """Its law, how it ended, what it was fitted to, and what is known of its errors."""
    runs = len(result.residuals)
    known = f"{len(result.draws)} draws" if result.draws else "no bootstrap yet"
    return f"{result.law}: {result.status}, {result.points} losses of {runs} run{'' if runs == 1 else 's'}, {known}"


def to_html(result: FitResult) -> str:
    """Parameters with their intervals, residuals of each run and warnings, as HTML."""
    parameters = [
        (name, f"{value:.5g}", _interval(result, name), "at its bound" if name in result.at_bounds else "")
        for name, value in result.parameters.items()
    ]
    worst = max((one["mean_absolute"] for one in result.residuals.values()), default=0.0)
    rows = [
        (name, f"{one['mean_absolute']:.3%}", _bar(one["mean_absolute"], worst), f"{one['mean']:+.3%}")
        for name, one in list(result.residuals.items())[:LISTED]
    ]
    if len(result.residuals) > LISTED:
        rows.append((f"and {len(result.residuals) - LISTED} more", "", drawing.Markup(), ""))
    return drawing.card(
        "FitResult", in_words(result),
        drawing.table(("parameter", "value", "90 % interval", ""), parameters),
        drawing.table(("run", "mean |residual|", "", "mean residual"), rows),
        drawing.notes(result.warnings),
    )  # fmt: skip


def _interval(result: FitResult, name: str) -> str:
    if name not in result.intervals:
        return "not known: run lehr.bootstrap"
    low, high = result.intervals[name]
    return f"{low:.5g} to {high:.5g}"


def _bar(value: float, worst: float) -> drawing.Markup:
    width = 80 * value / worst if worst else 0.0
    return drawing.Markup(
        '<svg width="84" height="10" viewBox="0 0 84 10" role="presentation">'
        f'<rect x="0" y="1" width="{max(width, 1):.1f}" height="8" fill="{drawing.COLOURS[0]}"/></svg>'
    )
