"""Colours and style of the figures that are drawn by matplotlib directly; the others are charts (`lehr.report.chart`).

Colours are those of Okabe and Ito, told apart by colour-blind readers.
"""

from __future__ import annotations

from typing import Any

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STYLE: Any = {
    "font.size": 10, "axes.spines.top": False, "axes.spines.right": False, "axes.grid": True,
    "grid.alpha": 0.25, "svg.fonttype": "none", "svg.hashsalt": "lehr", "legend.frameon": False,
}  # fmt: skip
