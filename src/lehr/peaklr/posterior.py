"""What is known of the best LR during a sweep: the prior, updated by the runs that ended.

The model is that of `lehr.peaklr.surface` with a proper prior on every parameter, so that it is defined from the first
run on, and with an own small shift of the optimum in every cell (one size, number of tokens and batch)::

    L = L_min(cell) + curvature(N, D, B) V(ln eta - ln eta_opt(N, D, B) - shift(cell)),    shift ~ normal

L_min and the shift are integrated out to first order in the shift; the rest is a Gaussian about the most likely
parameters (Laplace's approximation). A run that ended more than `CUT` above the lowest of its cell says only that its
loss is at least so high, and one that diverged that it is at least as high as any measured in its cell. As in the
surface, a run counts by its height above the lowest loss of its size and number of tokens at any batch size; and a cell
scatters the more the worse its batch size: the law is to be right at good ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.peaklr.law import LrPrediction
from lehr.peaklr.prior import Prior, location_slope, slopes_of
from lehr.peaklr.published import Planned
from lehr.peaklr.surface import CUT, NOISE_FACTOR, ROBUST, STEEPEST
from lehr.peaklr.table import SweepTable
from lehr.peaklr.valley import FORM_ERROR, NOISE, NOISE_FREEDOM
from lehr.quantiles import normal_half

SCATTER = 0.15  # of ln LR_opt of single cells about any law, at the best batch size
POOR_BATCH = 0.003  # nats that a batch size costs at which the variance of that is doubled
FLAT = 1.0  # nats: deviation of the lowest loss of a cell
ROUNDS = 6  # of weighing the runs anew


@dataclass(frozen=True)
class Posterior:
    """Gaussian knowledge of a surface after some runs.

    Parameters
    ----------
    prior : what was known before.
    mean : most likely parameters, shape (p,), in the order of the prior's.
    covariance : theirs, shape (p, p).
    runs : number of runs that it rests on.
    misfit : variance of the residuals in units of that expected.
    """

    prior: Prior
    mean: np.ndarray
    covariance: np.ndarray
    runs: int
    misfit: float

    def predict(self, place: Planned, level: float = 0.9) -> LrPrediction:
        """Best peak LR of a planned run, with the interval of its own optimum: the law's error and `SCATTER`."""
        value = float(self.prior.location(self.mean, self.prior.logs_of(place))[0])
        half = normal_half(level) * float(np.sqrt(self.variance(place) + SCATTER**2))
        low, middle, high = np.exp([value - half, value, value + half]).tolist()
        return LrPrediction(middle, low, high)

    def variance(self, place: Planned) -> float:
        """Variance of ln LR_opt of a planned run by the error of the law alone."""
        slope = location_slope(self.prior, self.mean, self.prior.logs_of(place))
        return float(slope @ self.covariance @ slope)

    def expected_excess(self, place: Planned, variance: float | None = None) -> float:
        """Loss expected to be lost by the error of the law alone, or by the `variance` given, nats."""
        spread = self.variance(place) if variance is None else variance
        fall, rise = np.exp(np.clip(self.mean[-2:], *STEEPEST))
        bend = float(self.prior.bend(self.mean, self.prior.logs_of(place))[0])
        # V averaged over a Gaussian of that variance
        down, up = np.expm1(np.minimum(np.array([fall, rise]) ** 2 * spread / 2, 50.0))
        return bend * float((rise * down + fall * up) / (fall * rise * (fall + rise)))


def fit_posterior(prior: Prior, done: SweepTable | None, noise: float = NOISE) -> Posterior:
    """Update the prior by runs that ended.

    Parameters
    ----------
    prior : what was known before.
    done : the runs; those alone in their cell say nothing yet. None: no run.
    noise : standard deviation of a final loss, as a share of it.
    """
    spread = np.diag(prior.deviation**2)
    if done is None:
        return Posterior(prior, prior.mean, spread, 0, 1.0)
    rows = _Rows(prior, done, noise)
    at, weight = prior.mean, np.ones_like(rows.variance)
    for _ in range(ROUNDS):
        whiten = rows.whitening(at, weight)
        at = rows.solve(at, whiten)
        # the part of the residual that is noise, over its deviation: large ones count less, as in the surface, but for
        # runs that diverged, which no noise explains
        own = rows.apply(whiten.swapaxes(1, 2), rows.apply(whiten, rows.residual(at)))
        large = np.sqrt(1 + (np.sqrt(rows.variance * weight) * own / ROBUST) ** 2)
        weight = np.where(rows.least, 1.0, large)
    whiten = rows.whitening(at, weight)
    used = np.einsum("css->cs", whiten) > 0
    badness = float(np.sum(rows.apply(whiten, rows.residual(at)) ** 2))
    freedom = max(int(used.sum()) - int(used.any(axis=1).sum()) - at.size, 0)
    misfit = (NOISE_FREEDOM + badness) / (NOISE_FREEDOM + freedom)
    slope = rows.slopes(at, whiten)
    information = slope.T @ slope / max(misfit, 1.0) + np.diag(prior.deviation**-2)
    return Posterior(prior, at, np.linalg.inv(information), len(done), misfit)


