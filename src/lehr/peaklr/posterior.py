"""What is known of the best LR before and during a sweep: a prior, and its update by the runs that ended.

The model is that of `lehr.peaklr.surface` with a proper prior on every parameter, so that it is defined from the first
run on, and with an own small shift of the optimum in every cell (one size, number of tokens and batch)::

    L = L_min(cell) + curvature(N, D, B) V(ln eta - ln eta_opt(N, D, B) - shift(cell)),    shift ~ normal(0, `SCATTER`)

L_min and the shift are integrated out to first order in the shift; the rest is a Gaussian about the most likely
parameters (Laplace's approximation). A run that diverged, or that ended more than `CUT` above the lowest of its cell,
says only that its loss is at least so high.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError
from lehr.peaklr.law import LrPrediction
from lehr.peaklr.location import evaluate, get_form, unidentified
from lehr.peaklr.published import LAWS, Planned
from lehr.peaklr.shape import PRIOR_CENTRE, PRIOR_WIDTH, valley_shape
from lehr.peaklr.surface import CURVATURE_START, CUT, NOISE_FACTOR, ROBUST, STEEPEST, SURGE_PRIOR
from lehr.peaklr.table import SweepTable
from lehr.peaklr.valley import FORM_ERROR, NOISE, NOISE_FREEDOM

PRIOR_FACTOR = 3.0  # one standard deviation of a prior's LR; published laws differ by 2 to 7 from one another
EXPONENT_WIDTH = 0.5  # published exponents of N lie in -.7 to -.1, of D in -.35 to .3
CURVATURE_WIDTH, CURVATURE_EXPONENT_WIDTH = 0.7, 0.3  # of its logarithm, and of its exponents
SCATTER = 0.15  # of ln LR_opt of single cells about any law
FLAT = 1.0  # nats: deviation of the lowest loss of a cell
ROUNDS = 6  # of weighing the runs anew
STEP = 1e-5


@dataclass(frozen=True)
class Prior:
    """Gaussian prior of a peak-LR surface.

    Parameters
    ----------
    form : of the optimum, name in `lehr.peaklr.location.FORMS`.
    centre : value of each covariate about which it is written.
    mean, deviation : of the form's coefficients, of ln curvature (constant and exponents), of ln p and ln q, shape (p,).
    """

    form: str
    centre: Mapping[str, float]
    mean: np.ndarray
    deviation: np.ndarray

    @property
    def placed(self) -> int:
        """Number of coefficients of the optimum."""
        return len(get_form(self.form).labels)

    def logs(self, table: SweepTable) -> dict[str, np.ndarray]:
        """Logarithms of the covariates of runs over the centre, shape (n,) each."""
        values = {"params": table.active, "tokens": table.tokens, "sparsity": table.params / table.active}
        if table.batch_tokens is not None:
            values["batch"] = table.batch_tokens
        return {name: np.log(values[name] / middle) for name, middle in self.centre.items()}

    def logs_of(self, place: Planned) -> dict[str, np.ndarray]:
        """The same of one planned run, shape (1,)."""
        values = {
            "params": place.used,
            "tokens": place.tokens,
            "sparsity": place.params / place.used,
            "batch": place.batch,
        }
        for name in self.centre:
            if values[name] is None:
                raise InputError(
                    "the runs differ in batch size: give that of the target (--batch, in tokens)."
                )
        return {name: np.log([values[name] / middle]) for name, middle in self.centre.items()}

    def location(self, at: np.ndarray, logs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Ln LR_opt by the parameters `at`, shape (n,)."""
        return evaluate(get_form(self.form), at[: self.placed], logs)

    def bend(self, at: np.ndarray, logs: Mapping[str, np.ndarray]) -> np.ndarray:
        """Curvature by the parameters `at`, shape (n,), nats."""
        terms = at[self.placed + 1 : -2]
        total = at[self.placed] + sum(c * logs[name] for c, name in zip(terms, bends(logs), strict=True))
        return np.exp(np.clip(total, -15, 5)) * np.ones_like(logs["tokens"])

    def height(self, at: np.ndarray, logs: Mapping[str, np.ndarray], lr: np.ndarray) -> np.ndarray:
        """Loss of runs above the bottom of their valley, shape (n,), nats; `lr` is ln LR."""
        fall, rise = np.exp(np.clip(at[-2:], *STEEPEST))
        return self.bend(at, logs) * valley_shape(lr - self.location(at, logs), fall, rise)

    def jacobian(self, at: np.ndarray, logs: Mapping[str, np.ndarray], lr: np.ndarray) -> np.ndarray:
        """Derivative of `height` by the parameters, shape (n, p)."""
        base = self.height(at, logs, lr)
        return np.stack(
            [(self.height(at + step, logs, lr) - base) / STEP for step in STEP * np.eye(at.size)], axis=1
        )


