"""What the engine of sweeps costs, and that it loses, doubles and spoils nothing when its processes are killed.

    python -m benchmarks.sweep --noop 10000 [--engine ray|slurm] [--json]
    python -m benchmarks.sweep --kills 100 [--seed 0] [--json]

`--noop` runs a sweep of as many commands that copy a finished log: `overhead_ms` is the time a run beyond that of the
command itself, started in a loop (`command_ms`), with one worker. It includes the reading of the log, nanoGPT's lines,
which are read without DuckDB: to open that twice for a table costs some 20 to 60 ms more. `cpu_ms` is the
processor's time a run, of driver, worker and command together. `plan_seconds` reads and checks the SWEEP.toml,
`status_seconds` is `lehr sweep status` as a process, the interpreter's start included (`status_inside_seconds` without,
`status_cpu_seconds` what it takes of the processor, which on a busy machine is less). With `--engine ray` the
worker is a task of a Ray cluster of two nodes, which is made for it before the time runs; `cpu_ms` then lacks what
Ray's processes and the worker take. With `--engine slurm` it is a job of the cluster that SLURM_CONF names
(`scripts/slurm_cluster.sh`), whose submission and start are part of the time.

`--kills` trains sweeps of two trunks with three cooldowns each, the same sweep at once by two drivers of two workers,
and sends SIGKILL to a worker at random moments, and every tenth time or so to a driver, which is then started again.
Then the next sweep begins, until there have been so many kills of workers. Counted are `kills` and `driver_kills`;
`runs` that ended, and of them `lost` (no end, or no outcome), `twice` (trained to the end by two), `different` (rows of
the log other than those of `train` one by one, the seconds aside), `wrong` (ended otherwise than done), and
`undisturbed` sweeps that no kill hit. `lost`, `twice`, `different` and `wrong` must be 0.

Workers are forked from a process that has loaded torch, so that kills fall into the work.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from benchmarks.kill import in_child
from lehr.proxy.config import make_config
from lehr.proxy.sweep.driver import Engine, drive
from lehr.proxy.sweep.jobs import Plan, read_plan, write_plan
from lehr.proxy.sweep.local import LocalEngine
from lehr.proxy.sweep.outcome import read_outcome
from lehr.proxy.sweep.planning import plan_sweep
from lehr.proxy.sweep.queue import Queue
from lehr.proxy.sweep.spec import load_sweep
from lehr.proxy.sweep.status import counts, standings
from lehr.proxy.sweep.worker import work

NOOP = """
name = "noop"
[training]
schedule = "constant(steps=10, peak={lr})"
[command]
run = "cp --suffix={number} SAMPLE {out}/train.log"
[grid]
lr = [1e-3]
number = [NUMBERS]
"""
SAMPLE = "".join(
    f"step {step}: train loss {5 - step / 10:.4f}, val loss {5 - step / 10:.4f}\n" for step in (0, 5, 10)
)
DISTURBED = """
name = "disturbed"
[model]
depth = 1
width = 16
heads = 2
context = 16
[data]
vocab_size = 32
[training]
schedule = "constant(steps=UPDATES, peak={lr}, warmup=4)"
batch = 4
validate_every = 10
validate_sequences = 4
checkpoint_every = 5
[grid]
lr = [1e-2, 2e-2]
[cooldowns]
ratios = [0.2, 0.4, 0.6]
[budget]
deaths = 1000
"""
UPDATES = 60
LONGEST = 0.8  # seconds between two kills at most
DRIVERS, WORKERS = 2, 2
EVERY = 10  # kills of workers for one of a driver


@contextlib.contextmanager
def making_engines(name: str) -> Iterator[Callable[[Path], Engine]]:
    """Give a maker of engines of one worker, and for Ray a cluster as long as it is needed."""
    if name == "local":
        yield lambda folder: LocalEngine(folder, 1)
        return
    if name == "slurm":
        from lehr.proxy.sweep.slurm import SlurmEngine

        yield lambda folder: SlurmEngine(folder, 1)
        return
    from lehr.proxy.sweep.engine_options import RayOptions
    from lehr.proxy.sweep.ray import RayEngine
    from lehr.proxy.sweep.ray_connect import QUIET

    os.environ.update(QUIET)
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        cluster.add_node(num_cpus=1)
        yield lambda folder: RayEngine(folder, 1, RayOptions(address=cluster.address))
    finally:
        cluster.shutdown()


def noop(number: int, make: Callable[[Path], Engine]) -> dict[str, float]:
    """Measure what an engine costs; see the module's text."""
    base = Path(tempfile.mkdtemp(prefix="sweep-noop-"))
    try:
        (base / "sample.log").write_text(SAMPLE)
        # cp ignores the suffix: it makes commands different
        text = NOOP.replace("SAMPLE", str(base / "sample.log")).replace(
            "NUMBERS", ", ".join(map(str, range(number)))
        )
        (base / "SWEEP.toml").write_text(text)
        begin = time.perf_counter()
        plan = plan_sweep(load_sweep(base / "SWEEP.toml"), "SWEEP.toml").plan
        planned = time.perf_counter() - begin
        queue = Queue(base / "sweep")
        queue.make()
        write_plan(queue.folder, plan)
        begin, used = time.perf_counter(), _cpu_seconds()
        drive(queue, plan, make(queue.folder))
        took, used = (time.perf_counter() - begin) / number, (_cpu_seconds() - used) / number
        command = _command_seconds(base, min(number, 300))
        assert counts(standings(queue, plan))["done"] == number
        begin = time.perf_counter()
        counts(standings(queue, read_plan(queue.folder)))
        inside = time.perf_counter() - begin
        begin, of_status = time.perf_counter(), _cpu_seconds()
        subprocess.run(
            [sys.executable, "-m", "lehr.cli.main", "sweep", "status", str(queue.folder), "--json"],
            check=True, capture_output=True,
        )  # fmt: skip
        return {
            "runs": number, "plan_seconds": planned, "run_ms": 1e3 * took, "command_ms": 1e3 * command,
            "overhead_ms": 1e3 * (took - command), "status_seconds": time.perf_counter() - begin,
            "status_inside_seconds": inside, "status_cpu_seconds": _cpu_seconds() - of_status, "cpu_ms": 1e3 * used,
        }  # fmt: skip
    finally:
        shutil.rmtree(base, ignore_errors=True)


