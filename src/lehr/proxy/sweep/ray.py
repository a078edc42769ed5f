"""The Ray engine: workers as tasks of a Ray cluster, each of which holds a process of its own on the sweep's folder.

The process is what works; the task reserves its place in the cluster, and ends when it does. A driver that is told to
stop says so by a file in the folder, since Ray's own cancelling interrupts a task at any place.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from lehr.errors import InputError, ResultError, bad
from lehr.files import make_folder, write_atomic
from lehr.proxy.sweep.engine_options import RayOptions
from lehr.proxy.sweep.supply import IDLE, Supply
from lehr.proxy.sweep.worker import DISK_FULL

PATIENCE = 8.0  # seconds to find the cluster
LOOK = 0.25  # seconds between a task's looks at its process
GONE = 60.0  # seconds that workers may take to save and go
BLIND = -1000  # what a task returns in place of an exit code if its node does not see the folder
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


class RayEngine:
    """Keeps as many tasks in the cluster as there is work for.

    Parameters
    ----------
    folder : of the sweep, on a file system that all nodes share.
    workers : how many at most; None for as many as the cluster has room for now.
    options : where the cluster is, and what a worker takes of it.

    Raises
    ------
    InputError
        If Ray is not installed, or the address is none.
    ResultError
        If no cluster answers.
    """

    def __init__(self, folder: Path, workers: int | None = None, options: RayOptions | None = None) -> None:
        self.folder, self.options, self.workers = folder.absolute(), options or RayOptions(), workers
        self.supply = Supply(folder)
        self.ray = connect(self.options.address)
        token = secrets.token_hex(8)
        self.mark = self.folder / "ray" / token  # its being there says that the driver wants workers
        make_folder(self.mark.parent)
        write_atomic(self.mark, token)
        self.task = self.ray.remote(
            num_cpus=self.options.cpus, num_gpus=self.options.gpus, memory=self.options.memory,
            resources=dict(self.options.resources), max_retries=0, scheduling_strategy="SPREAD",
        )(hold)  # fmt: skip
        self.tasks: list[Any] = []
        self.trouble: str | None = None

    @property
    def problem(self) -> str | None:
        """Why no worker can go on."""
        return self.trouble or self.supply.problem

    def tend(self) -> int:
        """Submit the workers that are lacking; return how many wait or work."""
        if self.tasks:
            over, self.tasks = self.ray.wait(self.tasks, num_returns=len(self.tasks), timeout=0)
            for task in over:
                self._ended(task)
        if self.problem is None:
            for _ in range(self.supply.wanted(self.workers or self._room()) - len(self.tasks)):
                self.tasks.append(self.task.remote(str(self.mark), self.options.cpus, os.getcwd()))
        return len(self.tasks)

    def stop(self, hard: bool = False) -> None:
        """Let the workers save and go, or end them at once; wait for it."""
        self.mark.unlink(missing_ok=True)
        if self.tasks and not hard:
            _, self.tasks = self.ray.wait(self.tasks, num_returns=len(self.tasks), timeout=GONE)
        for task in self.tasks:
            self.ray.cancel(task, force=True)
        self.tasks = []
        self.ray.shutdown()

    def _room(self) -> int:
        """How many workers the cluster, as it is now, can hold; one at least."""
        there = self.ray.cluster_resources()
        needs = {"CPU": float(self.options.cpus), "GPU": self.options.gpus, **self.options.resources}
        return max(1, min(int(there.get(name, 0.0) / need) for name, need in needs.items() if need))

    def _ended(self, task: Any) -> None:
        """Take note of how a worker ended."""
        try:
            code, where = self.ray.get(task)
        except self.ray.exceptions.RayTaskError as error:
            last = str(error).strip().splitlines()[-1]
            self.supply.note_error(
                f"workers cannot begin on the nodes: {last}; install lehr there as it is here"
            )
            return
        except self.ray.exceptions.RayError:  # its node is gone, or it was killed: another takes its place
            return
        if code == BLIND:
            self.trouble = f"node {where} does not see {self.folder}: use a folder that all nodes share"
        elif code == DISK_FULL:
            self.trouble = f"the disk of {self.folder} takes no more: free some space"
        elif code > 0:
            self.supply.note_error(
                f"workers on {where} end with exit code {code}; the end of {self.folder / 'workers.txt'} says why"
            )


def hold(mark: str, threads: int, place_of_driver: str) -> tuple[int, str]:
    """Run a worker on this node until it ends or the driver wants it no more.

    Parameters
    ----------
    mark : the file that is there while the driver wants it.
    threads : of a run, unless the node's own OMP_NUM_THREADS says otherwise.
    place_of_driver : the driver's working folder, which is the worker's too where the node has it.

    Returns
    -------
    Its exit code, `BLIND` if the node does not see the sweep's folder, and the node's name.
    """
    place, where = Path(mark), socket.gethostname()
    folder = place.parent.parent
    if not (folder / "plan.jsonl").exists():
        return BLIND, where
    command = [sys.executable, "-m", "lehr.proxy.sweep.worker", str(folder), "--parent", str(os.getpid())]
    environment = {"OMP_NUM_THREADS": str(threads), **os.environ}
    here = place_of_driver if os.path.isdir(place_of_driver) else None
    with (folder / "workers.txt").open("ab") as said:
        process = subprocess.Popen(
            [*command, "--idle", f"{IDLE:g}"], stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=environment,
            cwd=here, start_new_session=True,
        )  # fmt: skip
    while process.poll() is None:
        if not place.exists():
            process.terminate()
        time.sleep(LOOK)
    return process.returncode, where


def connect(address: str) -> Any:
    """Return the package ray, connected to a cluster.

    Raises
    ------
    InputError
        If it is not installed, or the address is of another kind.
    ResultError
        If no cluster answers within some ten seconds.
    """
    logging.getLogger("ray").setLevel(logging.ERROR)
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError:
        raise InputError("--engine ray needs Ray: install it with `pip install 'lehr[ray]'`.") from None
    told = os.environ.get("RAY_ADDRESS", "auto") if address == "auto" else address
    if "://" in told or (told != "auto" and not told.rpartition(":")[2].isdigit()):
        raise bad(
            "engine.ray.address", 'must be "auto" or HOST:PORT of the head', told, 'e.g. "10.0.0.1:6379"'
        )
    failed = _unreachable(told) or _joined(ray, told)
    if failed:
        raise ResultError(
            f"no Ray cluster answers at {told} ({failed}): start one with `ray start --head`, name it in "
            "[engine.ray] address, or use --engine local."
        )
    return ray


def _unreachable(address: str) -> str | None:
    """Why nothing listens at HOST:PORT; None if something does, or the address is to be found out."""
    if address == "auto":
        return None
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE / 2).close()
    except OSError as error:
        return str(error)
    return None


def _joined(ray: Any, address: str) -> str | None:
    """Connect, within bounds, as Ray itself goes on trying; return why that failed, None if it did not."""
    found: list[str | None] = []

    def join() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR", configure_logging=False)
            found.append(None)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            found.append(" ".join(str(error).split())[:200].rstrip("."))

    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return found[0] if found else f"nothing within {PATIENCE:g} s"
