"""Speed, each task with a reference timed in the same run.

    python -m benchmarks.speed [--json]

| task | measured | reference |
| --- | --- | --- |
| fit:LAW | all starts, the curves of csv_100 (or like them); median of 5 | L-BFGS over all parameters, one start |
| predict:LAW | 1,000 points of a WSD schedule of a million updates; median of 9 | the same for 10,000 updates |
| draws:LAW | the end of one schedule for 200 draws at once; median of 9 | draw by draw, with slopes |
| compress | one law on 1,000 points of 50,000 updates, compressed | step by step |
| bootstrap | 20 warm refits of the Multi-Power Law | 20 fits from scratch |
| compare | all laws of one size: fit, hidden losses, 200 refits each; two processes, once | one process |
| import | a CSV of 300,000 rows through the reader | csv.DictReader |
| start-up | lehr --help | python -c pass |
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from benchmarks import mpl_curves
from benchmarks.common import one_size_laws
from lehr.fit.compare import compare
from lehr.fit.fit import FitOptions, fit, prepare
from lehr.fit.projection import natural, search_box
from lehr.fit.uncertainty import bootstrap, bootstrap_all
from lehr.laws import LAWS, get_law
from lehr.laws.law import Conditions, Law
from lehr.runs.readers import read
from lehr.runs.run import Run
from lehr.schedule.families import wsd

TRAIN = mpl_curves.PROTOCOLS["three"][0]


def clock(task: Callable[[], Any], times: int) -> float:
    """Median seconds of `times` runs, after one that is not counted."""
    task()
    seconds = []
    for _ in range(times):
        begin = time.perf_counter()
        task()
        seconds.append(time.perf_counter() - begin)
    return float(np.median(seconds))


def training_runs() -> tuple[Run, ...]:
    """The three training curves of csv_100, or curves of the same shape from a known law."""
    folder = Path(os.environ.get("LEHR_DATA", "../shared/data")) / "mpl-curves" / "csv_100"
    if folder.is_dir():
        return tuple(mpl_curves.load(folder, name) for name in TRAIN)
    law, rng, runs = get_law("multi_power"), np.random.default_rng(0), []
    for name in TRAIN:
        schedule = mpl_curves.SCHEDULES[name]
        step = np.arange(2176, schedule.steps + 1, 128)
        basis = law.bind(Conditions(schedule), step)(np.array([0.45, 2.1, 0.6, 0.65]))[0]
        loss = basis @ np.array([2.78, 0.6, 440.0]) * (1 + 2e-4 * rng.standard_normal(len(step)))
        runs.append(Run(name, schedule, step, loss))
    return tuple(runs)


def joint_fit(law: Law, runs: tuple[Run, ...]) -> None:
    """Reference: one start, all parameters together, gradient by differences."""
    problem = prepare(law, runs, FitOptions())
    low, high = search_box(law)

    def cost(x: np.ndarray) -> float:
        theta = natural(law, np.clip(x[: len(low)], low, high))
        predicted = np.concatenate([basis(theta)[0] for basis in problem.bases]) @ np.exp(x[len(low) :])
        size = np.abs(predicted / problem.loss - 1)
        h = problem.huber
        return float(np.sum(np.where(size < h, 0.5 * size**2, h * (size - 0.5 * h))))

    start = np.concatenate([(low + high) / 2, [1.0] + [0.0] * (len(law.linear) - 1)])
    with np.errstate(all="ignore"):
        minimize(cost, start, method="L-BFGS-B", options={"maxiter": 1000})


def middle(law: Law) -> np.ndarray:
    """Parameters in the middle of the law's box."""
    low, high = search_box(law)
    return natural(law, (low + high) / 2)


