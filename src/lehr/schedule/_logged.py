"""Logged steps and LRs as LRs of updates: the rows that schedules are inferred from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lehr.errors import bad, unknown
from lehr.schedule._candidates import Rows
from lehr.schedule.long_logs import blocks, median_gap, rising

WARMUP = ("warmup", "warmup_start", "warmup_phase")


def clean(
    step: np.ndarray, lr: np.ndarray, warmup: Mapping[str, float] | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows in order of step, one a step, after checking them."""
    step, lr = np.asarray(step, dtype=float), np.asarray(lr, dtype=float)
    if step.ndim != 1 or step.shape != lr.shape:
        raise bad("lr", f"must have one value a step, shape {step.shape}", lr.shape, "pass two equal columns")
    for name in warmup or ():
        if name not in WARMUP:
            raise unknown("warm-up argument", name, WARMUP)
    finite = np.isfinite(step) & np.isfinite(lr)
    if not finite.all():
        step, lr = step[finite], lr[finite]
    for part in blocks(len(step)):
        wrong = step[part][(step[part] < 0) | (step[part] % 1 != 0)]
        if wrong.size:
            raise bad("step", "must count updates, 0 or more", float(wrong[0]), "log the number of updates")
    if len(lr) and (lr.min() < 0 or lr.max() == 0):
        raise bad(
            "lr", "must be at least 0 and not all 0", float(lr.min()), "check which column holds the LR"
        )
    if len(step) and step.max() >= 2**53:
        raise bad("the LR log", "must have steps below 2^53", float(step.max()), "mend the log")
    if len(step) > 2 and rising(step):
        return step, lr
    steps, last = np.unique(step[::-1], return_index=True)
    if len(steps) < 3:
        raise bad(
            "the LR log", "must have at least 3 different steps with an LR", len(steps), "give --schedule"
        )
    return steps, lr[::-1][last]


def check_offset(offset: int) -> int:
    """Return `offset` if it is 0 or -1."""
    if offset not in (0, -1):
        raise bad(
            "offset", "must be 0 or -1", offset, "0 if a row shows the next LR, -1 if the last one used"
        )
    return offset


@dataclass(frozen=True)
class Extent:
    """How far a log reaches.

    Parameters
    ----------
    last : its last step.
    gap : usual distance between two rows.
    total : length T of the schedule, None if not known.
    done : updates that were surely made.
    every_update : whether there is a row for each of 0 .. last.
    """

    last: int
    gap: int
    total: int | None
    done: int
    every_update: bool


def extent_of(step: np.ndarray, total: int | None) -> Extent:
    """Measure rising steps."""
    last = int(step[-1])
    if total is not None and (total != int(total) or total < last):
        raise bad("total_steps", f"must be at least the last logged step {last}", total, "give all updates")
    return Extent(last, int(median_gap(step)), total, total or last, step[0] == 0 and len(step) == last + 1)


def rows_of(
    step: np.ndarray, lr: np.ndarray, extent: Extent, offset: int, warmup: Mapping[str, float] | None
) -> Rows:
    """Return the rows as LRs of updates."""
    every_update = offset == 0 and extent.every_update
    done = extent.last + 1 if every_update and extent.total is None else extent.done
    k = step.astype(np.int64) + offset
    used = (k >= 0) & (k < (extent.total or done + 1))
    return Rows(k[used], lr[used], extent.total, done, extent.gap, warmup, offset)
