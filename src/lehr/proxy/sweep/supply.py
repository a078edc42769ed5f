"""How many workers a sweep can use now, which is what engines of clusters ask for: idle ones cost others' time."""

from __future__ import annotations

from pathlib import Path

from lehr.proxy.sweep.jobs import Plan, read_plan
from lehr.proxy.sweep.outcome import disk_refused, require_space
from lehr.proxy.sweep.queue import Queue

IDLE = 60.0  # seconds without work after which a worker of a cluster goes
MOST_ERRORS = 5  # workers in a row that end with an error and no run, before an engine gives up


class Supply:
    """Counts the runs that can be had, and workers that end in vain.

    Parameters
    ----------
    folder : of the sweep, with its plan.
    """

    problem: str | None = None

    def __init__(self, folder: Path) -> None:
        self.queue: Queue = Queue(folder)
        self.plan: Plan = read_plan(folder)
        self.errors, self.ended = 0, -1

    def wanted(self, most: int) -> int:
        """How many workers there is work for, those at work included; no more than `most`.

        A run whose parent has not ended is for no one yet.
        """
        ended, count = self.queue.ended(), 0
        for job in self.plan.jobs:
            if job.address not in ended and (job.parent is None or job.parent in ended):
                count += 1
                if count == most:
                    break
        return count

    def note_full(self) -> None:
        """Take note that the disk takes no more, which is a problem."""
        self.problem = f"the disk of {self.queue.folder.absolute()} takes no more: free some space"

    def look_at_disk(self) -> None:
        """Take note if there is next to no space: workers would go as soon as they begin, and may not even say why."""
        try:
            require_space(self.queue.folder)
        except OSError as error:
            if not disk_refused(error):
                raise
            self.note_full()

    def note_error(self, why: str) -> None:
        """Take note of a worker that ended with an error; the fifth without a run that ended is a problem."""
        ended = len(self.queue.ended())
        self.errors = self.errors + 1 if ended == self.ended else 1
        self.ended = ended
        if self.errors >= MOST_ERRORS:
            self.problem = why
