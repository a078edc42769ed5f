"""Compare laws on one footing: by the error on losses they were not fitted to.

Two kinds of fold. *Left out*: a run is hidden, the law is fitted to the others and predicts the
hidden run's own points. *Forward*: the later part of one run is hidden and predicted from its
beginning and the other runs; used where runs are fewer than six, when leaving a whole one out
takes away much of what there is. Laws are ranked by the mean error over the folds that every law
could be tried on; the training error never enters. A fold that would leave data from which a law
cannot be identified (no decay, one size) is skipped, and the comparison says so.

Two runs of one schedule differ by .03 to .07 % of the loss on public curves, so a few runs cannot
tell laws apart whose errors differ by less than `RESOLUTION`. Among laws that close to the smallest
error the choice falls on the one given first: the table of laws stands in our order of preference,
which rests on the errors measured over many LRs and lengths (`docs/choosing-a-law.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lehr.errors import InputError
from lehr.fit.fit import FitOptions, check_runs, fit, prepare, resolve_burn_in, search
from lehr.fit.pooling import pooled
from lehr.fit.projection import Point, Problem, polish
from lehr.fit.result import FitResult
from lehr.laws.law import Law
from lehr.runs.run import Run

FEW = 6  # below so many runs the later parts of runs are hidden as well
CUTS = (0.5, 0.75, 0.9)  # share of a run's points that a forward fold still shows
RESOLUTION = 1e-3  # difference of mean errors, as a share of the loss, below which laws are tied


@dataclass(frozen=True)
class Fold:
    """What is hidden from a fit: run `run` (an index) from its share `shown` on (0: all of it)."""

    name: str
    run: int
    shown: float = 0.0

    def rows(self, problem: Problem) -> slice:
        """Rows of `problem` that are hidden."""
        rows = problem.rows[self.run]
        return slice(rows.start + int(self.shown * (rows.stop - rows.start)), rows.stop)


@dataclass(frozen=True)
class HeldOut:
    """How one law predicts losses it was not fitted to.

    Parameters
    ----------
    law : its name.
    errors : per fold, mean absolute relative error over the hidden points, weighted as in the fit.
    final_errors : per fold, signed relative error at the last of them (prediction too high: positive).
    left_out : names of the folds that hid a whole run.
    skipped : folds that could not be made, with the reason.
    """

    law: str
    errors: Mapping[str, float]
    final_errors: Mapping[str, float]
    left_out: tuple[str, ...]
    skipped: Mapping[str, str]

    def mean(self, folds: Iterable[str] | None = None) -> float:
        """Mean error over `folds` (default: all); NaN if there is none."""
        values = [self.errors[name] for name in (self.errors if folds is None else folds)]
        return float(np.mean(values)) if values else float("nan")

    def spread(self) -> tuple[float, ...]:
        """Final errors on runs left out whole; on hidden later parts where no run could be."""
        return tuple(self.final_errors[name] for name in self.left_out or self.final_errors)


@dataclass(frozen=True)
class Comparison:
    """Laws fitted to the same runs, with their errors on hidden losses.

    Parameters
    ----------
    results : the fit of each law to all runs.
    held_out : its errors on hidden losses.
    failed : laws that these runs cannot identify, with the reason.
    folds : the folds tried on every law, over which the ranking is made.
    chosen : the law with the smallest mean error over `folds`, or the first of those tied with it;
        without folds, None.
    """

    results: Mapping[str, FitResult]
    held_out: Mapping[str, HeldOut]
    failed: Mapping[str, str]
    folds: tuple[str, ...]
    chosen: str | None

    def error(self, law: str) -> float:
        """Mean held-out error of `law` over the common folds."""
        return self.held_out[law].mean(self.folds)


def make_folds(runs: tuple[Run, ...]) -> tuple[Fold, ...]:
    """Folds for `runs`: each left out whole and, for fewer than six runs, hidden from each of `CUTS` on."""
    whole = tuple(Fold(run.name, i) for i, run in enumerate(runs)) if len(runs) > 1 else ()
    if len(runs) >= FEW:
        return whole
    later = (Fold(f"{run.name} after {cut:.0%}", i, cut) for cut in CUTS for i, run in enumerate(runs))
    return (*whole, *later)


def hold_out(law: Law, runs: Iterable[Run], options: FitOptions | None = None) -> HeldOut:
    """Try `law` on every fold of `runs`.

    Raises
    ------
    InputError
        If the runs cannot identify the law even together.
    """
    runs, options = tuple(runs), options or FitOptions()
    law = pooled(law, runs)
    check_runs(law, runs, options)
    problem = prepare(law, runs, options)
    lenient = replace(options, one_schedule="warn", starts=max(8, options.starts // 2), polished=2)
    whole = search(problem, options)[0]
    errors: dict[str, float] = {}
    finals: dict[str, float] = {}
    skipped: dict[str, str] = {}
    folds = make_folds(runs)
    for fold in folds:
        reason = _obstacle(law, runs, fold, lenient, problem)
        if reason:
            skipped[fold.name] = reason
            continue
        hidden = fold.rows(problem)
        weight = problem.weight.copy()
        weight[hidden] = 0.0
        residual = _refit(problem.with_weight(weight), whole, lenient).residual[hidden]
        errors[fold.name] = float(np.average(np.abs(residual), weights=problem.weight[hidden]))
        finals[fold.name] = float(residual[-1])
    left_out = tuple(fold.name for fold in folds if not fold.shown and fold.name in errors)
    return HeldOut(law.name, errors, finals, left_out, skipped)


def _obstacle(
    law: Law, runs: tuple[Run, ...], fold: Fold, options: FitOptions, problem: Problem
) -> str | None:
    """Say why `fold` cannot be made, or None."""
    hidden = fold.rows(problem)
    left = len(problem.loss) - (hidden.stop - hidden.start)
    parameters = len(law.nonlinear) + len(law.linear)
    if left <= parameters:
        return f"only {left} points would be left for {parameters} parameters"
    shown = list(runs)
    if fold.shown:
        run = runs[fold.run]
        seen = run.step >= max(resolve_burn_in(runs, options), 1)
        keep = np.flatnonzero(seen)[: int(fold.shown * seen.sum())]
        if not len(keep):
            return "nothing of the run would be left"
        shown[fold.run] = run.select(keep)
    else:
        del shown[fold.run]
    try:
        check_runs(law, tuple(shown), options)
    except InputError as error:
        return str(error)
    return None


def _refit(problem: Problem, whole: Point, options: FitOptions) -> Point:
    """Fit anew from fresh starts and from the fit to all points; the better by this problem's own cost."""
    fresh = search(problem, options)[0]
    warm = polish(problem, whole.search)[0]
    return min(fresh, warm, key=lambda point: point.cost)


