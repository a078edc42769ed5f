"""The form of a valley: loss over ln LR, steeper on the side of high LRs, convex everywhere.

::

    L(eta) = L_min + curvature V(ln eta - ln eta_opt)
    V(u)   = (q e^(-p u) + p e^(q u) - (p + q)) / (p q (p + q)),        V(0) = V'(0) = 0, V''(0) = 1

which is A eta^(-p) + B eta^q + C written about its lowest point. p = q = 1 is the bound of convex optimisation,
A/eta + B eta + C (arXiv 2501.18965); p and q to 0 give the parabola of arXiv 2601.05049, eq. 2.
"""

from __future__ import annotations

import math

import numpy as np

PARABOLA = (0.0, 0.0)
PRIOR_CENTRE = (math.log(0.5), math.log(1.0))  # of ln p and ln q: the high side steeper
PRIOR_WIDTH = 0.7
FARTHEST = 8.0  # in ln LR, beyond which the form is continued flat; e^(8 q) overflows nothing


def valley_shape(distance: np.ndarray, fall: float, rise: float) -> np.ndarray:
    """Evaluate V, with unit curvature at 0.

    Parameters
    ----------
    distance : ln LR - ln LR_opt, any shape.
    fall, rise : p and q, at least 0; both 0 for the parabola.

    Returns
    -------
    V, of the shape of `distance`.

    >>> np.round(valley_shape(np.array([-1.0, 0.0, 1.0]), 0.5, 1.0), 3)
    array([0.433, 0.   , 0.594])
    """
    u = np.clip(distance, -FARTHEST, FARTHEST)
    if fall == 0 and rise == 0:
        return 0.5 * u**2
    return (rise * np.expm1(-fall * u) + fall * np.expm1(rise * u)) / (fall * rise * (fall + rise))


def valley_slope(distance: np.ndarray, fall: float, rise: float) -> np.ndarray:
    """Derivative of V by `distance`, of its shape."""
    u = np.clip(distance, -FARTHEST, FARTHEST)
    if fall == 0 and rise == 0:
        return u
    return (np.exp(rise * u) - np.exp(-fall * u)) / (fall + rise)


def exponent_slopes(distance: np.ndarray, fall: float, rise: float) -> tuple[np.ndarray, np.ndarray]:
    """Derivatives of V by ln p and ln q, both above 0; each of the shape of `distance`."""
    u = np.clip(distance, -FARTHEST, FARTHEST)
    both, scale = fall + rise, fall * rise * (fall + rise)
    down, up = np.expm1(-fall * u), np.expm1(rise * u)
    value = (rise * down + fall * up) / scale
    by_fall = (up - rise * u * (1 + down)) / scale - value * (both + fall) / (fall * both)
    by_rise = (down + fall * u * (1 + up)) / scale - value * (both + rise) / (rise * both)
    return fall * by_fall, rise * by_rise
