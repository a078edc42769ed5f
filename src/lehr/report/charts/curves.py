"""Loss curves with their predictions and residuals, and LR schedules."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from lehr.errors import InputError
from lehr.predict import Prediction
from lehr.report.chart import Axis, Chart, Panel, Series
from lehr.runs.run import Run
from lehr.schedule.schedule import Schedule

START = 0.1  # share of the updates whose losses would dwarf the rest
POINTS = 400  # of a schedule that are drawn


def curves(pairs: Sequence[tuple[Run, Prediction]], title: str = "") -> Chart:
    """Measured losses, predicted curves with bands, and below them how far the prediction lies off.

    Parameters
    ----------
    pairs : a run and its prediction; residuals are measured minus predicted, interpolated between the
        prediction's steps and drawn within them.

    Raises
    ------
    InputError
        If there is no pair.
    """
    if not pairs:
        raise InputError("there is no curve to draw: give at least one run with its prediction.")
    top: list[Series] = []
    below: list[Series] = []
    told = []
    for i, (run, found) in enumerate(pairs):
        top += [
            Series(run.name, "band", "predicted", i, found.steps, low=found.low, high=found.high),
            Series(run.name, "dots", "measured", i, run.step, run.loss),
            Series(run.name, "line", "predicted", i, found.steps, found.loss),
        ]
        inside = (run.step >= found.steps[0]) & (run.step <= found.steps[-1])
        if inside.any():
            step, predicted = run.step[inside], np.interp(run.step[inside], found.steps, found.loss)
            off = 100 * (run.loss[inside] - predicted) / predicted
            below.append(Series(run.name, "dots", "measured", i, step, off))
            told.append(f"{run.name} ends at {run.final_loss:.4f}, {off[-1]:+.2f} % off its prediction")
    late = [run.loss[run.step >= START * run.steps] for run, _ in pairs]
    ceiling = max((float(loss.max()) for loss in late if loss.size), default=max(p.loss[0] for _, p in pairs))
    floor = min(float(np.nanmin(found.low)) for _, found in pairs)
    floor = min([floor, *(float(run.loss.min()) for run, _ in pairs)])
    panels = [Panel(Axis("updates"), Axis("loss", "nats per token", limits=(floor - 0.03 * (ceiling - floor), ceiling)),
                    tuple(top), height=1.3)]  # fmt: skip
    if below:
        worst = max(float(np.abs(one.y).max()) for one in below if one.y is not None)
        ends = np.array([min(one.x[0] for one in below), max(one.x[-1] for one in below)])
        zero = Series("", "line", "reference", -1, ends, np.zeros(2))
        panels.append(Panel(Axis("updates"), Axis("measured - predicted", "%"), (zero, *below), height=0.6))
        told.append(f"the largest residual is {worst:.2f} %")
    alt = (
        f"Loss curves of {_number(len(pairs), 'run')}: {'; '.join(told) or 'none measured where predicted'}."
    )
    return Chart("curves", title, alt, tuple(panels), share_x=True)


def schedules(named: Mapping[str, Schedule], title: str = "") -> Chart:
    """LR of every update of some schedules.

    Raises
    ------
    InputError
        If there is none.
    """
    if not named:
        raise InputError("there is no schedule to draw: give at least one.")
    series = []
    for i, (name, schedule) in enumerate(named.items()):
        update = _updates(schedule)
        series.append(Series(name, "line", "reference", i, update, schedule.lr(update)))
    told = "; ".join(f"{name}: {s.steps} updates, peak {s.peak:.3g}, last {float(s.lr(np.array([s.steps - 1]))[0]):.3g}"
                     for name, s in named.items())  # fmt: skip
    return Chart("schedules", title, f"LR against updates of {_number(len(named), 'schedule')}: {told}.",
                 (Panel(Axis("updates"), Axis("LR"), tuple(series)),))  # fmt: skip


def _updates(schedule: Schedule) -> np.ndarray:
    """Updates at which to draw: a grid, and both sides of every segment's start, so that corners stay sharp."""
    starts = schedule.starts.astype(int)
    grid = np.linspace(0, schedule.steps - 1, min(POINTS, schedule.steps)).astype(int)
    places = np.concatenate([grid, starts, starts - 1, [schedule.steps - 1]])
    return np.unique(places[(places >= 0) & (places < schedule.steps)])


def _number(count: int, what: str) -> str:
    return f"1 {what}" if count == 1 else f"{count} {what}s"
