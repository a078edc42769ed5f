"""Runs as lines of text and as curves, for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lehr import drawing
from lehr.schedule.showing import in_words, path

if TYPE_CHECKING:
    from lehr.runs.run import Run, RunSet

LISTED, NAMED = 30, 4  # runs in the table of a set, and names in its line of text
EARLY = 0.1  # share of the updates whose losses, high as they are, do not set the range that is drawn


def run_in_words(run: Run) -> str:
    """Its name, its updates, its peak LR and its last loss."""
    end = f"loss {run.final_loss:.4f} at step {int(run.step[-1])}"
    name = run.name if len(run.name) <= drawing.LONGEST else f"{run.name[: drawing.LONGEST - 3]}..."
    return f"{name!r}: {run.steps} updates, peak LR {run.schedule.peak:.4g}, {len(run.step)} losses, {end}"


def set_in_words(runs: RunSet) -> str:
    """How many runs, and the first names."""
    names = [run.name if len(run.name) <= 40 else f"{run.name[:37]}..." for run in list(runs)[:NAMED]]
    more = ", ..." if len(runs) > NAMED else ""
    return f"{len(runs)} run{'' if len(runs) == 1 else 's'}: {', '.join(map(repr, names))}{more}"


def run_html(run: Run) -> str:
    """Its losses over its LR, and what is known of it, as HTML."""
    rows: list[tuple[str, str]] = [("LR", _lr(run)), ("schedule", in_words(run.schedule))]
    if run.parent is not None:
        rows.append(("branched from", f"{run.parent} at step {run.branch_step}"))
    for name, value in (("parameters", run.params), ("tokens of an update", run.batch_tokens)):
        if value is not None:
            rows.append((name, f"{value:,.0f}"))
    loss = _losses([run], f"losses of run {run.name}")
    return drawing.card("Run", run_in_words(run), loss, drawing.table((), rows))


def set_html(runs: RunSet) -> str:
    """All losses in one chart, and a row a run, as HTML."""
    shown = list(runs)[:LISTED]
    if not shown:
        return drawing.card("RunSet", "no runs")
    rows: list[Sequence[object]] = [
        (run.name, _lr(run), run.steps, f"{run.schedule.peak:.4g}", len(run.step), f"{run.final_loss:.4f}")
        for run in shown
    ]
    if len(runs) > LISTED:
        rows.append((f"and {len(runs) - LISTED} more", "", "", "", "", ""))
    header = ("run", "LR", "updates", "peak LR", "losses", "last loss")
    what = f"{len(runs)} run{'' if len(runs) == 1 else 's'}"
    return drawing.card(
        "RunSet", what, _losses(shown, f"losses of {len(shown)} runs"), drawing.table(header, rows)
    )


def _losses(runs: Sequence[Run], described: str) -> drawing.Markup:
    """Losses, nats per token, of runs."""
    late = [run.loss[run.step >= EARLY * run.step[-1]] for run in runs]
    bounds = min(float(loss.min()) for loss in late), max(float(loss.max()) for loss in late)
    buckets = drawing.BUCKETS if len(runs) == 1 else 40
    curves = [drawing.Curve(*drawing.thin(run.step, run.loss, buckets)) for run in runs]
    return drawing.chart(curves, described, y_range=bounds if bounds[0] < bounds[1] else None)


def _lr(run: Run) -> drawing.Markup:
    x, y = path(run.schedule)
    return drawing.sparkline(x, y, f"LR of run {run.name}")
