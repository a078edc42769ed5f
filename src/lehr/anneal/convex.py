"""The convex last-iterate bound of a schedule: a second opinion on peak LRs and ratios that needs no fitted law.

For SGD on a convex function, with first distance to the optimum D and gradient norms G_t, the
suboptimality of the last iterate is at most (T updates, eta_t the LR of the t-th; all sums end at T)

    Omega = D^2 / (2 sum_t eta_t) + sum_t eta_t^2 G_t^2 / (2 sum_t eta_t)
            + 1/2 sum_{k<T} [eta_k / sum_{t>k} eta_t] [sum_{t>=k} eta_t^2 G_t^2 / sum_{t>=k} eta_t]

(Schaipp et al., arXiv 2501.18965, Thm. 1, after Defazio et al., arXiv 2310.07831, Thm. 10). A schedule
times gamma has the bound distance / gamma + gamma noise, so the best peak LR is in closed form. Suffix
sums make one evaluation O(T) in time and memory: a million updates take a tenth of a second.

What it is not: pre-training is neither convex nor SGD, D and G are unknown, and the iterate bounded is
the one before the last update. With the peak LR tuned for each, a longer linear decay is always better
by the bound, so it can choose a ratio only at a given peak LR.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, bad
from lehr.schedule.families import wsd
from lehr.schedule.schedule import Schedule


@dataclass(frozen=True)
class Bound:
    """The bound of a schedule, split by how it answers to the scale of the LR.

    Parameters
    ----------
    distance : first term of Omega; it falls as 1 / peak.
    noise : second and third term; they grow as the peak.
    peak : peak LR of the schedule.
    """

    distance: float
    noise: float
    peak: float

    @property
    def value(self) -> float:
        """Omega, in the unit of the loss."""
        return self.distance + self.noise

    @property
    def best_peak(self) -> float:
        """Peak LR at which a schedule of this form has the lowest bound (gamma* times the peak)."""
        return self.peak * float(np.sqrt(self.distance / self.noise))

    @property
    def best_value(self) -> float:
        """Omega at that peak LR."""
        return 2 * float(np.sqrt(self.distance * self.noise))


@dataclass(frozen=True)
class BoundFit:
    """The bound with the constants of some runs: loss = floor + Omega.

    Parameters
    ----------
    distance, gradient_norm : D and G; only D / G sets best peaks and ratios.
    floor : loss at no suboptimality, nats per token.
    rms : root mean square residual of the fitted losses, nats per token.
    """

    distance: float
    gradient_norm: float
    floor: float
    rms: float


def last_iterate_bound(
    schedule: Schedule, *, distance: float = 1.0, gradient_norm: float | np.ndarray = 1.0
) -> Bound:
    """Return the bound Omega of a schedule; O(T).

    Updates at LR 0 at the end change nothing and are left out.

    Parameters
    ----------
    schedule : the schedule, of T updates.
    distance : D, distance from the first iterate to the optimum, above 0.
    gradient_norm : G, bound on the gradient's norm, above 0; or one for each update, shape (T,).

    Raises
    ------
    InputError
        If a constant is not above 0, the norms are not one an update, or no update has an LR above 0.
    """
    if not (np.isfinite(distance) and distance > 0):
        raise bad("distance", "must be a finite number above 0", distance, "use 1 if it is unknown")
    norms = np.asarray(gradient_norm, dtype=float)
    if norms.ndim and norms.shape != (schedule.steps,):
        rule = f"must be one number or one for each of the {schedule.steps} updates"
        raise bad("gradient_norm", rule, norms.shape, "give G of every update")
    if not (np.all(np.isfinite(norms)) and np.all(norms > 0)):
        raise bad("gradient_norm", "must be finite and above 0", float(norms.min()), "use 1 if it is unknown")
    lr = schedule.to_array()
    used = int(np.max(np.flatnonzero(lr), initial=-1)) + 1
    if not used:
        raise bad("schedule", "must have an LR above 0", 0.0, "without updates there is no bound")
    energy = (np.square(lr) * np.square(norms))[:used]
    left, energy_left = _suffix_sums(lr[:used]), _suffix_sums(energy)
    last = float(np.sum(lr[: used - 1] / left[1:] * energy_left[:-1] / left[:-1]))
    return Bound(
        distance=distance**2 / (2 * float(left[0])),
        noise=float(energy_left[0] / left[0] + last) / 2,
        peak=float(lr.max()),
    )


def peak_transfer(source: Schedule, target: Schedule) -> float:
    """Return by what to multiply the best peak LR of `source` to get that of `target`.

    Equal shapes of T1 and T2 updates give about sqrt(T1 / T2); a longer decay gives more, so that
    a longer run can keep its peak LR if its decay takes a larger share. D and G must be the same for
    both; they then cancel.
    """
    return last_iterate_bound(target).best_peak / last_iterate_bound(source).best_peak


def distance_for(schedule: Schedule, best_peak: float) -> float:
    """Return the D, in units of G, for which the best peak LR of `schedule` is `best_peak`.

    One LR sweep under one schedule thus anchors the bound for all others.

    Raises
    ------
    InputError
        If `best_peak` is not a finite number above 0.
    """
    if not (np.isfinite(best_peak) and best_peak > 0):
        raise bad(
            "best_peak", "must be a finite number above 0", best_peak, "give the best peak LR of a sweep"
        )
    return best_peak / last_iterate_bound(schedule).best_peak


def best_ratio(
    *, steps: int, peak: float, distance: float, shape: str = "linear", warmup: int = 0, final: float = 0.0
) -> float:
    """Return the annealing ratio of a WSD run with the lowest bound at this peak LR.

    It grows with peak * sqrt(steps) / distance, to all of the run for a peak at or above the best one of
    a linear decay from the start. About 20 evaluations of O(T).

    Parameters
    ----------
    steps, peak, shape, warmup, final : the planned run (`lehr.schedule.families.wsd`).
    distance : D in units of G, from `distance_for`, or D / G of `fit_bound`.

    Raises
    ------
    InputError
        If the plan is not a WSD run with room for a decay, or `distance` is not above 0.
    """
    from scipy.optimize import minimize_scalar

    room = steps - warmup
    if room < 1:
        raise bad("steps", "must leave room for a decay after the warm-up", steps, "plan a longer run")

    def omega(decay: float) -> float:
        plan = wsd(steps=steps, peak=peak, warmup=warmup, decay=round(decay), shape=shape, final=final)
        return last_iterate_bound(plan, distance=distance).value

    inside = minimize_scalar(
        omega, bounds=(1, room), method="bounded", options={"xatol": max(0.5, room / 1e4)}
    )
    return min((1, round(inside.x), room), key=omega) / steps


def fit_bound(schedules: Sequence[Schedule], losses: Sequence[float]) -> BoundFit:
    """Fit floor, D and G to final losses by least squares: the bound is linear in D^2 and G^2.

    Parameters
    ----------
    schedules : those of at least three runs that differ in peak LR, of one model and data set.
    losses : their final losses, nats per token; as many.

    Raises
    ------
    InputError
        If there are too few runs, they cannot tell the three constants apart, or the losses show no
        valley over the LR (D^2 or G^2 would be negative).
    """
    if len(schedules) != len(losses):
        raise bad("losses", f"must be as many as the {len(schedules)} schedules", len(losses), "pair them")
    values = np.asarray(losses, dtype=float)
    if not np.all(np.isfinite(values)):
        raise bad("losses", "must be finite", values.tolist(), "leave out runs that diverged")
    bounds = [last_iterate_bound(schedule) for schedule in schedules]
    columns = np.array([(1.0, bound.distance, bound.noise) for bound in bounds]).reshape(-1, 3)
    scale = np.maximum(np.abs(columns).max(axis=0, initial=0.0), 1e-300)
    if np.linalg.matrix_rank(columns / scale, tol=1e-6) < 3:
        rule = "must differ in peak LR or length enough to tell D, G and the floor apart"
        raise bad("schedules", rule, len(schedules), "give at least three runs at different peak LRs")
    floor, distance, norm = np.linalg.lstsq(columns / scale, values, rcond=None)[0] / scale
    if distance <= 0 or norm <= 0:
        raise InputError(
            f"the losses show no valley over the peak LR (D^2 = {distance:.3g}, G^2 = {norm:.3g}): add runs "
            "with peak LRs below and above the best one."
        )
    residuals = columns @ np.array([floor, distance, norm]) - values
    return BoundFit(
        distance=float(np.sqrt(distance)),
        gradient_norm=float(np.sqrt(norm)),
        floor=float(floor),
        rms=float(np.sqrt(np.mean(residuals**2))),
    )


def _suffix_sums(values: np.ndarray) -> np.ndarray:
    """Sum of each entry and all after it; adding from the end never cancels digits."""
    return np.cumsum(values[::-1])[::-1]
