"""The peak-LR law: how the optimum moves with size, tokens and batch, and its prediction with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, bad
from lehr.peaklr.location import LocationForm, evaluate, formula, get_form, require_identified, slopes, start
from lehr.peaklr.optima import Optimum, covariates_of
from lehr.quantiles import student_half

DRAWS = 200
ROUNDS = 6  # of weights and scatter, which settle by then
HUBER = 1.5  # standard deviations beyond which an optimum counts less
UNKNOWN = 0.1  # scatter where there are no more optima than coefficients
LEAST = 1e-3  # scatter that optima are weighed by, even if they lie on the law
FAR = 1.5  # factor beyond a measured range that a prediction remarks on


@dataclass(frozen=True)
class LrPrediction:
    """A best peak LR with its interval, and the measured ranges that the question leaves."""

    lr: float
    low: float
    high: float
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class LrLaw:
    """A fitted peak-LR law.

    Parameters
    ----------
    form : name in `lehr.peaklr.location.FORMS`.
    coefficients : in the order of the form's labels, of covariates over `centre`.
    draws : bootstrapped coefficients.
    scatter : standard deviation of ln LR_opt of groups about the law: of a surface beyond their own noise, of optima
        with it, since what their deviations leave of so few cannot be told from nothing.
    centre : geometric mean of each covariate over the groups.
    ranges : smallest and largest of each covariate measured.
    groups : number of groups or optima fitted.
    source : "optima" of the groups one by one, or one "surface" through all runs.
    """

    form: str
    coefficients: tuple[float, ...]
    draws: tuple[tuple[float, ...], ...]
    scatter: float
    centre: Mapping[str, float]
    ranges: Mapping[str, tuple[float, float]]
    groups: int
    source: str = "optima"

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the coefficients."""
        return get_form(self.form).labels

    @property
    def formula(self) -> str:
        """The law written out."""
        return formula(get_form(self.form), self.coefficients, self.centre)

    @property
    def uses_batch(self) -> bool:
        """Whether the batch size enters."""
        return "batch" in get_form(self.form).covariates

    def predict(
        self, params: float, tokens: float, batch: float | None = None, active: float | None = None,
        level: float = 0.9,
    ) -> LrPrediction:  # fmt: skip
        """Best peak LR of a planned run.

        Parameters
        ----------
        params : all parameters but embeddings.
        tokens : tokens it trains on.
        batch : tokens of one update.
        active : parameters a token passes through; None for a dense model.
        level : of the interval, which is that of a new group's optimum.

        Raises
        ------
        InputError
            If a number is not above 0, the level is no probability, or the law needs the batch and it is not given.
        """
        if not 0 < level < 1:
            raise bad("level", "must lie between 0 and 1", level, "give a probability, such as 0.9")
        logs, remarks = self._logs(params, tokens, batch, active)
        form = get_form(self.form)
        value = float(evaluate(form, np.array(self.coefficients), logs)[0])
        drawn = np.array([evaluate(form, np.array(draw), logs)[0] for draw in self.draws])
        free = max(self.groups - len(self.coefficients), 1)
        # residuals of a fit, on which the draws rest, are smaller than errors by the freedom that it took
        variance = float(np.mean((drawn - value) ** 2)) * self.groups / free if drawn.size else 0.0
        half = student_half(level, free) * float(np.sqrt(variance + self.scatter**2))
        low, middle, high = np.exp([value - half, value, value + half]).tolist()
        return LrPrediction(middle, low, high, remarks)

    def _logs(
        self, params: float, tokens: float, batch: float | None, active: float | None
    ) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
        """Logarithms of the covariates over the centre, shape (1,), and remarks on what lies far out."""
        for name, given in (("params", params), ("tokens", tokens), ("batch", batch), ("active", active)):
            if given is not None and not 0 < given < np.inf:
                raise bad(name, "must be above 0", given, "give a finite count")
        if active is not None and active > params:
            raise bad("active", f"must not exceed the {params:g} parameters", active, "swap the two")
        if batch is None and self.uses_batch:
            raise InputError(
                f"a law of form {self.form!r} uses the batch size: give it (--batch, in tokens)."
            )
        used = active or params
        values = {"params": used, "tokens": tokens, "sparsity": params / used}
        if batch is not None:
            values["batch"] = batch
        remarks = [
            f"{name} {values[name]:.3g} lies beyond the measured {low:.3g} to {high:.3g}"
            for name, (low, high) in self.ranges.items()
            if name in get_form(self.form).covariates and not low / FAR <= values[name] <= high * FAR
        ]
        logs = {name: np.log([values[name] / self.centre[name]]) for name in values if name in self.centre}
        return logs, tuple(remarks)


def fit_lr_law(optima: Sequence[Optimum], form: str = "size", draws: int = DRAWS, seed: int = 0) -> LrLaw:
    """Fit ln LR_opt over measured optima, each by its own deviation and the scatter that they share.

    Parameters
    ----------
    optima : measured ones (`measure_optima`), or made by hand.
    form : one of `lehr.peaklr.location.FORMS`.
    draws : bootstrap draws: each weighs the optima anew (Rubin's Bayesian bootstrap).
    seed : of the draws.

    Raises
    ------
    InputError
        If the form is unknown or the optima do not identify it.
    """
    known = get_form(form)
    logs, centre, ranges = covariates_of(optima)
    require_identified(known, logs)
    y = np.log([optimum.lr for optimum in optima])
    own = np.array([optimum.deviation for optimum in optima])
    scatter, best = UNKNOWN, start(known, float(y.mean()))
    for _ in range(ROUNDS):
        best = _solve(known, logs, y, np.hypot(own, max(scatter, LEAST)), np.ones_like(y), best)
        scatter = scatter_of(y - evaluate(known, best, logs), own, len(best))
    spread = np.hypot(own, max(scatter, LEAST))
    generator = np.random.default_rng(seed)
    drawn = [_solve(known, logs, y, spread, generator.exponential(size=y.size), best) for _ in range(draws)]
    whole = scatter_of(y - evaluate(known, best, logs), np.zeros_like(own), len(best))
    coefficients = tuple(tuple(draw.tolist()) for draw in drawn)
    return LrLaw(form, tuple(best.tolist()), coefficients, whole, centre, ranges, len(y))


def _solve(
    form: LocationForm, logs: Mapping[str, np.ndarray], y: np.ndarray, spread: np.ndarray, weights: np.ndarray,
    begin: np.ndarray,
) -> np.ndarray:  # fmt: skip
    """Robust weighted least squares for the coefficients, shape (m,)."""
    from scipy.optimize import least_squares  # slow to load

    scale = np.sqrt(weights) / spread

    def residual(coefficients: np.ndarray) -> np.ndarray:
        return (y - evaluate(form, coefficients, logs)) * scale

    def jacobian(coefficients: np.ndarray) -> np.ndarray:
        return -slopes(form, coefficients, logs) * scale[:, None]

    return least_squares(residual, begin, jacobian, loss="huber", f_scale=HUBER).x


def scatter_of(residual: np.ndarray, own: np.ndarray, coefficients: int) -> float:
    """Standard deviation beyond the optima's own that makes the residuals as large as they are."""
    free = residual.size - coefficients
    if free < 1:
        return UNKNOWN
    low, high = 0.0, 2.0
    for _ in range(40):
        middle = (low + high) / 2
        if np.sum(residual**2 / (own**2 + middle**2)) > free:
            low = middle
        else:
            high = middle
    return high
