"""Decay shapes: how the LR goes from one value to another.

A shape maps progress x in [0, 1] to the share of the way still to go: f(0) = 1, f(1) = 0.
The LR on the way from `start` to `end` is `end + (start - end) * f(x)`. The exponential shape
is geometric instead: `start * (end / start)^x`, so both its ends must be above 0.

Sources: linear, 1-sqrt, 1-square, cosine, mirror cosine and exponential after the code of
Haegele et al. (arXiv 2405.18392); power(k), the (1-x)^k of Luo et al. (arXiv 2503.12811).
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from lehr.errors import bad, unknown

SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda x: 1 - x,
    "sqrt": lambda x: 1 - np.sqrt(x),
    "square": lambda x: 1 - x * x,
    "cosine": lambda x: 0.5 * (1 + np.cos(np.pi * x)),
    "mirror_cosine": lambda x: 2 * (1 - x) - 0.5 * (1 + np.cos(np.pi * x)),
}
EXPONENTIAL = "exponential"
_POWER = re.compile(r"power\(([0-9.eE+-]+)\)\Z")


def check_shape(shape: str) -> str:
    """Return `shape` if it names a known shape.

    Raises
    ------
    InputError
        If the name is unknown (the nearest is suggested) or a power is not above 0.
    """
    if shape in SHAPES or shape == EXPONENTIAL:
        return shape
    match = _POWER.match(shape)
    if not match:
        raise unknown("decay shape", shape, [*SHAPES, EXPONENTIAL, "power(k)"])
    try:
        power = float(match[1])
    except ValueError:
        power = float("nan")
    if not 0 < power < float("inf"):
        raise bad("the k of shape power(k)", "must be a number above 0", match[1], "use e.g. power(1.5)")
    return shape


def remaining(shape: str, progress: np.ndarray) -> np.ndarray:
    """Share of the way still to go after `progress` in [0, 1], for a non-geometric shape."""
    progress = np.asarray(progress, dtype=float)
    if shape in SHAPES:
        return SHAPES[shape](progress)
    match = _POWER.match(check_shape(shape))
    if match is None:
        raise bad("shape", "has no share of the way left by itself", shape, "use between()")
    return (1 - progress) ** float(match[1])


def between(shape: str, progress: np.ndarray, start: float, end: float) -> np.ndarray:
    """LR at `progress` in [0, 1] on the way from `start` to `end`, same shape as `progress`."""
    progress = np.asarray(progress, dtype=float)
    if shape == EXPONENTIAL:
        return start * (end / start) ** progress
    return end + (start - end) * remaining(shape, progress)
