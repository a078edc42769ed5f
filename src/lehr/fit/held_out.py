"""Errors of one law on losses that were hidden from its fit, fold by fold (`lehr.fit.folds`)."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from lehr.errors import InputError
from lehr.fit.batch_check import check_fitted
from lehr.fit.fit import FitOptions, check_runs, prepare, resolve_burn_in, search, space_filling
from lehr.fit.folds import KINDS, FinalError, Kind, make_folds, reach
from lehr.fit.pooling import pooled
from lehr.fit.projection import Point, Problem, natural, polish, search_box
from lehr.fit.result import FitResult
from lehr.laws.law import Law
from lehr.runs.run import Run

TINY = 1e-12  # an error of 0 is taken as this


@dataclass(frozen=True)
class HeldOut:
    """How one law predicts losses it was not fitted to.

    Parameters
    ----------
    law : its name.
    errors : per fold, mean absolute relative error over the hidden points, weighted as in the fit;
        infinite where the law predicted no finite loss.
    kinds : kind of each of these folds.
    finals : signed errors at the last hidden point of every run in every fold.
    skipped : folds that could not be made, with the reason.
    residuals : per fold, relative residual of each of the n points of the fit, NaN where not hidden.
    weight : shape (n,), weight of each point.
    without_peak : parameters of the folds that hide a peak LR and leave schedules that identify the law, by the
        fold's name; shape (K + L,).
    """

    law: str
    errors: Mapping[str, float]
    kinds: Mapping[str, Kind]
    finals: tuple[FinalError, ...] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)
    residuals: Mapping[str, np.ndarray] = field(default_factory=dict, compare=False, repr=False)
    weight: np.ndarray = field(default_factory=lambda: np.empty(0), compare=False, repr=False)
    without_peak: Mapping[str, tuple[float, ...]] = field(default_factory=dict, compare=False, repr=False)

    def by_kind(self, folds: Iterable[str] | None = None) -> dict[Kind, float]:
        """Mean error over the folds of each kind among `folds` (default: all)."""
        return mean_by_kind(self.errors, self.kinds, self.errors if folds is None else folds)

    def mean(self, folds: Iterable[str] | None = None) -> float:
        """Geometric mean of `by_kind` over the kinds; NaN if there is no fold."""
        return mean_over_kinds(self.by_kind(folds))

    def spread(self) -> tuple[float, ...]:
        """Final errors on runs left out whole; on other hidden parts where no run could be."""
        whole = tuple(final.error for final in self.finals if final.kind == "run")
        return whole or tuple(final.error for final in self.finals)


def mean_by_kind(
    errors: Mapping[str, float], kinds: Mapping[str, Kind], folds: Iterable[str]
) -> dict[Kind, float]:
    """Mean of `errors` over those of `folds` that are of each kind; kinds in the order of `KINDS`."""
    found: dict[Kind, list[float]] = {kind: [] for kind in KINDS}
    for name in folds:
        found[kinds[name]].append(errors[name])
    return {kind: float(np.mean(values)) for kind, values in found.items() if values}


def mean_over_kinds(errors: Mapping[Kind, float]) -> float:
    """Geometric mean, under which a kind counts the same whether its errors are large or small; NaN of none."""
    if not errors:
        return float("nan")
    return float(np.exp(np.mean(np.log(np.maximum(list(errors.values()), TINY)))))


def hold_out(
    law: Law, runs: Iterable[Run], options: FitOptions | None = None, whole: FitResult | None = None,
    only: Collection[str] | None = None,
) -> HeldOut:  # fmt: skip
    """Try `law` on every fold of `runs`.

    Parameters
    ----------
    whole : its fit to all runs, if there is one already: where one start of every fold lies.
    only : names of the folds to try; None for all. Parts are put together by `merge_held_out`.

    Raises
    ------
    InputError
        If the runs cannot identify the law even together.
    """
    runs, options = tuple(runs), options or FitOptions()
    law = pooled(law, runs)
    check_runs(law, runs, options)
    check_fitted(law, runs)
    burn_in = resolve_burn_in(runs, options)
    lenient = replace(options, one_schedule="warn", starts=max(8, options.starts // 2), polished=2)
    strict = replace(options, one_schedule="refuse")  # a ratio is asked of the fits without a peak LR
    problem = prepare(law, runs, options).remembering(space_filling(*search_box(law), lenient.starts))
    warm = _search_of(law, whole) if whole else search(problem, options)[0].search
    sizes = [rows.stop - rows.start for rows in problem.rows]
    ends = np.concatenate([_bin_ends(run, burn_in, options.max_points) for run in runs])
    found: dict[tuple[float, ...], tuple[np.ndarray, np.ndarray]] = {}  # folds of two kinds may hide the same
    without_peak: dict[str, tuple[float, ...]] = {}
    errors: dict[str, float] = {}
    kinds: dict[str, Kind] = {}
    residuals: dict[str, np.ndarray] = {}
    skipped: dict[str, str] = {}
    finals: list[FinalError] = []
    for fold in make_folds(runs, burn_in):
        if only is not None and fold.name not in only:
            continue
        hidden, shown = ends > np.repeat(fold.until, sizes), fold.shown(runs)
        reason = _obstacle(law, shown, hidden, lenient)
        if reason:
            skipped[fold.name] = reason
            continue
        if fold.until not in found:
            found[fold.until] = _predict_hidden(problem, hidden, warm, lenient)
        residual, vector = found[fold.until]
        residuals[fold.name] = residual
        told = fold.kind == "peak_lr" and not _obstacle(law, shown, hidden, strict)
        if told and np.all(np.isfinite(vector)):
            without_peak[fold.name] = tuple(vector.tolist())
        kinds[fold.name] = fold.kind
        errors[fold.name] = float(np.average(np.abs(residual[hidden]), weights=problem.weight[hidden]))
        for run, rows in zip(runs, problem.rows, strict=True):
            if hidden[rows].any():
                last = float(residual[rows][-1])
                finals.append(FinalError(fold.name, fold.kind, run.name, last, *reach(run, shown)))
    return HeldOut(law.name, errors, kinds, tuple(finals), skipped, residuals, problem.weight, without_peak)


def merge_held_out(parts: Sequence[HeldOut]) -> HeldOut:
    """Put parts of one law's folds together, given in the order of the folds."""
    first = parts[0]

    def union(name: str) -> dict[str, Any]:
        return {fold: value for part in parts for fold, value in getattr(part, name).items()}

    finals = tuple(final for part in parts for final in part.finals)
    return HeldOut(
        first.law, union("errors"), union("kinds"), finals, union("skipped"), union("residuals"), first.weight,
        union("without_peak"),
    )  # fmt: skip


