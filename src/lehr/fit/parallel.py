"""Share independent tasks among processes: the same results for any number of them.

Workers are fresh interpreters that import lehr and nothing else, not the script that asked: it needs no
`if __name__ == "__main__"`. Their BLAS has one thread each, since the matrices here are too small for
more and the processes would fight for the cores. They ignore Ctrl-C; the asking process stops them.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from queue import Empty, SimpleQueue
from types import ModuleType
from typing import Any, TypeVar

from lehr.errors import LehrError, ResultError, bad

Outcome = TypeVar("Outcome")
THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
WAKE = 0.3  # seconds; a Ctrl-C that comes just before a wait is seen only when it ends
_STARTING = threading.Lock()  # the environment and the main module are changed while workers start


def map_tasks(
    function: Callable[..., Outcome], tasks: Mapping[str, tuple[Any, ...]], workers: int | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Outcome]:  # fmt: skip
    """Call `function` with the arguments of each task.

    Parameters
    ----------
    function : of a module of lehr; it takes and gives values that pickle.
    tasks : arguments by name of the task.
    workers : number of processes, at least 1, by default that of the cores; 1 works in this process.
    progress : called with the name of each task before its outcome is waited for.

    Returns
    -------
    Outcome by name, in the order of `tasks`.

    Raises
    ------
    ResultError
        If a worker died; what a task raises is raised as it is.
    """
    tell = progress or (lambda name: None)
    found: dict[str, Outcome] = {}
    if _count(workers, len(tasks)) == 1:
        for name, arguments in tasks.items():
            tell(name)
            found[name] = function(*arguments)
        return found
    before = set(multiprocessing.active_children())
    spawn = multiprocessing.get_context("spawn")
    executor = ProcessPoolExecutor(_count(workers, len(tasks)), mp_context=spawn)
    ended: SimpleQueue[tuple[str, tuple[Any, BaseException | None]]] = SimpleQueue()
    came: dict[str, tuple[Any, BaseException | None]] = {}
    try:
        with _plain_start():
            for name, arguments in tasks.items():
                executor.submit(function, *arguments).add_done_callback(partial(_report, ended, name))
        for name in tasks:
            tell(name)
            while name not in came:
                with suppress(Empty):
                    came |= [ended.get(timeout=WAKE)]
            value, error = came[name]
            if error is not None:
                raise error
            found[name] = value
    except BaseException as error:
        for process in set(multiprocessing.active_children()) - before:
            process.terminate()
        if isinstance(error, BrokenProcessPool):
            raise ResultError(
                "a worker process died before its work was done (out of memory, or killed): "
                "try again with fewer workers, 1 for none."
            ) from None
        raise
    finally:
        executor.shutdown(cancel_futures=True)
    return found


def _report(ended: SimpleQueue[Any], name: str, future: Future[Any]) -> None:
    """Tell what came of a task, from the thread that it came to.

    A future has a lock that this thread needs: a Ctrl-C that found the main thread with it would never give it back,
    so the main thread asks this queue, which has none, in place of the future.
    """
    if not future.cancelled():
        error = future.exception()
        ended.put((name, (None if error else future.result(), error)))


def start_apart(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Apart:
    """Call `function` in a process of its own, which ends with this one, whatever ends this one.

    Parameters
    ----------
    function : of a module of lehr; it takes `arguments` and, first, a function to call with each step's name.
    arguments : values that pickle, as does what it returns.
    """
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    # a daemon: it has no processes of its own, and is ended with this one
    process = spawn.Process(target=_apart, args=(theirs, function, arguments), daemon=True)
    with _plain_start():
        process.start()
    theirs.close()  # so that its death shows here
    return Apart(process, ours)


@dataclass(frozen=True, eq=False)
class Apart:
    """A process that `start_apart` began, and the pipe on which it tells."""

    process: SpawnProcess
    pipe: Connection

    def tellings(self) -> Iterator[tuple[str, Any]]:
        """What it tells, until its end: ("step", name), then ("value", outcome) or ("error", a LehrError).

        Raises
        ------
        ResultError
            If it died before its work was done.
        """
        try:
            while True:
                kind, value = self.pipe.recv()
                yield kind, value
                if kind != "step":
                    return
        except (EOFError, OSError):
            raise ResultError(
                "the process at work died before it was done (out of memory, or killed): try again."
            ) from None
        finally:
            self.stop()

    def stop(self) -> None:
        """End it now."""
        self.process.terminate()
        self.process.join()


def _apart(pipe: Connection, function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    """Do the work of `start_apart`; what is no LehrError is told on stderr, and the process dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(pipe,), daemon=True).start()
    try:
        told = ("value", function(lambda name: pipe.send(("step", name)), *arguments))
    except LehrError as error:
        told = ("error", error)
    pipe.send(told)


def _end_with(pipe: Connection) -> None:
    """End this process when the other end of the pipe is closed, as by the death of the one that asked."""
    try:
        pipe.recv()  # nothing is ever sent this way
    except (EOFError, OSError):
        os._exit(1)


def importable(value: object) -> bool:
    """Whether a worker can make sense of `value`: its class is lehr's own, not one of the asking script."""
    return type(value).__module__.partition(".")[0] == "lehr"


def _count(workers: int | None, tasks: int) -> int:
    """Number of processes for so many tasks."""
    if workers is not None and workers < 1:
        raise bad(
            "workers", "must be at least 1", workers, "give a number of processes, 1 for this one alone"
        )
    if multiprocessing.current_process().daemon:  # such a process may have no children
        return 1
    if workers is None:
        known = hasattr(os, "sched_getaffinity")  # fewer than the machine's in a batch job
        workers = len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1
    return max(1, min(workers, tasks))


@contextmanager
def _plain_start() -> Iterator[None]:
    """What processes that start meanwhile inherit: one BLAS thread, no main module, a deaf ear to Ctrl-C."""
    with _STARTING:
        main, environment = sys.modules["__main__"], {name: os.environ.get(name) for name in THREADS}
        listening = threading.current_thread() is threading.main_thread()
        handler = signal.signal(signal.SIGINT, signal.SIG_IGN) if listening else None
        sys.modules["__main__"] = ModuleType("__main__")
        os.environ.update(dict.fromkeys(THREADS, "1"))
        try:
            yield
        finally:
            sys.modules["__main__"] = main
            for name, value in environment.items():
                if value is None:
                    del os.environ[name]
                else:
                    os.environ[name] = value
            if listening:
                signal.signal(signal.SIGINT, handler)