def bends(covariates: Mapping[str, object]) -> list[str]:
    """Covariates that the curvature depends on."""
    return [name for name in ("params", "tokens", "batch") if name in covariates]


def make_prior(
    runs: SweepTable, law: str | float, target: Planned | None = None, factor: float = PRIOR_FACTOR
) -> Prior:
    """Make the prior of a sweep.

    Parameters
    ----------
    runs : that could be done; their losses are not read.
    law : name of a published law with a prefactor, or the LR held best at `target`, all sizes and tokens alike.
    target : the planned run; needed for an LR alone.
    factor : by which the law's LR may be wrong, one standard deviation.

    Raises
    ------
    InputError
        If the law gives no LR here.
    """
    values = {"params": runs.active, "tokens": runs.tokens, "sparsity": runs.params / runs.active}
    if runs.batch_tokens is not None:
        values["batch"] = runs.batch_tokens
    centre = {name: float(np.exp(np.mean(np.log(np.unique(column))))) for name, column in values.items()}
    logs = {name: np.log(column / centre[name]) for name, column in values.items()}
    forms = ("surge+sparsity", "surge", "size+sparsity", "size", "tokens")
    form = next((name for name in forms if unidentified(get_form(name), logs, "runs") is None), "constant")
    known = get_form(form)
    kept = {name: centre[name] for name in ("params", "tokens", *known.covariates)}
    place = [centre["params"] * centre["sparsity"], centre["tokens"], centre["params"]]
    level, slopes = _expand(law, place)
    exponents = [slopes.get(name, 0.0) for name in known.linear]
    surge = tuple(zip(*SURGE_PRIOR, strict=True)) if known.surge else ((), ())
    count = len(bends(kept))
    mean = [level, *exponents, *surge[0], np.log(CURVATURE_START), *[0.0] * count, *PRIOR_CENTRE]
    deviation = [
        np.log(factor), *[EXPONENT_WIDTH] * len(exponents), *surge[1],
        CURVATURE_WIDTH, *[CURVATURE_EXPONENT_WIDTH] * count, PRIOR_WIDTH, PRIOR_WIDTH,
    ]  # fmt: skip
    return Prior(form, kept, np.array(mean), np.array(deviation))


def _expand(law: str | float, place: list[float]) -> tuple[float, dict[str, float]]:
    """Ln LR of a law at (params, tokens, active), and its derivatives by the logarithms."""
    if not isinstance(law, str):
        return float(np.log(law)), {}
    published = LAWS[law]

    def value(params: float, tokens: float, active: float) -> float:
        found = published.lr.value(Planned(params, tokens, active), published.of_total)
        if found <= 0:
            raise InputError(f"the prior {law!r} gives no LR above 0 at {active:.3g} parameters: give an LR.")
        return float(np.log(found))

    params, tokens, active = place
    more, level = np.exp(STEP), value(*place)
    return level, {
        "params": (value(params * more, tokens, active * more) - level) / STEP,
        "tokens": (value(params, tokens * more, active) - level) / STEP,
        "sparsity": (value(params * more, tokens, active) - level) / STEP,
    }


