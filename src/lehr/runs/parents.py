"""Runs and the runs they branched from."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lehr.errors import InputError, bad
from lehr.runs.run import Run, RunSet
from lehr.schedule.schedule import Schedule

PAST_TOLERANCE = 0.01  # of the peak: how far a branch's past may be from its parent's schedule
TOLD = 1000  # updates that are looked at: both schedules are smooth between few kinks


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
    if (update := past_apart(run.schedule, parent.schedule, branch_step)) is not None:
        raise InputError(
            f"run {run.name!r}: its LR at update {update} is not that of {parent.name!r}, from which it "
            f"branched at step {branch_step}: correct its schedule, or import it without a parent."
        )


def past_apart(one: Schedule, other: Schedule, steps: int) -> int | None:
    """First update before `steps` at which the LR of `one` is not that of `other`; None if there is none.

    Logs may tell the LR of the update before or after a step, and inference cannot always know which: where one log is
    taken for the former and one for the latter, their schedules are an update apart. So the LR may lie between those
    of the neighbouring updates, give or take `PAST_TOLERANCE`.
    """
    if steps < 1:
        return None
    update = np.unique(np.linspace(0, steps - 1, TOLD).astype(int))
    before = np.where(update > 0, other.lr(np.maximum(update - 1, 0)), 0.0)
    around = (before, other.lr(update), other.lr(np.minimum(update + 1, other.steps - 1)))
    room = PAST_TOLERANCE * other.peak
    lr = one.lr(update)
    wrong = np.flatnonzero((lr < np.min(around, axis=0) - room) | (lr > np.max(around, axis=0) + room))
    return int(update[wrong[0]]) if wrong.size else None
