"""Watch a growing log: look again and again, answer when there is something new, end cleanly."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from lehr.cli.common import say
from lehr.errors import LehrError

if TYPE_CHECKING:
    from lehr.anneal.branch import DecayAdvice
    from lehr.runs.following import Followed
    from lehr.runs.run import Run


class Remarks:
    """Remarks on stderr, each said when it becomes true rather than at every look."""

    def __init__(self) -> None:
        self.present = ""
        self.warned: set[str] = set()

    def state(self, text: str) -> None:
        """Say `text` if it is another than before; empty for nothing to say."""
        if text and text != self.present:
            say(text)
        self.present = text

    def warn(self, warnings: Iterable[str]) -> None:
        """Say each warning once."""
        for warning in warnings:
            if warning not in self.warned:
                say(f"warning: {warning}")
                self.warned.add(warning)


def follow(
    log: Path, read_run: Callable[[Followed], Run], advise: Callable[[Run], DecayAdvice],
    show: Callable[[DecayAdvice, Remarks], None], every: float, deadline: int | None,
) -> None:  # fmt: skip
    """Show an answer whenever the log at `log` has gone on, until Ctrl-C or the deadline.

    What prevents an answer (the log is absent, too short, or broken for the moment) is a remark, and
    the next look comes after `every` seconds.
    """
    from lehr.runs.following import look

    seen, content, now, remarks = None, b"", -1.0, Remarks()
    say(f"watching {log}; Ctrl-C ends")
    try:
        while True:
            try:
                fresh = look(log, seen)
                if not fresh.content or not log.exists():
                    remarks.state(f"waiting: {log} {'has no row yet' if log.exists() else 'is absent'}")
                elif fresh.content != content:
                    content = fresh.content
                    run = read_run(fresh)
                    seen = fresh  # only now: what cannot be read must not become the log's past
                    if deadline is not None and run.step[-1] >= deadline:
                        say(f"ended: the deadline of {deadline} updates has been reached")
                        return
                    found = advise(run)
                    remarks.state("")
                    if found.now != now:
                        now = found.now
                        show(found, remarks)
            except LehrError as error:
                remarks.state(f"waiting: {error}")
            time.sleep(every)
    except KeyboardInterrupt:
        say("ended")
    except BrokenPipeError:  # whoever read the lines has gone: leave nothing to be flushed at the exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
