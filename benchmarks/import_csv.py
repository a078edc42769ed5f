"""A long table through `lehr import`: time and peak memory of the whole process.

    python -m benchmarks.import_csv [--rows 10000000] [--repeats 3] [--file FILE] [--json]

A CSV file of so many rows (step, lr, loss; a WSD schedule with a warm-up) is imported by a process of its own, into a
new store each time, on all cores and on one. `seconds` and `cpu_seconds` are the best of the repeats, from the start
of the process to its end; `peak_mb` its largest resident set, in 10^6 bytes, the highest of the repeats. The same on
ten rows is `start_seconds`. For comparison numpy.loadtxt and csv.reader (with float()) parse the first million rows of
the file, and do no more, in this process; `import_over_loadtxt` and `import_over_csv_reader` are the rows a second of
CPU of the whole import on one core over theirs. `load` is the load average at the end: other work on the machine
lengthens seconds, less so seconds of CPU.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import json
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lehr.runs.store import list_runs
from lehr.schedule.families import wsd

PIECE = 1_000_000  # rows read by the others
BLOCK = 1 << 18


def write_table(path: Path, rows: int) -> None:
    """Write the table."""
    schedule = wsd(steps=rows, peak=3e-4, warmup=max(2, rows // 500), decay=rows // 5)
    rng = np.random.default_rng(0)
    with path.open("w") as file:
        file.write("step,lr,loss\n")
        for begin in range(0, rows, BLOCK):
            step = np.arange(begin, min(rows, begin + BLOCK))
            loss = 2.2 + 8 * (step + 10.0) ** -0.4 + 0.02 * rng.standard_normal(step.size)
            cells = zip(step.tolist(), schedule.lr(step).tolist(), loss.tolist(), strict=True)
            file.write("".join(f"{s},{lr!r},{value:.5f}\n" for s, lr, value in cells))


def run_import(path: Path, store: Path, cores: set[int]) -> tuple[float, float, float]:
    """Import in a process of its own; wall-clock seconds, seconds of CPU, and peak memory in MB."""
    command = [
        sys.executable,
        "-c",
        "from lehr.cli.main import main; main()",
        "import",
        str(path),
        "--into",
        str(store),
    ]
    shutil.rmtree(store, ignore_errors=True)
    begin = time.perf_counter()
    child = os.fork()
    if child == 0:
        os.sched_setaffinity(0, cores)
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.execv(sys.executable, command)
    _, status, used = os.wait4(child, 0)
    if status:
        raise RuntimeError(f"lehr import ended with {status}")
    return time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6


def measure(path: Path, rows: int, repeats: int, folder: Path) -> dict[str, Any]:
    """Time all that is compared."""
    every = os.sched_getaffinity(0)
    tiny = folder / "tiny.csv"
    write_table(tiny, 10)
    out: dict[str, Any] = {"rows": rows, "bytes": path.stat().st_size}
    for name, cores in (("all_cores", every), ("one_core", {max(every)})):
        tries = [run_import(path, folder / "store", cores) for _ in range(repeats)]
        seconds, cpu, peak = min(t[0] for t in tries), min(t[1] for t in tries), max(t[2] for t in tries)
        out[name] = {
            "cores": len(cores), "seconds": seconds, "rows_per_s": rows / seconds, "cpu_seconds": cpu,
            "rows_per_cpu_s": rows / cpu, "peak_mb": peak,
        }  # fmt: skip
    assert [record["points"] for record in list_runs(folder / "store")] == [rows]
    out["start_seconds"] = min(run_import(tiny, folder / "store", every)[0] for _ in range(repeats))
    others = {"loadtxt": with_loadtxt, "csv_reader": with_csv_reader}
    count = min(rows, PIECE)
    for name, read in others.items():
        out[f"{name}_rows_per_cpu_s"] = count / min(timed(read, path, count) for _ in range(repeats))
        out[f"import_over_{name}"] = out["one_core"]["rows_per_cpu_s"] / out[f"{name}_rows_per_cpu_s"]
    return {**out, "load": os.getloadavg()[0]}


def timed(read: Callable[[Path, int], np.ndarray], path: Path, count: int) -> float:
    """Seconds of CPU that a way to read takes."""
    begin = time.process_time()
    assert read(path, count).shape == (count, 3)
    return time.process_time() - begin


def with_loadtxt(path: Path, count: int) -> np.ndarray:
    """The first rows by NumPy."""
    return np.loadtxt(path, delimiter=",", skiprows=1, max_rows=count)


def with_csv_reader(path: Path, count: int) -> np.ndarray:
    """The first rows by the standard library."""
    with path.open(newline="") as file:
        rows = itertools.islice(csv.reader(file), 1, count + 1)
        return np.array([[float(cell) for cell in row] for row in rows])


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--file", type=Path, help="a table made before, of so many rows; made here if absent")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="import-csv-"))
    try:
        path = args.file or folder / "table.csv"
        if not path.exists():
            write_table(path, args.rows)
        out = measure(path, args.rows, args.repeats, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if args.json:
        print(json.dumps(out, indent=1))
        return
    for key, value in out.items():
        print(f"{key:20s} {value}")


if __name__ == "__main__":
    main()
