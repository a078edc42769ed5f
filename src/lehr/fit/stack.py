"""Stacking: a weighted mean of laws, whose weights are learned on losses hidden from all of them.

    prediction = sum_i w_i prediction_i,    w_i >= 0,    sum_i w_i = 1

The weights minimise the squared relative error on the hidden points of the folds that every law could be
tried on (Wolpert, Neural Networks 5, 1992; weights of at least 0: Breiman, Machine Learning 24, 1996). Each
kind of fold counts alike, its squared errors in units of the best law's, since some kinds are far
harder than others (`lehr.fit.compare`); within a kind each fold, within a fold each point as in the fit. No
training error enters.

A mean helps where laws err to different sides, and a few curves hardly tell. So a stack comes with its
own error, on folds whose hidden losses had no part in its weights (`score`); it is made on request
only and never chosen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from lehr.errors import InputError
from lehr.fit.compare import first_of_the_best
from lehr.fit.folds import Kind
from lehr.fit.held_out import TINY, HeldOut, mean_over_kinds
from lehr.fit.result import FitResult

SMALLEST = 1e-3  # a law of less weight is not worth its curve and is left out
STACK = "stack"  # what it is called where a law could be named; no law may bear the name


@dataclass(frozen=True)
class Stack:
    """A weighted mean of fitted laws; `lehr.predict.predict_stack` predicts with it.

    Parameters
    ----------
    weights : by name of the law, above 0, with the sum 1.
    members : the fit of each of these laws.
    """

    weights: Mapping[str, float]
    members: Mapping[str, FitResult]


@dataclass(frozen=True)
class StackScore:
    """Errors on hidden losses that had no part in what predicted them: means as for the ranking of laws.

    Parameters
    ----------
    stack : of weighted means of the laws.
    single : of one law, chosen as `lehr.fit.compare` chooses.
    """

    stack: float
    single: float


def learn_weights(held_out: Mapping[str, HeldOut], folds: Iterable[str]) -> dict[str, float]:
    """Weights, at least 0 with the sum 1, under which the laws together predict hidden points best.

    Parameters
    ----------
    held_out : what each law predicted (`lehr.fit.held_out.hold_out`), all of the same runs.
    folds : names of folds that every law was tried on.

    Returns
    -------
    Weight by law; laws of next to no weight are left out.

    Raises
    ------
    InputError
        If there is no fold, or there are fewer than two laws with finite predictions.
    """
    table = _tabulate(held_out, tuple(folds))
    weights = _solve(table)
    weights = np.where(weights < SMALLEST, 0.0, weights)
    weights = weights / weights.sum()
    return {law: float(w) for law, w in zip(table.laws, weights, strict=True) if w}


def score(held_out: Mapping[str, HeldOut], folds: Iterable[str]) -> StackScore | None:
    """Cross-validate the stack, and the choice of one law beside it.

    Each fold is predicted by weights, and by a law, that the other folds decided; points that it hides
    are taken out of those. None if nothing would be left to decide by.

    Raises
    ------
    InputError
        As for `learn_weights`.
    """
    table = _tabulate(held_out, tuple(folds))
    hidden = table.weight > 0
    stacked, single = np.zeros(hidden.shape), np.zeros(hidden.shape)
    judged = np.zeros(len(hidden), dtype=bool)
    for i, own in enumerate(hidden):
        seen = np.where(own, 0.0, table.weight)
        seen[i] = 0.0
        if not seen.any():
            continue
        judged[i], rest = True, replace(table, weight=seen)
        stacked[i] = _solve(rest) @ table.residual[:, i]
        errors = {law: _error(rest, row) for law, row in zip(table.laws, table.residual, strict=True)}
        single[i] = table.residual[table.laws.index(first_of_the_best(errors)), i]
    if not judged.any():
        return None
    fair = replace(table, weight=np.where(judged[:, None], table.weight, 0.0))
    return StackScore(_error(fair, stacked), _error(fair, single))


@dataclass(frozen=True, eq=False)
class _Table:
    """Residuals of L laws on F folds at n points.

    Parameters
    ----------
    laws : L names.
    kinds : of the F folds.
    residual : shape (L, F, n), 0 where not hidden.
    weight : shape (F, n), weight of each hidden point as in the fit, 0 where not hidden.
    """

    laws: tuple[str, ...]
    kinds: tuple[Kind, ...]
    residual: np.ndarray
    weight: np.ndarray


def _tabulate(held_out: Mapping[str, HeldOut], folds: tuple[str, ...]) -> _Table:
    """Put the residuals of laws with finite ones side by side."""
    if not folds:
        raise InputError(
            "a stack learns from folds that every law could be tried on, and these runs give none: add a run."
        )
    rows = {law: np.array([held.residuals[fold] for fold in folds]) for law, held in held_out.items()}
    finite = {law: row for law, row in rows.items() if not np.isinf(row).any()}
    if len(finite) < 2:
        raise InputError("a stack averages at least two laws: fit more of them, such as --law all.")
    residual, some = np.array(list(finite.values())), held_out[next(iter(finite))]
    weight = np.where(np.isnan(residual[0]), 0.0, some.weight)
    return _Table(tuple(finite), tuple(some.kinds[fold] for fold in folds), np.nan_to_num(residual), weight)


def _shares(table: _Table) -> np.ndarray:
    """Weights under which each kind that has points sums to 1, shared evenly by its folds; shape (F, n)."""
    total = table.weight.sum(axis=1)
    live = [kind for kind, amount in zip(table.kinds, total, strict=True) if amount]
    among = np.array([max(live.count(kind), 1) for kind in table.kinds])
    return table.weight / (np.where(total > 0, total, 1.0) * among)[:, None]


def _by_kind(table: _Table, values: np.ndarray) -> dict[Kind, np.ndarray]:
    """Mean of `values`, shape (..., F, n), over the points of each kind; shape (...,)."""
    folds = np.einsum("fn,...fn->...f", _shares(table), values)
    live = [kind for kind, weight in zip(table.kinds, table.weight, strict=True) if weight.any()]
    of = np.array(table.kinds)
    return {kind: folds[..., of == kind].sum(axis=-1) for kind in dict.fromkeys(live)}


def _error(table: _Table, residual: np.ndarray) -> float:
    """Held-out error of residuals, shape (F, n), as `lehr.fit.compare` ranks by."""
    return mean_over_kinds({kind: float(e) for kind, e in _by_kind(table, np.abs(residual)).items()})


def _solve(table: _Table) -> np.ndarray:
    """Weights on the simplex with the least squared error of the weighted mean; shape (L,).

    Non-negative least squares with one row more, which asks for the sum 1: its solution is that on
    the simplex but for its length.
    """
    from scipy.optimize import nnls  # slow to load

    best = {kind: max(float(e.min()), TINY**2) for kind, e in _by_kind(table, table.residual**2).items()}
    unit = np.array([best.get(kind, 1.0) for kind in table.kinds])
    share = _shares(table) / unit[:, None]
    seen = share > 0
    rows = (np.sqrt(share[seen]) * table.residual[:, seen]).T
    weights = nnls(np.vstack([rows, np.ones(rows.shape[1])]), np.append(np.zeros(len(rows)), 1.0))[0]
    return weights / weights.sum()
