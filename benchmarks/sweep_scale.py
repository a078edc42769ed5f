"""How far a sweep goes: 10,000 runs in a folder, and runs of a million updates in a store, without training any.

    python -m benchmarks.sweep_scale [--runs 10000] [--long 200] [--json]

`folder` is of a sweep of that many runs, trunks with three cooldowns each, ended by a worker in this process that
has nothing to train: `plan_s` checks the file, `run_ms` is the time a run of claiming, the outcome and the end,
`look_ms` one look of the driver once all have ended, `share` what that makes of its time at the pause it
takes, `round_ms` a worker's search that finds nothing, `table_s` to write `results.csv`, `status_s` and `status_cpu_s`
of `lehr sweep status --json` as a process, `files_a_run` and `bytes_a_run` what a run leaves beside its own files.

`store` is of runs of 1,000,000 updates, one file in which each has a point every 100 updates: `add_s`, `bytes_a_run`,
`list_s`, and `fit_s`, the time of a fit of four of them as a process. `points` is the bytes a run by how often it is
logged, of a few runs each. `log` is lehr's own log of a million updates, a row each: `bytes`, and `read_s` to read it
back into the store.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.store import make_run
from lehr.proxy.sweep import driver, payload
from lehr.proxy.sweep.beat import Beat
from lehr.proxy.sweep.driver import Drive
from lehr.proxy.sweep.jobs import Job, write_plan
from lehr.proxy.sweep.outcome import Outcome
from lehr.proxy.sweep.planning import plan_sweep
from lehr.proxy.sweep.queue import Queue
from lehr.proxy.sweep.results import write_table
from lehr.proxy.sweep.spec import make_sweep
from lehr.proxy.sweep.worker import one_round
from lehr.runs.run import Run
from lehr.runs.store import add_runs, list_runs
from lehr.schedule.families import wsd

STEPS = 1_000_000
FITTED = 4


def folder(number: int, base: Path) -> dict[str, float]:
    """Measure a sweep's folder; see the module's text."""
    groups = number // 4
    values = {
        "name": "scale",
        "model": {"depth": 1, "width": 16, "heads": 2, "context": 16}, "data": {"vocab_size": 32},
        "training": {"schedule": f"constant(steps={STEPS}, peak={{lr}}, warmup=100)", "batch": 4},
        "grid": {"lr": [1e-3 * (1 + index / groups) for index in range(groups)]},
        "cooldowns": {"ratios": [0.1, 0.2, 0.4]},
    }  # fmt: skip
    found: dict[str, float] = {}
    begin = time.perf_counter()
    plan = plan_sweep(make_sweep(values, "scale"), "scale").plan
    found |= {"runs": len(plan.jobs), "plan_s": time.perf_counter() - begin}
    queue = Queue(base / "sweep")
    queue.make()
    write_plan(queue.folder, plan)
    payload.PAYLOADS["train"] = _nothing
    beat = Beat(queue)
    begin = time.perf_counter()
    while one_round(queue, plan, beat)[0]:
        pass
    found["run_ms"] = 1e3 * (time.perf_counter() - begin) / len(plan.jobs)
    begin = time.perf_counter()
    one_round(queue, plan, beat)
    found["round_ms"] = 1e3 * (time.perf_counter() - begin)
    beat.close()
    seen = Drive()
    driver._look(queue, plan, seen, None)
    begin = time.perf_counter()
    driver._look(queue, plan, seen, None)
    look = time.perf_counter() - begin
    pause = max(driver.LOOK, min(1.0, look / driver.SHARE))
    found |= {"look_ms": 1e3 * look, "share": look / (look + pause)}
    begin = time.perf_counter()
    write_table(queue.folder, plan.jobs, seen.ended)
    found["table_s"] = time.perf_counter() - begin
    begin, used = time.perf_counter(), _cpu()
    _lehr("sweep", "status", str(queue.folder), "--json")
    found |= {"status_s": time.perf_counter() - begin, "status_cpu_s": _cpu() - used}
    files = [path for path in queue.folder.rglob("*") if path.is_file()]
    found["files_a_run"] = len(files) / len(plan.jobs)
    found["bytes_a_run"] = sum(path.stat().st_size for path in files) / len(plan.jobs)
    return found


def _nothing(job: Job, place: Path, beat: Beat, attempt: int) -> Outcome:
    """Train nothing: the outcome alone."""
    return Outcome("done", 3.0, job.steps, 1.0, "", "log.jsonl", "code", 1000.0, 2000.0, 64.0)


def store(number: int, base: Path) -> dict[str, Any]:
    """Measure a store of runs of a million updates."""
    begin = time.perf_counter()
    runs = (_long(index, 100) for index in range(number))
    add_runs(base / "store", runs)
    found: dict[str, Any] = {"runs": number, "add_s": time.perf_counter() - begin}
    found["bytes_a_run"] = _bytes(base / "store") / number
    begin = time.perf_counter()
    list_runs(base / "store")
    found["list_s"] = time.perf_counter() - begin
    begin = time.perf_counter()
    train = [word for index in range(FITTED) for word in ("--train", f"run-{index:06d}")]
    _lehr("fit", str(base / "store"), "--law", "tissue", "--draws", "0", *train)
    found["fit_s"] = time.perf_counter() - begin
    found["points"] = {}
    for every, few in ((1, 2), (10, 8), (100, 32), (1000, 64)):
        place = base / f"every-{every}"
        add_runs(place, (_long(index, every) for index in range(few)))
        found["points"][every] = _bytes(place) / few
        shutil.rmtree(place)
    return found


def _long(index: int, every: int) -> Run:
    made = make_run(index, STEPS // every)
    peak = made.schedule.peak
    step = np.arange(every, STEPS + 1, every)
    schedule = wsd(steps=STEPS, peak=peak, warmup=2000, decay=STEPS // (5 + index % 3))
    return Run(made.name, schedule, step, made.loss, params=1e8, meta=dict(made.meta))


def log(base: Path) -> dict[str, float]:
    """Measure lehr's own log of a million updates."""
    from lehr.proxy.config import make_config
    from lehr.proxy.data import open_data
    from lehr.proxy.runlog import Row
    from lehr.runs.readers import read_all
    from lehr.runs.readers.reading import ReadOptions

    config = make_config({
        "name": "long", "model": {"depth": 1, "width": 16, "heads": 2, "context": 16}, "data": {"vocab_size": 32},
        "training": {"schedule": f"constant(steps={STEPS}, peak=1e-3, warmup=100)", "batch": 4},
    })  # fmt: skip
    assert open_data(config.data, config.model.context).vocab_size == 32
    rng, path = np.random.default_rng(0), base / "log.jsonl"
    loss = (2.2 + 8 * np.arange(30.0, STEPS + 30) ** -0.4 + 0.01 * rng.standard_normal(STEPS)).tolist()
    lrs = config.training.plan.to_array().tolist()
    header = {
        "lehr_run_log": 1, "name": "long", "schedule": config.training.schedule, "steps": STEPS, "parent": None,
        "branch_step": None, "params": 1000, "params_total": 2000, "batch_tokens": 64, "meta": {},
        "config": config.model_dump(mode="json"), "data_fingerprint": "x", "entropy": None, "flops_per_token": 1,
        "lehr": "0", "code": "x", "torch": "0", "ranks": 1,
    }  # fmt: skip
    with path.open("w") as file:
        file.write(json.dumps(header) + "\n")
        for step, value in enumerate(loss, start=1):
            measured = value if step % 50 == 0 else None
            file.write(
                Row(step, lrs[step - 1], value, 1.0 + value / 7, step * 64, step / 50, measured).line()
            )
    begin = time.perf_counter()
    (reading,) = read_all([path], ReadOptions(), "auto")
    took = time.perf_counter() - begin
    return {"bytes": path.stat().st_size, "read_s": took, "points": len(reading.run.step)}


def _bytes(place: Path) -> int:
    return sum(path.stat().st_size for path in place.rglob("*") if path.is_file())


def _cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _lehr(*arguments: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "lehr.cli.main", *arguments], check=True, capture_output=True, env=os.environ
    )


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000, help="runs of the sweep's folder")
    parser.add_argument("--long", type=int, default=200, help="runs of a million updates")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="sweep-scale-"))
    try:
        found: dict[str, Any] = {
            "folder": folder(args.runs, base), "store": store(args.long, base), "log": log(base)
        }  # fmt: skip
    finally:
        shutil.rmtree(base, ignore_errors=True)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
