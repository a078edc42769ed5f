"""A comparison of laws as runs of a sweep's folder: each law's fit, blocks of its folds, and blocks of bootstrap draws.

Any worker of any engine takes them, and a comparison that was stopped goes on. A block is what the same folds or draws
are in one process, bit for bit: files hold every float as it was. The runs are read from their store by every worker,
so that it must lie where all see it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lehr.errors import InputError, ResultError
from lehr.files import write_atomic
from lehr.proxy.sweep.beat import Beat, Stopped
from lehr.proxy.sweep.jobs import Job, Plan, address_of
from lehr.proxy.sweep.outcome import Outcome, read_outcome
from lehr.proxy.sweep.queue import Queue

if TYPE_CHECKING:
    import numpy as np

    from lehr.fit.compare import Comparison
    from lehr.fit.fit import FitOptions
    from lehr.fit.held_out import HeldOut
    from lehr.fit.result import FitResult
    from lehr.runs.run import Run

FOLDS, DRAWS = 4, 10  # folds and draws of one job
FOUND = "found.json"  # in a job's folder: what it gave
NAME = "fit"


def comparison_plan(
    store: Path, laws: Sequence[str], runs: tuple[Run, ...], options: FitOptions, code: str = ""
) -> Plan:
    """Plan the fits of laws to runs of a store, and the folds that hide some of them.

    Parameters
    ----------
    store : that holds the runs.
    laws : by name.
    runs : in the order in which they are fitted.
    options : of every fit.
    code : version that is to be told.
    """
    from lehr.fit.fit import resolve_burn_in
    from lehr.fit.folds import make_folds

    common = {
        "store": str(store.absolute()), "runs": [run.name for run in runs], "data": fingerprint(runs),
        "options": asdict(options),
    }  # fmt: skip
    folds = [fold.name for fold in make_folds(runs, resolve_burn_in(runs, options))]
    jobs = []
    for law in laws:
        whole = _job(f"{law}", {**common, "law": law, "part": "whole"}, None)
        jobs.append(whole)
        for first in range(0, len(folds), FOLDS):
            part = {**common, "law": law, "part": "folds", "folds": folds[first : first + FOLDS]}
            jobs.append(_job(f"{law}-folds{first}", part, whole))
    return Plan(NAME, code, tuple(jobs))


def with_draws_of(plan: Plan, laws: Sequence[str], draws: int, seed: int) -> Plan:
    """Add the bootstrap of laws to the plan of their comparison."""
    wholes = {job.payload["law"]: job for job in plan.jobs if job.payload["part"] == "whole"}
    more = []
    for law in laws:
        for first in range(0, draws, DRAWS):
            part = {"part": "draws", "first": first, "end": min(first + DRAWS, draws), "seed": seed}
            more.append(_job(f"{law}-draws{first}", {**wholes[law].payload, **part}, wholes[law]))
    return Plan(plan.name, plan.code, (*plan.jobs, *more))


def fingerprint(runs: Sequence[Run]) -> str:
    """Hash of all that a fit sees of runs."""
    from lehr.runs.registry import describe

    digest = hashlib.sha256()
    for run in runs:
        digest.update(json.dumps(describe(run, ()), sort_keys=True, default=str).encode())
        digest.update(run.step.tobytes() + run.loss.tobytes())
    return digest.hexdigest()[:20]


def _job(name: str, payload: dict[str, Any], parent: Job | None) -> Job:
    above = parent.address if parent else None
    identity = {key: value for key, value in payload.items() if key != "store"}
    return Job(
        name, address_of({"fit": identity, "parent": above}), "fit", payload, "", 1, parent=above,
        facts={"law": payload["law"]},
    )  # fmt: skip


def run_fit(job: Job, folder: Path, beat: Beat, attempt: int) -> Outcome:
    """Do one part; a law that the runs do not identify is a result as well.

    Raises
    ------
    Stopped
        If it should stop.
    """
    from lehr.fit.fit import FitOptions, fit
    from lehr.fit.held_out import hold_out
    from lehr.fit.result import FitResult
    from lehr.fit.uncertainty import draw
    from lehr.laws import get_law

    if beat.reason is not None:
        raise Stopped(beat.reason)
    told = job.payload
    runs = _load(told["store"], tuple(told["runs"]), told["data"])
    law, options = get_law(told["law"]), FitOptions(**told["options"])
    above = _found(folder.parent / job.parent / FOUND) if job.parent else {}
    try:
        if "reason" in above:
            found: dict[str, Any] = {"reason": above["reason"]}
        elif told["part"] == "whole":
            found = {"fit": json.loads(fit(law, runs, options).to_json())}
        else:
            whole = FitResult.from_json(json.dumps(above["fit"]), "fit")
            if told["part"] == "folds":
                found = {"held": _to_json(hold_out(law, runs, options, whole, told["folds"]))}
            else:
                found = {"draws": draw(whole, runs, told["first"], told["end"], told["seed"]).tolist()}
    except InputError as error:
        found = {"reason": str(error)}
    write_atomic(folder / FOUND, json.dumps(found))
    return Outcome("done", step=1)


@cache
def _load(store: str, names: tuple[str, ...], data: str) -> tuple[Run, ...]:
    """Read the runs, once in a worker.

    Raises
    ------
    InputError
        If they are not those that the jobs are of.
    """
    from lehr.runs.store import load_runs

    runs = tuple(load_runs(store, names))
    if fingerprint(runs) != data:
        raise InputError(f"the runs in {store} are not those that were asked about: ask again.")
    return runs


def gather(queue: Queue, plan: Plan, runs: tuple[Run, ...], options: FitOptions) -> Comparison:
    """Put what the jobs found together, as `lehr.fit.compare.compare` gives it.

    Raises
    ------
    InputError
        If the runs identify none of the laws.
    ResultError
        If a job has not ended well.
    """
    from lehr.fit.compare import comparison
    from lehr.fit.held_out import merge_held_out, with_held_out
    from lehr.fit.result import FitResult

    results: dict[str, FitResult] = {}
    held: dict[str, HeldOut] = {}
    failed: dict[str, str] = {}
    parts: dict[str, list[dict[str, Any]]] = {}
    for job in plan.jobs:
        if job.payload["part"] != "draws":
            parts.setdefault(job.payload["law"], []).append(_of(queue, job))
    for law, (whole, *folds) in parts.items():
        reason = next((part["reason"] for part in (whole, *folds) if "reason" in part), None)
        if reason is not None:
            failed[law] = reason
            continue
        held[law] = merge_held_out([_from_json(part["held"]) for part in folds])
        results[law] = with_held_out(FitResult.from_json(json.dumps(whole["fit"]), law), held[law])
    return comparison(results, held, failed, runs, options)


def gather_draws(queue: Queue, plan: Plan, results: Mapping[str, FitResult]) -> dict[str, FitResult]:
    """Give fits the draws that the jobs made; raises as `gather`."""
    import numpy as np

    from lehr.fit.uncertainty import with_draws

    rows: dict[str, list[list[float]]] = {}
    for job in plan.jobs:
        if job.payload["part"] == "draws":
            rows.setdefault(job.payload["law"], []).extend(_of(queue, job)["draws"])
    return {law: with_draws(results[law], np.array(table)) for law, table in rows.items()}


def _of(queue: Queue, job: Job) -> dict[str, Any]:
    state = queue.state(job.address)
    if state != "done":
        why = read_outcome(queue, job.address, state).reason if state else "it has not ended"
        raise ResultError(f"{job.name}: {why}: `lehr sweep retry {queue.folder}` lets it wait again.")
    return _found(queue.run_folder(job.address) / FOUND)


def _found(path: Path) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_bytes()))
    except (OSError, ValueError) as error:
        raise ResultError(
            f"{path} cannot be read ({error}): remove the folder of the sweep and ask again."
        ) from None


def _to_json(held: HeldOut) -> dict[str, Any]:
    arrays = {name: value.tolist() for name, value in held.residuals.items()}
    return {
        "law": held.law, "errors": dict(held.errors), "kinds": dict(held.kinds),
        "finals": [asdict(final) for final in held.finals], "skipped": dict(held.skipped), "residuals": arrays,
        "weight": held.weight.tolist(), "without_peak": dict(held.without_peak),
    }  # fmt: skip


def _from_json(values: dict[str, Any]) -> HeldOut:
    import numpy as np

    from lehr.fit.folds import FinalError
    from lehr.fit.held_out import HeldOut

    residuals: dict[str, np.ndarray] = {name: np.array(value) for name, value in values["residuals"].items()}
    return HeldOut(
        values["law"], values["errors"], values["kinds"], tuple(FinalError(**each) for each in values["finals"]),
        values["skipped"], residuals, np.array(values["weight"]),
        {name: tuple(value) for name, value in values["without_peak"].items()},
    )  # fmt: skip
