"""Which values of a column are one: tables print an LR with few digits, and counts of parameters differ by trifles."""

from __future__ import annotations

import numpy as np

SAME = 0.02  # values that differ by less than this factor from the next are one


def levels_of(values: np.ndarray) -> np.ndarray:
    """Replace the logarithm of every value by the mean over the values that are one with it.

    Parameters
    ----------
    values : shape (n,), above 0.

    Returns
    -------
    Shape (n,); equal for values that are one.

    >>> np.round(np.exp(levels_of(np.array([1e-3, 2e-3, 1.001e-3]))), 6)
    array([0.001, 0.002, 0.001])
    """
    logs = np.log(values)
    order = np.argsort(logs, kind="stable")
    ranks = np.concatenate([[0], np.cumsum(np.diff(logs[order]) > SAME)])
    means = np.bincount(ranks, logs[order]) / np.bincount(ranks)
    out = np.empty_like(logs)
    out[order] = means[ranks]
    return out
