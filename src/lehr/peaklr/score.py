"""What a peak LR costs, by the losses that were measured: one rule for every law.

The loss at an LR is interpolated linearly in ln LR between a group's runs at one batch size; its excess is over the
group's lowest measured loss there. Beyond the LRs run the last segment is continued, and counts at least as its end.
Linear interpolation lies above a convex valley, by up to an eighth of its curvature times the squared step: an exact
law between two LRs of a grid by factors of sqrt(2) still pays about .0005 nats.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lehr.errors import InputError
from lehr.peaklr.levels import levels_of
from lehr.peaklr.table import SweepGroup
from lehr.peaklr.valley import FEWEST

DIVERGED = 1.0  # nats above the lowest loss that a diverged run counts as
NEAR_BATCH = 0.01  # nats above a group's lowest loss within which a batch size's lowest lies to be scored

Rule = Callable[[SweepGroup], float]
"""A law as a rule: the LR that it gives for a group of one size, number of tokens and batch."""


def grid_of(group: SweepGroup) -> tuple[np.ndarray, np.ndarray]:
    """Distinct ln LR of a group, ascending, and the mean loss at each, shape (k,); diverged runs count as `DIVERGED`.

    Raises
    ------
    InputError
        If every run diverged.
    """
    loss = group.table.loss
    finite = np.isfinite(loss)
    if not finite.any():
        raise InputError(f"{group.name}: every run diverged: run lower LRs.")
    counted = np.where(finite, loss, loss[finite].min() + DIVERGED)
    levels, place = np.unique(levels_of(group.table.lr), return_inverse=True)
    return levels, np.bincount(place, counted) / np.bincount(place)


def measured_excess(group: SweepGroup, lr: float) -> float:
    """Loss that `lr` costs above the lowest measured one, nats.

    Parameters
    ----------
    group : runs of one size, number of tokens and batch.
    lr : above 0.
    """
    x, y = grid_of(group)
    at = float(np.log(lr))
    lowest = float(y.min())
    if x.size > 1 and not x[0] <= at <= x[-1]:
        end, inner = (0, 1) if at < x[0] else (-1, -2)
        slope = (y[end] - y[inner]) / (x[end] - x[inner])
        return max(float(y[end] + slope * (at - x[end])), float(y[end])) - lowest
    return float(np.interp(at, x, y)) - lowest


def encloses(group: SweepGroup) -> bool:
    """Whether a group's lowest loss lies between other LRs, so that an excess over it means something."""
    x, y = grid_of(group)
    return x.size >= FEWEST and 0 < int(np.argmin(y)) < x.size - 1


def scored_batches(group: SweepGroup) -> tuple[SweepGroup, ...]:
    """Parts of a group, at each batch size near its best, on which a law is scored; none if none encloses."""
    if not np.isfinite(group.table.loss).any():
        return ()
    parts = [group.at_batch(batch) for batch in group.batches] or [group]
    parts = [part for part in parts if np.isfinite(part.table.loss).any() and encloses(part)]
    if not parts:
        return ()
    lows = [float(grid_of(part)[1].min()) for part in parts]
    return tuple(part for part, low in zip(parts, lows, strict=True) if low <= min(lows) + NEAR_BATCH)


def mean_excess(group: SweepGroup, rule: Rule) -> float:
    """Mean excess of a rule over the batch sizes near a group's best, nats; NaN where none can be scored."""
    costs = [measured_excess(part, rule(part)) for part in scored_batches(group)]
    return float(np.mean(costs)) if costs else float("nan")