def _cpu_seconds() -> float:
    """Processor time so far, of this process and of those that it has waited for."""
    return sum(
        each.ru_utime + each.ru_stime
        for each in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


def _command_seconds(base: Path, number: int) -> float:
    """Seconds of the command alone."""
    begin = time.perf_counter()
    for index in range(number):
        subprocess.run(
            ["cp", f"--suffix={index}", str(base / "sample.log"), str(base / "copy.log")], check=True
        )
    return (time.perf_counter() - begin) / number


class ForkEngine:
    """Workers forked from this process, which has loaded what they need."""

    problem: str | None = None

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers
        self.children: set[int] = set()

    def tend(self) -> int:
        """Fork those that are lacking."""
        self.children = {pid for pid in self.children if os.waitpid(pid, os.WNOHANG)[0] == 0}
        while len(self.children) < self.workers:
            self.children.add(in_child(lambda: self._work(os.getppid())))
        return len(self.children)

    def _work(self, parent: int) -> None:
        import torch

        torch.set_num_threads(1)
        code = work(self.folder, parent)
        assert code == 0, code

    def stop(self, hard: bool = False) -> None:
        """End them."""
        for pid in self.children:
            os.kill(pid, signal.SIGKILL if hard else signal.SIGTERM)
            os.waitpid(pid, 0)
        self.children = set()


def _drive(queue: Queue, plan: Plan) -> None:
    drive(queue, plan, ForkEngine(queue.folder, WORKERS))


def _workers(drivers: list[int]) -> list[int]:
    """Processes of workers: the children of drivers, and those whose driver was killed."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) in drivers and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def disturb(queue: Queue, plan: Plan, rng: random.Random, most: int) -> dict[str, int]:
    """Work a sweep off by two drivers while killing their workers, and now and then one of them."""
    found = {"kills": 0, "driver_kills": 0}
    drivers = [in_child(lambda: _drive(queue, plan)) for _ in range(DRIVERS)]
    while len(queue.ended()) < len(plan.jobs):
        time.sleep(rng.uniform(0, LONGEST))
        if found["kills"] < most and (workers := _workers(drivers)):
            os.kill(rng.choice(workers), signal.SIGKILL)
            found["kills"] += 1
            if rng.randrange(EVERY) == 0:
                killed = drivers.pop(rng.randrange(len(drivers)))
                os.kill(killed, signal.SIGKILL)
                os.waitpid(killed, 0)
                found["driver_kills"] += 1
                drivers.append(in_child(lambda: _drive(queue, plan)))
    for driver in drivers:
        assert os.waitpid(driver, 0)[1] == 0, "a driver failed"
    return found


def check(queue: Queue, plan: Plan, straight: Path) -> dict[str, int]:
    """Count what went wrong."""
    states, found = queue.ended(), {"lost": 0, "twice": 0, "different": 0, "wrong": 0}
    assert not queue.claimed() and len(os.listdir(queue.folder / "ended")) == len(states)
    for job in plan.jobs:
        folder, state = queue.run_folder(job.address), states.get(job.address)
        found["lost"] += state is None or read_outcome(queue, job.address, state).step != UPDATES
        found["wrong"] += state != "done"
        found["twice"] += len(list(folder.glob("result-*.json"))) > 1
        found["different"] += _rows(folder) != _rows(straight / job.address)
    return found


def _rows(folder: Path) -> list[str]:
    return [line.partition(',"seconds"')[0] for line in (folder / "log.jsonl").read_text().splitlines()[1:]]


def _straight(plan: Plan, folder: Path) -> None:
    """Train one by one, as `lehr train` does."""
    import torch

    from lehr.proxy.train import train

    torch.set_num_threads(1)
    for job in plan.jobs:
        train(make_config(dict(job.payload)), folder / job.address)


def kills(number: int, seed: int) -> dict[str, int]:
    """Kill so many workers; see the module's text."""
    import torch._dynamo  # noqa: F401  # an optimiser imports it, in seconds that no child should spend

    import lehr.proxy.train  # noqa: F401
    from lehr.proxy.data import open_data

    rng, base = random.Random(seed), Path(tempfile.mkdtemp(prefix="sweep-kills-"))
    total = {"sweeps": 0, "undisturbed": 0, "runs": 0, "kills": 0, "driver_kills": 0}
    try:
        (base / "SWEEP.toml").write_text(DISTURBED.replace("UPDATES", str(UPDATES)))
        plan = plan_sweep(load_sweep(base / "SWEEP.toml"), "SWEEP.toml").plan
        config = make_config(dict(plan.jobs[0].payload))
        assert open_data(config.data, config.model.context).entropy is not None  # measured before forking
        (base / "straight").mkdir()
        assert os.waitpid(in_child(lambda: _straight(plan, base / "straight")), 0)[1] == 0
        while total["kills"] < number:
            queue = Queue(base / f"sweep-{total['sweeps']}")
            queue.make()
            write_plan(queue.folder, plan)
            happened = disturb(queue, plan, rng, number - total["kills"])
            total["undisturbed"] += not happened["kills"]
            for key, value in (happened | check(queue, plan, base / "straight")).items():
                total[key] = total.get(key, 0) + value
            total["sweeps"] += 1
            total["runs"] += len(plan.jobs)
        return total
    finally:
        shutil.rmtree(base, ignore_errors=True)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--noop", type=int, help="commands that do next to nothing")
    parser.add_argument("--engine", choices=("local", "ray", "slurm"), default="local", help="of --noop")
    parser.add_argument("--kills", type=int, help="kills of workers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    if args.noop:
        with making_engines(args.engine) as make:
            found |= noop(args.noop, make)
    if args.kills:
        found |= kills(args.kills, args.seed)
    print(json.dumps(found, indent=1) if args.json else "  ".join(f"{k} {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()