def _bin_ends(run: Run, burn_in: int, max_points: int) -> np.ndarray:
    """Last step that went into each of the fit's points (`lehr.fit.fit.points`), which are means of long logs.

    A fold shows a point if all that went into it is shown.
    """
    step = run.step[run.step >= max(burn_in, 1)]
    size = max(1, -(-len(step) // max_points))
    return step[np.minimum(np.arange(size - 1, len(step) + size - 1, size), len(step) - 1)]


def _search_of(law: Law, result: FitResult) -> np.ndarray:
    """Search coordinates of a fit, shape (K,)."""
    return np.array([p.to_search(v) for p, v in zip(law.nonlinear, result.vector, strict=False)])


def _obstacle(law: Law, shown: tuple[Run, ...], hidden: np.ndarray, options: FitOptions) -> str | None:
    """Say why a fold that hides the points `hidden` (shape (n,)) cannot be made, or None."""
    left, parameters = int(np.sum(~hidden)), len(law.nonlinear) + len(law.linear)
    if not hidden.any():
        return "none of the points it would hide lies after the burn-in"
    if left <= parameters:
        return f"only {left} points would be left for {parameters} parameters"
    try:
        check_runs(law, shown, options)
    except InputError as error:
        return str(error)
    return None


def _predict_hidden(
    problem: Problem, hidden: np.ndarray, warm: np.ndarray, options: FitOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Relative residuals where `hidden`, NaN elsewhere, of a fit to the other points, (n,); its parameters, (K + L,).

    Runs hidden whole are taken out rather than given no weight: a prior weighs by the number of runs.
    """
    shown = problem.with_weight(np.where(hidden, 0.0, problem.weight))
    shown = shown.only([i for i, rows in enumerate(problem.rows) if not hidden[rows].all()])
    point = _refit(shown, warm, options)
    with np.errstate(all="ignore"):
        theta = natural(problem.law, point.search)
        predicted = np.concatenate([basis(theta)[0] for basis in problem.bases]) @ point.linear
        residual = predicted / problem.loss - 1
    errors = np.where(hidden, np.where(np.isfinite(residual), residual, np.inf), np.nan)
    return errors, np.concatenate([theta, point.linear])


def _refit(problem: Problem, warm: np.ndarray, options: FitOptions) -> Point:
    """Fit anew from fresh starts and from the fit to all points; the better by this problem's own cost."""
    fresh = search(problem, options)[0]
    again = polish(problem, warm)[0]
    return min(fresh, again, key=lambda point: point.cost)


def with_held_out(result: FitResult, held: HeldOut) -> FitResult:
    """Return the fit with what its folds told."""
    return replace(result, spread=held.spread(), final_errors=held.finals, without_peak=held.without_peak)
