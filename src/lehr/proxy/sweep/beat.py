"""The heart of a worker: a thread that shows signs of life, and that notices why its run should stop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from lehr.proxy.sweep.queue import Claim, Queue

LOOK = 0.25  # seconds between two looks
TOUCH = 5.0  # seconds between two signs of life, far below a lease


class Stopped(Exception):  # noqa: N818  # no error: the run is to be let go of, for the reason given
    """The run should not go on."""


class Beat:
    """Watches over the run in hand.

    Parameters
    ----------
    queue : of the sweep.
    parent : process without which the worker is to stop; None for none.
    """

    def __init__(self, queue: Queue, parent: int | None = None) -> None:
        self.queue, self.parent = queue, parent
        self.ending: str | None = None  # why the worker itself is to stop: "stopped" or "orphaned"
        self._lock = threading.Lock()
        self._claim: Claim | None = None
        self._reason: str | None = None
        self._until = float("inf")
        self._interrupt: Callable[[str], None] | None = None
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    @property
    def reason(self) -> str | None:
        """Why the run should stop: "lost", "cancelled", "overtime", "stopped" or "orphaned"; None while it need not."""
        return self._reason or self.ending

    def begin(self, claim: Claim, hours: float | None) -> None:
        """Watch over a claim from now on, for so many hours."""
        with self._lock:
            self._claim, self._reason, self._interrupt = claim, None, None
            self._until = time.monotonic() + 3600 * hours if hours else float("inf")

    def interrupting(self, call: Callable[[str], None] | None) -> None:
        """Call `call` with the reason as soon as the run should stop."""
        with self._lock:
            self._interrupt = call

    def finish(self) -> None:
        """Watch over nothing."""
        with self._lock:
            self._claim = self._interrupt = None

    def close(self) -> None:
        """End the thread."""
        self._closed.set()

    def _watch(self) -> None:
        touched = 0.0
        while not self._closed.wait(LOOK):
            if self.parent and os.getppid() != self.parent:
                self.ending = "orphaned"
            with self._lock:
                claim = self._claim
                if claim is None:
                    continue
                try:
                    if time.monotonic() - touched >= TOUCH:
                        alive = claim.touch()
                        touched = time.monotonic()
                    else:
                        alive = claim.path.exists()
                except OSError:  # the file system does not answer: the next look will tell
                    continue
                if not alive:
                    self._reason = "lost"
                elif self.queue.cancelling(claim.address):
                    self._reason = "cancelled"
                elif time.monotonic() > self._until:
                    self._reason = "overtime"
                if self.reason and self._interrupt:
                    self._interrupt(self.reason)
