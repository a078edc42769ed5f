"""How a sweep stands, read from its folder in one go; no torch, no driver needed."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lehr.proxy.sweep.jobs import Job, Plan
from lehr.proxy.sweep.outcome import Outcome, read_outcome
from lehr.proxy.sweep.queue import STATES, Queue

LAST_LINE = 4096  # bytes at a log's end that hold its last row
MANY = 200  # ended runs of each state whose outcome is read, beyond that only counted


@dataclass(frozen=True)
class Standing:
    """How one run stands.

    Parameters
    ----------
    job : the run.
    state : "waiting", "running", or how it ended.
    step : updates done, where they are known.
    loss : the last one, or the final one.
    reason : why it did not end well.
    silent : seconds since the last sign of life of who has it in hand.
    """

    job: Job
    state: str
    step: int | None = None
    loss: float | None = None
    reason: str = ""
    silent: float | None = None


def standings(queue: Queue, plan: Plan, details: bool = True) -> list[Standing]:
    """How every run stands, in the plan's order.

    Parameters
    ----------
    queue, plan : of the sweep.
    details : whether to read losses and reasons too, of runs in hand and of up to `MANY` of each state.
    """
    claimed = queue.claimed()  # first: what ends in between is then found ended
    ended, read = queue.ended(), Counter[str]()
    found = []
    for job in plan.jobs:
        state = ended.get(job.address)
        if state is None:
            owner = claimed.get(job.address)
            found.append(_running(queue, job, owner, details) if owner else Standing(job, "waiting"))
            continue
        read[state] += 1
        if not details or read[state] > MANY:
            found.append(Standing(job, state))
            continue
        outcome = read_outcome(queue, job.address, state)
        found.append(Standing(job, state, outcome.step, outcome.loss, outcome.reason))
    return found


def counts(found: Sequence[Standing]) -> dict[str, int]:
    """Runs in each state."""
    number = Counter(each.state for each in found)
    return {state: number[state] for state in ("waiting", "running", *STATES)}


def _running(queue: Queue, job: Job, owner: str, details: bool) -> Standing:
    if queue.dead(job.address, owner):
        return Standing(job, "waiting", reason="its worker died")
    if not details:
        return Standing(job, "running")
    try:
        silent = time.time() - (queue.folder / "claims" / job.address / owner).stat().st_mtime
    except OSError:
        silent = None
    step, loss = last_row(queue.run_folder(job.address) / "log.jsonl")
    return Standing(job, "running", step, loss, silent=silent)


def last_row(log: Path) -> tuple[int | None, float | None]:
    """Step and training loss of the last row of a run log; None where there is none yet."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - LAST_LINE))
            row = json.loads(file.read().rpartition(b"\n")[0].rpartition(b"\n")[2])
        return int(row["step"]), float(row["train_loss"])
    except (OSError, ValueError, KeyError, TypeError):
        return None, None


def estimate_seconds(jobs: Sequence[Job], ended: Mapping[str, Outcome], every: Sequence[Job]) -> float | None:
    """Seconds of one worker that runs will take, by those of the sweep that are done; None before one is.

    An update counts as long as in the finished run whose updates cost most nearly the same FLOPs.

    Parameters
    ----------
    jobs : that are to be trained.
    ended : outcomes by address.
    every : all runs of the sweep.
    """
    known = [
        (job.cost, outcome.seconds / job.updates)
        for job in every
        if (outcome := ended.get(job.address)) and outcome.state == "done" and outcome.seconds > 0
    ]
    if not known:
        return None
    total = 0.0
    for job in jobs:
        cost = job.cost
        nearest, seconds = min(known, key=lambda each: abs(each[0] - cost))
        total += seconds * job.updates * (cost / nearest if nearest and cost else 1.0)
    return total


def last_lines(folder: Path, count: int = 10) -> dict[str, list[str]]:
    """The ends of a run's log and of what its command printed, by path."""
    paths = [folder / "log.jsonl", *sorted(folder.glob("out*/output.txt"))]
    found = {}
    for path in paths:
        try:
            with path.open("rb") as file:
                file.seek(max(0, path.stat().st_size - 2 * LAST_LINE))
                found[str(path)] = file.read().decode("utf-8", "replace").splitlines()[-count:]
        except OSError:
            continue
    return found
