"""How the best annealing ratio R moves with peak LR and steps: fitted forms, compared on hidden groups.

    power          ln R    = c + a ln eta + b ln T
    logistic       logit R = c + a ln(eta sqrt(T))
    logistic_free  logit R = c + a ln eta + b ln T

eta is the peak LR over 1e-3 and T counts 10,000 updates. `power` is the form of arXiv 2512.13705 (section
"optimal annealing ratio": R ~ eta^a and R ~ T^b), which leaves (0, 1) when extrapolated; the logistic
forms cannot. The groups are measured valleys (`lehr.anneal.valley`) or the optima of a fitted law.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lehr.anneal.ratio import recommend_ratio
from lehr.anneal.valley import Valley
from lehr.errors import InputError, unknown
from lehr.fit.result import FitResult
from lehr.quantiles import student_half

FORMS = ("logistic", "logistic_free", "power")  # the simplest first: ties go to it
REFERENCE_LR, REFERENCE_STEPS = 1e-3, 1e4
TIE = 0.005  # difference of mean |dR| on hidden groups below which forms are tied


@dataclass(frozen=True)
class Point:
    """A best ratio: where it was found, and its standard deviation in logit units."""

    peak: float
    steps: int
    ratio: float
    deviation: float = 0.0


@dataclass(frozen=True)
class RatioLaw:
    """A fitted form.

    Parameters
    ----------
    form : one of `FORMS`.
    coefficients : c, a (and b).
    covariance : of the coefficients, as nested tuples.
    scatter : standard deviation of groups about the form beyond their own noise, in its unit.
    groups : number of groups fitted.
    held_out_error : mean |dR| on groups left out one at a time.
    """

    form: str
    coefficients: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    scatter: float
    groups: int
    held_out_error: float

    def ratio(self, peak: float, steps: float, level: float = 0.9) -> tuple[float, float, float]:
        """Best ratio at a peak LR and number of steps, with the interval of a new group."""
        row = _rows(self.form, np.array([peak]), np.array([steps]))[0]
        value = float(row @ np.array(self.coefficients))
        variance = float(row @ np.array(self.covariance) @ row) + self.scatter**2
        free = max(self.groups - len(self.coefficients), 1)
        half = float(student_half(level, free) * np.sqrt(variance))
        low, middle, high = (float(_back(self.form, value + d)) for d in (-half, 0.0, half))
        return middle, low, high

    def trends(self, level: float = 0.9) -> dict[str, tuple[float, float, float]]:
        """Coefficients of ln(peak LR) and ln(steps) with their intervals: value, low, high."""
        turns = {"peak_lr": np.array([0.0, 1.0, 0.0]), "steps": np.array([0.0, 0.0, 1.0])}
        if self.form == "logistic":  # a ln(eta sqrt(T))
            turns = {"peak_lr": np.array([0.0, 1.0]), "steps": np.array([0.0, 0.5])}
        wide = student_half(level, max(self.groups - len(self.coefficients), 1))
        out = {}
        for name, turn in turns.items():
            value = float(turn @ np.array(self.coefficients))
            half = float(wide * np.sqrt(turn @ np.array(self.covariance) @ turn))
            out[name] = (value, value - half, value + half)
        return out


def to_points(valleys: Sequence[Valley]) -> tuple[Point, ...]:
    """Best ratios of measured valleys; those at an edge of their ratios are left out: they are bounds."""
    return tuple(Point(v.peak, v.steps, v.ratio, v.deviation) for v in valleys if not v.at_edge)


def law_points(
    result: FitResult, places: Sequence[tuple[float, int]], *, shape: str = "linear", final: float = 0.0,
    warmup: int | None = None, params: float | None = None,
) -> tuple[Point, ...]:  # fmt: skip
    """Best ratios that a fitted law tells at each of `places`, pairs of peak LR and steps."""
    points = []
    for peak, steps in places:
        told = recommend_ratio(
            result, steps=steps, peak=peak, shape=shape, final=final, warmup=warmup, params=params
        )
        low, high = (_logit(np.clip(r, 1e-3, 1 - 1e-3)) for r in (told.ratio_low, told.ratio_high))
        points.append(Point(peak, steps, told.ratio, float(high - low) / 3.29))  # 90 % of a normal
    return tuple(points)


def fit_ratio_law(groups: Sequence[Point | Valley], form: str | None = None) -> RatioLaw:
    """Fit `form` to best ratios, or the form with the smallest error on groups left out.

    Parameters
    ----------
    groups : best ratios, measured or told by a law; valleys with their optimum at an edge are left out.
    form : one of `FORMS`; the forms within .005 of the smallest error are tied, and the simplest is taken.

    Raises
    ------
    InputError
        If the groups cannot tell the form's coefficients: too few, or all at one peak LR or length.
    """
    points = to_points([g for g in groups if isinstance(g, Valley)])
    points += tuple(g for g in groups if isinstance(g, Point))
    if form is not None:
        return _fit(points, form)
    fitted, reasons = [], []
    for name in FORMS:
        try:
            fitted.append(_fit(points, name))
        except InputError as error:
            reasons.append(error)
    if not fitted:
        raise reasons[0]
    best = min(law.held_out_error for law in fitted)
    return next(law for law in fitted if law.held_out_error <= best + TIE)


def _fit(points: Sequence[Point], form: str) -> RatioLaw:
    if form not in FORMS:
        raise unknown("form of the ratio law", form, FORMS)
    peaks = np.array([p.peak for p in points])
    steps = np.array([p.steps for p in points], dtype=float)
    rows = _rows(form, peaks, steps)
    need = rows.shape[1] + 1
    if len(points) < need:
        raise InputError(
            f"form {form} needs the best ratio of at least {need} groups (peak LR, steps), got {len(points)}: "
            "run ratios at another peak LR or length."
        )
    if np.linalg.matrix_rank(rows - rows.mean(axis=0), tol=1e-6) < rows.shape[1] - 1:
        raise InputError(
            f"form {form} cannot be told from groups at {len(set(peaks.tolist()))} peak LR(s) and "
            f"{len(set(steps.tolist()))} length(s): add a group at another of each."
        )
    ratios = np.array([p.ratio for p in points])
    noise = np.array([p.deviation for p in points])
    if form == "power":  # d ln R = (1 - R) d logit R
        noise = noise * (1 - ratios)
    target = _forward(form, ratios)
    coefficients, covariance, scatter = _least_squares(rows, target, noise)
    errors = []
    for i in range(len(points)):
        keep = np.arange(len(points)) != i
        if np.linalg.matrix_rank(rows[keep], tol=1e-6) == rows.shape[1]:
            told = rows[i] @ _least_squares(rows[keep], target[keep], noise[keep])[0]
            errors.append(abs(float(_back(form, told)) - ratios[i]))
    return RatioLaw(
        form, tuple(coefficients.tolist()), tuple(map(tuple, covariance.tolist())), scatter, len(points),
        float(np.mean(errors)) if errors else float("inf"),
    )  # fmt: skip


def _least_squares(
    rows: np.ndarray, target: np.ndarray, noise: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """Weighted least squares; the scatter beyond the noise is that which brings chi-squared to its mean."""
    free = max(len(target) - rows.shape[1], 1)
    finite = noise[np.isfinite(noise)]
    noise = np.where(np.isfinite(noise), noise, 10 * max(float(finite.max(initial=0.0)), 0.1))

    def solve(scatter: float) -> tuple[np.ndarray, np.ndarray, float]:
        weight = 1 / (noise**2 + scatter**2 + 1e-8)
        covariance = np.linalg.inv(rows.T @ (rows * weight[:, None]))
        coefficients = covariance @ rows.T @ (weight * target)
        return coefficients, covariance, float(weight @ (target - rows @ coefficients) ** 2)

    low, high = 0.0, 10.0
    if solve(0.0)[2] > free:
        for _ in range(60):
            middle = 0.5 * (low + high)
            low, high = (middle, high) if solve(middle)[2] > free else (low, middle)
    else:
        high = 0.0
    coefficients, covariance, _ = solve(high)
    return coefficients, covariance, high


def _rows(form: str, peaks: np.ndarray, steps: np.ndarray) -> np.ndarray:
    x, y = np.log(peaks / REFERENCE_LR), np.log(steps / REFERENCE_STEPS)
    columns = [np.ones_like(x), x + 0.5 * y] if form == "logistic" else [np.ones_like(x), x, y]
    return np.stack(columns, axis=1)


def _logit(ratio: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(ratio / (1 - ratio)))


def _forward(form: str, ratio: np.ndarray) -> np.ndarray:
    ratio = np.clip(ratio, 1e-4, 1 - 1e-4)
    return np.asarray(np.log(ratio)) if form == "power" else _logit(ratio)


def _back(form: str, value: float) -> float:
    return float(min(np.exp(value), 1.0)) if form == "power" else float(1 / (1 + np.exp(-value)))
