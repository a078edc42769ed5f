"""Sweeps that follow a known surface: losses of runs that a plan asks for."""

import numpy as np

from lehr.peaklr.shape import valley_shape
from lehr.peaklr.table import SweepTable

SIZE, TOKENS = 2e8, 6e9  # about which the optimum is written
BEST, OF_SIZE, OF_TOKENS = 3e-3, -0.6, 0.2


def best_lr(params, tokens, batch=None):
    """The optimum: a power of size and tokens, and the surge with the batch."""
    place = np.log(BEST) + OF_SIZE * np.log(params / SIZE) + OF_TOKENS * np.log(tokens / TOKENS)
    if batch is not None:
        place = place - np.log(np.cosh((np.log(batch / 4e5) - 0.5 * np.log(tokens / TOKENS)) / 2))
    return np.exp(place)


def train(lr, params, tokens, batch=None, noise=8e-4, seed=0, diverges=np.inf):
    """Losses of runs; those at `diverges` times the optimum or above have none."""
    lr, params, tokens = np.broadcast_arrays(np.asarray(lr, dtype=float), params, tokens)
    u = np.log(lr / best_lr(params, tokens, batch))
    loss = 1.8 + 200 * params**-0.33 + 1000 * tokens**-0.34 + 0.06 * valley_shape(u, 0.3, 1.2)
    loss = loss + noise * np.random.default_rng(seed).standard_normal(loss.shape)
    return SweepTable(
        lr, np.where(u < np.log(diverges), loss, np.nan), params, tokens, None,
        None if batch is None else np.broadcast_to(batch, lr.shape),
    )  # fmt: skip


def train_planned(runs, seed=0, **options):
    """Do the runs of a plan."""
    columns = np.array([(run.lr, run.params, run.tokens, run.batch or 0.0) for run in runs]).T
    batch = columns[3] if runs[0].batch is not None else None
    return train(*columns[:3], batch, seed=seed, **options)
