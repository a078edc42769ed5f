"""What `lehr sweep --dry-run --measure` says of time and memory, against what the sweep then takes.

    python -m benchmarks.sweep_estimate [--updates 300] [--json]

Sweeps of widths 32, 64, 96 and 128, of which three are measured, with one worker: `estimated` and `taken` are seconds
of all runs, without the worker's start, and `error` is their relative difference. `--memory` trains three sizes in
processes of their own: `estimated_mib`, and `peak_mib`, the peak resident memory above that of a process that has
trained the smallest model there is.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from lehr.proxy.sweep.driver import drive
from lehr.proxy.sweep.jobs import Plan, write_plan
from lehr.proxy.sweep.local import LocalEngine
from lehr.proxy.sweep.measuring import expected_seconds, measure
from lehr.proxy.sweep.planning import plan_sweep
from lehr.proxy.sweep.queue import Queue
from lehr.proxy.sweep.spec import make_sweep

WIDTHS = (32, 64, 96, 128)
MIB = 2**20


def plan(
    widths: tuple[int, ...], updates: int, batch: int, context: int, depth: int = 2, vocab: int = 512
) -> Plan:
    """A run a width."""
    values = {
        "name": "estimate", "model": {"depth": depth, "width": 32, "heads": 2, "context": context},
        "data": {"vocab_size": vocab},
        "training": {"schedule": f"constant(steps={updates}, peak=1e-3, warmup=2)", "batch": batch},
        "grid": {"model": {"width": list(widths)}},
    }  # fmt: skip
    return plan_sweep(make_sweep(values, "benchmark"), "benchmark").plan


def times(updates: int, batch: int, context: int) -> dict[str, float]:
    """Estimate, then train."""
    asked = plan(WIDTHS, updates, batch, context)
    estimated = expected_seconds(asked.jobs, measure(asked.jobs, 1)) or 0.0
    with tempfile.TemporaryDirectory() as folder:
        queue = Queue(folder)
        queue.make()
        write_plan(queue.folder, asked)
        seen = drive(queue, asked, LocalEngine(queue.folder, 1))
    taken = sum(outcome.seconds for outcome in seen.ended.values())
    return {
        "batch": batch, "context": context, "estimated": estimated, "taken": taken, "error": estimated / taken - 1
    }  # fmt: skip


def memory() -> list[dict[str, float]]:
    """Peak resident memory of trainings in processes of their own."""
    small, *sizes = (
        plan((32,), 4, 1, 16, 1, 32), plan((256,), 4, 16, 256, 4), plan((512,), 4, 16, 256, 4, 4096),
        plan((512,), 4, 4, 64, 8),
    )  # fmt: skip
    least = _peak(small)
    return [
        {
            "params": float(asked.jobs[0].facts["params_total"]), "estimated_mib": (asked.jobs[0].memory or 0) / MIB,
            "peak_mib": _peak(asked) - least,
        }
        for asked in sizes
    ]  # fmt: skip


def _peak(asked: Plan) -> float:
    """MiB of a process that trains the first run."""
    with tempfile.TemporaryDirectory() as folder:
        write_plan(Path(folder), asked)
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.sweep_estimate", "--train", folder],
            check=True, capture_output=True, text=True,
        )  # fmt: skip
    return float(done.stdout)


def _train(folder: Path) -> float:
    from lehr.proxy.config import make_config
    from lehr.proxy.sweep.jobs import read_plan
    from lehr.proxy.train import train

    train(make_config(dict(read_plan(folder).jobs[0].payload)), folder / "run")
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--train", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    if args.train:
        print(_train(args.train))
        return
    found: list[dict[str, Any]] = (
        [dict(row) for row in memory()]
        if args.memory
        else [times(args.updates, *sizes) for sizes in ((4, 32), (16, 64), (8, 128))]
    )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
