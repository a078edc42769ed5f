"""The local engine: workers as processes of this machine, each pinned to cores or to a GPU of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lehr.proxy.sweep.supply import MOST_ERRORS
from lehr.proxy.sweep.worker import DISK_FULL

SAID = "workers.txt"  # in the sweep's folder: what workers print


@dataclass
class _Slot:
    """A place for a worker, with what it is pinned to."""

    cores: tuple[int, ...]
    gpu: str | None
    process: subprocess.Popen[bytes] | None = None
    over: bool = False


class LocalEngine:
    """Starts workers, and new ones in the place of those that died.

    Parameters
    ----------
    folder : of the sweep.
    workers : how many; None for one a GPU, or one a core where there are none.
    """

    def __init__(self, folder: Path, workers: int | None = None) -> None:
        self.folder = folder
        gpus, cores = visible_gpus(), _cores()
        count = workers or len(gpus) or len(cores)
        self.slots = [
            _Slot(_share(cores, index, count), gpus[index % len(gpus)] if gpus else None)
            for index in range(count)
        ]
        self.problem: str | None = None  # why no worker can go on
        self.errors, self.ended = 0, -1

    def tend(self) -> int:
        """Start the workers that are lacking; return how many work."""
        for slot in self.slots:
            if slot.process is not None:
                code = slot.process.poll()
                if code is None:
                    continue
                self._ended(slot, code)
            if not slot.over and self.problem is None:
                self._start(slot)
        return sum(slot.process is not None for slot in self.slots)

    def stop(self, hard: bool = False) -> None:
        """Tell the workers to save and go, or end them at once; wait for it."""
        living = [
            slot.process for slot in self.slots if slot.process is not None and slot.process.poll() is None
        ]
        for process in living:
            process.send_signal(signal.SIGKILL if hard else signal.SIGTERM)
        for process in living:
            process.wait()

    def _start(self, slot: _Slot) -> None:
        command = [
            sys.executable,
            "-m",
            "lehr.proxy.sweep.worker",
            str(self.folder),
            "--parent",
            str(os.getpid()),
        ]
        environment = {"OMP_NUM_THREADS": str(max(1, len(slot.cores))), **os.environ}
        if slot.gpu is not None:
            environment["CUDA_VISIBLE_DEVICES"] = slot.gpu
        with (self.folder / SAID).open("ab") as said:
            slot.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                env=environment,
                start_new_session=True,
            )
        if slot.cores and hasattr(os, "sched_setaffinity"):
            try:
                os.sched_setaffinity(slot.process.pid, slot.cores)
            except ProcessLookupError:
                pass

    def _ended(self, slot: _Slot, code: int) -> None:
        slot.process = None
        if code == 0:
            slot.over = True
        elif code == DISK_FULL:
            self.problem = f"the disk of {self.folder} takes no more: free some space"
        elif code > 0:  # no kill: something is wrong with the worker itself
            ended = len(list((self.folder / "ended").iterdir()))
            self.errors = self.errors + 1 if ended == self.ended else 1
            self.ended = ended
            if self.errors >= MOST_ERRORS:
                self.problem = f"workers end with exit code {code}; the end of {self.folder / SAID} says why"


def threads_of(workers: int | None) -> int:
    """Threads that each of so many workers has, which is its cores."""
    cores = len(_cores())
    return max(1, cores // (workers or len(visible_gpus()) or cores))


def visible_gpus() -> list[str]:
    """GPUs that may be used, as CUDA names them: those of CUDA_VISIBLE_DEVICES, else all that the driver lists."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is not None:
        return [name.strip() for name in told.split(",") if name.strip() not in ("", "-1")]
    found = Path("/proc/driver/nvidia/gpus")
    return [str(index) for index in range(len(list(found.iterdir())))] if found.is_dir() else []


def _cores() -> list[int]:
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _share(cores: Sequence[int], index: int, count: int) -> tuple[int, ...]:
    """Cores of one of `count` workers: neighbours, all of one size; shared in turn where there are too few.

    >>> [_share([0, 1, 2, 3, 4], index, 2) for index in range(2)]
    [(0, 1), (2, 3)]
    >>> [_share([0, 1], index, 3) for index in range(3)]
    [(0,), (1,), (0,)]
    """
    size = max(1, len(cores) // count)
    first = index * size % len(cores) if count > len(cores) else index * size
    return tuple(cores[first : first + size])
