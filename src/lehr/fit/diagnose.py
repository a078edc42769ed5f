"""How far a fit can be trusted: where it errs, how its errors hang together, and what the runs tell.

Identifiability is read off the Jacobian in search coordinates with columns of length 1 (Belsley, Kuh and
Welsch, Regression Diagnostics, 1980): its condition number, and the combination of parameters the runs
tell least. Pairs are those whose estimates, priors included, move together.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lehr.fit.bias import Bias, find_biases, repeat_error
from lehr.fit.linearised import Linearised, reopen
from lehr.fit.noise import Noise, estimate_noise
from lehr.fit.profile import Profile, profile, spread
from lehr.fit.result import FitResult
from lehr.runs.run import Run

TOGETHER = 0.95  # correlation from which two parameters count as nearly collinear
PART = 0.3  # load from which a parameter belongs to the combination told least
KINDS = {"step": "at steps", "lr": "at LRs", "phase": "in the phase"}


@dataclass(frozen=True)
class Diagnosis:
    """What a fit's residuals and its Jacobian say of it.

    Parameters
    ----------
    law : name of the law.
    noise : of the relative residuals along a curve.
    autocorrelation : of successive residuals, pooled over the runs.
    repeat_error : by how much two runs of one schedule are taken to differ, a share of the loss.
    biases : by "step", "lr" and "phase".
    condition : condition number of the scaled Jacobian of the runs alone.
    weakest : combination of parameters (direction of length 1, scaled) that the runs tell least: its larger parts.
    pairs : parameters whose estimates move together, with their correlation.
    profiles : intervals of the parameters, with and without priors.
    by_priors : parameters that only the priors tell.
    notes : what of this the reader should know first.
    """

    law: str
    noise: Noise
    autocorrelation: float
    repeat_error: float
    biases: Mapping[str, tuple[Bias, ...]]
    condition: float
    weakest: Mapping[str, float]
    pairs: tuple[tuple[str, str, float], ...]
    profiles: tuple[Profile, ...]
    by_priors: tuple[str, ...]
    notes: tuple[str, ...]


def diagnose(result: FitResult, runs: Iterable[Run], level: float = 0.9) -> Diagnosis:
    """Diagnose `result`, a fit of `runs`, with parameter intervals of probability `level`.

    Raises
    ------
    InputError
        If the level is out of range, or the runs are not those of the fit.
    """
    runs = tuple(runs)
    profiles = profile(result, runs, level)
    fit = reopen(result, runs)
    noise, ceiling = estimate_noise(fit), repeat_error(fit, runs)
    biases = find_biases(fit, runs, noise)
    condition, weakest = _weakest(fit)
    return Diagnosis(
        result.law, noise, _successive(fit), ceiling, biases, condition, weakest, _pairs(fit, noise), profiles,
        tuple(p.name for p in profiles if p.by_prior), tuple(_notes(noise, ceiling, biases, profiles)),
    )  # fmt: skip


def _successive(fit: Linearised) -> float:
    """Correlation of successive residuals within runs, taken about 0; NaN if no run has two points."""
    standard = fit.point.residual * np.sqrt(fit.problem.weight)
    product = sum(float(standard[rows][1:] @ standard[rows][:-1]) for rows in fit.problem.rows)
    square = sum(
        0.5 * float(standard[rows][1:] @ standard[rows][1:] + standard[rows][:-1] @ standard[rows][:-1])
        for rows in fit.problem.rows
    )
    return product / square if square > 0 else float("nan")


def _weakest(fit: Linearised) -> tuple[float, dict[str, float]]:
    """Condition number of the scaled Jacobian, and the larger parts of its weakest direction."""
    weighted = fit.jacobian * np.sqrt(fit.bend)[:, None]
    size = np.linalg.norm(weighted, axis=0)
    _, values, directions = np.linalg.svd(weighted / np.where(size > 0, size, 1.0), full_matrices=False)
    last = directions[-1] * np.sign(directions[-1][np.argmax(np.abs(directions[-1]))])
    order = np.argsort(-np.abs(last))
    parts = {fit.names[i]: float(last[i]) for i in order if abs(last[i]) >= PART}
    return float(values[0] / max(values[-1], 1e-300)), parts


def _pairs(fit: Linearised, noise: Noise) -> tuple[tuple[str, str, float], ...]:
    """Parameters whose estimates are correlated by `TOGETHER` or more, the closest first."""
    covariance = spread(fit, noise)
    size = np.sqrt(np.maximum(np.diag(covariance), 1e-300))
    correlation = covariance / np.outer(size, size)
    found = [
        (fit.names[i], fit.names[j], float(correlation[i, j]))
        for i, j in itertools.combinations(range(len(size)), 2)
        if abs(correlation[i, j]) >= TOGETHER
    ]
    return tuple(sorted(found, key=lambda pair: -abs(pair[2])))


def _notes(
    noise: Noise, ceiling: float, biases: Mapping[str, tuple[Bias, ...]], profiles: tuple[Profile, ...]
) -> list[str]:
    notes = []
    if noise.slow > ceiling:
        notes.append(
            f"the residuals wander by {noise.slow:.2%} of the loss, more than the {ceiling:.2%} that runs of one "
            "schedule differ by: the law misses these runs, or they differ more than that; repeat a run to tell."
        )
    for kind, rows in biases.items():
        for row in rows:
            if row.significant:
                way = "high" if row.bias > 0 else "low"
                notes.append(
                    f"{KINDS[kind]} {row.part} the law is {abs(row.bias):.2%} too {way} "
                    f"({abs(row.deviations):.1f} standard deviations of the noise)."
                )
    for p in profiles:
        if p.by_prior:
            notes.append(f"{p.name} rests on its prior: the runs alone do not tell it better.")
        if p.data is not None and not p.data.low <= p.value <= p.data.high:
            notes.append(
                f"{p.name}: the runs alone say {p.data.low:.4g} .. {p.data.high:.4g}, priors hold it at {p.value:.4g}."
            )
    return notes
