"""Linear recurrences, by doubling: a few operations on whole arrays in place of a loop over their elements."""

from __future__ import annotations

import numpy as np


def follow(keep: np.ndarray, add: np.ndarray, first: float) -> np.ndarray:
    """Return x of shape (..., n + 1) with x[0] = first and x[i + 1] = keep[i] x[i] + add[i] along the last axis.

    Two steps that follow one another are one step of the same form, so that steps of 1, 2, 4, ... elements are joined
    in turn (Hillis and Steele, Communications of the ACM 29, 1986). Exact but for rounding while |keep| <= 1.

    Parameters
    ----------
    keep, add : shape (..., n).
    """
    kept, added, reach = keep.copy(), add.copy(), 1
    while reach < kept.shape[-1]:
        added[..., reach:] += kept[..., reach:] * added[..., :-reach]
        kept[..., reach:] = kept[..., reach:] * kept[..., :-reach]
        reach *= 2
    return np.concatenate([np.full((*kept.shape[:-1], 1), first), added + kept * first], axis=-1)
