"""Several processes that import into one store, killed at random: no run that was acknowledged may be lost.

    python -m benchmarks.kill_store [--kills 200] [--writers 8] [--seed 0] [--json]

Each writer adds runs of its own again and again: one, or so many at once that they share files; new ones, or a new
version of one in place of the last; and one run that all of them add. When `add_runs` has returned it writes down
what it added. A random writer is sent SIGKILL after a random time and another takes its place, while the rest goes
on writing. After each kill the store is listed, and every tenth time loaded, in a process of its own:

| what must hold | counted under |
| --- | --- |
| the store can be read, at any moment | `why` |
| every run written down is there, in that version or a later one of the same writer | `lost` |
| no name is there twice | `twice` |
| every run is whole: all points, of one version, the one that its record tells | `torn` |

At the end all writers have stopped, one more run is added, and the store holds no file that no record names.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kill import in_child
from lehr.errors import LehrError
from lehr.runs.catalogue import read_catalogue
from lehr.runs.location import Location
from lehr.runs.run import Run
from lehr.runs.store import SHARED_FROM, add_runs, compact, list_runs, load_runs
from lehr.schedule.families import constant

POINTS = 50
OLD = 200  # names of a writer, of which it replaces one now and then


def make_run(name: str, version: int) -> Run:
    """A run whose every loss tells the version."""
    step = np.arange(1, POINTS + 1)
    return Run(name, constant(steps=POINTS, peak=1e-3), step, np.full(POINTS, 2.0 + version / 1024))


def version_of(loss: float) -> int:
    """The version that a loss tells."""
    return round((loss - 2.0) * 1024)


def write(folder: Path, writer: int, seed: int) -> None:
    """Add runs for ever, writing down those that were added."""
    rng = random.Random(seed)
    out = os.open(folder / f"acknowledged-{writer}", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        count = rng.choice((1, 1, 1, 2, SHARED_FROM + rng.randrange(20)))
        version = time.time_ns() >> 20  # later ones are higher, across the lives of a writer
        names = rng.sample([f"{writer}-{index}" for index in range(OLD)], count)
        add_runs(
            folder / "store", [*(make_run(name, version) for name in names), make_run("all", 1)], replace=True
        )
        os.write(out, "".join(f"{name} {version}\n" for name in names).encode())


def acknowledged(folder: Path) -> dict[str, int]:
    """The versions written down, by name."""
    found: dict[str, int] = {}
    for path in folder.glob("acknowledged-*"):
        for line in path.read_text().split("\n")[:-1]:
            name, version = line.split()
            found[name] = max(found.get(name, 0), int(version))
    return found


def check(folder: Path, load: bool) -> list[str]:
    """Say what is wrong with the store."""
    wanted = acknowledged(folder)  # before: what is written down later need not be seen
    try:
        listed = list_runs(folder / "store")
        runs = load_runs(folder / "store") if load else ()
    except LehrError as error:
        return [str(error)]
    found = {record["name"]: version_of(record["final_loss"]) for record in listed}
    wrong = ["twice"] if len(found) < len(listed) else []
    if any(found.get(name, -1) < version for name, version in wanted.items()):
        wrong.append("lost")
    whole = [run.step.size == POINTS and np.ptp(run.loss) == 0 for run in runs]
    newest = [version_of(run.loss[0]) >= wanted.get(run.name, 0) for run in runs]
    if not all(whole) or not all(newest) or any(record["points"] != POINTS for record in listed):
        wrong.append("torn")
    return wrong


def leftovers(folder: Path) -> int:
    """Files that are neither records nor named by one, after one more run and a fold."""
    store = folder / "store"
    add_runs(store, [make_run("last", 1)])
    compact(store)
    named = {entry.record["parquet"] for entry in read_catalogue(Location(str(store / "runs"))).runs.values()}
    files = {path.name for path in (store / "runs").iterdir() if not path.name.startswith("segment.")}
    return len(files - named)


def run(kills: int, writers: int, seed: int) -> dict[str, Any]:
    """Kill writers of a store in a folder of its own."""
    folder, rng = Path(tempfile.mkdtemp(prefix="kill-store-")), random.Random(seed)
    wrong: dict[str, int] = {}
    begin = time.monotonic()

    def start(writer: int) -> int:
        life = rng.randrange(1 << 30)
        return in_child(lambda: write(folder, writer, life))

    def verify(load: bool) -> None:
        (folder / "verdict").unlink(missing_ok=True)
        os.waitpid(in_child(lambda: (folder / "verdict").write_text(json.dumps(check(folder, load)))), 0)
        known = (folder / "verdict").exists()
        for verdict in json.loads((folder / "verdict").read_text()) if known else ["the check failed"]:
            wrong[verdict] = wrong.get(verdict, 0) + 1

    # here nothing may open DuckDB, whose threads a fork does not copy
    os.waitpid(in_child(lambda: add_runs(folder / "store", [make_run("all", 1)]) and None), 0)
    living = [start(writer) for writer in range(writers)]
    try:
        for kill in range(kills):
            time.sleep(rng.uniform(0, 0.3))
            victim = rng.randrange(writers)
            os.kill(living[victim], signal.SIGKILL)
            if os.WIFEXITED(os.waitpid(living[victim], 0)[1]):
                wrong["a writer ended by itself"] = wrong.get("a writer ended by itself", 0) + 1
            living[victim] = start(victim)
            verify(load=kill % 10 == 9)
    finally:
        for child in living:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    verify(load=True)
    written = sum(len(path.read_text().splitlines()) for path in folder.glob("acknowledged-*"))
    left = leftovers(folder)
    out = {
        "kills": kills, "writers": writers, "acknowledged": written, "names": len(acknowledged(folder)),
        "damaged": sum(wrong.values()), "why": wrong, "left_over": left, "seconds": time.monotonic() - begin,
    }  # fmt: skip
    shutil.rmtree(folder, ignore_errors=True)
    return out


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = run(args.kills, args.writers, args.seed)
    print(
        json.dumps(out, indent=1) if args.json else "  ".join(f"{key} {value}" for key, value in out.items())
    )


if __name__ == "__main__":
    main()