@dataclass(frozen=True)
class Posterior:
    """Gaussian knowledge of a surface after some runs.

    Parameters
    ----------
    prior : what was known before.
    mean : most likely parameters, shape (p,), in the order of the prior's.
    covariance : theirs, shape (p, p).
    runs : number of runs that it rests on.
    misfit : variance of the residuals in units of that expected.
    """

    prior: Prior
    mean: np.ndarray
    covariance: np.ndarray
    runs: int
    misfit: float

    def predict(self, place: Planned, level: float = 0.9) -> LrPrediction:
        """Best peak LR of a planned run, with the interval of its own optimum: the law's error and `SCATTER`."""
        from scipy.stats import norm  # slow to load

        value = float(self.prior.location(self.mean, self.prior.logs_of(place))[0])
        half = float(norm.ppf(0.5 + level / 2)) * float(np.sqrt(self.variance(place) + SCATTER**2))
        low, middle, high = np.exp([value - half, value, value + half]).tolist()
        return LrPrediction(middle, low, high)

    def variance(self, place: Planned) -> float:
        """Variance of ln LR_opt of a planned run by the error of the law alone."""
        slope = location_slope(self.prior, self.mean, self.prior.logs_of(place))
        return float(slope @ self.covariance @ slope)

    def expected_excess(self, place: Planned, variance: float | None = None) -> float:
        """Loss expected to be lost by the error of the law alone, or by the `variance` given, nats."""
        spread = self.variance(place) if variance is None else variance
        fall, rise = np.exp(np.clip(self.mean[-2:], *STEEPEST))
        bend = float(self.prior.bend(self.mean, self.prior.logs_of(place))[0])
        # V averaged over a Gaussian of that variance
        down, up = np.expm1(np.minimum(np.array([fall, rise]) ** 2 * spread / 2, 50.0))
        return bend * float((rise * down + fall * up) / (fall * rise * (fall + rise)))


