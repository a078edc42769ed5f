"""The error of a law's form, taken to be alike for runs that are alike.

A law that misses one run by a little misses its neighbours in much the same way, so that a run near the
planned one tells of the law's error there, and a distant one does not. It has two parts:

* as large as on left-out runs, larger early in a run. At two points it is correlated by exp(-|x - y|^2 / 2),
  where x holds, each in units of its reach,

      ln peak LR, ln updates done, mean LR so far / peak, LR now / peak

* so much a doubling outside the fitted peak LRs (`lehr.fit.reach`), one unknown factor on either side.

The reaches are set by what the public runs were planned with (factors of two in LR and length, steps of .2 in
ratio), not fitted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.fit.reach import reach_error
from lehr.fit.result import FitResult
from lehr.schedule.schedule import Schedule

REACH = np.array(
    [0.7, 0.7, 0.2, 1.0]
)  # a factor of two in LR and in updates; .4 of annealing ratio; all of the LR
PROBES = 2000  # updates at which a schedule is looked at for its mean LR
RUN_ERROR = 5e-4  # by which two runs of one schedule differ late in them, a share of the loss
EARLY = 0.1  # share of the longest fitted run before which they differ at least twice as much


@dataclass(frozen=True, eq=False)
class FormError:
    """Where n points lie and how large the law's own error is there, as a share of the loss.

    Parameters
    ----------
    places : shape (n, 4), features in units of `REACH`.
    size : shape (n,), standard deviation of the part that neighbours share.
    beyond : shape (n, 2), of the parts above and below the fitted peak LRs.
    """

    places: np.ndarray
    size: np.ndarray
    beyond: np.ndarray

    def covariance(self, other: FormError) -> np.ndarray:
        """Covariance of the errors at these n points and at k `other` ones, shape (n, k)."""
        gap = self.places[:, None, :] - other.places[None, :, :]
        alike = np.exp(-0.5 * np.sum(gap**2, axis=2))
        return np.outer(self.size, other.size) * alike + self.beyond @ other.beyond.T


def form_error(result: FitResult, schedule: Schedule, steps: np.ndarray) -> FormError:
    """Error of the form of `result`'s law after `steps` (shape (n,)) updates of a run under `schedule`."""
    held_out = float(np.sqrt(np.mean(np.square(result.spread)))) if result.spread else 0.0
    size = max(held_out, RUN_ERROR) * early(result, steps)
    beyond = reach_error(result.law, result.domain, schedule.peak)
    above = schedule.peak > result.domain.peak_lr[1]
    sides = np.tile([beyond if above else 0.0, 0.0 if above else beyond], (len(steps), 1))
    return FormError(features(schedule, steps), size, sides)


def join(errors: list[FormError]) -> FormError:
    """Put the points of several runs one after the other."""
    return FormError(
        *(np.concatenate([getattr(e, name) for e in errors]) for name in ("places", "size", "beyond"))
    )


def early(result: FitResult, steps: np.ndarray) -> np.ndarray:
    """By what factor errors after `steps` updates are larger than late in a run, shape (n,)."""
    return 1 + EARLY * result.domain.steps / steps


def features(schedule: Schedule, steps: np.ndarray) -> np.ndarray:
    """Where points of a run lie, in units of `REACH`; shape (n, 4) for `steps` of shape (n,), updates done."""
    edges = np.unique(np.linspace(0, schedule.steps, PROBES).astype(int))
    middle = (edges[:-1] + edges[1:] - 1) // 2
    area = np.concatenate([[0.0], np.cumsum(schedule.lr(middle) * np.diff(edges))])
    peak = schedule.peak
    last = np.maximum(np.asarray(steps).astype(int) - 1, 0)
    columns = [
        np.full(len(steps), np.log(peak)), np.log(steps), np.interp(steps, edges, area) / (peak * steps),
        schedule.lr(last) / peak,
    ]  # fmt: skip
    return np.stack(columns, axis=1) / REACH
