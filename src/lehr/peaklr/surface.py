"""One surface through all runs of a sweep: shared trends of the optimum, the curvature and the asymmetry.

::

    L = L_min(group, batch) + curvature(N, D, B) V(ln eta - ln eta_opt(N, D, B))

with ln curvature linear in ln N, ln D and ln B, V of `lehr.peaklr.shape` and ln eta_opt of `lehr.peaklr.location`. The
lowest loss of every group and batch size is free, so that no law of the loss itself is needed. Fitting the runs and
not the optima uses groups whose own optimum is at an edge, and lets a noisy group borrow its curvature and asymmetry
from the others. A run counts with the variance noise^2 + (`FORM_ERROR` x height above its group's lowest loss)^2: the
surface is to be right near the bottom. A form without the batch is fitted to each group's best batch size alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError
from lehr.peaklr.law import DRAWS, LrLaw, scatter_of
from lehr.peaklr.location import LocationForm, evaluate, get_form, require_identified, start
from lehr.peaklr.optima import Optimum, check_unmixed, covariates_of
from lehr.peaklr.shape import PRIOR_CENTRE, PRIOR_WIDTH, valley_shape
from lehr.peaklr.table import SweepGroup, SweepTable
from lehr.peaklr.valley import FORM_ERROR, NOISE

CUT = 0.3  # nats above a group's lowest loss beyond which a run says nothing of the bottom
FEWEST_IN_CELL = 2  # runs of one group and batch: one only fixes its own lowest loss
ROBUST = 2.0  # standard deviations beyond which a run counts less
NOISE_FACTOR = 1.2  # of the noise of one run: the batches of a group share no seed
CURVATURE_START = 0.06  # nats
STEEPEST = (
    -4.0,
    2.0,
)  # least and largest ln p and ln q: what lies beyond is a search gone astray, and overflows
RIDGE = 0.1  # of the trends that the search starts with, in units of one cell
WIDE = 1.0  # standard deviation of the weak prior, about 0, of every exponent
SURGE_PRIOR = (
    (1.0, 2.0),
    (0.5, 0.5),
)  # centre and width: ln noise scale over the mean batch, its exponent of D


@dataclass(frozen=True)
class LrSurface:
    """A fitted surface.

    Parameters
    ----------
    law : of the optimum.
    fall, rise : exponents of the valley's form.
    curvature : coefficients of ln curvature: constant, params, tokens, and batch if it varies.
    noise : root mean square of the residuals near the bottom, nats.
    runs : number of runs used.
    """

    law: LrLaw
    fall: float
    rise: float
    curvature: tuple[float, ...]
    noise: float
    runs: int

    def excess(
        self, lr: float, params: float, tokens: float, batch: float | None = None, active: float | None = None
    ) -> float:
        """Loss that `lr` costs above the best of a planned run, nats; arguments as of `LrLaw.predict`."""
        best = self.law.predict(params, tokens, batch, active).lr
        centre, values = self.law.centre, {"params": active or params, "tokens": tokens, "batch": batch}
        logs = [np.log(value / centre[name]) for name, value in values.items() if value and name in centre]
        terms = [c * v for c, v in zip(self.curvature[1:], logs, strict=False)]
        bend = float(np.exp(self.curvature[0] + sum(terms)))
        return bend * float(valley_shape(np.array([np.log(lr / best)]), self.fall, self.rise)[0])


@dataclass(frozen=True)
class _Rows:
    """Runs of all groups, shape (n,) each: logs of covariates, ln LR, loss, cell and group numbers, deviation."""

    logs: Mapping[str, np.ndarray]
    lr: np.ndarray
    loss: np.ndarray
    cell: np.ndarray
    group: np.ndarray
    deviation: np.ndarray
    centre: Mapping[str, float]
    ranges: Mapping[str, tuple[float, float]]


def fit_surface(
    table: SweepTable, form: str = "surge", draws: int = DRAWS, seed: int = 0, noise: float = NOISE,
    symmetric: bool = False,
) -> LrSurface:  # fmt: skip
    """Fit one surface to all runs of a sweep.

    Parameters
    ----------
    table : the runs; diverged ones bound no surface and are passed over.
    form : one of `lehr.peaklr.location.FORMS`.
    draws : bootstrap draws: each weighs the groups anew (Rubin's Bayesian bootstrap).
    seed : of the draws.
    noise : standard deviation of a final loss, as a share of it.
    symmetric : hold the valley to the parabola.

    Raises
    ------
    InputError
        If the form is unknown, the groups do not identify it, or runs of one group, batch size and LR differ by what
        is no noise.
    """
    known = get_form(form)
    check_unmixed(table)
    rows = _rows(table, known, noise)
    problem = _Problem(known, rows, symmetric)
    best = problem.solve(problem.begin())
    generator = np.random.default_rng(seed)
    count = int(rows.group.max()) + 1
    drawn = [problem.solve(best, generator.exponential(size=count)) for _ in range(draws)]
    shifts, own = problem.shifts(best)
    scatter = scatter_of(shifts, own, len(known.labels))
    location = slice(0, len(known.labels))
    law = LrLaw(
        form, tuple(best[location].tolist()), tuple(tuple(draw[location].tolist()) for draw in drawn), scatter,
        rows.centre, rows.ranges, count, source="surface",
    )  # fmt: skip
    *bend, fall, rise = problem.parts(best)
    return LrSurface(law, fall, rise, tuple(bend), problem.noise(best), rows.loss.size)


def _rows(table: SweepTable, form: LocationForm, noise: float) -> _Rows:
    """Take the runs near the bottom of every group, and check that they identify the form."""
    cells: list[
        tuple[SweepTable, int, float]
    ] = []  # runs of a group and batch, group number, its lowest loss
    for number, group in enumerate(table.groups()):
        finite = np.isfinite(group.table.loss)
        if not finite.any():
            continue
        ended = SweepGroup(group.table.select(finite))
        by_batch = "batch" in form.covariates and ended.batches
        lowest = float(ended.table.loss.min())
        for part in [ended.at_batch(batch) for batch in ended.batches] if by_batch else [ended.best_batch()]:
            near = (
                part.table.select(part.table.loss < lowest + CUT)
                if (part.table.loss < lowest + CUT).any()
                else None
            )
            if near is not None and len(near) >= FEWEST_IN_CELL:
                cells.append((near, number, lowest))
    if not cells:
        raise InputError("no group has two runs near its lowest loss: give groups with more LRs.")
    logs, centre, ranges = covariates_of([_place(SweepGroup(runs)) for runs, *_ in cells])
    require_identified(form, logs, "groups")
    cell = np.repeat(np.arange(len(cells)), [len(runs) for runs, *_ in cells])
    loss = np.concatenate([runs.loss for runs, *_ in cells])
    height = loss - np.array([lowest for *_, lowest in cells])[cell]
    _, group_of = np.unique([number for _, number, _ in cells], return_inverse=True)
    return _Rows(
        {name: values[cell] for name, values in logs.items()},
        np.log(np.concatenate([runs.lr for runs, *_ in cells])), loss, cell, group_of[cell],
        np.hypot(NOISE_FACTOR * noise * loss, FORM_ERROR * height), centre, ranges,
    )  # fmt: skip


def _place(group: SweepGroup) -> Optimum:
    """Where a group and batch size lies."""
    return Optimum(group.params, group.active, group.tokens, group.batch_tokens, 1.0, 0.0, 1.0)


class _Problem:
    """The least-squares problem over (location, ln curvature, ln p, ln q)."""

    def __init__(self, form: LocationForm, rows: _Rows, symmetric: bool) -> None:
        self.form, self.rows, self.symmetric = form, rows, symmetric
        bends = [name for name in ("params", "tokens", "batch") if name in rows.logs]
        if "batch" not in form.covariates:
            bends = [name for name in bends if name != "batch"]
        self.bend = np.stack([np.ones_like(rows.lr), *(rows.logs[name] for name in bends)], axis=1)
        self.placed = len(form.labels)
        self.bent = self.placed + self.bend.shape[1]
        self.weight = 1 / rows.deviation**2
        self.total = np.bincount(rows.cell, self.weight)
        self.centre, self.width = self._prior()

    def _prior(self) -> tuple[np.ndarray, np.ndarray]:
        """Centre and width of the prior of every parameter; the constants have none."""
        width = np.full(self.bent + (0 if self.symmetric else 2), WIDE)
        centre = np.zeros_like(width)
        width[[0, self.placed]] = np.inf
        if self.form.surge:
            for offset, (middle, wide) in zip((2, 1), SURGE_PRIOR, strict=True):
                centre[self.placed - offset], width[self.placed - offset] = middle, wide
        if not self.symmetric:
            centre[self.bent :], width[self.bent :] = PRIOR_CENTRE, PRIOR_WIDTH
        return centre, width

    def begin(self) -> np.ndarray:
        """Parameters to start with: trends of the LRs of the lowest losses, the prior's shape."""
        out = self.centre.copy()
        out[self.placed] = np.log(CURVATURE_START)
        order = np.lexsort((self.rows.loss, self.rows.cell))
        lowest = order[np.unique(self.rows.cell[order], return_index=True)[1]]
        logs = {name: values[lowest] for name, values in self.rows.logs.items()}
        place = start(self.form, 0.0)
        rest = self.rows.lr[lowest] - evaluate(self.form, place, logs)
        design = np.stack([np.ones_like(rest), *(logs[name] for name in self.form.linear)], axis=1)
        weight = 1 / self.rows.deviation[lowest] ** 2  # batches far from a group's best say little
        weight /= weight.mean()
        ridge = np.diag([0.0, *(RIDGE for _ in self.form.linear)])
        place[: design.shape[1]] = np.linalg.solve(
            design.T @ (weight[:, None] * design) + ridge, design.T @ (weight * rest)
        )
        out[: self.placed] = place
        return out

    def parts(self, at: np.ndarray) -> tuple[float, ...]:
        """Coefficients of ln curvature, then the exponents p and q."""
        shape = (0.0, 0.0) if self.symmetric else tuple(np.exp(np.clip(at[self.bent :], *STEEPEST)).tolist())
        return (*at[self.placed : self.bent].tolist(), *shape)

    def residual(self, at: np.ndarray) -> np.ndarray:
        """Residuals in units of their deviation, shape (n,), the lowest loss of every cell solved for."""
        *_, fall, rise = self.parts(at)
        place = evaluate(self.form, at[: self.placed], self.rows.logs)
        bend = np.exp(np.clip(self.bend @ at[self.placed : self.bent], -15, 5))
        rest = self.rows.loss - bend * valley_shape(self.rows.lr - place, fall, rise)
        lowest = np.bincount(self.rows.cell, self.weight * rest) / self.total
        return (rest - lowest[self.rows.cell]) / self.rows.deviation

    def solve(self, begin: np.ndarray, group_weights: np.ndarray | None = None) -> np.ndarray:
        """Minimise the robust sum of squares and the prior."""
        from scipy.optimize import least_squares  # slow to load

        scale = 1.0 if group_weights is None else np.sqrt(group_weights)[self.rows.group]

        def residual(at: np.ndarray) -> np.ndarray:
            return np.concatenate([self.residual(at) * scale, (at - self.centre) / self.width])

        return least_squares(residual, begin, loss="soft_l1", f_scale=ROBUST, x_scale="jac", max_nfev=100).x

    def shifts(self, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """By how much each group and batch would move ln LR_opt for itself, to first order, and that's deviation."""
        step = 1e-3
        moved = at.copy()
        moved[0] += step
        residual = self.residual(at)
        slope = (self.residual(moved) - residual) / step
        trust = 1 / np.sqrt(1 + (residual / ROBUST) ** 2)  # weights of the robust loss
        across = np.bincount(self.rows.cell, trust * slope**2)
        along = np.bincount(self.rows.cell, -trust * slope * residual)
        scale = float(np.average(residual**2, weights=trust))
        across = np.maximum(across, 1e-12)  # a cell far from its bottom does not feel the LR
        return along / across, np.sqrt(scale / across)

    def noise(self, at: np.ndarray) -> float:
        """Root mean square of the residuals within the noise's reach of the bottom, nats."""
        deviation = self.rows.deviation
        near = deviation <= 2 * deviation.min()
        free = max(int(near.sum()) - np.unique(self.rows.cell[near]).size, 1)
        return float(np.sqrt(np.sum((self.residual(at) * deviation)[near] ** 2) / free))
