"""The runs behind the answer: how well the law follows those it was fitted to, and how often its band held others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lehr.drawing import thin
from lehr.errors import InputError
from lehr.quantiles import share_interval
from lehr.report.chart import Chart
from lehr.report.charts.curves import curves
from lehr.report.report import Cell, Column, Part, Table
from lehr.report.study import Study
from lehr.runs.run import Run

SHOWN = 6  # runs whose curves are drawn: more colours cannot be told apart
APART = 2  # of them such that were not fitted, if there are any
STRETCHES = 120  # of a long log, of each of which the lowest and the highest loss are drawn
PLACES = 90  # updates at which a prediction is drawn
EARLY = 0.15  # share of the updates whose residuals set no limits
NO_RUNS = "the curves of the runs, as none are at hand: give the store (--store), or make the report from it."


def evidence_part(study: Study) -> Part:
    """Fitted runs: table of residuals, and the curves nearest to the plan."""
    fit = study.fit
    known = {each.name: each for each in fit.evidence}
    rows: list[tuple[Cell, ...]] = []
    for name, told in fit.residuals.items():
        run = known.get(name)
        about = (run.family, run.peak, run.steps, run.ratio, run.final_loss) if run else (None,) * 5
        rows.append((name, *about, told["mean_absolute"], told["mean"], told["largest"]))
    table = Table("runs", "Fitted runs and their relative residuals (prediction - loss) / loss", (
        Column("run", "run"), Column("family", "schedule"), Column("peak_lr", "peak LR", ".3g"),
        Column("steps", "updates", ",d"), Column("ratio", "share decaying", ".2f"),
        Column("final_loss", "last loss", ".4f"), Column("mean_absolute", "mean |residual|", ".3%"),
        Column("mean", "mean", "+.3%"), Column("largest", "largest", ".2%")), tuple(rows))  # fmt: skip
    text = [
        f"{len(rows)} runs with {fit.points:,} points were fitted by the law {fit.law} ({fit.get_law().title}); points "
        f"at fewer than {fit.domain.burn_in:,} updates were left out."
    ]
    drawn = nearest(study)
    if not drawn:
        return Part("evidence", "The runs it rests on", tuple(text), tables=(table,), left_out=(NO_RUNS,))
    pairs = [(_whole(study, run), study.predicted(run, _places(study, run))) for run in drawn]
    apart = {run.name for run in study.tests}
    said = [name for name in (run.name for run in drawn) if name in apart]
    text.append(
        f"Drawn are the {len(drawn)} runs nearest to the plan"
        + (f", of which {', '.join(said)} had no part in the fit" if said else "")
        + f"; of a long log the lowest and the highest loss of each of {STRETCHES} stretches."
    )
    chart = _without_start(curves(pairs, "Measured and predicted losses"))
    return Part("evidence", "The runs it rests on", tuple(text), (chart,), (table,))


def _places(study: Study, run: Run) -> np.ndarray:
    """Updates at which a prediction is drawn."""
    first = max(1, min(study.fit.domain.warmup, int(run.step[-1]) // 2))
    places: np.ndarray = np.unique(np.linspace(first, run.step[-1], PLACES).round())
    return places


def _without_start(chart: Chart) -> Chart:
    """Limit residuals to those of the later part: the first would dwarf the rest; the sentence tells the largest."""
    if len(chart.panels) < 2:
        return chart
    loss, off = chart.panels
    end = max(one.x[-1] for one in off.series)
    late = [np.abs(one.y[one.x >= EARLY * end]) for one in off.series if one.y is not None]
    most = max((float(each.max()) for each in late if each.size), default=0.0)
    if not most > 0:
        return chart
    return replace(chart, panels=(loss, replace(off, y=replace(off.y, limits=(-1.2 * most, 1.2 * most)))))


def nearest(study: Study) -> list[Run]:
    """Runs to draw: those nearest to the plan in LR and length, some of them not fitted."""
    asked = study.question
    peak = asked.peak or study.result.domain.peak_lr[1]
    steps = asked.steps or study.result.domain.steps

    def distance(run: Run) -> float:
        return abs(math.log2(run.schedule.peak / peak)) + abs(math.log2(run.steps / steps))

    apart = sorted(study.tests, key=distance)[: max(APART, SHOWN - len(study.fitted))]
    fitted = sorted(study.fitted, key=distance)[: SHOWN - min(len(apart), SHOWN)]
    return [*fitted, *apart][:SHOWN]


def _whole(study: Study, run: Run) -> Run:
    """The run with its parent's past, from the burn-in on, thinned for drawing."""
    assert study.runs is not None
    step, loss = study.runs.curve(run.name)
    keep = step >= min(study.fit.domain.burn_in, step[-1])
    step, loss = thin(step[keep], loss[keep], STRETCHES)
    return replace(run, step=step, loss=loss, parent=None, branch_step=None)


