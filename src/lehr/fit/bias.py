"""Where a law errs: its relative residuals by step, by LR and by phase, and which biases noise does not make.

A point lies in a phase by the LR of the update before it and of the next one: `warm-up` while it rises
for the first time, `decay` while it falls, `stable` at a constant LR that no earlier update exceeded, `after` at
one that was exceeded or while it rises again.

A bias is significant if the noise along curves (`lehr.fit.noise`), as far as the fit leaves it in the
residuals, makes one as large in one of twenty tables of such biases at most (Bonferroni's rule). A law that does
not hold leaves residuals that look like a large wander and would excuse any bias; so the wander
counts as no larger than runs of one schedule differ: what repeated runs among those fitted
say, and at least `REPEAT_ERROR`, the most seen on public curves of 25M to 124M parameters.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, replace

import numpy as np

from lehr.fit.linearised import Linearised
from lehr.fit.noise import Noise
from lehr.fit.pooling import data_of
from lehr.fit.projection import prior_unit
from lehr.fit.result import weight_decay_of
from lehr.quantiles import normal_half, student_half
from lehr.runs.run import Run

REPEAT_ERROR = 7e-4  # relative difference of two runs of one schedule, at a point of mean weight
HALVINGS = 5  # bins by step and by LR: each but the last holds the upper half of what is left
FEWEST = 3  # points of a bin that is shown
CHANCE = 0.05  # that a sound law gets any flag
PHASES = ("warm-up", "stable", "decay", "after")


@dataclass(frozen=True)
class Bias:
    """Residuals of one part of the points.

    Parameters
    ----------
    part : what they have in common.
    points, runs : how many there are, and in how many runs.
    bias, rms : mean and root mean square relative residual (prediction too high: positive).
    deviations : the bias in standard deviations that noise gives it.
    significant : whether noise alone hardly makes it.
    """

    part: str
    points: int
    runs: int
    bias: float
    rms: float
    deviations: float
    significant: bool


def find_biases(fit: Linearised, runs: tuple[Run, ...], noise: Noise) -> dict[str, tuple[Bias, ...]]:
    """Biases by "step", "lr" and "phase" of the points of `fit`, which was made from `runs`, under `noise`."""
    ceiling = repeat_error(fit, runs)
    capped = replace(noise, slow=min(noise.slow, ceiling))
    masks = {"step": _by_step(fit), "lr": _by_lr(fit, runs), "phase": _by_phase(fit, runs)}
    parts = [
        (kind, name, mask) for kind, of in masks.items() for name, mask in of.items() if mask.sum() >= FEWEST
    ]
    if not parts:
        return {kind: () for kind in masks}
    columns = np.column_stack([mask / mask.sum() for *_, mask in parts])
    means = columns.T @ fit.point.residual
    deviations = means / np.sqrt(np.diag(_left_in(fit, capped, columns)))
    held = 1 - CHANCE / len(parts)
    limit = normal_half(held) if noise.slow > ceiling else student_half(held, noise.freedom(fit))
    index = np.concatenate([np.full(rows.stop - rows.start, i) for i, rows in enumerate(fit.problem.rows)])
    found: dict[str, list[Bias]] = {kind: [] for kind in masks}
    for (kind, name, mask), mean, far in zip(parts, means.tolist(), deviations.tolist(), strict=True):
        rms = float(np.sqrt(np.mean(fit.point.residual[mask] ** 2)))
        count = len(np.unique(index[mask]))
        found[kind].append(Bias(name, int(mask.sum()), count, mean, rms, far, abs(far) > limit))
    return {kind: tuple(rows) for kind, rows in found.items()}


def _left_in(fit: Linearised, noise: Noise, columns: np.ndarray) -> np.ndarray:
    """Covariance of `columns`.T @ residuals, shape (q, q), once the fit has followed part of the noise."""
    inverse, seen = fit.inverse(), fit.jacobian.T @ columns
    rest = columns - (fit.jacobian * fit.weight[:, None]) @ (inverse @ seen)
    moved = inverse @ seen
    return noise.spread_of(fit.problem, fit.steps, rest) + moved.T @ (
        prior_unit(fit.problem) * fit.precision[:, None] * moved
    )


def repeat_error(fit: Linearised, runs: tuple[Run, ...]) -> float:
    """By how much repeated runs differ, brought to a point of mean weight; at least `REPEAT_ERROR`."""
    found = [REPEAT_ERROR]
    for (one, rows), (other, others) in itertools.combinations(zip(runs, fit.problem.rows, strict=True), 2):
        if _what(one) == _what(other):
            both, left, right = np.intersect1d(fit.steps[rows], fit.steps[others], return_indices=True)
            if len(both):
                gap = fit.problem.loss[rows][left] / fit.problem.loss[others][right] - 1
                found.append(float(np.sqrt(np.mean(gap**2 * fit.problem.weight[rows][left]) / 2)))
    return max(found)


def _what(run: Run) -> tuple[object, ...]:
    """What was run: equal for repeats."""
    return run.schedule, run.parent, run.params, run.batch_tokens, weight_decay_of(run), data_of(run)


def _by_step(fit: Linearised) -> dict[str, np.ndarray]:
    last = fit.steps.max()
    edges = np.append(last * 0.5 ** np.arange(HALVINGS), 0.0)
    return {
        f"{low:.0f} .. {high:.0f}": (fit.steps > low) & (fit.steps <= high)
        for high, low in zip(edges, edges[1:], strict=False)
    }


def _by_lr(fit: Linearised, runs: tuple[Run, ...]) -> dict[str, np.ndarray]:
    lr, _ = _rates(fit, runs)
    peak = max(run.schedule.peak for run in runs)
    edges = np.append(peak * 0.5 ** np.arange(HALVINGS), 0.0)
    slack = 1 + 1e-9  # a peak written in another way belongs to the bin it ends
    return {
        f"{low:.3g} .. {high:.3g}": (lr > low * slack) & (lr <= high * slack)
        if low else lr <= high * slack
        for high, low in zip(edges, edges[1:], strict=False)
    }  # fmt: skip


def _by_phase(fit: Linearised, runs: tuple[Run, ...]) -> dict[str, np.ndarray]:
    phase = np.concatenate([
        phases(run, fit.steps[rows]) for run, rows in zip(runs, fit.problem.rows, strict=True)
    ])  # fmt: skip
    return {name: phase == name for name in PHASES}


def _rates(fit: Linearised, runs: tuple[Run, ...]) -> tuple[np.ndarray, np.ndarray]:
    """LR of the update before each point and of the next one, each of shape (n,)."""
    pairs = [_around(run, fit.steps[rows]) for run, rows in zip(runs, fit.problem.rows, strict=True)]
    return np.concatenate([p[0] for p in pairs]), np.concatenate([p[1] for p in pairs])


def _around(run: Run, steps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """LR of the last update before each of `steps` and of the one after it; at the end, of the two last ones."""
    after = (
        np.clip(np.floor(steps).astype(int), 1, run.steps - 1) if run.steps > 1 else np.zeros(len(steps), int)
    )
    return run.schedule.lr(np.maximum(after - 1, 0)), run.schedule.lr(after)


def phases(run: Run, steps: np.ndarray) -> np.ndarray:
    """Phase of each of `steps` (shape (n,), updates done) of `run`; an array of words, shape (n,)."""
    before, after = _around(run, steps)
    starts = run.schedule.starts
    probe = np.unique(
        np.concatenate([starts[:-1], starts[1:] - 1, np.linspace(0, run.steps - 1, 2048).astype(int)])
    )
    highest = np.maximum.accumulate(run.schedule.lr(probe))
    so_far = highest[
        np.maximum(np.searchsorted(probe, np.maximum(np.floor(steps) - 1, 0), side="right") - 1, 0)
    ]
    reached = np.maximum(so_far, before)
    same = np.isclose(before, after, rtol=1e-9, atol=0)
    at_top = after >= reached * (1 - 1e-9)
    return np.select(
        [~same & (after < before), same & at_top, ~same & at_top], ["decay", "stable", "warm-up"], "after"
    )
