"""How far the runs of a sweep are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lehr.errors import InputError
from lehr.report.chart import Axis, Chart, Panel, Series

ORDER = ("done", "running", "waiting")  # first, in this order; other states after them


def sweep_progress(
    counts: Mapping[str, int], ended: Sequence[tuple[float, float]] = (), title: str = ""
) -> Chart:
    """Runs of a sweep in each state, and the final losses in the order in which they came.

    Parameters
    ----------
    counts : runs by state (`lehr.proxy.sweep.status.counts`).
    ended : pairs of the share of the sweep's runs ended so far and a run's final loss, nats per token.

    Raises
    ------
    InputError
        If the sweep has no runs.
    """
    total = sum(counts.values())
    if not total:
        raise InputError("this sweep has no runs to draw: plan at least one.")
    states = [s for s in (*ORDER, *(s for s in counts if s not in ORDER)) if counts.get(s)][::-1]
    place = np.arange(len(states), dtype=float)
    number = np.array([counts[state] for state in states], dtype=float)
    bars = [Series("", "line", "reference", 0, np.array([0.0, number[i]]), np.full(2, place[i]))
            for i in range(len(states))]  # fmt: skip
    dots = Series("", "dots", "measured", 0, number, place)
    panels = [Panel(Axis("runs", limits=(0.0, 1.05 * float(number.max()))),
                    Axis("state", limits=(-0.5, len(states) - 0.5), names=tuple(states)), (*bars, dots))]  # fmt: skip
    alt = f"A sweep of {total} runs: {', '.join(f'{counts[s]} {s}' for s in reversed(states))}."
    if ended:
        share, loss = np.array(ended).T
        best = np.minimum.accumulate(loss)
        panels.append(Panel(Axis("runs ended", "share"), Axis("final loss", "nats per token"),
                            (Series("final loss", "dots", "measured", 1, share, loss),
                             Series("lowest so far", "steps", "reference", 2, share, best))))  # fmt: skip
        alt += f" The lowest final loss so far is {best[-1]:.4f}."
    return Chart("sweep_progress", title, alt, tuple(panels), columns=len(panels))
