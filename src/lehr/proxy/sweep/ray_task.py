"""What a Ray task does on its node: it holds a worker, a process of its own, which it ends when the driver asks.

The driver's word is a file in the sweep's folder, since Ray's own cancelling interrupts a task at any place::

    ray/DRIVER/wanted    holds WORK while the driver wants workers, END if they are to end at once;
                         without it they save and go
    ray/DRIVER/NUMBER    that task of this driver has begun

Ray kills the children of a task whose driver is gone, and with them what they have not saved. So the worker is a
grandchild, and tells itself to save and go once the task has gone.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lehr
from lehr.proxy.sweep.command import end_leftovers
from lehr.proxy.sweep.queue import Queue, alive, machine
from lehr.proxy.sweep.supply import IDLE

WANTED, WORK, END = "wanted", "work", "end"
LOOK = 0.25  # seconds between a task's looks at its process
SHARED = 5.0  # seconds that a file may take to be seen on another node
BLIND, STRANGE = -1000, -1001  # in place of an exit code: no such folder here; another lehr
# a parent for the worker, which prints its process, and a watch that outlives task and parent; $1 is the task's process
PARENT = """
task=$1; shift
"$@" >&2 &
worker=$!
echo "$worker"
(while kill -0 "$$" && kill -0 "$task" && kill -0 "$worker"; do sleep 1; done; kill -TERM "$worker") >/dev/null 2>&1 &
wait "$worker"
"""


@dataclass(frozen=True)
class Order:
    """What a task is to do.

    Parameters
    ----------
    place : the driver's folder within the sweep's.
    number : of the task.
    environment : variables of the worker's, beside the node's own.
    directory : the driver's working folder, which is the worker's too where the node has it.
    version : of the driver's lehr.
    """

    place: str
    number: int
    environment: dict[str, str]
    directory: str
    version: str


def hold(order: Order) -> tuple[int, str]:
    """Run a worker on this node until it ends; tell it to go when the driver wants it no more.

    Returns
    -------
    Its exit code, or `BLIND` if the node does not see the sweep's folder, `STRANGE` if it has another lehr; the node.
    """
    place, where = Path(order.place), node()
    if order.version != lehr.__version__:
        return STRANGE, f"{where} has {lehr.__version__}"
    until = time.monotonic() + SHARED
    while not _wanted(place):
        if time.monotonic() > until:
            return BLIND, where
        time.sleep(LOOK)
    (place / str(order.number)).touch()
    if not _wanted(place):  # whoever stops looks at what has begun after he has said so
        return 0, where
    folder = place.parent.parent
    parent, worker = _start(folder, order)
    while (code := parent.poll()) is None:
        if (said := _wanted(place)) != WORK:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL if said == END else signal.SIGTERM)
        time.sleep(LOOK)
    if code > 128:  # of a shell: the worker was killed
        _tidy(folder, worker)
        code = 128 - code
    return code, where


def node() -> str:
    """Name and address of this node."""
    import ray

    util: Any = ray.util  # untyped, where it is installed
    return f"{platform.node()} ({util.get_node_ip_address()})"


def _start(folder: Path, order: Order) -> tuple[subprocess.Popen[bytes], int]:
    """Start a worker; return its parent, and its own process number."""
    command = [sys.executable, "-m", "lehr.proxy.sweep.worker", str(folder), "--idle", f"{IDLE:g}"]
    with (folder / "workers.txt").open("ab") as said:
        parent = subprocess.Popen(
            ["sh", "-c", PARENT, "lehr-worker", str(os.getpid()), *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=said, start_new_session=True,
            env={**os.environ, **order.environment},
            cwd=order.directory if os.path.isdir(order.directory) else None,
        )  # fmt: skip
    assert parent.stdout is not None
    return parent, int(parent.stdout.readline())


def _wanted(place: Path) -> str:
    """What the driver wants; empty if nothing, or if its folder is not seen."""
    try:
        return (place / WANTED).read_text("ascii")
    except OSError:
        return ""


def _tidy(folder: Path, pid: int) -> None:
    """End what the command of a worker that was killed left on this node: its GPU is another's from now on."""
    queue = Queue(folder)
    for address, owner in queue.claimed().items():
        if owner.startswith(f"{machine()}-{pid}-") and not alive(owner):
            end_leftovers(queue.run_folder(address))
