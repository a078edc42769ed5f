"""The peak-LR law: how the optimum moves with size, tokens and batch, and its prediction with an interval."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, bad
from lehr.peaklr.location import LocationForm, evaluate, formula, get_form, require_identified, start
from lehr.peaklr.optima import Optimum, covariates_of

DRAWS = 200
HUBER = 1.5  # standard deviations beyond which an optimum counts less
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
    scatter : standard deviation of ln LR_opt of groups about the law, beyond their own noise.
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
            If a number is not above 0, or the law needs the batch and it is not given.
        """
        from scipy.stats import t  # slow to load

        logs, remarks = self._logs(params, tokens, batch, active)
        form = get_form(self.form)
        value = float(evaluate(form, np.array(self.coefficients), logs)[0])
        drawn = np.array([evaluate(form, np.array(draw), logs)[0] for draw in self.draws])
        free = max(self.groups - len(self.coefficients), 1)
        # residuals of a fit, on which the draws rest, are smaller than errors by the freedom that it took
        variance = float(np.mean((drawn - value) ** 2)) * self.groups / free if drawn.size else 0.0
        half = float(t.ppf(0.5 + level / 2, free)) * float(np.sqrt(variance + self.scatter**2))
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
    scatter = 0.1
    weights = np.ones_like(y)
    for _ in range(8):
        best = _solve(known, logs, y, np.hypot(own, scatter), weights)
        scatter = scatter_of(y - evaluate(known, best, logs), own, len(best))
    spread = np.hypot(own, scatter)
    generator = np.random.default_rng(seed)
    drawn = [_solve(known, logs, y, spread, generator.exponential(size=y.size), best) for _ in range(draws)]
    return LrLaw(
        form,
        tuple(best.tolist()),
        tuple(tuple(draw.tolist()) for draw in drawn),
        scatter,
        centre,
        ranges,
        len(y),
    )


def _solve(
    form: LocationForm, logs: Mapping[str, np.ndarray], y: np.ndarray, spread: np.ndarray, weights: np.ndarray,
    begin: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    """Robust weighted least squares for the coefficients, shape (m,)."""
    from scipy.optimize import least_squares  # slow to load

    scale = np.sqrt(weights) / spread

    def residual(coefficients: np.ndarray) -> np.ndarray:
        return (y - evaluate(form, coefficients, logs)) * scale

    first = start(form, float(np.average(y, weights=scale**2))) if begin is None else begin
    return least_squares(residual, first, loss="huber", f_scale=HUBER).x


def scatter_of(residual: np.ndarray, own: np.ndarray, coefficients: int) -> float:
    """Standard deviation beyond the optima's own that makes the residuals as large as they are."""
    free = residual.size - coefficients
    if free < 1:
        return 0.1
    low, high = 0.0, 2.0
    for _ in range(40):
        middle = (low + high) / 2
        if np.sum(residual**2 / (own**2 + middle**2)) > free:
            low = middle
        else:
            high = middle
    return high
