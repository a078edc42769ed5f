"""Runs of a known law whose errors hang together along the curve."""

import numpy as np
from tests.synthetic import make_runs

from lehr.runs.run import Run

WHITE, SLOW, LENGTH = 3e-4, 4e-4, 0.15


def wander(steps, white=WHITE, slow=SLOW, length=LENGTH, rng=None):
    """Relative errors at `steps`: white ones and an Ornstein-Uhlenbeck process that shrinks as their root."""
    place = (steps - steps[0]) / (steps[-1] - steps[0])
    root = np.linalg.cholesky(np.exp(-np.abs(place[:, None] - place) / length))
    size = slow * np.sqrt(np.mean(steps) / steps)
    return size * (root @ rng.standard_normal(len(steps))) + white * rng.standard_normal(len(steps))


def wandering_runs(case, seed=0, every=50, **noise):
    """The runs of `make_runs` with such errors."""
    rng = np.random.default_rng(seed)
    return tuple(
        Run(r.name, r.schedule, r.step, r.loss * (1 + wander(r.step, rng=rng, **noise)), params=r.params,
            batch_tokens=r.batch_tokens)
        for r in make_runs(case, every=every)
    )  # fmt: skip
