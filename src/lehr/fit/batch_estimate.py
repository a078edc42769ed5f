"""Measure the critical batch and B_opt from runs that differ in nothing but the batch.

For losses that all runs reach at constant LR, the updates each needs are read off its smoothed curve
(`lehr.fit.crossing`). The form of `lehr.fit.batch` is fitted to all levels at once: S_min is free at
each level, while B_c is one power law in the loss. Fitting B_c level by level and then the power
law would have to drop the levels where noise made a larger batch slower (no logarithm), and so lean upwards;
the values of single levels are kept for inspection.

Intervals: each draw reweighs blocks within the runs, gives each run's residuals a random sign and
size (wild bootstrap over runs), and shifts its losses by `RUN_NOISE`, since one run a batch cannot show how
much two runs of one configuration differ.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np

from lehr.errors import InputError, ResultError
from lehr.fit.batch import BatchLaw, distinct
from lehr.fit.crossing import FEWEST, Smooth, Trunk, smooth, trunk_of
from lehr.fit.result import weight_decay_of
from lehr.fit.updates import Updates, bounds, fit_levels, fit_updates, middle, refit
from lehr.runs.run import Run
from lehr.schedule.pieces import warmup_steps

LEVELS = 12
INSET = 0.03  # share of the common range of ln(loss) kept clear at either end
NARROWEST = 0.01  # in ln(loss): a smaller common range is none
RUN_NOISE = 5e-4  # of the loss: what two runs of one configuration differ by (docs/diary.md, Data)
FOR_FLOOR = 4  # batches without which B_min is not fitted
TELLING = ("dataset", "data", "split", "model", "optimizer")  # of the meta data, that must agree


def conditions(run: Run) -> dict[str, object]:
    """What runs must share to be compared by batch, by name."""
    told = {name: run.meta.get(name) for name in TELLING}
    return {
        "peak LR": float(f"{run.schedule.peak:.6g}"),
        "warm-up": warmup_steps(run.schedule),
        "number of parameters": run.params,
        "weight decay": weight_decay_of(run),
        **told,
    }


def comparable(runs: Iterable[Run]) -> tuple[tuple[Run, ...], ...]:
    """Groups of runs that share all but the batch and have several; those of most batches first."""
    groups: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        if run.batch_tokens is not None:
            groups.setdefault(tuple(conditions(run).values()), []).append(run)
    several = [tuple(group) for group in groups.values() if len(_batches(group)) > 1]
    return tuple(sorted(several, key=lambda group: -len(_batches(group))))


def _batches(runs: Iterable[Run]) -> tuple[float, ...]:
    return distinct([run.batch_tokens for run in runs if run.batch_tokens is not None])


def estimate_batch(runs: Iterable[Run], draws: int = 200, seed: int = 0) -> BatchLaw:
    """Estimate the critical batch and B_opt as power laws in the loss.

    Parameters
    ----------
    runs : at least two batches under equal conditions: peak LR, warm-up, size, weight decay, data. Runs
        without a part at constant LR (branches, cosines) are left out.
    draws, seed : of the bootstrap.

    Raises
    ------
    InputError
        If the runs differ in more than the batch, have one batch, or reach no common loss.
    ResultError
        If the noise leaves the critical batch open to both sides.
    """
    runs = tuple(runs)
    trunks = _trunks(runs)
    rng = np.random.default_rng(seed)
    curves = [smooth(trunk, draws, rng) for trunk in trunks]
    losses = _levels(trunks, curves)
    batch = np.array([trunk.batch for trunk in trunks])
    log_updates = np.stack([curve.crossing(losses) for curve in curves], axis=1)  # (1 + draws, R, J)
    floor = len(distinct(batch)) >= FOR_FLOOR
    best = fit_updates(log_updates[0], batch, losses, floor)
    slopes = np.stack([curve.slope_at(losses) for curve in curves])
    noise = RUN_NOISE * losses / np.abs(slopes)  # in ln S
    spare = len(batch) - 2  # runs beyond what S_min and B_c take up at a level
    wild = best.residual * np.sqrt(len(batch) / spare) if spare > 0 else np.zeros_like(noise)
    told = log_updates[0] - best.residual
    sign, shift = rng.standard_normal((2, draws, len(batch), 1))
    again = told + (log_updates[1:] - log_updates[0]) + sign * wild + shift * noise
    table = refit(again, batch, losses, floor, best)
    return _build(best, table, batch, losses, fit_levels(log_updates[0], batch, best), runs[0])


def _trunks(runs: tuple[Run, ...]) -> list[Trunk]:
    """Parts at constant LR of runs that differ in nothing but the batch."""
    if not runs:
        raise InputError("no run to compare by batch: give runs of at least two batches.")
    silent = [run.name for run in runs if run.batch_tokens is None]
    if silent:
        raise InputError(
            f"run {silent[0]!r} does not tell its batch: give it with --batch-tokens on import, or leave it out."
        )
    if len(_batches(runs)) < 2:
        raise InputError(
            f"all runs have the batch {_batches(runs)[0]:g} tokens, which says nothing about another: add runs that "
            "differ in the batch alone."
        )
    first = conditions(runs[0])
    for run in runs[1:]:
        for name, value in conditions(run).items():
            if value != first[name]:
                raise InputError(
                    f"runs {runs[0].name!r} and {run.name!r} differ in the {name} ({first[name]} and {value}), so "
                    "what the batch does cannot be told apart from it: compare runs that differ in the batch alone."
                )
    burn_in = max(warmup_steps(runs[0].schedule), max(run.steps for run in runs) // 50)
    trunks = [trunk for run in runs if (trunk := trunk_of(run, burn_in))]
    if len(distinct([trunk.batch for trunk in trunks])) < 2:
        raise InputError(
            f"fewer than two batches have {FEWEST} losses at constant LR, the only part in which batches compare: "
            "add constant or wsd runs with their stable part, or log more often."
        )
    return trunks


def _levels(trunks: list[Trunk], curves: list[Smooth]) -> np.ndarray:
    """Losses that every run reaches, high to low; shape (LEVELS,)."""
    top = min(range(len(curves)), key=lambda i: curves[i].loss[0, 0])
    end = max(range(len(curves)), key=lambda i: curves[i].loss[0, -1])
    high, low = np.log(curves[top].loss[0, 0]), np.log(curves[end].loss[0, -1])
    if high - low < NARROWEST:
        raise InputError(
            f"no loss is reached by all runs: {trunks[end].name!r} ends at {np.exp(low):.4g}, {trunks[top].name!r} "
            f"begins at {np.exp(high):.4g} after the warm-up: train the former longer, or leave one out."
        )
    inset = INSET * (high - low)
    return np.exp(np.linspace(high - inset, low + inset, LEVELS))


def _build(
    best: Updates, table: np.ndarray, batch: np.ndarray, losses: np.ndarray, alone: np.ndarray, like: Run
) -> BatchLaw:
    """Put the fit and its draws into a law; say what it is if it is only a bound."""
    low, high = bounds(batch, False)
    ends = np.quantile(table[:, 0], [0.05, 0.95])
    open_below, open_above = ends[0] < low[0] + 0.1, ends[1] > high[0] - 0.1
    batches = distinct(batch)
    if open_below and open_above:
        raise ResultError(
            f"the critical batch is open to both sides: the noise hides what batches of {batches[0]:g} to "
            f"{batches[-1]:g} tokens change; add batches farther apart, or log more often."
        )
    kind: Literal["measured", "at_most", "at_least"] = (
        "at_most" if open_below else "at_least" if open_above else "measured"
    )
    critical = np.exp(table[:, 0])
    levels = zip(losses.tolist(), np.exp(best.log_fewest).tolist(), alone.tolist(), strict=True)
    return BatchLaw(
        critical_batch=float(np.exp(best.search[0])),
        reference_loss=middle(losses),
        exponent=float(best.search[1]),
        floor=float(best.search[2]),
        kind=kind,
        losses=(float(losses.min()), float(losses.max())),
        batches=batches,
        peak_lr=like.schedule.peak,
        params=like.params,
        misfit=float(np.sqrt(np.mean(best.residual**2))),
        levels=tuple(levels),
        draws=tuple(zip(critical.tolist(), table[:, 1].tolist(), table[:, 2].tolist(), strict=True)),
        warnings=_warnings(kind, batches, table),
    )


def _warnings(kind: str, batches: tuple[float, ...], table: np.ndarray) -> tuple[str, ...]:
    notes = []
    if kind == "at_most":
        notes.append("no batch was slower than another beyond the noise: B_opt is an upper bound.")
    if kind == "at_least":
        notes.append("updates fall as 1 / batch throughout: B_opt is a lower bound; add larger batches.")
    if len(batches) == 2:
        notes.append("two batches cannot test the form of S(B): add a third.")
    if kind == "measured" and np.quantile(table[:, 1], 0.05) <= 0:
        notes.append("these losses do not show that B_opt grows as the loss falls: train longer.")
    return tuple(notes)
