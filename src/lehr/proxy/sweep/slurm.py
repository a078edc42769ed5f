"""The Slurm engine: workers as tasks of job arrays, which see the sweep's folder and need nothing else of the driver.

Jobs are known by their name, made of the sweep's folder, and Slurm is asked for them: whoever drives the sweep, another
driver at the same time or one that begins anew, finds the jobs that are there. Jobs go on when the driver is gone.
"""

from __future__ import annotations

import hashlib
import shlex
import sys
import time
from pathlib import Path

from lehr.files import make_folder, write_atomic
from lehr.proxy.sweep.engine_options import SlurmOptions
from lehr.proxy.sweep.queue import Queue
from lehr.proxy.sweep.slurm_commands import (
    SlurmError,
    Task,
    cancel,
    require_cluster,
    submission,
    submit,
    tasks_of,
)
from lehr.proxy.sweep.supply import IDLE, Supply
from lehr.proxy.sweep.worker import DISK_FULL

MOST_TASKS = 32  # at a time, unless told
SILENT = 900.0  # seconds without an answer of Slurm's before the engine gives up
GONE = 120.0  # seconds that jobs which are cancelled may take to go
SUBMIT = "submit"  # what a driver claims while it submits
SCRIPT = """#!/bin/bash
# One worker of {folder}; its exit code is left beside its output.
export OMP_NUM_THREADS="${{OMP_NUM_THREADS:-{cpus}}}"
export SRUN_CPUS_PER_TASK={cpus}  # srun does not take it from the job, since Slurm 22.05
export MASTER_ADDR="$(hostname)" MASTER_PORT="$((20000 + SLURM_JOB_ID % 20000))"
{setup}
worker="" told=""
trap 'told=1; [ -z "$worker" ] || kill -TERM "$worker" 2>/dev/null' TERM
{command} &
worker=$!
[ -z "$told" ] || kill -TERM "$worker"
wait "$worker"
code=$?
while kill -0 "$worker" 2>/dev/null; do
  wait "$worker"
  code=$?
done
echo "$code" > {place}/"$SLURM_ARRAY_JOB_ID"_"$SLURM_ARRAY_TASK_ID.exit"
exit "$code"
"""


class SlurmEngine:
    """Submits arrays of workers, and further ones while there is work for them.

    Parameters
    ----------
    folder : of the sweep, on a file system that all nodes share.
    workers : how many at most; None for 32.
    options : of the jobs.

    Raises
    ------
    InputError, SlurmError
        If there is no Slurm here, or it would not take the jobs.
    """

    def __init__(self, folder: Path, workers: int | None = None, options: SlurmOptions | None = None) -> None:
        self.folder, self.options = folder.absolute(), options or SlurmOptions()
        self.most = workers or MOST_TASKS
        self.place = self.folder / "slurm"
        self.supply = Supply(folder)
        digest = hashlib.sha256(str(self.folder.resolve()).encode()).hexdigest()[:12]
        self.name = f"lehr-{self.supply.plan.name[:40]}-{digest}"
        self.lock = Queue(self.place)
        self.lock.make()
        make_folder(self.place)
        script = self.place / "worker.sh"
        write_atomic(script, self._script())
        require_cluster(submission(script, self.name, self.place, 1, self.options))
        self.living, self.asked, self.answered = 0, 0.0, time.monotonic()
        self.read: set[str] = {path.name for path in self.place.glob("*.exit")}
        self.trouble: str | None = None

    @property
    def problem(self) -> str | None:
        """Why no worker can go on."""
        return self.trouble or self.supply.problem

    def tend(self) -> int:
        """Submit the workers that are lacking; return how many wait or work."""
        now = time.monotonic()
        if now - self.asked < self.options.poll and self.asked:
            return self.living
        self.asked = now
        try:
            tasks = tasks_of(self.name)
            self.answered = now
            self._read_exits()
            self.living = len(tasks) - self._stuck(tasks)
            lacking = self.supply.wanted(self.most) - len(tasks)
            if lacking > 0:
                self.supply.look_at_disk()
            if lacking > 0 and not self.problem:
                self.living += self._submit(lacking)
        except SlurmError as error:
            if now - self.answered > SILENT:
                self.trouble = f"{error.args[0].rstrip('.')}; Slurm has not answered for {SILENT:g} s"
                self.living = 0
        return self.living

    def stop(self, hard: bool = False) -> None:
        """Cancel the sweep's jobs, which then save and go; wait until they are gone."""
        try:
            if not tasks_of(self.name):
                return
            cancel(self.name, hard=hard)
            until = time.monotonic() + GONE
            while tasks_of(self.name) and time.monotonic() < until:
                time.sleep(min(1.0, self.options.poll))
        except SlurmError as error:
            sys.stderr.write(f"the sweep's jobs may go on (scancel --name={self.name}): {error}\n")

    def _script(self) -> str:
        command = [sys.executable, "-m", "lehr.proxy.sweep.worker", str(self.folder), "--idle", f"{IDLE:g}"]
        return SCRIPT.format(
            folder="".join(c if c.isprintable() else "?" for c in str(self.folder)), cpus=self.options.cpus,
            setup="\n".join(self.options.setup), command=shlex.join(command), place=shlex.quote(str(self.place)),
        )  # fmt: skip

    def _submit(self, tasks: int) -> int:
        """Submit so many workers, unless another driver is at it; return how many."""
        claim = self.lock.claim(SUBMIT)
        if claim is None:
            return 0
        try:
            tasks = min(tasks, self.supply.wanted(self.most) - len(tasks_of(self.name)))
            if tasks <= 0:
                return 0
            submit(submission(self.place / "worker.sh", self.name, self.place, tasks, self.options))
            return tasks
        finally:
            claim.release()

    def _stuck(self, tasks: list[Task]) -> int:
        stuck = [task for task in tasks if task.stuck]
        if stuck and len(stuck) == len(tasks):
            self.trouble = (
                f"Slurm holds the sweep's jobs back ({stuck[0].reason}): release or cancel them "
                f"(scancel --name={self.name})"
            )
        return len(stuck)

    def _read_exits(self) -> None:
        """Take note of how workers ended since; one that was killed has left no code."""
        for path in self.place.glob("*.exit"):
            if path.name in self.read:
                continue
            self.read.add(path.name)
            code = path.read_text("ascii", "replace").strip()
            if code == str(DISK_FULL):
                self.supply.note_full()
            elif code not in ("", "0", "137", "143"):  # no kill: something is wrong with the worker itself
                said = path.with_suffix(".txt")
                self.supply.note_error(f"workers end with exit code {code}; the end of {said} says why")
