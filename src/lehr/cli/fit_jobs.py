"""`lehr fit --jobs FOLDER`: the comparison and the bootstrap as jobs of a sweep's folder, for workers anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lehr.cli.common import say
from lehr.errors import InputError, ResultError, unknown

if TYPE_CHECKING:
    from lehr.fit.compare import Comparison
    from lehr.fit.fit import FitOptions
    from lehr.fit.result import FitResult
    from lehr.laws.law import Law
    from lehr.proxy.sweep.engine_options import EngineOptions
    from lehr.proxy.sweep.jobs import Plan
    from lehr.proxy.sweep.queue import Queue
    from lehr.runs.run import Run


def jobs_of(
    folder: Path | None, store: Path, workers: int | None, engine: str | None, options: Path | None
) -> Jobs | None:
    """What `--jobs`, `--engine` and `--engine-options` ask for; None without a folder.

    Raises
    ------
    InputError
        If the others are given without it, or wrong.
    """
    from lehr.proxy.sweep.engine_options import EngineOptions, load_engine_options
    from lehr.proxy.sweep.engines import ENGINES

    if folder is None:
        for name, value in (("--engine", engine), ("--engine-options", options)):
            if value is not None:
                raise InputError(f"{name} goes with --jobs, which is not given: add it, or leave {name} out.")
        return None
    if engine is not None and engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    told = load_engine_options(options) if options else EngineOptions()
    return Jobs(folder, store, workers, engine or "local", told)


@dataclass(frozen=True)
class Jobs:
    """Where the jobs are, which store holds the runs, and which workers this process keeps going."""

    folder: Path
    store: Path
    workers: int | None
    engine: str
    options: EngineOptions

    def compare(
        self, laws: Sequence[Law], runs: tuple[Run, ...], options: FitOptions
    ) -> tuple[Comparison, Plan]:
        """Compare laws as `lehr.fit.compare.compare` does; also the plan, for the bootstrap."""
        from lehr.proxy.sweep.fitting import comparison_plan, gather

        plan = comparison_plan(self.store, [law.name for law in laws], runs, options)
        queue = self._work(plan)
        return gather(queue, plan, runs, options), plan

    def bootstrap(
        self, plan: Plan, results: dict[str, FitResult], draws: int, seed: int
    ) -> dict[str, FitResult]:
        """Bootstrap fits as `lehr.fit.uncertainty.bootstrap_all` does."""
        from lehr.proxy.sweep.fitting import gather_draws, with_draws_of

        whole = with_draws_of(plan, list(results), draws, seed)
        return gather_draws(self._work(whole), whole, results)

    def _work(self, plan: Plan) -> Queue:
        from lehr.cli.train import stopping
        from lehr.proxy.sweep.driver import drive
        from lehr.proxy.sweep.engines import make_engine
        from lehr.proxy.sweep.jobs import PLAN, read_plan, write_plan
        from lehr.proxy.sweep.queue import Queue

        if (self.folder / PLAN).exists() and any(job.kind != "fit" for job in read_plan(self.folder).jobs):
            raise InputError(f"{self.folder} is the folder of a sweep of trainings: name another for --jobs.")
        queue = Queue(self.folder)
        queue.make()
        write_plan(self.folder, plan)
        engine = make_engine(self.engine, self.folder, self.workers, self.options)
        left = len(plan.jobs) - len(queue.ended().keys() & {job.address for job in plan.jobs})
        say(f"{left} of {len(plan.jobs)} jobs to do in {self.folder}")
        try:
            with stopping() as stop:
                seen = drive(queue, plan, engine, stop=stop)
        except KeyboardInterrupt:
            engine.stop(hard=True)
            raise ResultError("stopped at once: the same command goes on.") from None
        if seen.stopped:
            raise ResultError(
                f"stopped with {len(seen.ended)} of {len(plan.jobs)} jobs done: the same command goes on."
            )
        return queue
