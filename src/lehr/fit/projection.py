"""Variable projection: amplitudes solved exactly, only the nonlinear parameters searched.

A law is linear in its amplitudes, so for given nonlinear parameters the best amplitudes follow
from a small non-negative least-squares problem in the relative residual (prediction - loss) / loss,
reweighted a few times to reach the Huber loss. What is left is a smooth problem in one to five
parameters, whose Jacobian is exact (Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973, with the
set of positive amplitudes held), solved by Levenberg-Marquardt within bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lehr.laws.law import Law, WithSlopes

REWEIGHTINGS = 6
POINTS_A_RUN = 8  # errors along a curve are correlated: a run says as much as so many free points


@dataclass(frozen=True, eq=False)
class Problem:
    """Runs bound to a law.

    Parameters
    ----------
    law : the law.
    bases : one basis function a run.
    rows : slice of the n points that belongs to each run.
    loss : shape (n,), nats per token.
    weight : shape (n,), weight of each point in the objective, mean about 1.
    huber : residual above which a point pulls with constant force.
    prior_shift : shape (K,), by how many of their standard deviations the priors' means are moved;
        None for not at all. Bootstrap draws move them at random.
    fixed : shape (K,), search coordinates at which parameters are held, NaN where one is free; None: all
        are free. Profiles hold them one at a time.
    priors : whether the priors of the law's parameters count.
    """

    law: Law
    bases: tuple[WithSlopes, ...]
    rows: tuple[slice, ...]
    loss: np.ndarray
    weight: np.ndarray
    huber: float
    prior_shift: np.ndarray | None = None
    fixed: np.ndarray | None = None
    priors: bool = True

    def with_weight(self, weight: np.ndarray) -> Problem:
        """Return the same problem under other weights, shape (n,)."""
        return replace(self, weight=weight)

    def remembering(self, starts: np.ndarray) -> Problem:
        """Return the same problem, which keeps its bases at the search coordinates `starts`, shape (m, K).

        For many fits of one problem under changing weights, all of which begin there.
        """
        settings = frozenset(natural(self.law, start).tobytes() for start in starts)
        return replace(self, bases=tuple(_remember(basis, settings) for basis in self.bases))

    def only(self, keep: Sequence[int]) -> Problem:
        """Return the problem of the runs with the given indices."""
        sizes = [self.rows[i].stop - self.rows[i].start for i in keep]
        ends = np.cumsum([0, *sizes])
        index = np.concatenate([np.arange(self.rows[i].start, self.rows[i].stop) for i in keep])
        return replace(
            self,
            bases=tuple(self.bases[i] for i in keep),
            rows=tuple(slice(int(a), int(b)) for a, b in zip(ends, ends[1:], strict=False)),
            loss=self.loss[index],
            weight=self.weight[index],
        )


@dataclass(frozen=True, eq=False)
class Point:
    """The projected problem at one setting of the nonlinear parameters.

    Parameters
    ----------
    search : shape (K,), search coordinates.
    linear : shape (L,), best amplitudes there.
    residual : shape (n,), relative residuals.
    cost : Huber objective plus priors.
    """

    search: np.ndarray
    linear: np.ndarray
    residual: np.ndarray
    cost: float


def _remember(basis: WithSlopes, settings: frozenset[bytes]) -> WithSlopes:
    """Return `basis`, which computes its value at each of the `settings` but once."""
    kept: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def remembered(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = nonlinear.tobytes()
        if key not in settings:
            return basis(nonlinear)
        if key not in kept:
            kept[key] = basis(nonlinear)
        return kept[key]

    return remembered


def search_box(law: Law) -> tuple[np.ndarray, np.ndarray]:
    """Lower and upper bounds of the search coordinates, each of shape (K,)."""
    low = np.array([p.to_search(p.low) for p in law.nonlinear])
    high = np.array([p.to_search(p.high) for p in law.nonlinear])
    return low, high


def natural(law: Law, search: np.ndarray) -> np.ndarray:
    """Nonlinear parameters of search coordinates, shape (K,)."""
    return np.array([p.from_search(z) for p, z in zip(law.nonlinear, search, strict=True)])


def evaluate(problem: Problem, search: np.ndarray) -> tuple[Point, np.ndarray, np.ndarray]:
    """Project out the amplitudes at `search`.

    Returns
    -------
    The point, the scaled basis (n, L) and its derivatives by search coordinates (n, L, K).
    """
    theta = natural(problem.law, search)
    parts = [basis(theta) for basis in problem.bases]
    inverse = 1 / problem.loss
    phi = np.concatenate([p[0] for p in parts]) * inverse[:, None]
    slope = np.concatenate([p[1] for p in parts]) * inverse[:, None, None]
    slope = slope * np.array([t if p.log else 1.0 for p, t in zip(problem.law.nonlinear, theta, strict=True)])
    linear = _amplitudes(phi, problem)
    residual = phi @ linear - 1
    size = np.abs(residual)
    pull = np.where(size <= problem.huber, 0.5 * size**2, problem.huber * (size - 0.5 * problem.huber))
    gap = _prior_gap(problem, search)
    cost = float(problem.weight @ pull) + 0.5 * float(gap @ gap)
    return Point(search, linear, residual, cost if np.isfinite(cost) else np.inf), phi, slope


def _amplitudes(phi: np.ndarray, problem: Problem) -> np.ndarray:
    """Best non-negative amplitudes under the Huber loss, shape (L,)."""
    scale = np.sqrt(np.einsum("nl,nl->l", phi, phi))
    scale[~((scale > 1e-12) & np.isfinite(scale))] = np.inf  # a column of nothing gets no amplitude
    unit = phi / scale
    weight, linear = problem.weight, np.zeros(phi.shape[1])
    for _ in range(REWEIGHTINGS):
        new = _nonnegative(unit, weight)
        done = np.all(np.abs(new - linear) <= 1e-9 * np.abs(linear) + 1e-12)
        linear = new
        if done:
            break
        size = np.abs(unit @ linear - 1)
        weight = problem.weight * np.minimum(1.0, problem.huber / np.maximum(size, 1e-30))
    return linear / scale


def _nonnegative(unit: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Solve min sum w (unit c - 1)^2 over c >= 0: the plain solution where it is one."""
    weighted = unit * weight[:, None]
    gram, right = unit.T @ weighted, weighted.sum(axis=0)
    live = np.diag(gram) > 0
    linear = np.zeros(len(right))
    try:
        if live.all():  # the usual case, for which indexing would cost more than solving
            linear = np.linalg.solve(gram, right)
        else:
            linear[live] = np.linalg.solve(gram[np.ix_(live, live)], right[live])
    except np.linalg.LinAlgError:
        linear[:] = -1.0
    if np.all(linear >= 0):
        return linear
    from scipy.optimize import nnls  # seldom needed, slow to load

    root = np.sqrt(weight)
    return nnls(unit * root[:, None], root)[0]


