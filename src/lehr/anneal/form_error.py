"""The error of a law's form, taken to be alike for runs that are alike.

A law that misses one run by a little misses its neighbours in much the same way, so that a run near the
planned one tells of the law's error there, and a distant one does not. Errors at two points of two runs
are correlated by exp(-|x - y|^2 / 2), where x holds, each in units of its reach,

    ln peak LR, ln updates done, mean LR so far / peak, LR now / peak

The reaches are set by what the public runs were planned with (factors of two in LR and length, steps of .2 in
ratio), not fitted.
"""

from __future__ import annotations

import numpy as np

from lehr.schedule.schedule import Schedule

REACH = np.array(
    [0.7, 0.7, 0.2, 1.0]
)  # a factor of two in LR and in updates; .4 of annealing ratio; all of the LR
PROBES = 2000  # updates at which a schedule is looked at for its mean LR


def features(schedule: Schedule, steps: np.ndarray) -> np.ndarray:
    """Where points of a run lie, in units of `REACH`; shape (n, 4) for `steps` of shape (n,), updates done."""
    edges = np.unique(np.linspace(0, schedule.steps, PROBES).astype(int))
    middle = (edges[:-1] + edges[1:] - 1) // 2
    area = np.concatenate([[0.0], np.cumsum(schedule.lr(middle) * np.diff(edges))])
    peak = schedule.peak
    last = np.maximum(np.asarray(steps).astype(int) - 1, 0)
    columns = [
        np.full(len(steps), np.log(peak)), np.log(steps), np.interp(steps, edges, area) / (peak * steps),
        schedule.lr(last) / peak,
    ]  # fmt: skip
    return np.stack(columns, axis=1) / REACH


def likeness(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Correlation of the errors at points of features `one` (n, 4) and `other` (k, 4), shape (n, k)."""
    gap = one[:, None, :] - other[None, :, :]
    return np.exp(-0.5 * np.sum(gap**2, axis=2))
