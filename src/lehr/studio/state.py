"""What a studio holds: runs, fits, and how its answers are put into JSON."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from lehr.errors import InputError, LehrError, bad, unknown
from lehr.runs.run import Run, RunSet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lehr.fit.files import Fits
    from lehr.peaklr.sweep_fit import SweepFit

GIVEN = "given"  # name of the fits that the studio was started with
DIGITS = 7  # significant digits of numbers in curves
EXACT = 22  # floats hold powers of ten up to this one exactly: a number is cut to the nearest decimal one
FRESH = 2.0  # seconds between two readings of the store and the logs, at least
AT_WORK, WAITING = 2, 16  # long questions answered at once, and those that may wait


class Busy(LehrError):
    """More is asked at once than is answered: status 429."""


class Absent(LehrError):
    """There is no such thing: status 404."""


@dataclass(frozen=True)
class Encoders:
    """How results become JSON: the command line's own functions, so that keys are the same in both."""

    fits: Callable[[Any], dict[str, Any]]
    plan: Callable[[Any], dict[str, Any]]
    optimum: Callable[[Any, str], dict[str, Any]]
    advice: Callable[[Any], dict[str, Any]]
    transfer: Callable[[Any, Mapping[str, Any]], dict[str, Any]]
    published: Callable[[Any], dict[str, Any]]
    peak: Callable[[Any, float, float, float | None, float | None, float], dict[str, Any]]
    export: Callable[[Any], dict[str, Any]]


@dataclass(frozen=True)
class Sources:
    """Where runs come from.

    Parameters
    ----------
    name : what the page calls it; None for the bundled examples.
    load : reads the runs; called again for live ones.
    chosen : names of the runs that are ticked at first; all if empty.
    store : folder that uploads may be added to, or None.
    """

    name: str | None
    load: Callable[[], RunSet]
    chosen: tuple[str, ...] = ()
    store: Path | None = None


@dataclass(eq=False)
class Studio:
    """Runs and fits of one studio, shared by all that ask it.

    Parameters
    ----------
    sources, encode : see there.
    runs : at the last reading; those that were uploaded come last.
    fits : by name.
    sweep : fit of a sweep of peak LRs that it was started with.
    memory : answers, by question.
    draws : by fit, those that stand for all in quick predictions.
    """

    sources: Sources
    encode: Encoders
    fits: dict[str, Fits] = field(default_factory=dict)
    sweep: SweepFit | None = None
    runs: RunSet = field(init=False)
    uploaded: list[Run] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)
    memory: Memory = field(default_factory=lambda: Memory(64))
    draws: Memory = field(default_factory=lambda: Memory(256))

    def __post_init__(self) -> None:
        self.runs = self.sources.load()
        self._read_at = time.monotonic()
        self._free, self._waiting = threading.BoundedSemaphore(AT_WORK), 0

    def refresh(self) -> RunSet:
        """Read the runs again, unless that was done a moment ago."""
        with self.lock:
            if time.monotonic() - self._read_at >= FRESH:
                self.runs = RunSet([*self.sources.load(), *self.uploaded])
                self._read_at = time.monotonic()
            return self.runs

    def add(self, runs: list[Run]) -> None:
        """Take in uploaded runs, all or none; raises InputError if a name is there already."""
        with self.lock:
            self.runs = RunSet([*self.runs, *runs])
            self.uploaded += runs

    def run_at(self, place: str) -> Run:
        """The run at an index of the list.

        Raises
        ------
        Absent
            If there is none.
        """
        runs = list(self.runs)
        if not place.isascii() or not place.isdecimal() or len(place) > 9 or int(place) >= len(runs):
            raise Absent(f"there is no run {place!r}: runs are numbered from 0 to {len(runs) - 1}.")
        return runs[int(place)]

    def get_fits(self, name: str) -> Fits:
        """The fits called `name`.

        Raises
        ------
        InputError
            If there are none.
        """
        if name not in self.fits:
            if not self.fits:
                raise InputError("there is no fit yet: fit laws first.")
            raise unknown("fit", name, self.fits)
        return self.fits[name]

    @contextmanager
    def turn(self) -> Iterator[None]:
        """Wait for one's turn with a question that takes long.

        Raises
        ------
        Busy
            If too many wait already.
        """
        with self.lock:
            if self._waiting >= WAITING:
                raise Busy("the studio is busy with other questions: ask again in a moment.")
            self._waiting += 1
        try:
            with self._free:
                yield
        finally:
            with self.lock:
                self._waiting -= 1


class Memory:
    """The latest answers by question; safe to use from several threads."""

    def __init__(self, most: int) -> None:
        self._most, self._kept, self._lock = most, OrderedDict[Any, Any](), threading.Lock()

    def recall(self, question: Any, answer: Callable[[], Any]) -> Any:
        """The answer to a question (hashable), found anew if it is not remembered."""
        with self._lock:
            if question in self._kept:
                self._kept.move_to_end(question)
                return self._kept[question]
        found = answer()
        with self._lock:
            self._kept[question] = found
            while len(self._kept) > self._most:
                self._kept.popitem(last=False)
        return found


def numbers(values: np.ndarray) -> list[float | None]:
    """The values with as many digits as a curve needs; what is not finite becomes None."""
    known = np.isfinite(values)
    whole = np.where(known, values, 0.0)
    places = DIGITS - 1 - np.floor(np.log10(np.where(whole == 0, 1.0, np.abs(whole))))
    up, down = 10.0 ** np.clip(places, 0, EXACT), 10.0 ** np.clip(-places, 0, EXACT)
    cut = np.where(np.abs(places) <= EXACT, np.round(whole / down * up) / up * down, whole)
    return [value if fine else None for value, fine in zip(cut.tolist(), known.tolist(), strict=True)]


def thinned(count: int, most: int) -> np.ndarray:
    """Places of at most `most` of `count` points, evenly, the first and the last among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def check_points(points: int, most: int = 2000) -> int:
    """Return a number of points to draw if it is one.

    Raises
    ------
    InputError
        If it is too small or too large.
    """
    if not 2 <= points <= most:
        raise bad("points", f"must lie between 2 and {most}", points, "a few hundred do for a curve")
    return points