def calibration_part(study: Study) -> Part:
    """How many final losses of runs that were hidden or kept apart lay within the band."""
    title, level = "How often the band held", study.question.level
    if study.runs is None:
        return Part("calibration", title, left_out=(
            "how many final losses of other runs lay in the band: that needs the runs (--store).",))  # fmt: skip
    rows: list[tuple[Cell, ...]] = []
    refused: list[str] = []
    for run in study.tests:
        try:
            found = study.predicted(run, run.step[-1:])
        except InputError as error:
            refused.append(f"{run.name}: {error}")
            continue
        rows.append(_row("kept apart", run.name, run.final_loss, found.loss[0], found.low[0], found.high[0]))
    hidden = {each.run: each.error for each in study.fit.final_errors if each.kind == "run"}
    for run in study.fitted:
        if run.name in hidden:
            found = study.predicted(run, run.step[-1:])
            told, half = run.final_loss * (1 + hidden[run.name]), 0.5 * (found.high[0] - found.low[0])
            rows.append(_row("hidden in turn", run.name, run.final_loss, told, told - half, told + half))
    if not rows:
        none = "how often the band held: no run was kept apart (lehr fit --test) or hidden in turn."
        return Part("calibration", title, left_out=(none, *refused))
    return Part(
        "calibration", title, _held(rows, level), tables=(_table(rows, level),), left_out=tuple(refused)
    )


def _row(how: str, name: str, measured: float, told: float, low: float, high: float) -> tuple[Cell, ...]:
    inside = bool(low <= measured <= high)
    return name, how, measured, float(told), float(low), float(high), float(told / measured - 1), inside


def _table(rows: Sequence[tuple[Cell, ...]], level: float) -> Table:
    return Table("final_losses", f"Last losses against predictions with their {level:.0%} band", (
        Column("run", "run"), Column("how", "how"), Column("measured", "measured", ".4f"),
        Column("predicted", "predicted", ".4f"), Column("low", "from", ".4f"), Column("high", "to", ".4f"),
        Column("error", "error", "+.2%"), Column("inside", "inside")), tuple(rows))  # fmt: skip


def _held(rows: Sequence[tuple[Cell, ...]], level: float) -> tuple[str, ...]:
    """Counts, by how the runs were unknown to the law, and what they are worth."""
    text = []
    for how, note in (
        ("kept apart", "of runs kept apart"),
        (
            "hidden in turn",
            "of fitted runs, each predicted by a fit without it (the band is as wide as these errors made it)",
        ),
    ):
        mine = [row for row in rows if row[1] == how]
        if mine:
            inside = sum(row[-1] is True for row in mine)
            low, high = share_interval(inside, len(mine), 0.9)
            text.append(
                f"{inside} of {len(mine)} final losses {note} lie in the {level:.0%} band: {inside / len(mine):.0%}, "
                f"and {low:.0%} to {high:.0%} allowing for their number."
            )
    return tuple(text)
