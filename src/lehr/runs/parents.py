"""Runs and the runs they branched from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lehr.errors import InputError, bad
from lehr.runs.run import Run, RunSet

PAST_TOLERANCE = 0.01  # of the peak: how far a branch's past may be from its parent's schedule


def resolve_parents(runs: Iterable[Run]) -> tuple[RunSet, tuple[str, ...]]:
    """Check every branch against its parent.

    A parent is linked by its name. A run whose parent is absent stays usable, since its schedule
    covers its whole life; only its earlier losses are missing.

    Returns
    -------
    The runs, in the order given, and a report of branches linked and of parents absent.

    Raises
    ------
    InputError
        If names repeat, a run descends from itself, or a branch and its parent disagree on the
        past they share.
    """
    known = RunSet(runs)
    absent: dict[str, list[str]] = {}
    linked = 0
    for run in known:
        if run.parent is None:
            continue
        if run.parent not in known:
            absent.setdefault(run.parent, []).append(run.name)
            continue
        _check_ancestors(run, known)
        _check_past(run, known[run.parent])
        linked += 1
    report = [f"{linked} branches linked to their parents"] if linked else []
    for parent, children in absent.items():
        report.append(
            f"parent {parent!r} of {children[0]!r}{f' and {len(children) - 1} more' if len(children) > 1 else ''} "
            "is absent: losses before the branch are missing, the schedule is complete"
        )
    return known, tuple(report)


def _check_ancestors(run: Run, known: RunSet) -> None:
    """Refuse a run that descends from itself."""
    seen = [run.name]
    parent = run.parent
    while parent is not None and parent in known:
        if parent in seen:
            raise InputError(
                f"run {run.name!r} descends from itself ({' < '.join([*seen, parent])}): rename one."
            )
        seen.append(parent)
        parent = known[parent].parent


def _check_past(run: Run, parent: Run) -> None:
    """Refuse a branch whose schedule before the branch is not its parent's."""
    branch_step = int(run.branch_step or 0)
    if branch_step > parent.steps:
        raise bad(
            f"run {run.name!r}: branch_step", f"must lie within the {parent.steps} updates of {parent.name!r}",
            branch_step, "correct the parent or the step",
        )  # fmt: skip
    # both schedules are smooth between few kinks: a thousand updates show any disagreement
    update = np.unique(np.linspace(0, branch_step - 1, 1000).astype(int))
    apart = np.abs(run.schedule.lr(update) - parent.schedule.lr(update)) / parent.schedule.peak
    wrong = np.flatnonzero(apart > PAST_TOLERANCE)
    if wrong.size:
        raise InputError(
            f"run {run.name!r}: its LR at update {update[wrong[0]]} is not that of {parent.name!r}, from which it "
            f"branched at step {branch_step}: correct its schedule, or import it without a parent."
        )
