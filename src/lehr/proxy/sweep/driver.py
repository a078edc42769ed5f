"""The driver of a sweep: keeps an engine at work until every run has ended, and takes in results as they come.

It holds nothing that matters. Killed at any moment and started again, or started twice, it goes on from the folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from lehr.errors import LehrError, ResultError
from lehr.proxy.sweep.jobs import Job, Plan
from lehr.proxy.sweep.outcome import Outcome, read_outcome
from lehr.proxy.sweep.queue import Queue
from lehr.proxy.sweep.results import store_runs, stored_addresses, write_table

LOOK = 0.1  # seconds between two looks at the folder, at least
TAKE_IN = 2.0  # seconds between two goes at results, at least
SHARE = 0.05  # of the driver's time that goes into looking, and as much into results, where runs are many and short


class Engine(Protocol):
    """What sets workers to a sweep's folder; local processes, or jobs of a cluster."""

    @property
    def problem(self) -> str | None:
        """Why no worker can go on; None while one can."""

    def tend(self) -> int:
        """Keep the workers going; return how many there are."""

    def stop(self, hard: bool = False) -> None:
        """Let the workers save and go, or end them at once; return when they are gone."""


@dataclass
class Drive:
    """What the driver knows.

    Parameters
    ----------
    ended : outcomes by address, of this sweep's runs.
    refused : why runs could not be stored, by name.
    stopped : whether it was told to stop before all had ended.
    """

    ended: dict[str, Outcome] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    stopped: bool = False


def drive(
    queue: Queue, plan: Plan, engine: Engine, *, store: Path | None = None, stop: Callable[[], bool] | None = None,
    tell: Callable[[Job, Outcome], None] | None = None, look: Callable[[Drive], None] | None = None,
) -> Drive:  # fmt: skip
    """Work a sweep off.

    Parameters
    ----------
    queue, plan : of the sweep, written.
    engine : that sets workers to it.
    store : of runs, into which those that are done are put as they end.
    stop : asked now and then whether to stop; workers then save.
    tell : called with every run that has ended.
    look : called after every look at the folder.

    Raises
    ------
    ResultError
        If no worker can go on, or results cannot be written.
    """
    seen = Drive()
    stored = stored_addresses(store) if store else set()
    due, fresh = 0.0, True
    try:
        while True:
            began = time.monotonic()
            fresh = _look(queue, plan, seen, tell) or fresh
            over = len(seen.ended) == len(plan.jobs)
            working = 0 if over else engine.tend()
            if look:
                look(seen)
            if fresh and (over or time.monotonic() >= due):
                start, fresh = time.monotonic(), False
                _take_in(queue, plan, seen, store, stored)
                due = time.monotonic() + max(TAKE_IN, (time.monotonic() - start) / SHARE)
            if over:
                return seen
            if stop and stop():
                seen.stopped = True
                return seen
            if engine.problem and not working:
                raise ResultError(f"{engine.problem}; the same command goes on from there.")
            time.sleep(max(LOOK, min(1.0, (time.monotonic() - began) / SHARE)))
    finally:
        engine.stop()
        if _look(queue, plan, seen, tell) or fresh:
            _take_in(queue, plan, seen, store, stored)


def _look(queue: Queue, plan: Plan, seen: Drive, tell: Callable[[Job, Outcome], None] | None) -> bool:
    """Take note of runs that have ended since; return whether there were any."""
    states: Mapping[str, str] = queue.ended()
    new = [job for job in plan.jobs if job.address in states and job.address not in seen.ended]
    for job in new:
        seen.ended[job.address] = read_outcome(queue, job.address, states[job.address])
        if tell:
            tell(job, seen.ended[job.address])
    return bool(new)


def _take_in(queue: Queue, plan: Plan, seen: Drive, store: Path | None, stored: set[str]) -> None:
    write_table(queue.folder, plan.jobs, seen.ended)
    if store is None:
        return
    try:
        seen.refused = store_runs(queue, plan, seen.ended, store, stored)
    except LehrError as error:  # the store's trouble does not stop the training
        seen.refused = {str(store): str(error)}
