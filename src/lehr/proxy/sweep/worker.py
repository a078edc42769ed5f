"""A worker: takes runs of a sweep's folder one after another until all have ended. It needs nothing but the folder.

    python -m lehr.proxy.sweep.worker FOLDER [--parent PID] [--idle SECONDS]

SIGTERM lets it save what it trains and go; with `--parent` it does the same once that process is gone. With `--idle` it
goes when there has been nothing to do for so long, as when all that is left waits for runs in other hands. Exit codes:
0, all runs have ended, it was idle or told to go; 3, the disk takes no more; 1, something that nothing foresees: the
run in hand has failed, the others are for a worker that begins afresh.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from pathlib import Path

from lehr.errors import LehrError
from lehr.proxy.sweep.beat import Beat, Stopped
from lehr.proxy.sweep.command import end_leftovers
from lehr.proxy.sweep.jobs import Job, Plan, read_plan
from lehr.proxy.sweep.outcome import Outcome, disk_refused, drop_outcomes, goes, require_space, write_outcome
from lehr.proxy.sweep.payload import run_job
from lehr.proxy.sweep.queue import LET_GO, Claim, Queue, note_attempt

DISK_FULL = 3  # exit code
POLL = (0.05, 1.0)  # seconds between two looks for work, at first and at most


def work(folder: Path, parent: int | None = None, idle: float = float("inf")) -> int:
    """Work until all runs have ended, idle for so many seconds, or told to go; return the exit code."""
    queue, plan = Queue(folder), read_plan(folder)
    beat = Beat(queue, parent)

    def leave(number: int, frame: object) -> None:
        beat.ending = "stopped"

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver's to decide on
    pause, busy = POLL[0], time.monotonic()
    try:
        while beat.ending is None:
            did, left = one_round(queue, plan, beat)
            busy = time.monotonic() if did else busy
            if not left or time.monotonic() - busy > idle:
                break
            pause = POLL[0] if did else min(2 * pause, POLL[1])
            if not did and beat.ending is None:
                time.sleep(pause)
    except (OSError, LehrError) as error:
        sys.stderr.write(f"{folder}: {error}\n")
        if not disk_refused(error):
            raise
        return DISK_FULL
    finally:
        beat.close()
    return 0


def one_round(queue: Queue, plan: Plan, beat: Beat) -> tuple[int, int]:
    """Go through the plan once, doing every run that can be had; return how many were done and how many have not ended.

    Raises
    ------
    OSError, LehrError
        If the disk refuses; the run in hand is let go of.
    """
    ended, did, left = queue.ended(), 0, 0
    claimed = queue.claimed()
    for job in plan.jobs:
        if beat.ending is not None:
            return did, 1
        if job.address in ended:
            continue
        left += 1
        if job.address in claimed and not queue.dead(job.address, claimed[job.address]):
            continue
        above = "done" if job.parent is None else ended.get(job.parent) or queue.state(job.parent)
        if above is None:  # its parent is not there yet
            continue
        claim = queue.claim(job.address)
        if claim is None:
            continue
        state = _do(queue, plan, job, claim, above, beat)
        if state is not None:
            ended[job.address] = state
            did, left = did + 1, left - 1
    return did, left


def _do(queue: Queue, plan: Plan, job: Job, claim: Claim, above: str, beat: Beat) -> str | None:
    """Do a claimed run to its end; return its state, None if it was let go of or lost."""
    try:
        beat.begin(claim, plan.hours_a_run)
        outcome = _outcome(queue, plan, job, claim, above, beat)
        if outcome is None:
            claim.release()
            return None
        write_outcome(claim, outcome)
        return outcome.state if claim.end(outcome.state) else None
    except Exception as error:
        if not disk_refused(error):
            # nothing foreseen, as when a GPU fails: the run has failed, and so has this process
            write_outcome(claim, Outcome("failed", reason=f"{type(error).__name__}: {error}"))
            claim.end("failed")
        claim.release()
        raise
    finally:
        beat.finish()


def _outcome(queue: Queue, plan: Plan, job: Job, claim: Claim, above: str, beat: Beat) -> Outcome | None:
    """How the run ends; None if it does not end now."""
    folder = queue.run_folder(job.address)
    folder.mkdir(exist_ok=True)
    if claim.taken_over:
        end_leftovers(folder)
        drop_outcomes(folder)
    if queue.cancelling(job.address):
        return Outcome("cancelled")
    if above != "done":
        return Outcome("skipped", reason=f"the run it branches from is {above}")
    require_space(folder)
    progress = _progress(folder)
    before, in_vain = goes(folder, progress)
    if in_vain >= plan.deaths:
        return Outcome(
            "failed", reason=f"{in_vain} workers died in it without getting further: too little memory?"
        )
    note_attempt(folder, f"begin {progress}")
    try:
        return run_job(job, folder, beat, before + 1)
    except Stopped as stopped:
        reason = str(stopped)
    except Exception:
        _let_go(folder)
        raise
    if reason == "cancelled":
        return Outcome("cancelled")
    if reason == "overtime":
        return Outcome("failed", reason=f"it took more than budget.hours_a_run, {plan.hours_a_run:g} h")
    if reason != "lost":
        _let_go(folder)
    return None


def _let_go(folder: Path) -> None:
    try:
        note_attempt(folder, LET_GO)
    except OSError:  # then it counts as a death: no more than that
        pass


def _progress(folder: Path) -> int:
    """How far a run of ours can go on from: updates at its last checkpoint. Of others nothing is known: 0."""
    steps = [path.stem.removeprefix("step-") for path in (folder / "checkpoints").glob("step-*.pt")]
    return max((int(step) for step in steps if step.isdigit()), default=0)


def main() -> None:
    """Run a worker as a process of its own."""
    parser = argparse.ArgumentParser(prog="python -m lehr.proxy.sweep.worker")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--parent", type=int)
    parser.add_argument("--idle", type=float, default=float("inf"))
    arguments = parser.parse_args()
    sys.exit(work(arguments.folder, arguments.parent, arguments.idle))


if __name__ == "__main__":
    main()
