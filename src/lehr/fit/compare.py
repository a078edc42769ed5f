"""Compare laws on one footing: by the error on losses they were not fitted to.

Every law is tried on every fold (`lehr.fit.folds`): fitted to what the fold shows, it predicts what
the fold hides; the training error never enters. A fold that would leave data from which a law
cannot be identified (no decay, one size) is skipped, and the comparison says so; laws are ranked over
the folds that every law could be tried on.

The mean error over all folds would not do for the ranking: how many folds ask a question is an accident
of the data. Five runs at two peak LRs give two folds that ask for another peak LR and fifteen that ask
how a run goes on, the easiest question, so that this one would decide. Hence errors are averaged
over the folds of a kind, and these means over the kinds, each a question that will be put to the
law. The second mean is geometric, for the questions differ in difficulty by an order of
magnitude: a law that halves the error of one gains the same, whichever it is, while in an arithmetic mean the
hardest, another peak LR predicted from a single one, would decide alone.

Two runs of one schedule differ by .03 to .07 % of the loss on public curves, so a few runs cannot
tell laws apart whose errors differ by less than `RESOLUTION`. Among laws that close to the smallest
error the choice falls on the one given first: the table of laws stands in our order of preference,
which rests on the errors measured over many LRs and lengths (`docs/choosing-a-law.md`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit, resolve_burn_in
from lehr.fit.folds import Kind, make_folds
from lehr.fit.held_out import HeldOut, hold_out, with_held_out
from lehr.fit.parallel import importable, map_tasks
from lehr.fit.result import FitResult
from lehr.laws.law import Law
from lehr.runs.run import Run

RESOLUTION = 1e-3  # difference of mean errors, as a share of the loss, below which laws are tied


@dataclass(frozen=True)
class Comparison:
    """Laws fitted to the same runs, with their errors on hidden losses.

    Parameters
    ----------
    results : the fit of each law to all runs.
    held_out : its errors on hidden losses.
    failed : laws that these runs cannot identify, with the reason.
    folds : the folds tried on every law, over which the ranking is made.
    chosen : the law with the smallest error, or the first of those tied with it; without folds, None.
    """

    results: Mapping[str, FitResult]
    held_out: Mapping[str, HeldOut]
    failed: Mapping[str, str]
    folds: tuple[str, ...]
    chosen: str | None

    def error(self, law: str) -> float:
        """Held-out error of `law` over the common folds: the geometric mean over their kinds."""
        return self.held_out[law].mean(self.folds)

    def by_kind(self, law: str) -> dict[Kind, float]:
        """Held-out error of `law` by kind of fold, over the common folds."""
        return self.held_out[law].by_kind(self.folds)


def compare(
    laws: Iterable[Law], runs: Iterable[Run], options: FitOptions | None = None,
    progress: Callable[[str], None] | None = None, workers: int | None = None,
) -> Comparison:  # fmt: skip
    """Fit every law that `runs` identify and rank them by their error on hidden losses.

    Parameters
    ----------
    progress : called with the name of each law before its fit is waited for.
    workers : processes that share the laws among them (`lehr.fit.parallel`); the result is the same
        for any number.

    Raises
    ------
    InputError
        If the runs identify none of the laws; the message holds the first reason.
    """
    runs, laws = tuple(runs), tuple(laws)
    results: dict[str, FitResult] = {}
    held_out: dict[str, HeldOut] = {}
    failed: dict[str, str] = {}
    workers = workers if all(map(importable, laws)) else 1
    tries = map_tasks(_try, {law.name: (law, runs, options) for law in laws}, workers, progress)
    for name, tried in tries.items():
        if isinstance(tried, str):
            failed[name] = tried
        else:
            results[name], held_out[name] = tried
    return comparison(results, held_out, failed, runs, options)


def comparison(
    results: Mapping[str, FitResult], held_out: Mapping[str, HeldOut], failed: Mapping[str, str],
    runs: tuple[Run, ...], options: FitOptions | None = None,
) -> Comparison:  # fmt: skip
    """Rank laws that were fitted to `runs` and tried on their folds; raises as `compare` does."""
    if not results:
        raise InputError(next(iter(failed.values()), "no law to compare: name at least one."))
    names = [fold.name for fold in make_folds(runs, resolve_burn_in(runs, options or FitOptions()))]
    folds = tuple(name for name in names if all(name in held.errors for held in held_out.values()))
    return Comparison(results, held_out, failed, folds, choose(held_out, folds))


def _try(law: Law, runs: tuple[Run, ...], options: FitOptions | None) -> tuple[FitResult, HeldOut] | str:
    """Fit and hold out one law; the reason if the runs do not identify it."""
    try:
        result = fit(law, runs, options)
        held = hold_out(law, runs, options, result)
    except InputError as error:
        return str(error)
    return with_held_out(result, held), held


def choose(held_out: Mapping[str, HeldOut], folds: tuple[str, ...]) -> str | None:
    """Name the law with the smallest mean error, or the first given of those tied with it."""
    if not folds:
        return None
    return first_of_the_best({name: held.mean(folds) for name, held in held_out.items()})


def first_of_the_best(errors: Mapping[str, float]) -> str:
    """Name the law with the smallest of `errors`, or the first given of those tied with it."""
    best = min(errors.values())
    return next(name for name, error in errors.items() if error <= best + RESOLUTION)
