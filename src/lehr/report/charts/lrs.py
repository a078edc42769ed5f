"""Valleys of the final loss over the peak LR."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lehr.errors import InputError
from lehr.peaklr.valley import Valley
from lehr.report.chart import Axis, Chart, Panel, Series

GRID = 80
BEYOND = 1.3  # factor by which a valley is drawn beyond its runs
ABOVE = 0.25  # nats above the highest optimum that are drawn at most
THICK = 0.015  # of the height: half the thickness of an interval
ROOM = 0.05  # of the height, below the lowest optimum


def lr_valleys(named: Mapping[str, Valley], title: str = "") -> Chart:
    """Final loss against the peak LR: runs, fitted valleys, and the interval of each best LR.

    Parameters
    ----------
    named : valley by the name of its group. Diverged runs are left out.

    Raises
    ------
    InputError
        If there is none.
    """
    if not named:
        raise InputError("there is no valley to draw: run at least three LRs of one group.")
    series: list[Series] = []
    ceiling = max(v.lowest_loss for v in named.values()) + ABOVE
    highest = max(loss for v in named.values() for _, loss in v.points if np.isfinite(loss))
    floor = min(v.lowest_loss for v in named.values())
    top = min(ceiling, highest)
    height = top - floor
    for i, (name, valley) in enumerate(named.items()):
        lr, loss = np.array([point for point in valley.points if np.isfinite(point[1])]).T
        grid = np.geomspace(lr.min() / BEYOND, lr.max() * BEYOND, GRID)
        ends = np.clip([valley.low, valley.high], grid[0], grid[-1])
        flat = np.full(2, valley.lowest_loss)
        series += [
            Series(name, "band", "fitted", i, ends, low=flat - THICK * height, high=flat + THICK * height),
            Series(name, "line", "fitted", i, grid, np.array([valley.loss(x) for x in grid])),
            Series(name, "dots", "measured", i, lr, loss),
        ]
    room = ROOM * height
    told = "; ".join(
        f"{name}: {v.lr:.3g} ({v.low:.3g} to {v.high:.3g}), {v.lowest_loss:.4f} nats"
        for name, v in named.items()
    )
    panel = Panel(Axis("peak LR", log=True),
                  Axis("final loss", "nats per token", limits=(floor - room, top + room)),
                  tuple(series))  # fmt: skip
    return Chart("lr_valleys", title, f"Final loss against the peak LR; best LRs: {told}.", (panel,))