def compare(
    laws: Iterable[Law], runs: Iterable[Run], options: FitOptions | None = None,
    progress: Callable[[str], None] | None = None,
) -> Comparison:  # fmt: skip
    """Fit every law that `runs` identify and rank them by their error on hidden losses.

    Parameters
    ----------
    progress : called with the name of each law before it is fitted.

    Raises
    ------
    InputError
        If the runs identify none of the laws; the message holds the first reason.
    """
    runs = tuple(runs)
    results: dict[str, FitResult] = {}
    held_out: dict[str, HeldOut] = {}
    failed: dict[str, str] = {}
    for law in laws:
        if progress:
            progress(law.name)
        try:
            result = fit(law, runs, options)
            held = hold_out(law, runs, options)
        except InputError as error:
            failed[law.name] = str(error)
            continue
        results[law.name] = replace(result, spread=held.spread())
        held_out[law.name] = held
    if not results:
        raise InputError(next(iter(failed.values()), "no law to compare: name at least one."))
    names = [fold.name for fold in make_folds(runs)]
    folds = tuple(name for name in names if all(name in held.errors for held in held_out.values()))
    return Comparison(results, held_out, failed, folds, choose(held_out, folds))


def choose(held_out: Mapping[str, HeldOut], folds: tuple[str, ...]) -> str | None:
    """Name the law with the smallest mean error, or the first given of those tied with it."""
    if not folds:
        return None
    errors = {name: held.mean(folds) for name, held in held_out.items()}
    best = min(errors.values())
    return next(name for name, error in errors.items() if error <= best + RESOLUTION)
