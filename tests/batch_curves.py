"""Curves at constant LR with a known critical batch: S(B, L) = S_min(L) (1 + B_c / (B - f B_c)), B_c = c / L^alpha."""

import numpy as np

from lehr.fit.batch import BatchLaw
from lehr.runs.run import Run
from lehr.schedule.families import constant

BATCHES = (6.5e4, 1.3e5, 2.6e5, 5.2e5, 1.05e6)
CRITICAL, EXPONENT, AT = 3e5, 4.8, 3.0  # B_c at a loss of 3
STEPS, PEAK, WARMUP = 8000, 1e-3, 100


def true_critical(loss, critical=CRITICAL, exponent=EXPONENT):
    return critical * (AT / loss) ** exponent


def fewest(loss):
    """Updates to `loss` at an endless batch."""
    return (12 / (loss - 2.1)) ** (1 / 0.42)


def batch_runs(
    batches=BATCHES, critical=CRITICAL, exponent=EXPONENT, floor=0.0, noise=3e-3, run_noise=5e-4, seed=0,
    steps=STEPS, every=40, schedule=None, **more,
):  # fmt: skip
    """Runs that follow the form but for white noise and a shift of each run, both relative."""
    rng = np.random.default_rng(seed)
    schedule = schedule or constant(steps=steps, peak=PEAK, warmup=WARMUP)
    step = np.arange(every, steps + 1, every)
    loss = np.linspace(2.2, 8, 30_000)
    runs = []
    for i, batch in enumerate(batches):
        x = true_critical(loss, critical, exponent) / batch
        reached = floor * x < 0.999
        updates = fewest(loss[reached]) * (1 + x[reached] / (1 - floor * x[reached]))
        curve = np.interp(step, updates[::-1], loss[reached][::-1])
        curve *= (1 + run_noise * rng.standard_normal()) * (1 + noise * rng.standard_normal(len(step)))
        runs.append(Run(f"run {i}", schedule, step, curve, batch_tokens=batch, **more))
    return tuple(runs)


def known_law(kind="measured", critical=1000.0, exponent=4.0, spread=0.1, **more):
    """A law with B_c `critical` at a loss of 3 and draws spread evenly around it in the logarithm."""
    shifts = np.linspace(-spread, spread, 41)
    draws = tuple((float(critical * np.exp(s)), exponent, 0.0) for s in shifts)
    values = {
        "critical_batch": critical, "reference_loss": 3.0, "exponent": exponent, "floor": 0.0, "kind": kind,
        "losses": (2.5, 3.6), "batches": (1e5, 4e5), "peak_lr": PEAK, "params": None, "misfit": 0.01,
        "levels": ((3.0, 500.0, critical),), "draws": draws, **more,
    }  # fmt: skip
    return BatchLaw(**values)