def predict_seconds(law: Law, steps: int, times: int = 9) -> float:
    """Median seconds to predict 1,000 points of a WSD schedule of `steps` updates."""
    points = np.unique(np.linspace(steps // 50, steps, 1000).astype(int))
    theta = middle(law)

    def task() -> None:
        schedule = wsd(steps=steps, peak=1e-3, warmup=steps // 100, decay=steps // 5)
        law.bind(Conditions(schedule, 1e8, 5e5), points).values(theta[None])

    return clock(task, times)


def draws_seconds(law: Law, times: int = 9) -> tuple[float, float]:
    """Median seconds to evaluate 200 draws at the end of a schedule: at once, and one by one with slopes."""
    schedule = wsd(steps=20_000, peak=1e-3, warmup=200, decay=4_000)
    bound = law.bind(Conditions(schedule, 1e8, 5e5), np.array([20_000]))
    rows = np.tile(middle(law), (200, 1))
    return clock(lambda: bound.values(rows), times), clock(lambda: [bound(row) for row in rows], times)


def compare_seconds(runs: tuple[Run, ...], workers: int) -> float:
    """Seconds of a full comparison of all laws of one size with 200 bootstrap refits each."""
    begin = time.perf_counter()
    found = compare(one_size_laws(), runs, workers=workers)
    bootstrap_all(found.results, runs, 200, workers=workers)
    return time.perf_counter() - begin


def import_seconds() -> tuple[float, float]:
    """Seconds to read a CSV of 300,000 rows: our reader, and the standard library's."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "log.csv"
        step = np.arange(1, 300_001)
        rows = np.column_stack([step, np.full(len(step), 1e-3), 3 + step**-0.5])
        np.savetxt(path, rows, delimiter=",", header="step,lr,loss", comments="", fmt=["%d", "%.6g", "%.6f"])

        def reference() -> None:
            with path.open() as file:
                for row in csv.DictReader(file):
                    float(row["loss"]), float(row["lr"]), int(row["step"])

        return clock(lambda: read(path), 3), clock(reference, 3)


def run_all() -> dict[str, dict[str, float]]:
    """Time every task."""
    out: dict[str, tuple[float, float]] = {}
    runs = training_runs()
    for law in one_size_laws():
        if law.name == "one_power":
            continue
        out[f"fit:{law.name}"] = (
            clock(lambda law=law: fit(law, runs), 5),
            clock(lambda law=law: joint_fit(law, runs), 1),
        )
    for law in LAWS.values():
        out[f"predict:{law.name}"] = predict_seconds(law, 1_000_000), predict_seconds(law, 10_000)
        out[f"draws:{law.name}"] = draws_seconds(law)
    law, steps = get_law("effective_time"), 20_000
    points = np.linspace(400, steps, 1000).astype(int)
    schedule = Conditions(wsd(steps=steps, peak=1e-3, warmup=200, decay=steps // 5))
    out["compress"] = (
        clock(lambda: law.bind(schedule, points)(middle(law)), 5),
        clock(lambda: law.bind(schedule, points, 0.0)(middle(law)), 1),
    )
    multi = get_law("multi_power")
    fitted = fit(multi, runs)
    fitted = bootstrap(fitted, runs, 1)  # measures the held-out errors once, so that they are not timed
    begin = time.perf_counter()
    for _ in range(20):
        fit(multi, runs)
    scratch = time.perf_counter() - begin
    out["bootstrap"] = clock(lambda: bootstrap(fitted, runs, 20), 3), scratch
    out["compare"] = compare_seconds(runs, 2), compare_seconds(runs, 1)
    out["import"] = import_seconds()
    python = [sys.executable, "-c", "pass"]
    out["start-up"] = (
        clock(
            lambda: subprocess.run(
                [sys.executable, "-m", "lehr.cli.main", "--help"], capture_output=True, check=True
            ),
            5,
        ),
        clock(lambda: subprocess.run(python, check=True), 5),
    )
    return {
        task: {"seconds": ours, "reference_seconds": other, "ratio": ours / other}
        for task, (ours, other) in out.items()
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = run_all()
    if args.json:
        print(json.dumps(out, indent=1))
        return
    print(f"{'task':30s} {'seconds':>10s} {'reference':>10s} {'ratio':>8s}")
    for task, row in out.items():
        print(f"{task:30s} {row['seconds']:10.4f} {row['reference_seconds']:10.4f} {row['ratio']:8.3f}")


if __name__ == "__main__":
    main()
