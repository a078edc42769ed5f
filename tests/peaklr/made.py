"""Sweeps made by a known law, with noise: what fits should find."""

import itertools

import numpy as np

from lehr.peaklr.shape import valley_shape
from lehr.peaklr.table import SweepTable

SIZES = (1e8, 2e8, 4e8)
TOKENS = (2e9, 8e9, 3.2e10)
BATCHES = (1.3e5, 2.6e5, 5.2e5, 1.05e6)
FALL, RISE, CURVATURE = 0.5, 1.2, 0.05
NOISE = 5e-4


def true_lr(params, tokens, batch=None):
    """LR_opt = 2e-3 at 2e8 parameters, 8e9 tokens (and a batch of 2.6e5): N^-.6 D^.2 B^.5."""
    out = 2e-3 * (params / 2e8) ** -0.6 * (tokens / 8e9) ** 0.2
    return out if batch is None else out * (batch / 2.6e5) ** 0.5


def true_batch(tokens):
    return 2.6e5 * (tokens / 8e9) ** 0.5


def floor(params, tokens, batch=None):
    out = 1.7 + (params / 1e6) ** -0.3 * 3 + (tokens / 1e6) ** -0.3 * 8
    return out if batch is None else out + 0.02 * np.log(batch / true_batch(tokens)) ** 2


def made_sweep(
    sizes=SIZES, tokens=TOKENS, batches=None, step=2**0.5, count=9, noise=NOISE, seed=0, lr=true_lr, centre=None,
    scatter=0.0,
):  # fmt: skip
    """A table with `count` LRs a group, by factors of `step` about `centre` or near the optimum, off it by a little."""
    random = np.random.default_rng(seed)
    rows = []
    for n, d in itertools.product(sizes, tokens):
        shift = scatter * random.standard_normal()
        for b in batches or (None,):
            best = lr(n, d, b) * np.exp(shift)
            middle = centre or best * np.exp(random.uniform(-0.5, 0.5) * np.log(step))
            for k in range(count):
                at = middle * step ** (k - (count - 1) / 2)
                loss = floor(n, d, b) + CURVATURE * valley_shape(np.log(at / best), FALL, RISE)
                loss *= 1 + noise * random.standard_normal()
                rows.append((at, loss, n, d, 0.0 if b is None else b))
    at, loss, n, d, b = np.array(rows).T
    return SweepTable(at, loss, n, d, batch_tokens=b if batches else None)