def _prior_gap(problem: Problem, search: np.ndarray) -> np.ndarray:
    """Distance from the priors, in the objective's unit; shape (K,), 0 without a prior."""
    priors = [p.prior if problem.priors else None for p in problem.law.nonlinear]
    mean = np.array([p[0] if p else z for p, z in zip(priors, search, strict=True)])
    if problem.prior_shift is not None:
        mean = mean + problem.prior_shift * np.array([p[1] if p else 0.0 for p in priors])
    return prior_scale(problem) * (search - mean)


def prior_scale(problem: Problem) -> np.ndarray:
    """Inverse spread of each prior in the objective's unit, 0 without one; shape (K,)."""
    priors = [p.prior if problem.priors else None for p in problem.law.nonlinear]
    spread = np.array([p[1] if p else np.inf for p in priors])
    return np.sqrt(prior_unit(problem)) / spread


def prior_unit(problem: Problem) -> float:
    """What a deviation of one standard deviation from a prior costs, twice over, in the objective."""
    return float(problem.huber**2 * problem.weight.sum() / (POINTS_A_RUN * len(problem.rows)))


def jacobian(problem: Problem, point: Point, phi: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """Derivative of the residuals by the search coordinates, amplitudes following; (n, K)."""
    live = point.linear > 0
    weight = robust_weight(problem, point)
    direct = np.einsum("nlk,l->nk", slope, point.linear)
    basis = phi[:, live]
    scale = np.sqrt(np.einsum("nl,nl->l", basis, basis))
    unit = basis / scale
    weighted = unit * weight[:, None]
    gram = unit.T @ weighted + 1e-13 * np.eye(int(live.sum()))
    turn = np.einsum("nlk,n->lk", slope[:, live, :], weight * point.residual) / scale[:, None]
    follow = -np.linalg.solve(gram, turn + weighted.T @ direct)
    return direct + unit @ follow


def robust_weight(problem: Problem, point: Point) -> np.ndarray:
    """Weight of each point with which least squares pull as the Huber loss does, shape (n,)."""
    size = np.maximum(np.abs(point.residual), 1e-30)
    return problem.weight * np.minimum(1.0, problem.huber / size)


def polish(problem: Problem, search: np.ndarray, most: int = 40, close: float = 1e-6) -> tuple[Point, bool]:
    """Levenberg-Marquardt within the law's bounds from `search`.

    Parameters
    ----------
    most : number of accepted or refused steps to try.
    close : relative gain in cost below which it has converged.

    Returns
    -------
    The best point and whether it converged.
    """
    low, high = search_box(problem.law)
    if problem.fixed is not None:
        held = ~np.isnan(problem.fixed)
        low, high = np.where(held, problem.fixed, low), np.where(held, problem.fixed, high)
    point, phi, slope = evaluate(problem, np.clip(search, low, high))
    damping, prior = 1e-3, prior_scale(problem)
    for _ in range(most):
        step = _step(problem, point, phi, slope, prior, damping, (low, high))
        moved = np.clip(point.search + step, low, high)
        if np.max(np.abs(moved - point.search), initial=0.0) < 1e-9:
            return point, True
        trial, new_phi, new_slope = evaluate(problem, moved)
        if trial.cost < point.cost:
            gain = (point.cost - trial.cost) / (point.cost + 1e-300)
            point, phi, slope, damping = trial, new_phi, new_slope, max(damping * 0.2, 1e-9)
            if gain < close:
                return point, True
        else:
            damping *= 6.0
            if damping > 1e8:
                return point, True
    return point, False


def _step(
    problem: Problem, point: Point, phi: np.ndarray, slope: np.ndarray, prior: np.ndarray, damping: float,
    box: tuple[np.ndarray, np.ndarray],
) -> np.ndarray:  # fmt: skip
    """Damped Gauss-Newton step; parameters pushed against a bound stay there."""
    turn = jacobian(problem, point, phi, slope)
    weight = robust_weight(problem, point)
    gradient = turn.T @ (weight * point.residual) + prior * _prior_gap(problem, point.search)
    curve = turn.T @ (turn * weight[:, None]) + np.diag(prior**2)
    low, high = box
    stuck = ((point.search <= low) & (gradient > 0)) | ((point.search >= high) & (gradient < 0))
    free = ~stuck
    step = np.zeros(len(gradient))
    if free.any():
        inner = curve[np.ix_(free, free)]
        damped = inner + damping * np.diag(np.diag(inner) + 1e-12 * np.trace(inner) + 1e-300)
        step[free] = -np.linalg.solve(damped, gradient[free])
    return step
