"""How ln LR_opt may depend on size, tokens and batch: the forms that a peak-LR law can take.

With n, d, b, s the logarithms of active parameters, tokens, batch (tokens) and sparsity (all over active parameters):

    constant   c
    tokens     c + b d
    size       c + a n + b d                                Bjorck et al., arXiv 2409.19913; arXiv 2601.05049, eq. 6
    batch      c + a n + b d + e b                          likewise, with a power of the batch
    surge      c + a n + b d - ln cosh((b - m - g d) / 2)   the LR grows as sqrt(B) up to a batch e^m D^g, then falls

and `sparsity` variants of the last three with a term in s. The surge is that of Adam-like optimisers, LR_max /
((sqrt(B_noise/B) + sqrt(B/B_noise)) / 2) (Li et al., arXiv 2405.14578), with the noise scale a power of D.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, unknown

COVARIATES = ("params", "tokens", "batch", "sparsity")
VARIED = 1.2  # least ratio of largest to smallest of a covariate whose exponent is fitted
SURGE_START = (1.0, 0.5)  # ln of the noise scale over the geometric mean batch, and its exponent of D


@dataclass(frozen=True)
class LocationForm:
    """A form: which covariates enter linearly, and whether the batch enters by the surge."""

    name: str
    linear: tuple[str, ...]
    surge: bool = False

    @property
    def covariates(self) -> tuple[str, ...]:
        """All covariates that it needs."""
        return (*self.linear, "batch") if self.surge else self.linear

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of its coefficients."""
        return ("constant", *self.linear, *(("surge_batch", "surge_tokens") if self.surge else ()))


FORMS: dict[str, LocationForm] = {
    form.name: form
    for form in (
        LocationForm("constant", ()),
        LocationForm("tokens", ("tokens",)),
        LocationForm("size", ("params", "tokens")),
        LocationForm("size+sparsity", ("params", "tokens", "sparsity")),
        LocationForm("batch", ("params", "tokens", "batch")),
        LocationForm("batch+sparsity", ("params", "tokens", "batch", "sparsity")),
        LocationForm("surge", ("params", "tokens"), surge=True),
        LocationForm("surge+sparsity", ("params", "tokens", "sparsity"), surge=True),
    )
}


def get_form(name: str) -> LocationForm:
    """Return the form called `name`; an unknown name raises with the nearest one."""
    if name not in FORMS:
        raise unknown("form of a peak-LR law", name, FORMS)
    return FORMS[name]


def evaluate(form: LocationForm, coefficients: np.ndarray, logs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Evaluate ln LR_opt.

    Parameters
    ----------
    form : the form, with m coefficients.
    coefficients : shape (m,), in the order of `form.labels`.
    logs : logarithm of each covariate over the law's centre, shape (n,) each.

    Returns
    -------
    ln LR_opt, shape (n,).
    """
    out = coefficients[0] + sum(
        (c * logs[name] for c, name in zip(coefficients[1:], form.linear, strict=False)),
        np.zeros_like(logs["tokens"]),
    )
    if form.surge:
        noise_scale = coefficients[-2] + coefficients[-1] * logs["tokens"]
        half = (logs["batch"] - noise_scale) / 2
        out = out - (np.logaddexp(half, -half) - np.log(2))
    return out


def slopes(form: LocationForm, coefficients: np.ndarray, logs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Derivative of ln LR_opt by the coefficients, shape (n, m); arguments as of `evaluate`."""
    columns = [np.ones_like(logs["tokens"]), *(logs[name] for name in form.linear)]
    if form.surge:
        lean = np.tanh((logs["batch"] - coefficients[-2] - coefficients[-1] * logs["tokens"]) / 2) / 2
        columns += [lean, lean * logs["tokens"]]
    return np.stack(columns, axis=1)


def start(form: LocationForm, level: float) -> np.ndarray:
    """Coefficients to begin a search with: no trend about `level`."""
    return np.array([level, *(0.0 for _ in form.linear), *(SURGE_START if form.surge else ())])


def unidentified(form: LocationForm, logs: Mapping[str, np.ndarray], what: str = "optima") -> str | None:
    """Say why the covariates of n points, shape (n,) each, do not identify the form; None if they do."""
    for name in form.covariates:
        if name not in logs:
            return f"the {what} do not tell their {name}"
        if np.ptp(logs[name]) < np.log(VARIED):
            return f"the {what} share one {name}, so that its exponent is not identified"
    columns = [logs[name] - logs[name].mean() for name in form.linear]
    design = np.stack(
        [np.ones(len(logs["tokens"])), *(column / np.ptp(column) for column in columns)], axis=1
    )
    if len(design) < len(form.labels):
        return f"{len(design)} {what} cannot tell the {len(form.labels)} coefficients of the form"
    if np.linalg.svd(design, compute_uv=False)[-1] < 0.05:
        return (
            f"the {what} vary {' and '.join(form.linear)} in step, so that their exponents are not identified"
        )
    return None


def require_identified(form: LocationForm, logs: Mapping[str, np.ndarray], what: str = "optima") -> None:
    """Raise where `unidentified` has a reason.

    Raises
    ------
    InputError
        With the reason and the remedy.
    """
    reason = unidentified(form, logs, what)
    if reason is not None:
        raise InputError(f"form {form.name!r} cannot be fitted: {reason}; take a simpler form or add runs.")


_SYMBOLS = {"params": "N", "tokens": "D", "batch": "B", "sparsity": "S"}


def formula(
    form: LocationForm, coefficients: Sequence[float], centre: Mapping[str, float], what: str = "LR"
) -> str:
    """Write a law out: N active parameters, D tokens, B batch in tokens, S all over active parameters.

    >>> formula(FORMS["tokens"], (-6.0, 0.3), {"tokens": 1e10})
    'LR = 2.479e-06 D^+0.300'
    """
    constant = coefficients[0]
    powers = []
    for name, exponent in zip(form.linear, coefficients[1:], strict=False):
        constant -= exponent * np.log(centre[name])
        powers.append(f"{_SYMBOLS[name]}^{exponent:+.3f}")
    text = " ".join([f"{what} = {np.exp(constant):.4g}", *powers])
    if form.surge:
        middle, exponent = coefficients[-2:]
        scale = np.exp(middle + np.log(centre["batch"]) - exponent * np.log(centre["tokens"]))
        text += f" / cosh(ln(B / ({scale:.4g} D^{exponent:+.3f})) / 2)"
    return text
