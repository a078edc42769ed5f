"""Schedules as the page draws them, and as they are drawn on the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lehr.errors import InputError, bad
from lehr.schedule.families import FAMILIES
from lehr.schedule.schedule import Schedule, Segment
from lehr.studio.state import numbers, thinned

MOST_STEPS = 10**12


def lr_curve(schedule: Schedule, points: int) -> dict[str, Any]:
    """LRs of at most about `points` updates, the ends of every segment (of at most that many) among them."""
    ends = np.concatenate([schedule.starts[:-1], schedule.starts[1:] - 1])
    if len(ends) > points:
        ends = ends[np.linspace(0, len(ends) - 1, points).astype(int)]
    even = np.linspace(0, schedule.steps - 1, points).round().astype(np.int64)
    updates = np.unique(np.concatenate([even, ends, [schedule.steps - 1]])).astype(np.int64)
    return {"steps": updates.tolist(), "lr": numbers(schedule.lr(updates))}


def corners(schedule: Schedule, most: int) -> dict[str, Any]:
    """Points of step and LR that `drawn` takes: where segments begin, and the end; at most `most` of them."""
    steps = [int(start) for start in schedule.starts]
    last = schedule.segments[-1]
    end = last.end if isinstance(last, Segment) else float(last.values[-1])
    values = np.append(schedule.lr(np.array(steps[:-1])), end)
    keep = thinned(len(steps), most)
    return {"steps": [steps[i] for i in keep], "lr": numbers(values[keep])}


def drawn(points: Sequence[tuple[float, float]], steps: int) -> Schedule:
    """The schedule of straight lines through points of step and LR: at step s the LR is that of update s.

    Raises
    ------
    InputError
        If the points do not begin at 0 and end at `steps`, do not go forward, or an LR is not one.
    """
    if not 1 <= steps <= MOST_STEPS:
        raise bad("steps", f"must lie between 1 and {MOST_STEPS:.0e}", steps, "give the updates of training")
    places = [step for step, _ in points]
    if len(points) < 2 or places[0] != 0 or places[-1] != steps:
        raise InputError(f"the points must begin at step 0 and end at step {steps}: add the missing end.")
    for place, after in zip(places, places[1:], strict=False):
        if place != int(place) or not place < after:
            raise bad("points", "must be at whole steps, each after the one before", after, "move the point")
    ramps = [
        FAMILIES["ramp"](steps=int(end - begin), start=low, end=high)
        for (begin, low), (end, high) in zip(points, points[1:], strict=False)
    ]
    return ramps[0] if len(ramps) == 1 else FAMILIES["join"](parts=ramps)
