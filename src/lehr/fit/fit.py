"""Fit one law to runs: `fit(law, runs)` gives a `FitResult`.

What is done to the data is explicit and travels with the result: points before the burn-in are
left out, long logs are averaged in bins, nothing else. Input that cannot identify the law is
refused with what to add.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from lehr.errors import InputError, ResultError
from lehr.fit.batch_check import check_fitted
from lehr.fit.pooling import data_of, missing_groups, pooled, pooling_warnings, total_of
from lehr.fit.projection import Point, Problem, evaluate, polish, search_box
from lehr.fit.result import FitResult, build_result, weight_decay_of
from lehr.laws.law import Conditions, Law
from lehr.runs.run import Run
from lehr.schedule.pieces import warmup_steps

SAME_START = 0.01  # polished starts whose costs differ by less than this share agree


@dataclass(frozen=True)
class FitOptions:
    """How to fit; every field is stored with the result.

    Parameters
    ----------
    huber : relative residual beyond which a point pulls with constant force (1e-3 in the papers).
    burn_in : points at fewer updates are left out; None takes the larger of the warm-up and 2 % of
        the longest run, because no law here describes the first moments of training.
    late_weight : a point weighs as the power `late_weight` of its step. Early losses differ between runs
        of one configuration several times more than late ones, and it is the late ones that are asked
        for; 0 weighs all points alike, as the papers do.
    max_points : a longer log is averaged in bins of equal count to at most so many points.
    tolerance : how finely schedules are cut (`lehr.schedule.pieces`).
    starts, polished : points of the space-filling grid tried, and best of them followed to the end.
    one_schedule : refuse runs that all share one schedule for laws with an annealing term, or only warn.
    """

    huber: float = 1e-3
    burn_in: int | None = None
    late_weight: float = 1.0
    max_points: int = 200
    tolerance: float = 0.02
    starts: int = 24
    polished: int = 4
    one_schedule: Literal["refuse", "warn"] = "refuse"


def fit(law: Law, runs: Iterable[Run], options: FitOptions | None = None) -> FitResult:
    """Fit `law` to `runs`.

    Parameters
    ----------
    law : from `lehr.laws`.
    runs : at least one run; two schedules, one of which decays, if the law has an annealing term. Runs of several
        data sets or splits share the shape (`lehr.fit.pooling`).
    options : see `FitOptions`.

    Raises
    ------
    InputError
        If the runs cannot identify the law: too few points, one schedule only, no decay, no sizes,
        several batches of which some are below B_opt.
    ResultError
        If no start reached a finite loss.
    """
    options = options or FitOptions()
    runs = tuple(runs)
    law = pooled(law, runs)
    warnings = check_runs(law, runs, options)
    batch, notes = check_fitted(law, runs)
    problem = prepare(law, runs, options)
    point, converged, agreeing = search(problem, options)
    burn_in = resolve_burn_in(runs, options)
    result = build_result(problem, point, runs, options, converged, agreeing, [*warnings, *notes], burn_in)
    return replace(result, batch=batch)


def prepare(law: Law, runs: tuple[Run, ...], options: FitOptions) -> Problem:
    """Bind `runs`, cut and binned as `options` say, to `law`, whose parameters they must outnumber."""
    problem = bind_runs(law, runs, options, resolve_burn_in(runs, options))
    parameters, left = len(law.nonlinear) + len(law.linear), len(problem.loss)
    if left < parameters + 1:
        raise InputError(
            f"law {law.name} has {parameters} parameters, but only {left} points are left after the burn-in "
            f"of {resolve_burn_in(runs, options)} updates: add runs or log more often."
        )
    return problem


def bind_runs(law: Law, runs: tuple[Run, ...], options: FitOptions, burn_in: int) -> Problem:
    """Bind the points of `runs` from `burn_in` updates on to `law`."""
    bases, rows, steps, losses, end = [], [], [], [], 0
    for run in runs:
        step, loss = points(run, burn_in, options.max_points)
        bases.append(law.bind(conditions_of(run), step, options.tolerance))
        rows.append(slice(end, end + len(step)))
        steps.append(step)
        losses.append(loss)
        end += len(step)
    weight = np.concatenate(steps) ** options.late_weight
    weight /= weight.mean() if weight.size else 1.0
    return Problem(law, tuple(bases), tuple(rows), np.concatenate(losses), weight, options.huber)


def conditions_of(run: Run) -> Conditions:
    """Return what a law may know of `run`; the weight decay is the one in its meta data, if any."""
    return Conditions(
        run.schedule, run.params, run.batch_tokens, weight_decay_of(run), total_of(run), data_of(run)
    )


def resolve_burn_in(runs: tuple[Run, ...], options: FitOptions) -> int:
    """Return the burn-in in updates that `options` mean for `runs`."""
    if options.burn_in is not None:
        return options.burn_in
    return max(max(warmup_steps(r.schedule) for r in runs), max(r.steps for r in runs) // 50)


def points(run: Run, burn_in: int, max_points: int) -> tuple[np.ndarray, np.ndarray]:
    """Steps and losses of `run` from the burn-in on, averaged in bins of equal count if too many."""
    keep = run.step >= max(burn_in, 1)
    step, loss = run.step[keep], run.loss[keep]
    size = -(-len(step) // max_points)
    if size > 1:
        edges = np.arange(0, len(step), size)
        count = np.diff(np.append(edges, len(step)))
        step, loss = np.add.reduceat(step, edges) / count, np.add.reduceat(loss, edges) / count
    return step, loss


def search(problem: Problem, options: FitOptions) -> tuple[Point, bool, int]:
    """Best point over several starts, whether it converged, and how many starts agree on it."""
    grid = space_filling(*search_box(problem.law), options.starts)
    with np.errstate(all="ignore"):
        costs = [evaluate(problem, start)[0].cost for start in grid]
        best = [grid[i] for i in np.argsort(costs)[: options.polished]]
        ends = [polish(problem, start) for start in best]
    point, converged = min(ends, key=lambda end: end[0].cost)
    if not np.isfinite(point.cost):
        raise ResultError(
            f"law {problem.law.name} gave no finite loss from any of {options.starts} starts: "
            "look for an LR or a loss that is off by orders of magnitude."
        )
    agreeing = sum(end[0].cost <= point.cost * (1 + SAME_START) for end in ends)
    return point, converged, agreeing


def space_filling(low: np.ndarray, high: np.ndarray, count: int) -> np.ndarray:
    """Return `count` points that fill the box evenly, shape (count, K).

    The additive recurrence of the generalised golden ratio (M. Roberts, 2018): no random numbers.
    """
    if not len(low):
        return np.zeros((1, 0))
    golden = 2.0
    for _ in range(60):
        golden = (1 + golden) ** (1 / (len(low) + 1))
    step = golden ** -np.arange(1.0, len(low) + 1)
    return low + (high - low) * ((0.5 + np.arange(1, count + 1)[:, None] * step) % 1)


def check_runs(law: Law, runs: tuple[Run, ...], options: FitOptions) -> list[str]:
    """Refuse runs that cannot identify `law`; return warnings about what they identify badly."""
    if not runs:
        raise InputError("no run to fit: import at least one log.")
    sizes = {run.params for run in runs}
    if law.needs_sizes and None not in sizes and len(sizes) < 2:
        raise InputError(
            f"law {law.name} has a term in the number of parameters, but all runs have the same ({sizes.pop():g}): "
            "add runs of another size, or fit a law of one size."
        )
    if not law.needs_sizes and len(sizes - {None}) > 1:
        raise InputError(
            f"law {law.name} is of one size, but the runs have {len(sizes)}: fit each size by itself, "
            "or use a law with sizes (weight_norm_n, tissue_n, chinchilla)."
        )
    missing = missing_groups(law, runs)
    if missing:
        raise InputError(
            f"no run is of the data set {missing[0]}, which this fit is to be of: add one, or fit anew."
        )
    warnings = pooling_warnings(law, runs)
    if not law.needs_anneal:
        return warnings
    if not any(_decays(run) for run in runs):
        raise InputError(
            f"law {law.name} has an annealing term, but no run's LR falls before its last logged step: "
            "add a run with a decay, such as wsd with a ratio of 0.2."
        )
    silent = [run.name for run in runs if weight_decay_of(run) is None]
    if law.uses_weight_decay and silent:
        warnings.append(
            f"{len(silent)} of {len(runs)} runs do not tell their weight decay: law {law.name} takes AdamW's "
            "0.1; give it with --weight-decay on import if it was another."
        )
    if _one_schedule(runs):
        text = (
            f"law {law.name} has an annealing term, which one schedule cannot identify: "
            f"add a run with another, such as {_other_schedule(runs[0])}"
        )
        if options.one_schedule == "refuse":
            raise InputError(text + ".")
        warnings.append(text + "; the prediction for other schedules rests on the law's form alone.")
    peaks = {round(run.schedule.peak, 12) for run in runs}
    if len(peaks) == 1 and any(p.prior for p in law.nonlinear):
        named = ", ".join(p.name for p in law.nonlinear if p.prior)
        warnings.append(
            f"all runs share the peak LR {peaks.pop():g}: predictions at another rest on priors ({named}); "
            "add a run at another peak LR to test them."
        )
    return warnings


def _decays(run: Run) -> bool:
    last = run.schedule.first(max(int(run.step[-1]), 1))
    probe = last.lr(np.unique(np.linspace(0, last.steps - 1, 2048).astype(int)))
    return bool(np.any(np.diff(probe[int(np.argmax(probe)) :]) < 0))


def _one_schedule(runs: tuple[Run, ...]) -> bool:
    """Whether no two runs differ in the LR of any update that both did."""
    for run in runs[1:]:
        both = max(1, int(min(run.step[-1], runs[0].step[-1])))
        probe = np.unique(np.linspace(0, both - 1, 4096).astype(int))
        if not np.allclose(run.schedule.lr(probe), runs[0].schedule.lr(probe), rtol=1e-9, atol=0):
            return False
    return True


def _other_schedule(run: Run) -> str:
    steps, warmup = run.steps, warmup_steps(run.schedule)
    return f"wsd(steps={steps}, peak={run.schedule.peak:g}, warmup={warmup}, decay={max(1, steps // 5)})"
