"""Figures, in matplotlib, with one visual language: dots are measured, lines and bands predicted.

Colours are those of Okabe and Ito, told apart by colour-blind readers; each figure is a pure
function of results and returns a matplotlib Figure.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lehr.anneal.ratio import Recommendation
from lehr.predict import Prediction
from lehr.runs.run import Run

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
LONGEST = 100  # characters of a name in a figure
STYLE: Any = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.25, "svg.fonttype": "none", "svg.hashsalt": "lehr", "legend.frameon": False,
}  # fmt: skip


def curves(pairs: Sequence[tuple[Run, Prediction]], title: str) -> Figure:
    """Measured losses and predicted curves with bands, one colour a run."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        ceiling = max(run.loss[run.step >= 0.1 * run.steps].max() for run, _ in pairs)
        floor = min(found.low[-1] for _, found in pairs)
        for i, (run, found) in enumerate(pairs):
            colour = COLOURS[i % len(COLOURS)]
            axes.fill_between(found.steps, found.low, found.high, color=colour, alpha=0.2, linewidth=0)
            axes.plot(found.steps, found.loss, color=colour, linewidth=1.4, label=plain(run.name))
            axes.plot(run.step, run.loss, ".", color=colour, markersize=3)
        axes.set_ylim(floor - 0.02 * (ceiling - floor), ceiling)  # the first losses would dwarf the rest
        axes.set_xlabel("updates")
        axes.set_ylabel("loss (nats per token)")
        axes.set_title(plain(title), loc="left", fontsize=10)
        axes.legend(fontsize=8)
    return figure


def law_errors(held_out: Mapping[str, float], test: Mapping[str, float], chosen: str) -> Figure:
    """Error of each law on hidden losses and on test runs, best at the top."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 3.4), layout="constrained")
        axes = figure.add_subplot()
        names = sorted(held_out, key=lambda name: held_out[name], reverse=True)
        place = np.arange(len(names))
        axes.plot(
            [held_out[n] * 100 for n in names],
            place,
            "o",
            color=COLOURS[0],
            label="hidden within the training runs",
        )
        if test:
            axes.plot([test[n] * 100 for n in names], place, "D", color=COLOURS[1], label="test runs")
        axes.set_yticks(place, [f"{n} (chosen)" if n == chosen else n for n in names])
        axes.set_xscale("log")
        axes.set_xticks([0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20], minor=False)
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_locator(NullLocator())
        shown = [100 * v for v in (*held_out.values(), *test.values())]
        axes.set_xlim(0.8 * min(shown), 1.25 * max(shown))
        axes.set_xlabel("mean error (% of the loss)")
        axes.legend(fontsize=8)
    return figure


def ratio_valley(
    found: Recommendation, band: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    measured: Sequence[tuple[float, float]], title: str,
) -> Figure:  # fmt: skip
    """Predicted final loss against the annealing ratio, measured runs, the best ratio and its interval.

    Parameters
    ----------
    band : ratios, losses, low, high; each of shape (n,).
    measured : pairs of ratio and final loss of real runs.
    """
    ratios, loss, low, high = band
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(6.4, 4.0), layout="constrained")
        axes = figure.add_subplot()
        axes.axvspan(
            found.ratio_low, found.ratio_high, color=COLOURS[2], alpha=0.15, linewidth=0, label="interval"
        )
        axes.axvline(found.ratio, color=COLOURS[2], linewidth=1.4, label=f"recommended {found.ratio:.2f}")
        axes.fill_between(ratios, low, high, color=COLOURS[0], alpha=0.2, linewidth=0)
        axes.plot(ratios, loss, color=COLOURS[0], linewidth=1.4, label="predicted")
        if measured:
            axes.plot(*zip(*measured, strict=True), "o", color=COLOURS[1], label="measured, not fitted")
        axes.set_xlabel("annealing ratio (share of updates that decay the LR)")
        axes.set_ylabel("final loss (nats per token)")
        axes.set_title(plain(title), loc="left", fontsize=10)
        axes.legend(fontsize=8)
    return figure


def plain(name: str) -> str:
    """Return `name` as short text to matplotlib: no mathematics, no control characters, never left out of a legend."""
    short = name if len(name) <= LONGEST else f"{name[: LONGEST - 3]}..."
    text = "".join(c if c.isprintable() else "?" for c in short).replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text


def to_svg(figure: Figure) -> str:
    """Return the figure as SVG text, the same bytes for the same figure."""
    buffer = io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]


def to_png(figure: Figure, dpi: int = 150) -> bytes:
    """Return the figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi, metadata={"Software": None})
    return buffer.getvalue()
