"""Speed and memory of reading a printed log of Megatron-LM, against plain readers that go line by line.

    python -m benchmarks.megatron_log [--megabytes 1000] [--piece 40] [--rounds 3] [--seed 0] [--json]

A synthetic log is written into a temporary folder: every field that Megatron-LM prints by default, noisy times and
norms (so that the widths of fields vary), a validation every hundred lines and lines of other processes between. The
readers read in turn, `rounds` times, the plain ones only a piece of the log; the fastest round of each counts, in wall
time and in CPU time of the process (which other work on the machine slows less). `every` reads every field of a line
and its date, as lehr does; `three` reads the iteration, the LR, the loss and the norm alone. Ratios are of CPU time;
the readers must agree in every loss, LR and norm. `memory_mb` is the peak of a process of its own.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

FIELDS = ("lm loss", "learning rate", "grad norm")
_LINE = re.compile(
    r" iteration +(\d+)/ *\d+ \|.* learning rate: (\S+) \|.* lm loss: (\S+) \|.* grad norm: (\S+) \|"
)
BLOCK = 20_000  # lines drawn anew; the counters of later blocks are written over the same noise
MEMORY = (
    "import resource, sys; from pathlib import Path; from lehr.runs.readers.megatron import logs;"
    "(log,) = logs(Path(sys.argv[1])); print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
)


def write_log(path: Path, size: int, seed: int) -> int:
    """Write a log of about `size` bytes; return its training lines."""
    noise = random.Random(seed)
    ends = [_end(noise) for _ in range(BLOCK)]
    start, count, written = datetime(2026, 1, 1), 0, 0
    with path.open("w") as file:
        while written < size:
            lines = []
            for end in ends:
                count += 1
                at = start + timedelta(seconds=0.990001 * count)
                lines.append(
                    f" [{at:%Y-%m-%d %H:%M:%S.%f}] iteration {count * 10:8d}/99999999 | consumed samples: "
                    f"{count * 2560:12d} |{end}"
                )
                if count % 100 == 0:
                    rule = "-" * 101
                    lines += [
                        rule,
                        f" validation loss at iteration {count * 10} | lm loss value: 2.9E+00 | ",
                        rule,
                    ]
                    lines.append(
                        f"  successfully saved checkpoint from iteration {count * 10:7d} to /checkpoints"
                    )
            written += file.write("\n".join(lines) + "\n")
    return count


def _end(noise: random.Random) -> str:
    """Return the part of a line that does not count up."""
    return (
        f" elapsed time per iteration (ms): {noise.gauss(990, 30):.1f} | throughput per GPU (TFLOP/s/GPU): "
        f"{noise.gauss(400, 10):.1f} | learning rate: {3e-4 * noise.random():.6E} | global batch size:   256 | "
        f"lm loss: {2 + 10 * noise.random():.6E} | loss scale: 1.0 | grad norm: {abs(noise.gauss(1, 3)):.3f} | "
        f"num zeros: {noise.randrange(10000)} | params norm: {400 * noise.random():.3f} | "
        "number of skipped iterations:   0 | number of nan iterations:   0 |"
    )


def three(path: Path) -> dict[str, np.ndarray]:
    """Read three fields as scripts do: a regular expression for each line."""
    rows = []
    with path.open() as file:
        for line in file:
            match = _LINE.search(line)
            if match:
                rows.append(tuple(map(float, match.groups())))
    table = np.array(rows)
    return {"learning rate": table[:, 1], "lm loss": table[:, 2], "grad norm": table[:, 3]}


def every(path: Path) -> dict[str, np.ndarray]:
    """Read every field of a line and its date."""
    columns: dict[str, list[float]] = {}
    times = []
    with path.open() as file:
        for line in file:
            if " iteration " in line and "| consumed samples:" in line:
                head, *fields = line.split("|")
                times.append(datetime.fromisoformat(head[2:28]).timestamp())
                for field in fields[:-1]:
                    name, _, value = field.partition(":")
                    columns.setdefault(name.strip(), []).append(float(value))
    return {name: np.array(column) for name, column in columns.items()}


def fast(path: Path) -> dict[str, np.ndarray]:
    """Read a log with lehr."""
    from lehr.runs.readers.megatron import logs

    (log,) = logs(path)
    return {name: log.series[name].value for name in FIELDS}


def timed(read: Callable[[Path], Any], path: Path) -> tuple[float, float, Any]:
    """Return wall and CPU seconds and the result of one reading."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = read(path)
    return time.perf_counter() - wall, time.process_time() - cpu, result


def measure(size: int, piece: int, rounds: int, seed: int) -> dict[str, Any]:
    """Write both logs, read them in turn and compare."""
    with tempfile.TemporaryDirectory(prefix="lehr-") as folder:
        whole, part = Path(folder) / "whole.log", Path(folder) / "part.log"
        lines = write_log(whole, size, seed)
        write_log(part, piece, seed)
        readers = {"lehr": (fast, whole), "every": (every, part), "three": (three, part)}
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in readers}
        found = {}
        for _ in range(rounds):
            for name, (read, path) in readers.items():
                wall, cpu, found[name] = timed(read, path)
                times[name].append((wall, cpu))
        ours = fast(part)
        equal = all(np.array_equal(ours[f], found[name][f]) for f in FIELDS for name in ("every", "three"))
        memory = subprocess.run(
            [sys.executable, "-c", MEMORY, str(whole)], capture_output=True, text=True, check=True
        )
        megabytes = {name: path.stat().st_size / 1e6 for name, (_, path) in readers.items()}
    out: dict[str, Any] = {"megabytes": megabytes["lehr"], "lines": lines, "equal": equal}
    for name, some in times.items():
        out[f"{name}_mb_per_s"] = megabytes[name] / min(wall for wall, _ in some)
        out[f"{name}_mb_per_cpu_s"] = megabytes[name] / min(cpu for _, cpu in some)
    for name in ("every", "three"):
        out[f"ratio_to_{name}"] = out["lehr_mb_per_cpu_s"] / out[f"{name}_mb_per_cpu_s"]
    out["memory_mb"] = int(memory.stdout) / 1e3
    return out


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("megabytes", 1000), ("piece", 40), ("rounds", 3), ("seed", 0)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = measure(args.megabytes * 10**6, args.piece * 10**6, args.rounds, args.seed)
    if args.json:
        print(json.dumps(out, indent=1))
        return
    print(f"{out['megabytes']:.0f} MB, {out['lines']} training lines; the readers agree: {out['equal']}")
    for name in ("lehr", "every", "three"):
        wall, cpu = out[f"{name}_mb_per_s"], out[f"{name}_mb_per_cpu_s"]
        print(f"{name:5s}: {wall:7.1f} MB/s by the clock, {cpu:7.1f} MB/s of CPU time")
    print(
        f"{out['ratio_to_every']:.1f} times the plain reader of every field, {out['ratio_to_three']:.1f} times that "
        f"of three; peak memory {out['memory_mb']:.0f} MB"
    )


if __name__ == "__main__":
    main()
