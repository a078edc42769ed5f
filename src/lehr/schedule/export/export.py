"""What an export is: text to paste into a framework, and the LR the framework then uses at every update.

An export holds no promise but a replay: `lr` comes from our own model of the framework's code, which the
tests hold against the framework itself. Where it departs from the schedule, the departure is stated.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from lehr.errors import bad
from lehr.schedule.schedule import Schedule

RELATIVE, ROUNDING = (
    1e-9,
    1e-14,
)  # an LR counts as equal within the first of itself and the second of the peak
MOST_UPDATES = 10_000_000


@dataclass(frozen=True)
class Deviation:
    """How far the LRs that a framework uses lie from those of the schedule.

    Parameters
    ----------
    largest : largest absolute difference, an LR.
    relative : the same over the schedule's peak.
    update : the first update, 0 .. T-1, at which it occurs.
    updates : number of updates whose LR differs by more than 1e-9 of itself; 0 means exact.
    why : what the framework cannot say; empty if exact.
    """

    largest: float
    relative: float
    update: int
    updates: int
    why: str = ""


@dataclass(frozen=True, eq=False)
class Export:
    """A schedule in the terms of one framework.

    Parameters
    ----------
    framework : its name in `lehr.schedule.export.EXPORTERS`.
    form : "settings", the framework's own arguments, or "code", a snippet that needs no lehr.
    language : of `text`: python, sh, json or csv.
    text : ready to use.
    lr : LR that the framework uses at update k, shape (T,).
    deviation : of `lr` from the schedule.
    notes : what the user must know to get these LRs.
    nearest : where `text` is code: the nearest that the framework's own settings can say, if it has any.
    """

    framework: str
    form: str
    language: str
    text: str
    lr: np.ndarray = field(repr=False)
    deviation: Deviation
    notes: tuple[str, ...] = ()
    nearest: Export | None = None

    @property
    def exact(self) -> bool:
        """Whether every update uses the schedule's LR within 1e-9 of it."""
        return self.deviation.updates == 0


def target(schedule: Schedule) -> np.ndarray:
    """LR of every update, shape (T,), of a schedule that can be exported.

    Raises
    ------
    InputError
        If it is too long to be listed, or its LR is 0 throughout.
    """
    if schedule.steps > MOST_UPDATES:
        raise bad("steps", f"must not exceed {MOST_UPDATES} to be exported", schedule.steps, "export a part")
    if not schedule.peak > 0:
        raise bad("the peak LR", "must be above 0", schedule.peak, "export a schedule that trains")
    return schedule.to_array()


def differing(wanted: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Mark the updates whose LR `used` is not the `wanted` one; both shape (T,)."""
    return np.abs(used - wanted) > RELATIVE * wanted + ROUNDING * wanted.max()


def deviation(wanted: np.ndarray, used: np.ndarray, rise: str = "", fall: str = "") -> Deviation:
    """Compare LRs, both shape (T,).

    Parameters
    ----------
    wanted, used : LR of the schedule and of the framework at every update.
    rise, fall : what the framework cannot say up to the first update at the peak, and after it.
    """
    gap = np.abs(used - wanted)
    off = differing(wanted, used)
    top = int(np.argmax(wanted))
    why = [reason for reason, part in ((rise, off[:top]), (fall, off[top:])) if reason and part.any()]
    largest = float(gap.max())
    return Deviation(
        largest, largest / float(wanted.max()), int(np.argmax(gap)), int(off.sum()), " ".join(why)
    )
