"""Kill what trains on a Ray cluster, at random, and count what is lost or done twice.

    python -m benchmarks.ray_kills [--kills 100] [--runs 250] [--seed 0]

A cluster of a head and two nodes of two CPUs each is made on this machine; two drivers of two workers each work the
same sweep of short commands off, while SIGKILL goes to workers, in one case of four to the Ray task that holds one,
and now and then to a driver, which is then started again. Told are the kills, and of the runs those that are `done`,
`lost` (no end), `wrong` (ended otherwise), `twice` (more than one result). The last three must be 0.
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
from pathlib import Path

from benchmarks.sweep import SAMPLE
from lehr.proxy.sweep.jobs import Plan, write_plan
from lehr.proxy.sweep.planning import plan_sweep
from lehr.proxy.sweep.queue import Queue
from lehr.proxy.sweep.ray_connect import QUIET
from lehr.proxy.sweep.spec import load_sweep

SWEEP = """
name = "killed"
[training]
schedule = "constant(steps=10, peak={lr})"
[command]
run = "sh -c 'sleep 0.2; cp SAMPLE {out}/train.log; : {number}'"
[budget]
deaths = 1000
[grid]
lr = [1e-3]
number = [NUMBERS]
"""
DRIVE = (
    "import sys\nfrom pathlib import Path\nfrom lehr.proxy.sweep.driver import drive\n"
    "from lehr.proxy.sweep.jobs import read_plan\nfrom lehr.proxy.sweep.ray import RayEngine\n"
    "from lehr.proxy.sweep.engine_options import RayOptions\n"
    "from lehr.proxy.sweep.queue import Queue\nqueue = Queue(Path(sys.argv[1]))\n"
    "drive(queue, read_plan(queue.folder), RayEngine(queue.folder, 2, RayOptions(address=sys.argv[2])))\n"
)
LONGEST = 0.8  # seconds between two kills at most


def tasks() -> list[int]:
    """Processes of Ray that hold a worker."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes().startswith(b"ray::hold"):
                found.append(int(path.parent.name))
    return found


def disturb(queue: Queue, plan: Plan, address: str, most: int, rng: random.Random) -> dict[str, int]:
    """Work a sweep off by two drivers while killing; return how many of each were killed."""

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", DRIVE, str(queue.folder), address])

    drivers, killed = [start(), start()], {"workers": 0, "tasks": 0, "drivers": 0}
    while len(queue.ended()) < len(plan.jobs) and None in [driver.poll() for driver in drivers]:
        time.sleep(rng.uniform(0, LONGEST))
        if killed["workers"] + killed["tasks"] >= most:
            continue
        kind = rng.choice(["workers", "workers", "workers", "tasks"])
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


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--runs", type=int, default=250)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    os.environ.update(QUIET)
    from ray.cluster_utils import Cluster

    base = Path(tempfile.mkdtemp(prefix="ray-kills-"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=2)
        (base / "sample.log").write_text(SAMPLE)
        numbers = ", ".join(map(str, range(args.runs)))
        text = SWEEP.replace("SAMPLE", str(base / "sample.log")).replace("NUMBERS", numbers)
        (base / "SWEEP.toml").write_text(text)
        queue = Queue(base / "sweep")
        plan = plan_sweep(load_sweep(base / "SWEEP.toml"), "SWEEP.toml", queue).plan
        queue.make()
        write_plan(queue.folder, plan)
        found = disturb(queue, plan, cluster.address, args.kills, random.Random(args.seed))
        states = list(queue.ended().values())
        found |= {"done": states.count("done"), "lost": len(plan.jobs) - len(states)}
        found["wrong"] = len(states) - found["done"]
        found["twice"] = sum(
            len(list(queue.run_folder(job.address).glob("result-*"))) > 1 for job in plan.jobs
        )
        print("  ".join(f"{name} {count}" for name, count in found.items()))
    finally:
        cluster.shutdown()
        shutil.rmtree(base, ignore_errors=True)


if __name__ == "__main__":
    main()
