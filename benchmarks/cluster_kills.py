"""Kill what trains on a cluster, at random, and count what is lost or done twice.

    python -m benchmarks.cluster_kills ray|slurm [--kills 100] [--runs 250] [--seed 0]

For Ray a cluster of a head and two nodes of two CPUs each is made on this machine; for Slurm it must be there, on this
machine, as processes are killed (scripts/slurm_cluster.sh). Two drivers share a sweep of short commands, while
SIGKILL goes to workers, with Ray in one case of four to the task that holds one, and now and then to a driver, which is
then started again. Told are the kills, and of the runs those that are `done`, `lost` (no end), `wrong` (ended
otherwise), `twice` (more than one result). The last three must be 0.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.sweep import SAMPLE
from lehr.proxy.sweep.jobs import read_plan
from lehr.proxy.sweep.queue import Queue

SWEEP = """
name = "killed"
[training]
schedule = "constant(steps=10, peak={lr})"
[command]
run = "sh -c 'sleep 0.2; cp SAMPLE {out}/train.log; : {number}'"
[budget]
deaths = 1000
[engine]
ENGINE
[grid]
lr = [1e-3]
number = [NUMBERS]
"""
LONGEST = 0.8  # seconds between two kills at most
WORKERS = 2  # of a driver


@contextmanager
def cluster(name: str) -> Iterator[str]:
    """Give what the sweep's file says of the cluster, which Ray's is there for as long as it is needed."""
    if name == "slurm":
        yield "slurm.poll = 0.5"
        return
    from lehr.proxy.sweep.ray_connect import QUIET

    os.environ.update(QUIET)
    from ray.cluster_utils import Cluster

    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            made.add_node(num_cpus=2)
        yield f'ray.address = "{made.address}"'
    finally:
        made.shutdown()


def tasks() -> list[int]:
    """Processes of Ray that hold a worker."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::hold"):
                found.append(int(path.parent.name))
    return found


def disturb(base: Path, engine: str, runs: int, most: int, rng: random.Random) -> dict[str, int]:
    """Work a sweep off by two drivers while killing; return how many of each were killed."""
    queue = Queue(base / "sweep")
    command = [sys.executable, "-m", "lehr.cli.main", "sweep", str(base / "SWEEP.toml"), "--out", str(queue.folder),
               "--engine", engine, "--workers", str(WORKERS)]  # fmt: skip

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    drivers, killed = [start(), start()], {"workers": 0, "tasks": 0, "drivers": 0}
    kinds = ["workers"] * 3 + ["tasks"] * (engine == "ray")
    while len(queue.ended()) < runs and None in [driver.poll() for driver in drivers]:
        time.sleep(rng.uniform(0, LONGEST))
        if killed["workers"] + killed["tasks"] >= most:
            continue
        kind = rng.choice(kinds)
        owners = [int(owner.split("-")[1]) for owner in queue.claimed().values()]
        if found := tasks() if kind == "tasks" else owners:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(found), signal.SIGKILL)
                killed[kind] += 1
        if rng.randrange(20) == 0:
            driver = drivers.pop(0)
            driver.kill()
            driver.wait()
            killed["drivers"] += 1
            drivers.append(start())
    assert [driver.wait(120) for driver in drivers] == [0, 0], "a driver failed"
    return killed


def check(queue: Queue) -> dict[str, int]:
    """Count how the runs ended."""
    plan, states = read_plan(queue.folder), list(queue.ended().values())
    done = states.count("done")
    twice = sum(len(list(queue.run_folder(job.address).glob("result-*"))) > 1 for job in plan.jobs)
    return {"done": done, "lost": len(plan.jobs) - len(states), "wrong": len(states) - done, "twice": twice}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("engine", choices=("ray", "slurm"))
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--runs", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    base = Path(tempfile.mkdtemp(prefix="cluster-kills-"))
    try:
        with cluster(args.engine) as told:
            (base / "sample.log").write_text(SAMPLE)
            text = SWEEP.replace("SAMPLE", str(base / "sample.log")).replace("ENGINE", told)
            (base / "SWEEP.toml").write_text(text.replace("NUMBERS", ", ".join(map(str, range(args.runs)))))
            begin = time.monotonic()
            killed = disturb(base, args.engine, args.runs, args.kills, random.Random(args.seed))
            found = killed | check(Queue(base / "sweep")) | {"seconds": round(time.monotonic() - begin)}
        print("  ".join(f"{name} {count}" for name, count in found.items()))
    finally:
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
