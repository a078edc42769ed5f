"""Merging checkpoints of a constant-LR trunk in place of a decay: merge weights and the decay they stand for.

Between two checkpoints of a trunk lies the sum of its updates. An average sum_j c_j theta_j of checkpoints at
steps s_0 < ... < s_k therefore is the first one plus every later update times the sum of the weights of all
checkpoints after it: as if the updates from s_(j-1) to s_j had used the LR of the trunk times

    w_j = c_j + c_(j+1) + ... + c_k,   1 >= w_1 >= ... >= w_k >= 0,   and back
    c_0 = 1 - w_1,  c_j = w_j - w_(j+1),  c_k = w_k

(Tian et al., WSM, arXiv 2507.17634). A decay curve is thus followed in stairs, one between two checkpoints;
with a checkpoint after every update it is followed exactly.

What must hold for the merge to equal the decay: each update is the LR times something that does not depend
on the LR (SGD, or recorded directions; decoupled weight decay is part of it), and the gradients of the
trunk are those that the decaying run would have seen. The second never holds exactly: a decaying run turns
aside as its LR falls, so that a merge is an approximation whose loss must be measured.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lehr.errors import bad
from lehr.schedule.families import wsd
from lehr.schedule.schedule import Schedule, Segment

ROUNDING = 1e-9


def decay_weights(steps: Sequence[int], shape: str = "linear", final: float = 0.0) -> np.ndarray:
    """Merge weights that stand for a decay from the first checkpoint to the last.

    Parameters
    ----------
    steps : updates done at each of k + 1 >= 2 checkpoints, increasing.
    shape : decay shape (`lehr.schedule.shapes`).
    final : end of the decay as a fraction of the trunk's LR, in [0, 1].

    Returns
    -------
    Weights of shape (k + 1,), at least 0, of sum 1.

    Raises
    ------
    InputError
        If the steps do not increase, or shape or final is not one of a decay.

    >>> decay_weights([0, 100, 200], "linear").round(4).tolist()
    [0.2475, 0.5, 0.2525]
    """
    length = int(_checked(steps)[-1] - steps[0])
    curve = wsd(steps=length, peak=1.0, decay=length, shape=shape, final=final).to_array()
    return merge_weights(curve, steps)


def merge_weights(multipliers: np.ndarray, steps: Sequence[int]) -> np.ndarray:
    """Merge weights that stand for any decay curve.

    Each stair is the mean of the curve between two checkpoints, so that the LR sum is kept.

    Parameters
    ----------
    multipliers : shape (steps[-1] - steps[0],); LR of each update after the first checkpoint over the
        LR of the trunk.
    steps : updates done at each of k + 1 >= 2 checkpoints, increasing.

    Returns
    -------
    Weights of shape (k + 1,), at least 0, of sum 1.

    Raises
    ------
    InputError
        If the steps do not increase, the curve has another length, leaves [0, 1] or rises from one
        interval to the next: that would take a negative weight.
    """
    edges = _checked(steps)
    curve = np.asarray(multipliers, dtype=float)
    if curve.shape != (edges[-1] - edges[0],):
        rule = f"must be one number for each of the {edges[-1] - edges[0]} updates between first and last"
        raise bad("multipliers", rule, curve.shape, "cut the curve at the checkpoints")
    if not (np.all(np.isfinite(curve)) and curve.min() >= 0 and curve.max() <= 1 + ROUNDING):
        worst = float(curve[np.argmax(np.abs(np.nan_to_num(curve, nan=np.inf) - 0.5))])
        raise bad(
            "multipliers", "must lie in [0, 1]", worst, "divide the LR of the decay by that of the trunk"
        )
    stairs = np.add.reduceat(curve, edges[:-1] - edges[0]) / np.diff(edges)
    weights = -np.diff(np.concatenate([[1.0], stairs, [0.0]]))
    if weights.min() < -ROUNDING:
        place = int(steps[int(np.argmin(weights))])
        raise bad(
            "multipliers", "must not rise", float(-weights.min()),
            f"the curve rises at step {place}: no average of checkpoints stands for that",
        )  # fmt: skip
    weights = np.maximum(weights, 0.0)
    return weights / weights.sum()


def decay_of(weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Decay that merge weights stand for: the LR between two checkpoints over that of the trunk.

    Parameters
    ----------
    weights : shape (k + 1,), at least 0, of sum 1.

    Returns
    -------
    Multipliers w_1 .. w_k of the intervals, shape (k,), falling.

    Raises
    ------
    InputError
        If a weight is negative or they do not sum to 1.

    >>> decay_of([0.25, 0.25, 0.25, 0.25]).tolist()
    [0.75, 0.5, 0.25]
    """
    return np.cumsum(check_weights(weights)[:0:-1])[::-1]


def merged_schedule(trunk: Schedule, steps: Sequence[int], weights: Sequence[float] | np.ndarray) -> Schedule:
    """Schedule that a merge stands for, warm-up of the trunk included; of steps[-1] updates.

    Parameters
    ----------
    trunk : schedule of the run that left the checkpoints; constant from the first to the last of them.
    steps, weights : of the checkpoints.

    Raises
    ------
    InputError
        If the trunk is shorter or its LR changes between the checkpoints, or they do not fit together.
    """
    edges, shares = _checked(steps), decay_of(weights)
    if len(edges) != len(shares) + 1:
        raise bad("weights", f"must be as many as the {len(edges)} steps", len(shares) + 1, "pair them")
    whole = trunk.first(int(edges[-1]))
    rates = whole.lr(np.arange(edges[0], edges[-1]))
    if np.ptp(rates) > ROUNDING * whole.peak:
        rule = "must be constant between the first and the last checkpoint"
        got = f"{rates.min():g} to {rates.max():g}"
        raise bad("the LR of the trunk", rule, got, "merge checkpoints from before its decay")
    stairs = tuple(
        Segment(int(n), rates[0] * w, rates[0] * w) for n, w in zip(np.diff(edges), shares, strict=True)
    )
    before = whole.first(int(edges[0])).segments if edges[0] else ()
    return Schedule(before + stairs)


def check_weights(weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Return merge weights as an array if they are at least 0 and sum to 1.

    Raises
    ------
    InputError
        If they are not.
    """
    row = np.asarray(weights, dtype=float)
    if row.ndim != 1 or len(row) < 2:
        raise bad("weights", "must be a row of at least two numbers", row.shape, "give one a checkpoint")
    if not (np.all(np.isfinite(row)) and row.min() >= 0):
        raise bad("weights", "must be at least 0", float(row.min()), "a merge is an average")
    if abs(row.sum() - 1) > ROUNDING:
        raise bad("weights", "must sum to 1", float(row.sum()), "divide them by their sum")
    return row


def _checked(steps: Sequence[int]) -> np.ndarray:
    """Steps of the checkpoints as whole numbers, if there are two or more and they increase."""
    row = np.asarray(steps)
    if row.ndim != 1 or len(row) < 2:
        raise bad("steps", "must be those of at least two checkpoints", list(steps), "merge two or more")
    whole = row.astype(np.int64)
    if np.any(whole != row) or whole[0] < 0 or np.any(np.diff(whole) < 1):
        rule = "must be whole numbers of at least 0 that increase"
        raise bad("steps", rule, [float(s) if s % 1 else int(s) for s in row], "sort the checkpoints")
    return whole
