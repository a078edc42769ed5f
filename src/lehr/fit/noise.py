"""How a law's relative errors run along a curve: white noise and a slow wander.

    cov(e_i, e_j) = white^2 [i = j] + slow^2 (w_i w_j)^-1/2 exp(-|x_i - x_j| / length)      within a run

w is the weight of a point in the fit, so that the wander shrinks along a run as the weights say, and
x its place between the first point (0) and the last (1). Runs are independent. On 124M and MPL runs
this form has the largest likelihood of those tried (wander by updates, by their logarithm, by the share of the
run; as the weight to the 0, -1/2, -1; with an offset a run): see docs/trusting-a-fit.md.

Estimated by restricted maximum likelihood (Patterson and Thompson, Biometrika 58, 1971): what a fit
has absorbed of the noise is allowed for.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.fit.linearised import Linearised
from lehr.fit.projection import Problem

LONGEST, SHORTEST = 2.0, 0.01  # correlation length, in shares of a run
STARTS = ((1.0, 0.1), (10.0, 0.4))  # of the search: ratio of the variances, correlation length
SPIKE = 4.0  # robust standard deviations that a residual counts as at most
FAINT = 1e-6  # directions of the parameters that change the residuals by less than this share of the largest


@dataclass(frozen=True)
class Noise:
    """Noise of relative errors along a curve.

    Parameters
    ----------
    white : standard deviation of what is independent from point to point, a share of the loss.
    slow : standard deviation of the wander at a point of mean weight, a share of the loss.
    length : over which it falls off to 1/e, a share of the run.
    """

    white: float
    slow: float
    length: float

    def covariance(self, place: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Covariance of the errors at n points of one run, shape (n, n); `place` (n,) is in 0 .. 1."""
        size = self.slow / np.sqrt(weight)
        matrix = np.outer(size, size) * np.exp(-np.abs(place[:, None] - place) / self.length)
        matrix[np.diag_indices_from(matrix)] += self.white**2
        return matrix

    def covariances(self, problem: Problem, steps: np.ndarray) -> list[np.ndarray]:
        """Covariance of the errors within each run of `problem`, whose points are at `steps` (shape (n,))."""
        return [self.covariance(places(steps[rows]), problem.weight[rows]) for rows in problem.rows]

    def spread_of(self, problem: Problem, steps: np.ndarray, columns: np.ndarray) -> np.ndarray:
        """Covariance of `columns`.T @ errors, shape (q, q), for columns of shape (n, q)."""
        total = np.zeros((columns.shape[1], columns.shape[1]))
        for rows, matrix in zip(problem.rows, self.covariances(problem, steps), strict=True):
            total += columns[rows].T @ matrix @ columns[rows]
        return total

    def freedom(self, fit: Linearised) -> float:
        """Degrees of freedom of the wander's variance, at least 2: its independent stretches less what the fit used.

        Over a run of length 1 a process that forgets within l is as good as 1 / (l - l^2 (1 - e^(-2/l)) / 2)
        independent values for its variance (Satterthwaite's rule).
        """
        stretch = self.length - self.length**2 * (1 - np.exp(-2 / self.length)) / 2
        used = float(np.sum(fit.inverse() * fit.information()))
        return max(len(fit.problem.rows) / stretch - used, 2.0)


def places(steps: np.ndarray) -> np.ndarray:
    """Place of each point of a run between its first (0) and its last (1), shape (n,)."""
    return (steps - steps[0]) / max(steps[-1] - steps[0], 1.0)


def estimate_noise(fit: Linearised) -> Noise:
    """Noise of the residuals of `fit`; spikes count as no more than `SPIKE` robust deviations."""
    from scipy.optimize import minimize  # slow to load

    absorbed, residual = directions(fit.jacobian), without_spikes(fit)
    ends = [
        minimize(lambda at: _likelihood(at, fit, absorbed, residual)[0], np.log(start), method="Nelder-Mead",
                 options={"xatol": 0.05, "fatol": 0.02, "maxfev": 120})
        for start in STARTS
    ]  # fmt: skip
    best = min(ends, key=lambda end: end.fun)
    _, white = _likelihood(best.x, fit, absorbed, residual)
    ratio, length = _bounded(best.x)
    return Noise(white, float(white * np.sqrt(ratio)), length)


def without_spikes(fit: Linearised) -> np.ndarray:
    """Relative residuals of `fit`, those far out in units of the wander pulled in; shape (n,)."""
    root = np.sqrt(fit.problem.weight)
    standard = fit.point.residual * root
    far = SPIKE * 1.4826 * float(np.median(np.abs(standard)))
    return np.clip(standard, -far, far) / root


def directions(jacobian: np.ndarray) -> np.ndarray:
    """Orthonormal directions of the residuals that parameters can follow, shape (n, up to p)."""
    size = np.linalg.norm(jacobian, axis=0)
    basis, values, _ = np.linalg.svd(jacobian / np.where(size > 0, size, 1.0), full_matrices=False)
    return basis[:, values > FAINT * values[0]]


def _bounded(at: np.ndarray) -> tuple[float, float]:
    """Ratio of the variances and correlation length of a point of the search."""
    ratio = np.exp(np.clip(at[0], -12, 12))
    length = np.exp(np.clip(at[1], np.log(SHORTEST), np.log(LONGEST)))
    return float(ratio), float(length)


def _likelihood(
    at: np.ndarray, fit: Linearised, absorbed: np.ndarray, residual: np.ndarray
) -> tuple[float, float]:
    """Minus the logarithm of the restricted likelihood, the scale projected out, and that scale (white noise)."""
    ratio, length = _bounded(at)
    unit = Noise(1.0, float(np.sqrt(ratio)), length)
    gram = np.zeros((absorbed.shape[1],) * 2)
    cross = np.zeros(absorbed.shape[1])
    square, volume = 0.0, 0.0
    for rows, matrix in zip(fit.problem.rows, unit.covariances(fit.problem, fit.steps), strict=True):
        root = np.linalg.cholesky(matrix)
        clear = np.linalg.solve(root, np.column_stack([absorbed[rows], residual[rows]]))
        gram += clear[:, :-1].T @ clear[:, :-1]
        cross += clear[:, :-1].T @ clear[:, -1]
        square += float(clear[:, -1] @ clear[:, -1])
        volume += 2 * float(np.log(np.diag(root)).sum())
    free = len(fit.steps) - absorbed.shape[1]
    left = max(square - float(cross @ np.linalg.solve(gram, cross)), 1e-30)
    scale = left / free
    return 0.5 * (volume + np.linalg.slogdet(gram)[1] + free * np.log(scale)), float(np.sqrt(scale))
