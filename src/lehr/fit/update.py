"""Update a fit with the log so far of one more run, such as the one that trains now.

A run at a constant LR tells the level of its loss but hardly the annealing term, and a few
parameters left free would take the stable phase's noise for a slope. So nothing is free and
nothing is fixed: all parameters move under a normal prior,

    log amplitudes, nonlinear parameters ~ N(fit, covariance of its bootstrap draws + scale^2 Q)

in the search coordinates of the nonlinear ones. The first part says how well the fitted runs
told them. Q says how another run may differ from those: in its irreducible loss by 10 %, in
all other amplitudes together by 30 %, in the ratios between them by 30 %, one standard deviation at a
scale of 1. The scale is taken from the log itself, by the largest evidence (Laplace's
approximation): about 0 for a run of the fitted model and data, .1 to 1 for another size or data set.
The log weighs as much as four independent points: a law's error along a stable phase is smooth, and with more
weight the parameters follow it, which a decay then pays for.

What other weights of the log give is in docs/diary.md, step 20.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lehr.errors import InputError
from lehr.fit.fit import FitOptions, conditions_of, points
from lehr.fit.projection import search_box
from lehr.fit.result import FitResult
from lehr.laws.law import Basis, Conditions, Law
from lehr.runs.run import Run
from lehr.schedule.pieces import warmup_steps

IRREDUCIBLE_SPREAD, COMMON_SPREAD, OWN_SPREAD = 0.1, 0.3, 0.3  # of log amplitudes, at a scale of 1
WORTH = 4.0  # independent points that the log counts for
SCALES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
FEWEST = 3  # points of the log after the burn-in
VANISHING = 0.01  # an amplitude of a draw is taken as at least this share of the fitted one
STRANGE = 0.1  # scale from which the run is said to be of another kind
MISFIT = 3.0  # times the Huber bound: mean residual after the update from which it is warned of


@dataclass(frozen=True)
class Updated:
    """A fit updated with a run.

    Parameters
    ----------
    result : the fit with the run's parameters; its draws are of their joint distribution.
    points : points of the run that were used.
    scale : how much the run differs from the fitted ones, see the module's text.
    shift : mean relative residual of the fit before the update (prediction too high: positive).
    residual : mean absolute relative residual after it.
    """

    result: FitResult
    points: int
    scale: float
    shift: float
    residual: float


def update(
    result: FitResult, run: Run, conditions: Conditions | None = None, draws: int = 60, seed: int = 0
) -> Updated:
    """Update `result` with the points of `run`.

    Parameters
    ----------
    result : a fit, not of this run; with draws (`lehr.fit.uncertainty.bootstrap`) all its uncertainty counts.
    run : the log so far.
    conditions : what the law may know of the run; by default what the run tells.
    draws : number of parameter vectors drawn from the updated distribution.
    seed : of these draws.

    Raises
    ------
    InputError
        If fewer than three points are left after the burn-in.
    """
    law, options = result.get_law(), FitOptions(**result.options)
    conditions = conditions or conditions_of(run)
    log = _Log.of(result, run, conditions, options)
    mean = _coordinates(law, result.vector, result.vector)
    fitted, different = _covariance_of_draws(result), _covariance_between_runs(law)
    with np.errstate(all="ignore"):
        tried = [(scale, _solve(law, log, mean, fitted + scale**2 * different)) for scale in SCALES]
        scale, best = max(tried, key=lambda pair: pair[1].evidence)
        before = log.residual(law, mean)[0]
    shift = float(np.average(before, weights=log.weight))
    vectors = _draw(law, best, draws, seed)
    names = [p.name for p in law.nonlinear] + [a.name for a in law.linear]
    typical = float(np.mean(np.abs(best.residual)))
    moved = replace(
        result,
        parameters=dict(zip(names, _natural(law, best.place).tolist(), strict=True)),
        draws=tuple(map(tuple, vectors.tolist())),
        intervals={},
        without_peak={},
        warnings=(*result.warnings, *_warnings(result, run, (scale, shift, typical), options.huber)),
    )
    return Updated(moved, len(log.loss), scale, shift, typical)


@dataclass(frozen=True, eq=False)
class _Log:
    """The n points of the run, bound to the law; `weight` (n,) sums to the points it is worth."""

    basis: Basis
    loss: np.ndarray
    weight: np.ndarray
    huber: float

    @classmethod
    def of(cls, result: FitResult, run: Run, conditions: Conditions, options: FitOptions) -> _Log:
        done = max(int(run.step[-1]), 1)
        burn_in = max(result.domain.burn_in, warmup_steps(run.schedule.first(done)))
        late = run.step[run.step >= max(burn_in, 1)]
        if len(late) < FEWEST:
            raise InputError(
                f"run {run.name!r}: {len(late)} of its {len(run.step)} points come after the burn-in of {burn_in} "
                f"updates, fewer than {FEWEST}: wait for more of the log."
            )
        step, loss = points(run, burn_in, options.max_points)
        basis = result.get_law().bind(conditions, step, options.tolerance)
        weight = step**options.late_weight
        return cls(basis, loss, WORTH * weight / weight.sum(), options.huber)

    def residual(self, law: Law, place: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Relative residuals (n,) at coordinates `place`, and their derivatives by them (n, P)."""
        vector, count = _natural(law, place), len(law.nonlinear)
        phi, slope = self.basis(vector[:count])
        phi, slope = phi / self.loss[:, None], slope / self.loss[:, None, None]
        inner = np.array([t if p.log else 1.0 for p, t in zip(law.nonlinear, vector, strict=False)])
        turn = np.einsum("nlk,l->nk", slope, vector[count:]) * inner
        return phi @ vector[count:] - 1, np.concatenate([turn, phi * vector[count:]], axis=1)

    def pull(self, residual: np.ndarray) -> np.ndarray:
        """Weight of each point under the Huber loss, in units of its bound; shape (n,)."""
        size = np.maximum(np.abs(residual), 1e-30)
        return self.weight * np.minimum(1.0, self.huber / size) / self.huber**2

    def cost(self, residual: np.ndarray) -> float:
        """The Huber loss over its bound squared."""
        size = np.abs(residual) / self.huber
        return float(np.sum(self.weight * np.where(size < 1, 0.5 * size**2, size - 0.5)))


