"""After how many updates a run reaches a loss while its LR is constant.

Losses are compared in one phase only, the part at constant LR after the warm-up. A decay takes away noise
that a high LR leaves, and how much of it there is depends on the batch: a level reached in the decay of
one run and before that of another says nothing about the batch. Under a cosine two batches reach one level
at different LRs, so cosine runs have no part to compare.

The curve is a robust local line over ln(step): weights fall with distance (tricube) and with the size of
the residual (bisquare), as in Cleveland's LOWESS (1979), so that spikes in the log do not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.runs.run import Run
from lehr.schedule.schedule import Schedule

FLAT = 1e-3  # LRs within this share of the peak are the peak: imported columns are rounded
BIN = 0.01  # points closer than this in ln(step) are averaged, so that long logs cost no more
WIDTH = 0.25  # half-width of the local line, in ln(step)
NEAREST = 6  # points it spans at least
BLOCK = 0.05  # in ln(step): residuals this close share their random sign, since successive errors are alike
FEWEST = 8  # points at constant LR without which a run is not compared
GRID = 120


@dataclass(frozen=True, eq=False)
class Trunk:
    """The losses of a run at constant LR, binned; both arrays have shape (n,).

    Parameters
    ----------
    name, batch : of the run; tokens.
    log_step : ln of the updates done.
    loss : nats per token.
    """

    name: str
    batch: float
    log_step: np.ndarray
    loss: np.ndarray


def constant_part(schedule: Schedule) -> tuple[int, int]:
    """First and last step whose last update used the peak LR, before the LR first leaves it."""
    lr = schedule.to_array()
    peak = lr >= lr.max() * (1 - FLAT)
    first = int(np.argmax(peak))
    falls = np.flatnonzero(~peak[first:])
    return first + 1, first + int(falls[0]) if falls.size else len(lr)


def trunk_of(run: Run, burn_in: int) -> Trunk | None:
    """The part of `run` at constant LR from `burn_in` on, or None if it holds too few points."""
    first, last = constant_part(run.schedule)
    keep = (run.step >= max(first, burn_in, 1)) & (run.step <= last)
    log_step, loss = np.log(run.step[keep]), run.loss[keep]
    if len(log_step) < FEWEST:
        return None
    edges = np.flatnonzero(np.diff(np.floor(log_step / BIN), prepend=-np.inf))
    count = np.diff(np.append(edges, len(log_step)))
    log_step, loss = np.add.reduceat(log_step, edges) / count, np.add.reduceat(loss, edges) / count
    if len(log_step) < FEWEST:
        return None
    return Trunk(run.name, float(run.batch_tokens or 0), log_step, loss)


@dataclass(frozen=True, eq=False)
class Smooth:
    """The smoothed curves of one run: as logged, then drawn anew; d in all.

    Parameters
    ----------
    log_step : shape (G,), ascending.
    loss : shape (d, G), never rising.
    slope : shape (G,), d loss / d ln(step) of the first curve, below 0.
    """

    log_step: np.ndarray
    loss: np.ndarray
    slope: np.ndarray

    def crossing(self, levels: np.ndarray) -> np.ndarray:
        """Log of the updates to each of `levels` (shape (J,)) for each curve; shape (d, J)."""
        return np.stack([np.interp(-levels, -row, self.log_step) for row in self.loss])

    def slope_at(self, levels: np.ndarray) -> np.ndarray:
        """Slope of the loss in ln(step) where the first curve reaches `levels`; shape (J,)."""
        return np.interp(self.crossing(levels)[0], self.log_step, self.slope)


def smooth(trunk: Trunk, draws: int, rng: np.random.Generator) -> Smooth:
    """Smooth `trunk` as it is and `draws` times with its residuals given random signs, block by block."""
    x, y = trunk.log_step, trunk.loss
    grid = np.linspace(x[0], x[-1], GRID)
    robust = np.ones(len(x))
    for _ in range(3):
        residual = y - _lines(x, x, robust)[0] @ y
        size = np.minimum((residual / (6 * np.median(np.abs(residual)) + 1e-12)) ** 2, 1 - 1e-3)
        robust = (1 - size) ** 2
    own = _lines(x, x, robust)[0]
    block = np.floor((x - x[0]) / BLOCK).astype(int)
    # A line follows its points, the more the fewer they are, so what it leaves of the noise is scaled up to it;
    # then for the weights having been found from the noise itself (mean weight over mean slope of the influence).
    followed = np.bincount(block, np.diag(own))[block]
    noise = (y - own @ y) / np.clip(1 - followed, 0.2, None)
    noise *= robust.mean() / max(np.mean((1 - size) * (1 - 5 * size)), 0.3)
    sign = rng.standard_normal((draws, block[-1] + 1))[:, block]
    value, slope = _lines(x, grid, robust)
    told = value @ y
    curves = told + np.concatenate([np.zeros((1, GRID)), (sign * noise) @ value.T])
    return Smooth(grid, np.minimum.accumulate(curves, axis=1), np.minimum(slope @ y, -1e-6))


def _lines(x: np.ndarray, at: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Matrices that turn losses at `x` into the value and the slope of the local line at each of `at`."""
    away = x - at[:, None]
    nearest = np.sort(np.abs(away), axis=1)[:, min(NEAREST, len(x)) - 1]
    reach = np.maximum(WIDTH, 1.001 * nearest)[:, None]
    kernel = np.clip(1 - (np.abs(away) / reach) ** 3, 0, None) ** 3 * weight
    s0, s1, s2 = (np.sum(kernel * away**power, axis=1)[:, None] for power in range(3))
    # a little ridge on the slope: spikes may leave all weight on one point
    s2 = s2 + 1e-9 * s0
    determinant = s0 * s2 - s1**2
    return kernel * (s2 - s1 * away) / determinant, kernel * (s0 * away - s1) / determinant
