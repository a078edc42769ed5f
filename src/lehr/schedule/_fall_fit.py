"""Where a logged LR turns: least squares for the shape of a fall, or of a one-cycle arch.

With the places of the turns fixed, every LR is linear in the peak, the final and the starting LR
(for the exponential shape their logarithms are), so only the places are searched: a grid, then a
least-squares polish, then the whole numbers around it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product

import numpy as np
from scipy.optimize import least_squares

from lehr.schedule.shapes import EXPONENTIAL, SHAPES, between

POWER = "power"
ROWS_FITTED = 400  # evenly chosen: enough to place a turn; all rows judge the result


@dataclass(frozen=True)
class Fall:
    """A fall from `peak` at update `begin` to `final` at update `end`.

    With a `phase`, a warm-up from `start` to the peak over `begin` updates comes before it.
    """

    begin: float
    end: float
    power: float
    peak: float
    final: float
    start: float
    error: float


@dataclass(frozen=True, eq=False)
class Curve:
    """Rows to fit, LRs `lr` of updates `k`, both of shape (n,), and what is known about the fall.

    Parameters
    ----------
    phase : the phase of the warm-up that ends where the fall begins; None if `k` starts past it.
    free_start : whether that warm-up may start above 0.
    arch : whether it rises along a half cosine, not a straight line.
    """

    k: np.ndarray
    lr: np.ndarray
    shape: str
    phase: float | None = None
    free_start: bool = True
    arch: bool = False

    def thin(self) -> Curve:
        """Return the curve of at most `ROWS_FITTED` of the rows, the first and last among them."""
        keep = np.unique(np.linspace(0, len(self.k) - 1, ROWS_FITTED).astype(int))
        return replace(self, k=self.k[keep], lr=self.lr[keep])


def fit_fall(
    curve: Curve, begins: Sequence[float], ends: Sequence[float], powers: Sequence[float] = (1.0,)
) -> Fall | None:
    """Find the fall whose whole-numbered turns fit best, or None if the shape cannot apply.

    `begins`, `ends` and `powers` hold the starting values; one with a single value is kept fixed.
    """
    if curve.shape == EXPONENTIAL and curve.lr.min() <= 0:
        return None
    thin = curve.thin()
    free = [len(values) > 1 for values in (begins, ends, powers)]
    grid = list(product(begins, ends, np.log(powers)))
    start = np.array(min(grid, key=lambda theta: _solve(thin, *theta).error))
    theta = _polish(thin, start, np.array(free))
    places = [_whole(value, is_free) for value, is_free in zip(theta[:2], free[:2], strict=True)]
    falls = [_refine(thin, begin, end, theta[2], free[2]) for begin, end in product(*places) if begin < end]
    return min(falls, key=lambda fall: fall.error, default=None)


def _whole(value: float, free: bool) -> list[float]:
    return [float(round(value) + shift) for shift in range(-2, 3)] if free else [float(value)]


def _polish(curve: Curve, start: np.ndarray, free: np.ndarray) -> np.ndarray:
    """Least squares over the entries of `start` marked free."""
    if not free.any():
        return start
    scale = np.array([max(1.0, float(np.ptp(curve.k)) / 100)] * 2 + [0.1])

    def residuals(moved: np.ndarray) -> np.ndarray:
        theta = start.copy()
        theta[free] += moved * scale[free]
        return _fitted(curve, *theta)[0] - curve.lr / curve.lr.max()

    precise = {"xtol": 1e-14, "ftol": 1e-14, "gtol": 1e-14}
    found = least_squares(residuals, np.zeros(free.sum()), method="lm", max_nfev=200, **precise)
    theta = start.copy()
    theta[free] += found.x * scale[free]
    return theta


def _refine(curve: Curve, begin: float, end: float, log_power: float, free: bool) -> Fall:
    if free:
        log_power = _polish(curve, np.array([begin, end, log_power]), np.array([False, False, True]))[2]
    return _solve(curve, begin, end, log_power)


def _solve(curve: Curve, begin: float, end: float, log_power: float) -> Fall:
    fitted, (peak, final, start) = _fitted(curve, begin, end, log_power)
    scale = curve.lr.max()
    error = float(np.max(np.abs(fitted - curve.lr / scale)))
    power = float(np.exp(np.clip(log_power, -5, 5)))
    return Fall(begin, end, power, peak * scale, final * scale, start * scale, error)


def _fitted(
    curve: Curve, begin: float, end: float, log_power: float
) -> tuple[np.ndarray, tuple[float, float, float]]:
    """Fitted LRs over the highest LR, shape (n,), and the peak, final and start that give them."""
    k, lr = curve.k, curve.lr / curve.lr.max()
    x = np.clip((k - begin) / max(end - begin, 1e-9), 0, 1)
    warm = (k < begin) & (curve.phase is not None)
    share = _share(curve.shape, log_power)
    up = _rise(curve, begin)
    if curve.shape == EXPONENTIAL:
        peak, final = np.exp(_least(np.column_stack([1 - x, x])[~warm], np.log(lr[~warm])).clip(-700, 1))
        fall = between(EXPONENTIAL, x, peak, final)
        rest = (lr - peak * up)[warm]
        start = _least((1 - up)[warm, None], rest)[0] if curve.free_start and warm.any() else 0.0
        return np.where(warm, start * (1 - up) + peak * up, fall), (float(peak), float(final), float(start))
    f = share(x)
    columns = [np.where(warm, up, f), np.where(warm, 0.0, 1 - f), np.where(warm, 1 - up, 0.0)]
    if not (curve.free_start and warm.any()):
        columns.pop()
    matrix = np.column_stack(columns)
    found = _least(matrix, lr)
    peak, final, start = (*found, 0.0)[:3]
    return matrix @ found, (float(peak), float(final), float(start))


def _least(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    return np.linalg.lstsq(matrix, right, rcond=None)[0]


def _share(shape: str, log_power: float) -> Callable[[np.ndarray], np.ndarray]:
    """Share of the way left, with the power as a number that may be fitted."""
    if shape in SHAPES:
        return SHAPES[shape]
    power = np.exp(np.clip(log_power, -5, 5))
    return lambda x: (1 - x) ** power


def _rise(curve: Curve, begin: float) -> np.ndarray:
    """Share of the way from the start to the peak at every row of the warm-up."""
    if curve.phase is None:
        return np.ones(len(curve.k))
    x = (curve.k + curve.phase) / max(begin, 1e-9)
    return 1 - SHAPES["cosine"](x) if curve.arch else x
