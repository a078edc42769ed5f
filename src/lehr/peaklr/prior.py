"""What is held of the best LR before a sweep: a Gaussian prior of a peak-LR surface.

The surface is that of `lehr.peaklr.surface`, its optimum about that of a published law or an LR given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError
from lehr.peaklr.location import evaluate, get_form, unidentified
from lehr.peaklr.published import LAWS, Planned
from lehr.peaklr.shape import PRIOR_CENTRE, PRIOR_WIDTH, valley_shape
from lehr.peaklr.surface import CURVATURE_START, STEEPEST, SURGE_PRIOR
from lehr.peaklr.table import SweepTable

PRIOR_FACTOR = 3.0  # one standard deviation of a prior's LR; published laws differ by 2 to 7 from one another
EXPONENT_WIDTH = 0.5  # published exponents of N lie in -.7 to -.1, of D in -.35 to .3
CURVATURE_WIDTH, CURVATURE_EXPONENT_WIDTH = 0.7, 0.3  # of its logarithm, and of its exponents
STEP = 1e-5


@dataclass(frozen=True)
class Prior:
    """Gaussian prior of a peak-LR surface.

    Parameters
    ----------
    form : of the optimum, name in `lehr.peaklr.location.FORMS`.
    centre : value of each covariate about which it is written.
    mean, deviation : of the form's coefficients, of ln curvature (constant and exponents), ln p and ln q, shape (p,).
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
        values = {"params": place.used, "tokens": place.tokens, "sparsity": place.params / place.used}
        if place.batch is not None:
            values["batch"] = place.batch
        if "batch" in self.centre and place.batch is None:
            raise InputError("the runs differ in batch size: give that of the target (--target-batch).")
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


def location_slope(prior: Prior, at: np.ndarray, logs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Derivative of ln LR_opt of one run by all parameters, shape (p,)."""
    base = prior.location(at, logs)[0]
    return np.array([(prior.location(at + step, logs)[0] - base) / STEP for step in STEP * np.eye(at.size)])


def slopes_of(prior: Prior, at: np.ndarray, logs: Mapping[str, np.ndarray], lr: np.ndarray) -> np.ndarray:
    """Derivative of `Prior.height` by ln LR_opt, shape (n,), nats."""
    return (prior.height(at, logs, lr - STEP) - prior.height(at, logs, lr + STEP)) / (2 * STEP)
