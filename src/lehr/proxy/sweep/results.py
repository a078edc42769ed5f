"""What a sweep has found: logs of commands read back, finished runs into a store, and a table of final losses.

A run that diverged has no curve for a law to be fitted to, so that it does not go into the store; in the table it
stands with the loss NaN, by which `lehr peak-lr fit` knows that its LR lies beyond the valley.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from lehr.errors import InputError
from lehr.files import write_atomic
from lehr.proxy.sweep.jobs import Job, Plan
from lehr.proxy.sweep.outcome import Outcome
from lehr.proxy.sweep.queue import Queue
from lehr.runs.run import Run

TABLE = "results.csv"
AT_END = 0.995  # share of the updates that a log must reach for its last loss to be the final one
COLUMNS = (
    "name",
    "state",
    "loss",
    "peak_lr",
    "steps",
    "tokens",
    "batch_tokens",
    "params",
    "seconds",
    "schedule",
)
SIZES = ("params", "params_total", "batch_tokens")
OF_A_RUN = ("dataset", "weight_decay", "seed", "experts")


def read_command_log(job: Job, out: Path, log: Path | None) -> Outcome:
    """Read what a command has written; no readable loss is a failure.

    Parameters
    ----------
    job : its run.
    out : folder that it wrote into.
    log : the log itself; None to look for one in `out`.
    """
    try:
        found, run, report = _find_run(job, out, log)
    except InputError as error:
        return Outcome("failed", reason=f"the command ended well, but no loss could be read: {error}")
    last, place = int(run.step[-1]), _below(found, out.parent)
    sizes = {key: getattr(run, key) for key in SIZES}
    if last >= AT_END * job.steps:
        return Outcome("done", run.final_loss, last, log=place, **sizes)
    broken = [
        line for line in report if line.startswith("drop_broken") and ("NaN" in line or "infinite" in line)
    ]
    if broken:
        return Outcome("diverged", None, last, reason=f"no finite loss after step {last}", log=place, **sizes)
    reason = f"the log ends at step {last} of {job.steps}, so that the final loss is not known"
    return Outcome("failed", run.final_loss, last, reason=reason, log=place, **sizes)


def _below(path: Path, folder: Path) -> str:
    """Path from a folder on, or whole if it lies elsewhere."""
    whole = path.absolute()
    return (
        str(whole.relative_to(folder.absolute())) if whole.is_relative_to(folder.absolute()) else str(whole)
    )


def _find_run(job: Job, out: Path, log: Path | None) -> tuple[Path, Run, tuple[str, ...]]:
    from lehr.runs.discovery import find_logs

    found = find_logs([log if log is not None else out]).logs
    if log is None:  # what the command printed is read only where it wrote no log
        own = [pair for pair in found if pair[0].name != "output.txt"]
        found = tuple(own or found)
    if len(found) != 1:
        names = ", ".join(path.name for path, _ in found)
        raise InputError(
            f"{out} holds {len(found)} logs ({names}): name the one to read by log in [command]."
        )
    path, format = found[0]
    run, report = _read(job, path, format)
    return path, run, report


def _read(job: Job, path: Path, format: str = "auto") -> tuple[Run, tuple[str, ...]]:
    """Read the log of a run under the schedule that it was given."""
    from lehr.runs.readers import read_all
    from lehr.runs.readers.reading import ReadOptions
    from lehr.schedule.spec import parse

    options = ReadOptions(name=job.name, schedule=parse(job.schedule))
    if job.kind == "command":  # our own logs tell their sizes themselves
        params, total, batch = (float(job.facts[key]) if key in job.facts else None for key in SIZES)
        options = replace(options, params=params, params_total=total, batch_tokens=batch)
    readings = read_all([path], options, format)
    if len(readings) != 1:
        raise InputError(f"{path} holds {len(readings)} runs: let each run have a log of its own.")
    return readings[0].run, readings[0].report


def finished_run(
    queue: Queue, job: Job, outcome: Outcome, names: Mapping[str, str]
) -> tuple[Run, tuple[str, ...]]:
    """Read the curve of a run that is done, as a store keeps it.

    Parameters
    ----------
    queue, job, outcome : of the run.
    names : of the runs by address, by which its parent is called.

    Raises
    ------
    InputError
        If its log cannot be read any more.
    """
    assert outcome.log is not None
    run, report = _read(job, queue.run_folder(job.address) / outcome.log)
    meta = {key: job.facts[key] for key in OF_A_RUN if key in job.facts} | dict(run.meta)
    run = replace(run, meta=meta | {"sweep_run": job.address})
    if job.parent is not None:
        own = run.step > job.branch_step
        run = replace(
            run, parent=names[job.parent], branch_step=job.branch_step, step=run.step[own], loss=run.loss[own]
        )
    return run, report


def store_runs(
    queue: Queue, plan: Plan, ended: Mapping[str, Outcome], store: Path, stored: set[str]
) -> dict[str, str]:
    """Put runs that are done into a store; what is there stays as it is.

    Parameters
    ----------
    queue, plan : of the sweep.
    ended : outcomes by address.
    store : made if need be.
    stored : addresses that are in it; those that are put there are added.

    Returns
    -------
    Why others could not be stored, by name.

    Raises
    ------
    ResultError
        If the disk refuses.
    """
    from lehr.runs.store import add_runs

    names = {job.address: job.name for job in plan.jobs}
    refused: dict[str, str] = {}
    ready: dict[str, tuple[Run, tuple[str, ...]]] = {}
    for job in plan.jobs:
        outcome = ended.get(job.address)
        if outcome is None or outcome.state != "done" or job.address in stored:
            continue
        try:
            ready[job.address] = finished_run(queue, job, outcome, names)
        except InputError as error:
            refused[job.name] = str(error)
    for batch in ([*ready], *([address] for address in ready)):  # one by one where all together are refused
        left = [address for address in batch if address not in stored]
        if not left:
            continue
        runs = [ready[address][0] for address in left]
        try:
            add_runs(store, runs, reports={run.name: ready[a][1] for a, run in zip(left, runs, strict=True)})
        except InputError as error:
            if len(left) == 1:
                refused[names[left[0]]] = str(error)
            continue
        stored |= set(left)
    return refused


def stored_addresses(store: Path) -> set[str]:
    """Addresses of the runs that are in a store already."""
    from lehr.runs.store import is_store, list_runs

    if not is_store(store):
        return set()
    return {str(record["meta"]["sweep_run"]) for record in list_runs(store) if "sweep_run" in record["meta"]}


def write_table(folder: Path, jobs: Iterable[Job], ended: Mapping[str, Outcome]) -> None:
    """Write the final losses of the runs that are done or have diverged, a row each, in the plan's order.

    A trunk has no row: its LR has not come down, so that its last loss is of no valley. Where it diverged, the runs
    that would have branched from it stand as diverged.
    """
    jobs = tuple(job for job in jobs if job.kind != "fit")
    trunks = {job.parent for job in jobs if job.parent is not None}
    rows, more, lost = [], dict[str, None](), set[str]()
    for job in jobs:
        outcome = ended.get(job.address)
        if outcome is None:
            continue
        if outcome.state == "diverged" or (outcome.state == "skipped" and job.parent in lost):
            lost.add(job.address)
            outcome = replace(outcome, state="diverged")
        if job.address not in trunks and outcome.state in ("done", "diverged"):
            rows.append(_row(job, outcome))
            more |= dict.fromkeys(key for key in rows[-1] if key not in COLUMNS)
    text = io.StringIO()
    writer = csv.DictWriter(text, [*COLUMNS, *more], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(folder / TABLE, text.getvalue())


def _row(job: Job, outcome: Outcome) -> dict[str, object]:
    """A row of the table, in the terms of `lehr peak-lr fit`: of a model of experts all parameters, and the active."""
    sizes = {key: getattr(outcome, key) or job.facts.get(key) for key in SIZES}
    batch, model = sizes["batch_tokens"], job.payload.get("model")
    of_experts = bool(model and model["experts"]) or "experts" in job.facts
    row = {
        "name": job.name, "state": outcome.state, "loss": math.nan if outcome.state == "diverged" else outcome.loss,
        "peak_lr": job.facts["peak_lr"], "steps": job.steps, "tokens": job.steps * float(batch) if batch else None,
        "batch_tokens": batch, "params": sizes["params"], "seconds": round(outcome.seconds, 3),
        "schedule": job.schedule, "seed": job.facts["seed"],
    }  # fmt: skip
    if of_experts and sizes["params_total"]:
        row |= {"params": sizes["params_total"], "active_params": sizes["params"]}
    return row | {f"grid.{key}": value for key, value in job.facts.items() if key not in (*row, *SIZES)}
