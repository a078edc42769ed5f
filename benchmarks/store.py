"""A store at size: how fast runs are imported, listed, loaded and fitted.

    python -m benchmarks.store [--runs 10000] [--points 1000] [--repeats 5] [--law one_power] [--keep FOLDER] [--json]

| figure | what is timed |
| --- | --- |
| add_s, add_runs_per_s | lehr.runs.store.add_runs of all runs at once, made beforehand |
| add_one_ms | one more run added to the full store, the mean of 130, folds included |
| list_s | lehr.runs.store.list_runs, in this process |
| start_s, start_cpu_s | `lehr --version`, the start of the command line |
| runs_s, runs_json_s | `lehr runs STORE`, with --json too, from start to end |
| load_one_s, load_all_s | lehr.runs.store.load_runs of one run and of all, in this process |
| sql_s | `lehr runs STORE --sql "SELECT run, min(loss) FROM points GROUP BY run"` |
| fit_one_s | `lehr fit STORE --train NAME --law LAW --draws 0`, from start to end |
| fit_alone_s | the same on a store of that run alone |
| files, bytes | what the store is made of |

Names with `cpu` are seconds of CPU, which other work on the machine lengthens less. Each is the best of the
repeats but for those of writing, which happen once. `load` is the load average at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lehr.runs.run import Run
from lehr.runs.store import add_runs, list_runs, load_runs
from lehr.schedule.families import cosine, wsd


def make_run(index: int, points: int) -> Run:
    """A run of its own schedule and losses."""
    rng = np.random.default_rng(index)
    steps, peak = 10 * points, float(f"{10 ** rng.uniform(-4, -2.5):.4g}")
    common = {"steps": steps, "peak": peak, "warmup": steps // 100}
    schedule = wsd(**common, decay=steps // 5) if index % 2 else cosine(**common)
    step = np.arange(1, points + 1) * 10
    loss = 2.2 + 8 * (step + 30.0) ** -0.4 + 0.01 * rng.standard_normal(points)
    return Run(
        f"run-{index:06d}",
        schedule,
        step,
        np.round(loss, 5),
        params=1e8,
        meta={"seed": index, "split": "val"},
    )


def best(work: Callable[[], Any], repeats: int) -> float:
    """Shortest time of several."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return min(times)


def lehr(name: str, out: dict[str, Any], repeats: int, *arguments: str) -> None:
    """Time the command line in a process of its own: `name`_s and `name`_cpu_s, the best of each."""
    command = [sys.executable, "-c", "from lehr.cli.main import main; main()", *arguments]
    wall, cpu = [], []
    for _ in range(repeats):
        before, begin = os.times(), time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        after = os.times()
        wall.append(time.perf_counter() - begin)
        cpu.append(
            after.children_user + after.children_system - before.children_user - before.children_system
        )
    out |= {f"{name}_s": min(wall), f"{name}_cpu_s": min(cpu)}


def measure(store: Path, count: int, points: int, repeats: int, law: str) -> dict[str, Any]:
    """Fill a store and time what is asked of it."""
    made = [make_run(index, points) for index in range(count)]
    begin, cpu = time.perf_counter(), time.process_time()
    add_runs(store, made)
    out: dict[str, Any] = {"runs": count, "points": points, "add_s": time.perf_counter() - begin}
    out["add_cpu_s"] = time.process_time() - cpu
    out["add_runs_per_s"] = count / out["add_s"]
    name = made[count // 3].name
    alone = store.with_name(f"{store.name}-alone")
    add_runs(alone, [made[count // 3]])
    del made
    out["list_s"] = best(lambda: list_runs(store), repeats)
    out["load_one_s"] = best(lambda: load_runs(store, [name]), repeats)
    out["load_all_s"] = best(lambda: load_runs(store), 1)
    lehr("start", out, repeats, "--version")
    lehr("runs", out, repeats, "runs", str(store))
    lehr("runs_json", out, repeats, "runs", str(store), "--json")
    lehr("sql", out, repeats, "runs", str(store), "--sql", "SELECT run, min(loss) FROM points GROUP BY run")
    fit = ("--train", name, "--law", law, "--draws", "0")
    lehr("fit_one", out, repeats, "fit", str(store), *fit)
    lehr("fit_alone", out, repeats, "fit", str(alone), *fit)
    files = list((store / "runs").iterdir())
    out |= {"files": len(files), "bytes": sum(path.stat().st_size for path in files)}
    more = [make_run(count + index, points) for index in range(130)]
    begin = time.perf_counter()
    for run in more:
        add_runs(store, [run])
    out["add_one_ms"] = 1000 * (time.perf_counter() - begin) / len(more)
    return {**out, "cores": len(os.sched_getaffinity(0)), "load": os.getloadavg()[0]}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--points", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--law", default="one_power")
    parser.add_argument("--keep", type=Path, help="folder to leave the store in")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="store-"))
    try:
        out = measure(args.keep or folder / "store", args.runs, args.points, args.repeats, args.law)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if args.json:
        print(json.dumps(out, indent=1))
        return
    for key, value in out.items():
        print(f"{key:16s} {value:.4g}" if isinstance(value, float) else f"{key:16s} {value}")


if __name__ == "__main__":
    main()
