"""The Ray engine: workers as tasks of a Ray cluster, spread over its nodes, each of which holds a process of its own.

The process is what works (`ray_task`); the task reserves its place in the cluster, and ends when it does.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import lehr
from lehr.errors import bad
from lehr.files import make_folder, write_atomic
from lehr.proxy.sweep.engine_options import RayOptions
from lehr.proxy.sweep.queue import alive, new_owner
from lehr.proxy.sweep.ray_connect import connect
from lehr.proxy.sweep.ray_task import BLIND, END, STRANGE, WANTED, WORK, Order, hold
from lehr.proxy.sweep.supply import Supply
from lehr.proxy.sweep.worker import DISK_FULL

GONE, GONE_AT_ONCE = 60.0, 5.0  # seconds that workers may take to save and go, and to be ended
ASK = 1.0  # seconds between two questions for the cluster's size


class RayEngine:
    """Keeps as many tasks in the cluster as there is work for.

    Parameters
    ----------
    folder : of the sweep, on a file system that all nodes share.
    workers : how many at most; None for as many as the cluster has room for, now and as nodes join.
    options : where the cluster is, and what a worker takes of it.

    Raises
    ------
    InputError
        If Ray is not installed, or the options make no sense.
    ResultError
        If no cluster answers.
    """

    def __init__(self, folder: Path, workers: int | None = None, options: RayOptions | None = None) -> None:
        self.folder, self.options, self.workers = folder.absolute(), options or RayOptions(), workers
        _check(self.options)
        self.supply = Supply(folder)
        self.ray = connect(self.options.address)
        self.place = self.folder / "ray" / new_owner()
        self._make_place()
        self.room, self.asked = 0, 0.0
        self.needs = self._needs()
        self.task = self.ray.remote(
            num_cpus=self.options.cpus, num_gpus=self.needs["GPU"], memory=self.options.memory,
            resources=dict(self.options.resources), max_retries=0, scheduling_strategy="SPREAD",
        )(hold)  # fmt: skip
        self.tasks: dict[Any, int] = {}
        self.submitted = 0
        self.trouble: str | None = None

    @property
    def problem(self) -> str | None:
        """Why no worker can go on."""
        return self.trouble or self.supply.problem

    def tend(self) -> int:
        """Submit the workers that are lacking; return how many wait or work."""
        try:
            for task in self._over(0.0):
                del self.tasks[task]
                self._ended(task)
            self.supply.look_at_disk()
            if self.problem is None:
                wanted = self.supply.wanted(self.workers or max(1, self._look_for_room()))
                for _ in range(wanted - len(self.tasks)):
                    self._submit()
        except self.ray.exceptions.RayError as error:
            self.trouble = f"the Ray cluster has stopped answering: {_line(error)}"
            self.tasks = {}
        return len(self.tasks)

    def stop(self, hard: bool = False) -> None:
        """Let the workers save and go, or end them at once; wait for it."""
        if hard:
            write_atomic(self.place / WANTED, END)
        else:
            (self.place / WANTED).unlink(missing_ok=True)
        begun = {path.name for path in self.place.iterdir()}
        try:
            for task, number in list(self.tasks.items()):
                if str(number) not in begun:  # it waits for a place
                    self.ray.cancel(task, force=True)
                    del self.tasks[task]
            over = self._over(GONE_AT_ONCE if hard else GONE)
            for task in self.tasks.keys() - set(over):
                self.ray.cancel(task, force=True)
        except self.ray.exceptions.RayError as error:
            sys.stderr.write(f"the Ray cluster does not answer; workers may go on: {_line(error)}\n")
        self.tasks = {}
        self.ray.shutdown()
        shutil.rmtree(self.place, ignore_errors=True)

    def _make_place(self) -> None:
        """Make the folder by which workers know that they are wanted; those of drivers that were killed go."""
        for old in self.place.parent.glob("*"):
            if alive(old.name) is False:
                shutil.rmtree(old, ignore_errors=True)
        make_folder(self.place)
        write_atomic(self.place / WANTED, WORK)

    def _needs(self) -> dict[str, float]:
        """What one worker takes, by resource; one GPU by default where the cluster has any."""
        gpus = self.options.gpus
        if gpus is None:
            gpus = 1.0 if any(each.get("GPU", 0) >= 1 for each in self._nodes()) else 0.0
        memory = float(self.options.memory or 0)
        return {**self.options.resources, "CPU": float(self.options.cpus), "GPU": gpus, "memory": memory}

    def _nodes(self) -> list[dict[str, float]]:
        """Resources of each node."""
        return [node["Resources"] for node in self.ray.nodes() if node["Alive"]]

    def _look_for_room(self) -> int:
        """How many workers the cluster can hold as it is now."""
        if time.monotonic() - self.asked < ASK and self.asked:
            return self.room
        first = not self.asked
        self.asked = time.monotonic()
        needs = {name: need for name, need in self.needs.items() if need}
        self.room = sum(
            min(int(each.get(name, 0.0) / need) for name, need in needs.items()) for each in self._nodes()
        )
        if first and not self.room:
            told = ", ".join(f"{name} {need:g}" for name, need in needs.items())
            sys.stderr.write(
                f"no node of the Ray cluster has what a worker takes ({told}); waiting for one.\n"
            )
        return self.room

    def _submit(self) -> None:
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(self.options.cpus))}
        if not self.needs["GPU"]:  # else Ray says which it may see
            environment["CUDA_VISIBLE_DEVICES"] = ""
        order = Order(str(self.place), self.submitted, environment, os.getcwd(), lehr.__version__)
        self.tasks[self.task.remote(order)] = self.submitted
        self.submitted += 1

    def _over(self, seconds: float) -> list[Any]:
        """Tasks that have ended, at the latest after so many seconds."""
        if not self.tasks:
            return []
        return self.ray.wait(list(self.tasks), num_returns=len(self.tasks), timeout=seconds)[0]

    def _ended(self, task: Any) -> None:
        """Take note of how a worker ended."""
        try:
            code, where = self.ray.get(task)
        except self.ray.exceptions.RayTaskError as error:
            self.supply.note_error(
                f"workers cannot begin on the nodes: {_line(error)}; is lehr installed there?"
            )
            return
        except self.ray.exceptions.OutOfMemoryError:
            self.supply.note_error(
                "Ray ends workers for want of memory: let each reserve more, engine.ray.memory"
            )
            return
        except self.ray.exceptions.RayError:  # its node is gone, or it was killed: another takes its place
            return
        if code == BLIND:
            self.trouble = f"node {where} does not see {self.folder}: use a folder that all nodes share"
        elif code == STRANGE:
            self.trouble = f"node {where} of lehr, this is {lehr.__version__}: install the same one"
        elif code == DISK_FULL:
            self.supply.note_full()
        elif code > 0:
            said = self.folder / "workers.txt"
            self.supply.note_error(
                f"workers on {where} end with exit code {code}; the end of {said} says why"
            )


def _line(error: Exception) -> str:
    """The last line of an error of Ray's, which is what it is about."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[-1].strip()[:200].rstrip(".")


def _check(options: RayOptions) -> None:
    if options.gpus and options.gpus > 1 and options.gpus != int(options.gpus):
        raise bad("engine.ray.gpus", "must be a whole number, or a part of one GPU", options.gpus, "0.5 or 2")
    for name in ("CPU", "GPU", "memory"):
        if name in options.resources:
            raise bad(
                "engine.ray.resources", "must be names of your own", name, "the keys cpus, gpus and memory"
            )
