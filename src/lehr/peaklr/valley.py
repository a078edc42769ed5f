"""The valley of final loss over ln LR of one group, and its optimum with an interval.

The form is that of `lehr.peaklr.shape`, or the parabola of arXiv 2601.05049 (eqs 2 and 3). No window is chosen: a run
counts with the variance noise^2 + (`FORM_ERROR` x height above the lowest loss)^2, since no form holds far up the
sides. Lowest loss and curvature are linear; the optimum and the exponents are searched on a grid, so that the interval
is that of the profile: all optima whose best fit is worse by less than the residuals allow. The residual's variance is
pooled with the known noise of a final loss, as worth `NOISE_FREEDOM` runs: with three to five LRs the interval
rests mostly on that noise, with many on the residuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, bad, unknown
from lehr.peaklr.levels import levels_of
from lehr.peaklr.shape import PARABOLA, PRIOR_CENTRE, PRIOR_WIDTH, valley_shape
from lehr.quantiles import student_half

FORMS = ("asymmetric", "parabola")
NOISE = 5e-4  # of a final loss, relative: two runs of one schedule differ by .03 to .07 %
NOISE_FREEDOM = 4.0  # degrees of freedom that the known noise is worth
FORM_ERROR = 0.2  # of the height above the lowest loss
FEWEST = 3  # distinct LRs
WILD = 0.01  # relative difference of two runs at one LR that cannot be noise
NEAR = 0.05  # nats above the lowest loss within which such a difference matters
PLACES = 241  # of the optimum on the grid
BEYOND = 1.0  # ln LR by which the optimum is searched beyond the LRs run


@dataclass(frozen=True)
class Valley:
    """A fitted valley.

    Parameters
    ----------
    lr : LR of the lowest loss.
    low, high : interval of `lr` at `level`; ends of the search if the runs do not bound it.
    deviation : standard deviation of ln `lr`.
    lowest_loss : loss at `lr`, nats per token.
    curvature : second derivative of the loss by ln LR at `lr`, nats; above 0.
    fall, rise : exponents p and q of the form; both 0 for the parabola.
    form : one of `FORMS`.
    noise : standard deviation of a loss about the valley at its bottom, nats.
    level : of the interval.
    points : measured pairs (LR, loss), diverged runs included.
    """

    lr: float
    low: float
    high: float
    deviation: float
    lowest_loss: float
    curvature: float
    fall: float
    rise: float
    form: str
    noise: float
    level: float
    points: tuple[tuple[float, float], ...]

    def excess(self, lr: float) -> float:
        """Loss that `lr` costs above the best, nats."""
        distance = np.array([np.log(lr / self.lr)])
        return float(self.curvature * valley_shape(distance, self.fall, self.rise)[0])

    def loss(self, lr: float) -> float:
        """Loss at `lr`, nats per token."""
        return self.lowest_loss + self.excess(lr)


def fit_valley(
    lr: np.ndarray, loss: np.ndarray, form: str = "asymmetric", noise: float = NOISE, level: float = 0.9,
    where: str = "the group",
) -> Valley:  # fmt: skip
    """Fit the valley through final losses at several LRs, all else equal.

    Parameters
    ----------
    lr : peak LRs, shape (n,), above 0; repeated ones are runs of other seeds.
    loss : final losses, shape (n,), nats per token; NaN or infinite where the run diverged.
    form : "asymmetric" or "parabola".
    noise : standard deviation of a final loss, as a share of it.
    level : of the interval.
    where : what the runs are, for messages.

    Raises
    ------
    InputError
        If fewer than three LRs have a loss, two runs of one LR differ by what is no noise, or the optimum lies at
        or beyond an edge of the LRs.
    """
    if form not in FORMS:
        raise unknown("form of a valley", form, FORMS)
    for name, value in (("noise", noise), ("level", level)):
        if not 0 < value < 1:
            raise bad(name, "must lie between 0 and 1", value, "give a fraction")
    lr, loss = np.asarray(lr, dtype=float), np.asarray(loss, dtype=float)
    check_grid(lr, loss, where)
    finite = np.isfinite(loss)
    x, y = np.log(lr[finite]), loss[finite]
    diverged = np.log(lr[~finite])
    search = _Search(x, y, diverged, noise, form)
    best = search.best()
    if not x.min() < best.place < (diverged.min() if diverged.size else x.max()):
        side = "lowest" if best.place <= x.min() else "highest"
        raise _at_edge(where, float(np.exp(x.min() if side == "lowest" else x.max())), side, float(y.min()))
    low, high, deviation = search.interval(best, level)
    order = np.argsort(lr, kind="stable")
    return Valley(
        float(np.exp(best.place)), float(np.exp(low)), float(np.exp(high)), deviation, best.lowest, best.curvature,
        best.fall, best.rise, form, search.noise(best), level,
        tuple(zip(lr[order].tolist(), loss[order].tolist(), strict=True)),
    )  # fmt: skip


def check_grid(lr: np.ndarray, loss: np.ndarray, where: str) -> None:
    """Refuse runs that cannot tell an optimum; arguments and errors as in `fit_valley`."""
    if lr.shape != loss.shape or lr.ndim != 1:
        raise bad(
            f"{where}: loss", f"must pair with the LRs, of shape {lr.shape}", loss.shape, "give one a run"
        )
    wrong = np.flatnonzero(~((lr > 0) & np.isfinite(lr)))
    if wrong.size:
        raise bad(f"{where}: lr", "must be above 0", float(lr[wrong[0]]), "give peak LRs")
    finite = np.isfinite(loss)
    levels = np.unique(levels_of(lr[finite])) if finite.any() else np.empty(0)
    if levels.size < FEWEST:
        raise bad(
            f"{where}: LRs with a final loss", f"must be at least {FEWEST} different ones", int(levels.size),
            "run more LRs, such as half and twice the best",
        )  # fmt: skip
    check_repeats(lr, loss, where)
    x, y = lr[finite], loss[finite]
    best = float(x[np.argmin(y)])
    above = lr[~finite & (lr > best)]
    if best == x.min() or (best == x.max() and not above.size):
        side = "lowest" if best == x.min() else "highest"
        raise _at_edge(where, best, side, float(y.min()))


def check_repeats(lr: np.ndarray, loss: np.ndarray, where: str) -> None:
    """Refuse runs of one LR near the lowest loss whose losses differ by what is no noise.

    Parameters
    ----------
    lr, loss : shape (n,); diverged runs are passed over.
    where : what the runs are, for messages.

    Raises
    ------
    InputError
        Naming the LR and both losses.
    """
    finite = np.isfinite(loss)
    x, y = lr[finite], loss[finite]
    levels = levels_of(x) if x.size else x
    order = np.lexsort((y, levels))
    x, y, levels = x[order], y[order], levels[order]
    for row in np.flatnonzero(np.diff(levels) == 0):
        one, other = float(y[row]), float(y[row + 1])
        if other > one * (1 + WILD) and one < y.min() + NEAR:
            raise InputError(
                f"{where}: two runs at LR {x[row]:.4g} end at {one:.4f} and {other:.4f} nats, which is no noise: "
                "if they differ in batch size or another setting, give its column or leave one out."
            )


def _at_edge(where: str, lr: float, side: str, loss: float) -> InputError:
    way = "lower" if side == "lowest" else "higher"
    return InputError(
        f"{where}: the optimum lies at the edge of the LRs, at or beyond the {side}, {lr:.4g} "
        f"(lowest loss {loss:.4f}): run {way} LRs."
    )


@dataclass(frozen=True)
class _Fit:
    """A point of the search: optimum, exponents, the linear parts and the badness of fit in units of the noise."""

    place: float
    fall: float
    rise: float
    lowest: float
    curvature: float
    badness: float


class _Search:
    """Weighted least squares over a grid of optima and exponents."""

    def __init__(self, x: np.ndarray, y: np.ndarray, diverged: np.ndarray, noise: float, form: str) -> None:
        self.x, self.y, self.diverged = x, y, diverged
        self.base = noise * float(y.min())
        deviation = np.hypot(self.base, FORM_ERROR * (y - y.min()))
        self.weight = 1 / deviation**2
        reach = np.append(x, diverged)
        self.places = np.linspace(x.min() - BEYOND, reach.max() + BEYOND, PLACES)
        steps = np.array([-1.5, -0.75, 0.0, 0.75, 1.5])
        self.shapes = [(PARABOLA, 0.0)]
        if form != "parabola":
            self.shapes = [
                ((float(np.exp(PRIOR_CENTRE[0] + a * PRIOR_WIDTH)), float(np.exp(PRIOR_CENTRE[1] + b * PRIOR_WIDTH))),
                 float(a**2 + b**2))
                for a in steps for b in steps
            ]  # fmt: skip
        self.profile = self._profile(self.places)

    def _profile(self, places: np.ndarray) -> list[_Fit]:
        """Return the best fit with the optimum at each of `places`."""
        fits = [self._fits(places, *shape) for shape in self.shapes]
        return [min(row, key=lambda fit: fit.badness) for row in zip(*fits, strict=True)]

    def _fits(self, places: np.ndarray, shape: tuple[float, float], penalty: float) -> list[_Fit]:
        """Solve for lowest loss and curvature at each place with one pair of exponents."""
        w, y = self.weight, self.y
        v = valley_shape(self.x[None] - places[:, None], *shape)  # (places, runs)
        total = w.sum()
        mean_v, mean_y = v @ w / total, y @ w / total
        spread = (v**2) @ w - total * mean_v**2
        slope = (v @ (w * y) - total * mean_v * mean_y) / np.maximum(spread, 1e-12)
        curvature = np.maximum(slope, 0.0)
        lowest = mean_y - curvature * mean_v
        residual = y - lowest[:, None] - curvature[:, None] * v
        badness = (residual**2) @ w + penalty
        if self.diverged.size:  # at least as high as the highest loss that was measured
            at = lowest[:, None] + curvature[:, None] * valley_shape(
                self.diverged[None] - places[:, None], *shape
            )
            short = np.maximum(y.max() - at, 0.0)
            badness = badness + ((short / np.hypot(self.base, FORM_ERROR * (y.max() - y.min()))) ** 2).sum(
                axis=1
            )
        return [
            _Fit(float(p), *shape, float(a), float(c), float(b))
            for p, a, c, b in zip(places, lowest, curvature, badness, strict=True)
        ]

    def best(self) -> _Fit:
        """Return the best fit, the grid refined about its best place."""
        coarse = min(self.profile, key=lambda fit: fit.badness)
        step = float(self.places[1] - self.places[0])
        fine = self._profile(np.linspace(coarse.place - step, coarse.place + step, 41))
        return min(fine, key=lambda fit: fit.badness)

    def variance(self, best: _Fit) -> tuple[float, float]:
        """Variance of the residuals in units of the known noise's, pooled with it, and its degrees of freedom."""
        # a run high up the sides tells little of the noise; the exponents are held by their prior and take no freedom
        freedom = max(float(np.sum(self.weight)) * self.base**2 - 3, 0.0)
        return (NOISE_FREEDOM + best.badness) / (NOISE_FREEDOM + freedom), NOISE_FREEDOM + freedom

    def noise(self, best: _Fit) -> float:
        """Standard deviation of a loss at the bottom, nats."""
        return self.base * float(np.sqrt(self.variance(best)[0]))

    def interval(self, best: _Fit, level: float) -> tuple[float, float, float]:
        """Ends of the profile's interval in ln LR, and the standard deviation that it stands for."""
        variance, freedom = self.variance(best)
        quantile = student_half(level, freedom)
        badness = np.array([fit.badness for fit in self.profile]) - best.badness
        ends = []
        for side in (-1, 1):
            beyond = (self.places - best.place) * side > 0
            places, values = self.places[beyond][::side], badness[beyond][::side]
            limit = quantile**2 * variance
            over = np.flatnonzero(values > limit)
            if not over.size:
                ends.append(float(places[-1]))
                continue
            first = over[0]
            before = (best.place, 0.0) if first == 0 else (float(places[first - 1]), float(values[first - 1]))
            share = (limit - before[1]) / (values[first] - before[1])
            ends.append(before[0] + share * (float(places[first]) - before[0]))
        low, high = ends
        return float(low), float(high), float((high - low) / (2 * quantile))