def slots_of(cell: np.ndarray) -> np.ndarray:
    """Place of each run among those of its cell, shape (n,), from 0."""
    order = np.argsort(cell, kind="stable")
    slot = np.empty_like(cell)
    slot[order] = np.arange(cell.size) - np.searchsorted(cell[order], cell[order])
    return slot


def bottoms_of(runs: SweepTable) -> np.ndarray:
    """Height of the lowest loss known in each run's cell over that of its group, any batch, shape (n,), nats.

    It is 0 where no loss of the cell is known: a batch size may be the best until it is tried.
    """
    loss = np.where(np.isfinite(runs.loss), runs.loss, np.inf)
    lowest = []
    for number in (runs.group_numbers(by_batch=True), runs.group_numbers()):
        low = np.full(int(number.max()) + 1, np.inf)
        np.minimum.at(low, number, loss)
        lowest.append(low[number])
    cell, group = lowest
    return np.where(np.isfinite(cell), cell, 0.0) - np.where(np.isfinite(cell), group, 0.0)


def scatter_at(bottom: np.ndarray) -> np.ndarray:
    """Standard deviation of ln LR_opt of cells about the law, by their height over the best batch size."""
    return SCATTER * np.sqrt(1 + bottom / POOR_BATCH)


class _Rows:
    """Runs that ended, in arrays (cells, slots); slots without a run have no weight."""

    def __init__(self, prior: Prior, done: SweepTable, noise: float) -> None:
        self.prior, self.logs, self.lr = prior, prior.logs(done), np.log(done.lr)
        cell = done.group_numbers(by_batch=True)
        self.at = (cell, slots_of(cell))
        self.shape = (int(cell.max()) + 1, int(self.at[1].max()) + 1)
        loss = self._arrange(done.loss, np.nan)
        ended = np.isfinite(loss)
        low = np.where(ended, loss, np.inf).min(axis=1, keepdims=True)
        # cells in which every run diverged have no loss to compare with
        self.there = self._arrange(np.ones(len(done)), 0.0).astype(bool) & np.isfinite(low)
        low = np.where(np.isfinite(low), low, 1.0)
        height = np.where(ended, loss, np.inf) - low
        self.least = height > CUT  # these are at least so high
        highest = np.where(ended, np.minimum(height, CUT), 0.0).max(axis=1, keepdims=True)
        self.height = np.where(self.least, np.where(ended, CUT, highest), height)
        bottom = self._arrange(bottoms_of(done), 0.0)
        self.scatter, above = scatter_at(bottom), self.height + bottom
        self.variance = (NOISE_FACTOR * noise * low) ** 2 + (FORM_ERROR * above) ** 2

    def _arrange(self, values: np.ndarray, empty: float) -> np.ndarray:
        """Put values of the runs, shape (n, ...), in their slots, shape (cells, slots, ...)."""
        out = np.full((*self.shape, *values.shape[1:]), empty)
        out[self.at] = values
        return out

    @staticmethod
    def apply(whiten: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Multiply every cell's values, shape (cells, slots), by its matrix."""
        return (whiten @ values[..., None])[..., 0]

    def residual(self, at: np.ndarray) -> np.ndarray:
        """Measured less modelled height, shape (cells, slots), the lowest loss of each cell left out."""
        return self.height - self._arrange(self.prior.height(at, self.logs, self.lr), 0.0)

    def slopes(self, at: np.ndarray, whiten: np.ndarray) -> np.ndarray:
        """Derivative of the whitened heights by the parameters, shape (cells x slots, p)."""
        slope = whiten @ self._arrange(self.prior.jacobian(at, self.logs, self.lr), 0.0)
        return slope.reshape(-1, at.size)

    def whitening(self, at: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Matrix of every cell that turns residuals into independent ones of variance 1, shape (cells, slots, slots).

        The noise of a run has `weight` times its variance. Rows of runs that say nothing are 0.
        """
        shift = self.scatter * self._arrange(slopes_of(self.prior, at, self.logs, self.lr), 0.0)
        residual = self.residual(at)
        lowest = np.argmin(np.where(self.there, self.height, np.inf), axis=1)[:, None]
        bottom = np.take_along_axis(residual, lowest, axis=1)
        used = self.there & ~(self.least & (residual < bottom))
        both = used[:, :, None] & used[:, None, :]
        spread = np.where(both, FLAT**2 + shift[:, :, None] * shift[:, None, :], 0.0)
        every = np.arange(self.shape[1])
        spread[:, every, every] += np.where(used, self.variance * weight, 1.0)
        return np.where(both, np.linalg.inv(np.linalg.cholesky(spread)), 0.0)

    def solve(self, begin: np.ndarray, whiten: np.ndarray) -> np.ndarray:
        """Most likely parameters with that whitening."""
        from scipy.optimize import least_squares  # slow to load

        prior = self.prior

        def residual(at: np.ndarray) -> np.ndarray:
            own = self.apply(whiten, self.residual(at)).ravel()
            return np.concatenate([own, (at - prior.mean) / prior.deviation])

        def jacobian(at: np.ndarray) -> np.ndarray:
            return np.concatenate([-self.slopes(at, whiten), np.diag(1 / prior.deviation)])

        return least_squares(residual, begin, jacobian, x_scale=prior.deviation, max_nfev=30).x
