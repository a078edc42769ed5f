"""A fit opened again and made linear at its optimum: what profiles and diagnoses start from.

All parameters stand side by side here, the nonlinear ones in their search coordinates, the
amplitudes that are not 0 as they are, each with its column of derivatives of the relative residuals.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from lehr.errors import InputError
from lehr.fit.fit import FitOptions, points, prepare, resolve_burn_in
from lehr.fit.projection import Point, Problem, evaluate, prior_scale, robust_weight
from lehr.fit.result import FitResult, fingerprint_of
from lehr.runs.run import Run

FLOOR = 0.1
NOTHING = 1e-14  # curvature, in units of the largest, that counts as none


@dataclass(frozen=True, eq=False)
class Linearised:
    """A fit and its derivatives at one point.

    Parameters
    ----------
    problem : the runs bound to the law.
    point : where it is linearised.
    steps : shape (n,), updates done at each point of the runs.
    names : of p parameters: the nonlinear ones, then the amplitudes above 0.
    jacobian : shape (n, p), derivatives of the relative residuals by them.
    weight : shape (n,), weight with which each point pulls: that of the problem times Huber's.
    bend : shape (n,), curvature of each point's Huber loss: none beyond its bound but for a share `FLOOR`,
        so that a law that misses most points has one.
    precision : shape (p,), what the priors add to the objective's curvature.
    """

    problem: Problem
    point: Point
    steps: np.ndarray
    names: tuple[str, ...]
    jacobian: np.ndarray
    weight: np.ndarray
    bend: np.ndarray
    precision: np.ndarray

    def information(self) -> np.ndarray:
        """Curvature of the objective by the runs alone, shape (p, p)."""
        return self.jacobian.T @ (self.jacobian * self.bend[:, None])

    def inverse(self) -> np.ndarray:
        """Inverse of the objective's curvature, priors included; shape (p, p)."""
        return invert(self.information() + np.diag(self.precision))


def invert(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric matrix of no negative eigenvalue; where it says nothing, a large number for infinity."""
    size = np.diag(matrix)
    scale = 1 / np.sqrt(np.maximum(size, NOTHING * max(float(size.max()), 1e-200)))
    values, vectors = np.linalg.eigh(matrix * np.outer(scale, scale))
    inner = (vectors / np.maximum(values, NOTHING)) @ vectors.T
    return inner * np.outer(scale, scale)


def reopen(result: FitResult, runs: Iterable[Run]) -> Linearised:
    """Bind `runs` again and linearise `result` at its parameters.

    Raises
    ------
    InputError
        If these are not the runs that were fitted, or the fit was moved to them (`lehr.fit.adapt`).
    """
    runs = tuple(runs)
    if result.adapted:
        raise InputError(
            f"the fit of {result.law} was moved to these runs, which tell its level and scale alone: diagnose the fit "
            "that it was moved from, or fit these runs."
        )
    if fingerprint_of(runs) != result.fingerprint:
        raise InputError(
            f"the {len(runs)} runs given are not those that the fit of {result.law} was made from: give the same "
            "runs, or fit again."
        )
    law, options = result.get_law(), FitOptions(**result.options)
    problem = prepare(law, runs, options)
    burn_in = resolve_burn_in(runs, options)
    steps = np.concatenate([points(run, burn_in, options.max_points)[0] for run in runs])
    search = np.array([p.to_search(v) for p, v in zip(law.nonlinear, result.vector, strict=False)])
    return linearise(problem, search, steps)


def linearise(problem: Problem, search: np.ndarray, steps: np.ndarray) -> Linearised:
    """Linearise `problem` at the search coordinates `search` (shape (K,)); `steps` are those of its points."""
    point, phi, slope = evaluate(problem, search)
    live = point.linear > 0
    direct = np.einsum("nlk,l->nk", slope, point.linear)
    names = [p.name for p in problem.law.nonlinear]
    names += [a.name for a, alive in zip(problem.law.linear, live, strict=True) if alive]
    jacobian = np.column_stack([direct, phi[:, live]])
    pull = robust_weight(problem, point)
    bend = np.where(np.abs(point.residual) <= problem.huber, 1.0, FLOOR) * pull
    return Linearised(
        problem, point, steps, tuple(names), jacobian, pull, bend,
        np.concatenate([prior_scale(problem) ** 2, np.zeros(int(live.sum()))]),
    )  # fmt: skip


def without_priors(problem: Problem) -> Problem:
    """Return `problem` with its priors left out."""
    return replace(problem, priors=False)
