"""Branches that no config names: runs whose first losses are, to the last digit, those of another run.

Two trainings agree in every digit of several losses only if one went on from the other's past. Of such runs the one
whose LR stays highest is the trunk; each other branched from the run with which it shares most, after the last step at
which they agree, and keeps the points that come later. A run that is wholly the beginning of another is told, and left
as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lehr.runs.parents import past_apart
from lehr.runs.run import Run

LEAST = 3  # equal losses that make a shared past, beyond step 0


def find_branches(runs: Sequence[Run]) -> tuple[tuple[Run, ...], tuple[str, ...]]:
    """Give runs that share a past a parent.

    Parameters
    ----------
    runs : of one import. Those that have a parent stay as they are.

    Returns
    -------
    The runs in their order, and what was found.
    """
    out = {run.name: run for run in runs}
    report: list[str] = []
    for group in _groups(runs):
        older: list[Run] = []
        for run in sorted(group, key=_like_a_trunk, reverse=True):
            shared = {other.name: step for other in older if (step := _shared(other, run)) is not None}
            if shared:
                parent = max(older, key=lambda other: shared.get(other.name, -1.0))
                out[run.name] = _branched(parent, run, shared[parent.name], report)
            older.append(run)
    return tuple(out.values()), tuple(report)


def _like_a_trunk(run: Run) -> tuple[float, float, str]:
    """A trunk keeps its LR up; of several the longest."""
    done = min(int(run.step[-1]), run.steps) - 1
    return float(run.schedule.lr(np.array([done]))[0]), float(run.step[-1]), run.name


def _branched(parent: Run, run: Run, shared: float, report: list[str]) -> Run:
    """Return the run as a branch, or as it is where it has nothing of its own or another past."""
    own = run.step > shared
    if not own.any():
        report.append(f"{run.name!r} is the beginning of {parent.name!r}, up to step {run.step[-1]:g}")
        return run
    if not _same_past(parent, run, int(shared)):
        report.append(
            f"{run.name!r} has the losses of {parent.name!r} up to step {shared:g}, but not its LRs: not joined"
        )
        return run
    report.append(
        f"{run.name!r} branched from {parent.name!r} after {shared:g} updates: "
        f"{int((~own).sum())} losses up to there are equal and were left to {parent.name!r}"
    )
    return replace(run, step=run.step[own], loss=run.loss[own], parent=parent.name, branch_step=int(shared))


def _groups(runs: Sequence[Run]) -> list[list[Run]]:
    """Runs without a parent that have the same first losses."""
    groups: dict[tuple[float, ...], list[Run]] = {}
    for run in runs:
        late = np.flatnonzero(run.step > 0)[:LEAST]
        if run.parent is None and late.size == LEAST:
            key = (*run.step[late].tolist(), *run.loss[late].tolist(), run.batch_tokens or 0.0)
            groups.setdefault(key, []).append(run)
    return [group for group in groups.values() if len(group) > 1]


def _shared(trunk: Run, run: Run) -> float | None:
    """Last step up to which all common losses are equal; None if there are too few."""
    _, here, there = np.intersect1d(run.step, trunk.step, assume_unique=True, return_indices=True)
    equal = run.loss[here] == trunk.loss[there]
    count = int(np.argmin(equal)) if not equal.all() else equal.size
    steps = run.step[here][:count]
    return float(steps[-1]) if np.count_nonzero(steps > 0) >= LEAST else None


def _same_past(trunk: Run, run: Run, shared: int) -> bool:
    if shared > min(trunk.steps, run.steps):
        return False
    return past_apart(run.schedule, trunk.schedule, shared) is None