def location_slope(prior: Prior, at: np.ndarray, logs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Derivative of ln LR_opt of one run by all parameters, shape (p,)."""
    base = prior.location(at, logs)[0]
    return np.array([(prior.location(at + step, logs)[0] - base) / STEP for step in STEP * np.eye(at.size)])


def slopes_of(prior: Prior, at: np.ndarray, logs: Mapping[str, np.ndarray], lr: np.ndarray) -> np.ndarray:
    """Derivative of `Prior.height` by ln LR_opt, shape (n,), nats."""
    return (prior.height(at, logs, lr - STEP) - prior.height(at, logs, lr + STEP)) / (2 * STEP)


def fit_posterior(prior: Prior, done: SweepTable | None, noise: float = NOISE) -> Posterior:
    """Update the prior by runs that ended.

    Parameters
    ----------
    prior : what was known before.
    done : the runs; those alone in their cell say nothing yet. None: no run.
    noise : standard deviation of a final loss, as a share of it.
    """
    spread = np.diag(prior.deviation**2)
    if done is None:
        return Posterior(prior, prior.mean, spread, 0, 1.0)
    rows = _Rows(prior, done, noise)
    at, weight = prior.mean, np.ones_like(rows.variance)
    for _ in range(ROUNDS):
        whiten = rows.whitening(at, weight)
        at = rows.solve(at, whiten)
        # the part of the residual that is noise, over its deviation: large ones count less, as in the surface
        own = rows.apply(whiten.swapaxes(1, 2), rows.apply(whiten, rows.residual(at)))
        weight = np.sqrt(1 + (np.sqrt(rows.variance * weight) * own / ROBUST) ** 2)
    whiten = rows.whitening(at, weight)
    used = np.einsum("css->cs", whiten) > 0
    badness = float(np.sum(rows.apply(whiten, rows.residual(at)) ** 2))
    freedom = max(int(used.sum()) - int(used.any(axis=1).sum()) - at.size, 0)
    misfit = (NOISE_FREEDOM + badness) / (NOISE_FREEDOM + freedom)
    slope = rows.slopes(at, whiten)
    information = slope.T @ slope / max(misfit, 1.0) + np.diag(prior.deviation**-2)
    return Posterior(prior, at, np.linalg.inv(information), len(done), misfit)


def slots_of(cell: np.ndarray) -> np.ndarray:
    """Place of each run among those of its cell, shape (n,), from 0."""
    order = np.argsort(cell, kind="stable")
    slot = np.empty_like(cell)
    slot[order] = np.arange(cell.size) - np.searchsorted(cell[order], cell[order])
    return slot


class _Rows:
    """Runs that ended, in arrays (cells, slots); slots without a run have no weight."""

    def __init__(self, prior: Prior, done: SweepTable, noise: float) -> None:
        self.prior, self.logs, self.lr = prior, prior.logs(done), np.log(done.lr)
        cell = done.group_numbers(by_batch=True)
        self.at = (cell, slots_of(cell))
        self.shape = (int(cell.max()) + 1, int(self.at[1].max()) + 1)
        loss = self._arrange(done.loss, np.nan)
        ended = np.isfinite(loss)
        low = np.where(ended, loss, np.inf).min(axis=1, keepdims=True)
        # cells in which every run diverged have no loss to compare with
        self.there = self._arrange(np.ones(len(done)), 0.0).astype(bool) & np.isfinite(low)
        low = np.where(np.isfinite(low), low, 1.0)
        height = np.where(ended, loss, np.inf) - low
        self.least = height > CUT  # these are at least so high
        self.height = np.where(self.least, CUT, height)
        self.variance = (NOISE_FACTOR * noise * low) ** 2 + (FORM_ERROR * self.height) ** 2

    def _arrange(self, values: np.ndarray, empty: float) -> np.ndarray:
        """Put values of the runs, shape (n, ...), in their slots, shape (cells, slots, ...)."""
        out = np.full((*self.shape, *values.shape[1:]), empty)
        out[self.at] = values
        return out

    @staticmethod
    def apply(whiten: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Multiply every cell's values, shape (cells, slots), by its matrix."""
        return (whiten @ values[..., None])[..., 0]

    def residual(self, at: np.ndarray) -> np.ndarray:
        """Measured less modelled height, shape (cells, slots), the lowest loss of each cell left out."""
        return self.height - self._arrange(self.prior.height(at, self.logs, self.lr), 0.0)

    def slopes(self, at: np.ndarray, whiten: np.ndarray) -> np.ndarray:
        """Derivative of the whitened heights by the parameters, shape (cells x slots, p)."""
        slope = whiten @ self._arrange(self.prior.jacobian(at, self.logs, self.lr), 0.0)
        return slope.reshape(-1, at.size)

    def whitening(self, at: np.ndarray, weight: np.ndarray) -> np.ndarray:
        """Matrix of every cell that turns residuals into independent ones of variance 1, shape (cells, slots, slots).

        The noise of a run has `weight` times its variance. Rows of runs that say nothing are 0.
        """
        shift = SCATTER * self._arrange(slopes_of(self.prior, at, self.logs, self.lr), 0.0)
        residual = self.residual(at)
        lowest = np.argmin(np.where(self.there, self.height, np.inf), axis=1)[:, None]
        bottom = np.take_along_axis(residual, lowest, axis=1)
        used = self.there & ~(self.least & (residual < bottom))
        both = used[:, :, None] & used[:, None, :]
        spread = np.where(both, FLAT**2 + shift[:, :, None] * shift[:, None, :], 0.0)
        every = np.arange(self.shape[1])
        spread[:, every, every] += np.where(used, self.variance * weight, 1.0)
        return np.where(both, np.linalg.inv(np.linalg.cholesky(spread)), 0.0)

    def solve(self, begin: np.ndarray, whiten: np.ndarray) -> np.ndarray:
        """Most likely parameters with that whitening."""
        from scipy.optimize import least_squares  # slow to load

        prior = self.prior

        def residual(at: np.ndarray) -> np.ndarray:
            own = self.apply(whiten, self.residual(at)).ravel()
            return np.concatenate([own, (at - prior.mean) / prior.deviation])

        def jacobian(at: np.ndarray) -> np.ndarray:
            return np.concatenate([-self.slopes(at, whiten), np.diag(1 / prior.deviation)])

        return least_squares(residual, begin, jacobian, x_scale=prior.deviation, max_nfev=30).x
