"""Long work in the background, one piece after another, each in a process of its own that can be stopped."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from lehr.errors import LehrError
from lehr.fit.parallel import Apart, start_apart
from lehr.studio.state import Absent, Busy

if TYPE_CHECKING:
    from lehr.anneal.optimize import Optimum
    from lehr.fit.files import Fits
    from lehr.fit.result import FitResult
    from lehr.runs.run import Run

MOST_WAITING = 8  # jobs that may wait
MOST_KEPT = 50  # jobs that are remembered; the oldest that ended are forgotten


@dataclass(eq=False)
class Job:
    """A piece of work and how far it is.

    Parameters
    ----------
    name : by which it is asked for.
    function, arguments : what `lehr.fit.parallel.start_apart` calls.
    total : steps that it has.
    status : "running" (or waiting to), "done", "failed" or "cancelled".
    begun : names of the steps begun, in order.
    value : what it gave; `error` why it failed.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    total: int
    done: Callable[[str, Any], None] = lambda name, value: None
    status: str = "running"
    begun: list[str] = field(default_factory=list)
    value: Any = None
    error: str | None = None
    apart: Apart | None = None

    def state(self) -> dict[str, Any]:
        """What is told of any job."""
        steps = len(self.begun)
        finished = steps if self.status == "done" else max(0, steps - 1)
        waiting = "waiting for other work to end"
        return {
            "status": self.status,
            "done": self.total if self.status == "done" else min(finished, self.total),
            "total": self.total,
            "now": self.begun[-1] if self.begun else waiting if self.status == "running" else "",
            "error": self.error,
        }


class Jobs:
    """The jobs of a studio; one runs at a time, in the order in which they came."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._waiting: deque[Job] = deque()
        self._change = threading.Condition()
        self._ended = False
        self._thread: threading.Thread | None = None
        self._count = 0

    def add(
        self, kind: str, function: Callable[..., Any], arguments: tuple[Any, ...], total: int,
        done: Callable[[str, Any], None] = lambda name, value: None,
    ) -> Job:  # fmt: skip
        """Put a job in the row; `done` is called with its name and what it gave.

        Raises
        ------
        Busy
            If too many wait already.
        """
        with self._change:
            if len(self._waiting) >= MOST_WAITING:
                raise Busy(f"{MOST_WAITING} jobs wait already: cancel one, or ask again when one has ended.")
            self._count += 1
            job = Job(f"{kind}-{self._count}", function, arguments, total, done)
            self._jobs[job.name] = job
            self._waiting.append(job)
            for name in [name for name, old in self._jobs.items() if old.status != "running"]:
                if len(self._jobs) > MOST_KEPT:
                    del self._jobs[name]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, daemon=True)
                self._thread.start()
            self._change.notify_all()
        return job

    def get(self, name: str) -> Job:
        """The job called `name`.

        Raises
        ------
        Absent
            If there is none, or it is forgotten.
        """
        with self._change:
            if name not in self._jobs:
                raise Absent(f"there is no job {name!r}: it was forgotten, or never was; start it again.")
            return self._jobs[name]

    def cancel(self, name: str) -> Job:
        """End a job if it has not ended by itself; raises as `get`."""
        job = self.get(name)
        with self._change:
            if job.status == "running":
                job.status = "cancelled"
                if job in self._waiting:
                    self._waiting.remove(job)
                if job.apart:
                    job.apart.process.terminate()
        return job

    def end(self) -> None:
        """End all jobs and take no more."""
        with self._change:
            self._ended = True
            for name in list(self._jobs):
                self.cancel(name)
            self._change.notify_all()
        if self._thread:
            self._thread.join(10)

    def _work(self) -> None:
        while True:
            with self._change:
                self._change.wait_for(lambda: self._waiting or self._ended)
                if self._ended:
                    return
                job = self._waiting.popleft()
                job.apart = start_apart(job.function, job.arguments)
            try:
                self._listen(job, job.apart)
            except LehrError as error:
                self._settle(job, "failed", error=str(error))
            job.arguments = ()  # runs are large

    def _listen(self, job: Job, apart: Apart) -> None:
        for kind, value in apart.tellings():
            if kind == "step":
                job.begun.append(value)
            elif kind == "error":
                self._settle(job, "failed", error=str(value))
            else:
                job.done(job.name, value)
                self._settle(job, "done", value=value)

    def _settle(self, job: Job, status: str, value: Any = None, error: str | None = None) -> None:
        """Say how a job ended, unless it was cancelled meanwhile."""
        with self._change:
            if job.status == "running":
                job.value, job.error, job.status = value, error, status


def fit_laws(tell: Callable[[str], None], names: Sequence[str], runs: tuple[Run, ...], draws: int) -> Fits:
    """Fit and compare laws and draw for each of them; the steps are laws, then "NAME, draws"."""
    from lehr.fit.compare import compare
    from lehr.fit.files import from_comparison
    from lehr.fit.uncertainty import bootstrap_all
    from lehr.laws import get_law

    fits = from_comparison(compare([get_law(name) for name in names], runs, None, tell, workers=1))
    if draws:
        drawn = bootstrap_all(
            fits.results, runs, draws, workers=1, progress=lambda name: tell(f"{name}, draws")
        )
        fits = replace(fits, results=drawn)
    return fits


def optimise(tell: Callable[[str], None], result: FitResult, plan: dict[str, Any]) -> Optimum:
    """Search the free-form schedule with the lowest predicted final loss; one step."""
    from lehr.anneal.optimize import optimize_schedule

    tell(result.law)
    return optimize_schedule(result, **plan)
