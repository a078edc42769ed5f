"""Errors of laws on losses they were not fitted to."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lehr.errors import InputError
from lehr.report.chart import Axis, Chart, Panel, Series

ROOM = 1.25  # factor of the axis beyond the smallest and largest error


def law_comparison(
    held_out: Mapping[str, float], chosen: str, test: Mapping[str, float] | None = None, title: str = ""
) -> Chart:
    """Error of each law on hidden losses and on test runs, best at the top.

    Parameters
    ----------
    held_out, test : mean error by law, fractions of the loss (`lehr.fit.files.Fits`).
    chosen : the law that was chosen.

    Raises
    ------
    InputError
        If no held-out error is known.
    """
    if not held_out:
        raise InputError("these fits hold no held-out error to draw: fit runs that can be hidden in turn.")
    names = sorted(held_out, key=lambda name: held_out[name], reverse=True)
    place = np.arange(len(names), dtype=float)
    hidden = 100 * np.array([held_out[name] for name in names])
    series = [Series("hidden within the training runs", "dots", "measured", 0, hidden, place)]
    tested = [i for i, name in enumerate(names) if name in (test or {})]
    if test and tested:
        errors = 100 * np.array([test[names[i]] for i in tested])
        series.append(Series("test runs", "dots", "measured", 1, errors, place[tested]))
    every = np.concatenate([one.x for one in series])
    limits = (float(every.min()) / ROOM, float(every.max()) * ROOM) if every.min() > 0 else None
    best = names[-1]
    alt = (f"Mean error of {len(names)} laws on hidden losses: smallest for {best}, {held_out[best]:.3%}, largest for "
           f"{names[0]}, {held_out[names[0]]:.3%}; chosen is {chosen}.")  # fmt: skip
    shown = tuple(f"{name} (chosen)" if name == chosen else name for name in names)
    ends = (-0.5, len(names) - 0.5)
    panel = Panel(Axis("mean error", "% of the loss", log=limits is not None, limits=limits),
                  Axis("law", limits=ends, names=shown), tuple(series))  # fmt: skip
    return Chart("law_comparison", title, alt, (panel,))