@dataclass(frozen=True, eq=False)
class _Posterior:
    """Most likely coordinates (P,), their covariance (P, P), residuals there and the log evidence."""

    place: np.ndarray
    covariance: np.ndarray
    residual: np.ndarray
    evidence: float


def _solve(law: Law, log: _Log, mean: np.ndarray, prior: np.ndarray, most: int = 20) -> _Posterior:
    """Gauss-Newton with damping, in coordinates in which the prior is a standard normal."""
    values, vectors = np.linalg.eigh(prior)
    live = values > 1e-12 * max(float(values.max()), 1e-12)
    root = vectors[:, live] * np.sqrt(values[live])
    low, high = _box(law)

    def at(white: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
        place = np.clip(mean + root @ white, low, high)
        residual, slope = log.residual(law, place)
        return place, residual, slope @ root, log.cost(residual) + 0.5 * float(white @ white)

    white = np.zeros(root.shape[1])
    (place, residual, slope, cost), damping = at(white), 0.0
    for _ in range(most):
        pull = log.pull(residual)
        curve = slope.T @ (slope * pull[:, None]) + np.eye(len(white))
        gradient = slope.T @ (pull * residual) + white
        trial = white - np.linalg.solve(curve + damping * np.diag(np.diag(curve)), gradient)
        new = at(trial)
        if new[3] <= cost:
            close = cost - new[3] < 1e-6 * max(cost, 1.0)
            white, (place, residual, slope, cost), damping = trial, new, 0.3 * damping
            if close:
                break
        else:
            damping = max(5 * damping, 1e-3)
    curve = slope.T @ (slope * log.pull(residual)[:, None]) + np.eye(len(white))
    covariance = root @ np.linalg.solve(curve, root.T)
    return _Posterior(place, covariance, residual, -cost - 0.5 * float(np.linalg.slogdet(curve)[1]))


def _coordinates(law: Law, vector: np.ndarray, fitted: np.ndarray) -> np.ndarray:
    """Search coordinates, then log amplitudes; shape (P,). One that is 0 in the fit stays about 0."""
    count = len(law.nonlinear)
    search = [p.to_search(value) for p, value in zip(law.nonlinear, vector, strict=False)]
    floor = np.maximum(VANISHING * fitted[count:], 1e-12)
    return np.concatenate([search, np.log(np.maximum(vector[count:], floor))])


def _natural(law: Law, place: np.ndarray) -> np.ndarray:
    count = len(law.nonlinear)
    nonlinear = [p.from_search(z) for p, z in zip(law.nonlinear, place, strict=False)]
    return np.concatenate([nonlinear, np.exp(place[count:])])


def _box(law: Law) -> tuple[np.ndarray, np.ndarray]:
    low, high = search_box(law)
    far = np.full(len(law.linear), 100.0)
    return np.concatenate([low, -far]), np.concatenate([high, far])


def _covariance_of_draws(result: FitResult) -> np.ndarray:
    law = result.get_law()
    size = len(law.nonlinear) + len(law.linear)
    if len(result.draws) < 2:
        return np.zeros((size, size))
    rows = np.array([_coordinates(law, np.array(row), result.vector) for row in result.draws])
    return np.cov(rows.T)


def _covariance_between_runs(law: Law) -> np.ndarray:
    """Q of the module's text, shape (P, P)."""
    shape, size = len(law.nonlinear), len(law.nonlinear) + len(law.linear)
    out = np.zeros((size, size))
    out[shape + 1 :, shape + 1 :] = COMMON_SPREAD**2
    own = np.arange(shape + 2, size)  # of the first of them the common factor says all
    out[own, own] += OWN_SPREAD**2
    out[shape, shape] = IRREDUCIBLE_SPREAD**2
    return out


def _draw(law: Law, posterior: _Posterior, draws: int, seed: int) -> np.ndarray:
    """Parameter vectors, shape (draws, P)."""
    values, vectors = np.linalg.eigh(posterior.covariance)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    normal = np.random.default_rng(seed).standard_normal((draws, len(values)))
    low, high = _box(law)
    return np.array([_natural(law, row) for row in np.clip(posterior.place + normal @ root.T, low, high)])


def _warnings(result: FitResult, run: Run, told: tuple[float, float, float], huber: float) -> list[str]:
    (scale, shift, typical), notes = told, []
    if run.name in result.residuals:
        notes.append(f"run {run.name!r} is one of the fitted runs: its losses count twice; fit without it.")
    if not result.draws:
        notes.append("the fit has no bootstrap draws: only how runs differ moves it, not what it left open.")
    if scale >= STRANGE:
        notes.append(
            f"the fit was {shift:+.1%} off the log of {run.name!r}: another model or data than was fitted, so that the "
            "annealing term rests on how runs differ."
        )
    if typical > MISFIT * huber:
        notes.append(
            f"even updated, the law is {typical:.2%} off the log of {run.name!r} on average: look for a spike, a "
            "wrong schedule or a training loss that was not averaged."
        )
    return notes
