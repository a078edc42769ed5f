"""Kill signals at random moments of everything that lehr writes, and of the watch.

    python -m benchmarks.kill [--kills 1000] [--seed 0] [--tasks TASK...] [--json]

A child process repeats one task, is sent SIGKILL after a random time, and what it left is checked:

| task | repeated | what must hold after each kill |
| --- | --- | --- |
| write | lehr.files.write_atomic over one file | the file is one of the versions written, whole |
| fits | lehr.fit.files.save_fits over one file | it loads, as one of the versions |
| store | lehr.runs.store.add_runs, adding and replacing | it loads, and every run is whole, of one version |
| watch | lehr branch --watch, the log growing | log and fit are untouched, nothing lies beside them, lines are whole |

`damaged` counts the kills after which that did not hold; `left_over` the temporary files that killed writers left
(they hide no file and no reader sees them). `plain` is Path.write_bytes, which is damaged by design: it proves that the
kills hit writes. SIGKILL says nothing of a power cut.

Children are forked from a process that has loaded what it needs, so that a kill falls into the task.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import duckdb  # noqa: F401  # loaded before forking
import numpy as np

import lehr.anneal.branch  # noqa: F401  # the watch needs it at once
from lehr.cli.main import main as command
from lehr.errors import LehrError
from lehr.files import write_atomic
from lehr.fit.files import Fits, load_fits, save_fits
from lehr.fit.fit import fit
from lehr.fit.uncertainty import bootstrap
from lehr.laws import get_law
from lehr.laws.law import Conditions
from lehr.runs.run import Run
from lehr.runs.store import add_runs, load_runs
from lehr.schedule.families import constant, wsd

SHARES = {"write": 0.4, "fits": 0.2, "store": 0.25, "watch": 0.15}
VERSIONS = 1000
BODY = 1 << 20  # bytes of a file: long enough for a plain write to be caught in the middle


@dataclass(frozen=True)
class Task:
    """What a child repeats, how long it may live, how the parent keeps it busy, and what must hold afterwards."""

    work: Callable[[Path], None]
    longest: float
    check: Callable[[Path], str]
    feed: Callable[[Path], None] | None = None


def body(version: int) -> bytes:
    """A file that tells whether it is whole."""
    text = random.Random(version).randbytes(64).hex().encode() * (BODY // 128)
    return hashlib.sha256(text).hexdigest().encode() + text


def write_files(folder: Path) -> None:
    """Write version after version."""
    for version in range(VERSIONS):
        write_atomic(folder / "file", body(version))


def write_plainly(folder: Path) -> None:
    """The same without care."""
    for version in range(VERSIONS):
        (folder / "file").write_bytes(body(version))


def check_file(folder: Path) -> str:
    """Say what is wrong with the file, if anything; before the first write there may be none."""
    path = folder / "file"
    if not path.exists():
        return "" if not (folder / "seen").exists() else "lost"
    (folder / "seen").touch()
    data = path.read_bytes()
    return "" if hashlib.sha256(data[64:]).hexdigest().encode() == data[:64] else "torn"


def small_fit() -> Fits:
    """Fit two short curves of a known law, with draws."""
    law, runs = get_law("effective_time"), []
    plans = {"constant": constant(steps=4000, peak=1e-3), "wsd": wsd(steps=4000, peak=1e-3, decay=1000)}
    for name, schedule in plans.items():
        step = np.arange(100, 4001, 100)
        basis = law.bind(Conditions(schedule), step)(np.array([0.5, 0.8, 30.0, 2.0, 0.4]))[0]
        runs.append(Run(name, schedule, step, basis @ np.array([2.4, 0.25, 8.0])))
    result = bootstrap(fit(law, runs), runs, 8)
    return Fits({"effective_time": result}, {}, "effective_time")


def write_fits(folder: Path) -> None:
    """Save fits that differ in one number."""
    fits = load_fits(folder / "fit.json")
    result = fits.get()
    for version in range(VERSIONS):
        save_fits(
            folder / "fit.json", replace(fits, results={result.law: replace(result, cost=float(version))})
        )


def check_fits(folder: Path) -> str:
    """Load the fits."""
    try:
        return "" if load_fits(folder / "fit.json").get().draws else "emptied"
    except LehrError as error:
        return str(error)


def version_of(version: int, name: str) -> Run:
    """A run whose every loss tells the version."""
    step = np.arange(1, 3000)
    return Run(name, constant(steps=3000, peak=1e-3), step, np.full(step.shape, 2.0 + version / 1024))


def write_store(folder: Path) -> None:
    """Add two runs, then replace them again and again."""
    for version in range(VERSIONS):
        add_runs(folder / "store", [version_of(version, "a"), version_of(version, "b")], replace=True)


def check_store(folder: Path) -> str:
    """Load the store; each run must be of one version, and none may vanish."""
    seen = folder / "seen"
    if not (folder / "store" / "runs").is_dir():
        return ""
    try:
        runs = load_runs(folder / "store")
    except LehrError as error:
        return str(error)
    before = set(seen.read_text().split()) if seen.exists() else set()
    if before - set(runs.names):
        return "lost"
    seen.write_text(" ".join(runs.names))
    return "" if all(np.ptp(run.loss) == 0 and len(run.step) == 2999 for run in runs) else "mixed"


def watch(folder: Path) -> None:
    """Watch the log, printing to a file."""
    out = os.open(folder / "out" / "lines", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(out, 1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stdout = os.fdopen(os.dup(1), "w")
    sys.argv = ["lehr", "branch", str(folder / "fit.json"), str(folder / "logs" / "log.csv"), "--deadline-steps",
                "9000", "--watch", "--every", "0.02", "--shape", "linear", "--json"]  # fmt: skip
    command()


def feed(folder: Path) -> None:
    """Write a piece of the log, which ends anywhere in a line; begin anew when it is long."""
    path, known = folder / "logs" / "log.csv", folder / "known"
    rows = "step,lr,loss\n" + "".join(f"{s},0.001,{2.4 + 4 * s**-0.4:.5f}\n" for s in range(100, 8001, 100))
    size = path.stat().st_size if path.exists() else 0
    if size >= len(rows):
        size = 0
    more = rows[size : size + 97]
    with path.open("a" if size else "w") as file:
        file.write(more)
    known.write_bytes(path.read_bytes())


def check_watch(folder: Path) -> str:
    """Compare log and fit file with what was written, and read the printed lines."""
    if [p.name for p in (folder / "logs").iterdir()] != ["log.csv"]:
        return "something lies beside the log"
    if (folder / "logs" / "log.csv").read_bytes() != (folder / "known").read_bytes():
        return "the log was changed"
    if hashlib.sha256((folder / "fit.json").read_bytes()).hexdigest() != (folder / "sum").read_text():
        return "the fit was changed"
    lines = folder / "out" / "lines"
    whole = lines.read_text().split("\n")[:-1] if lines.exists() else []
    try:
        answers = [json.loads(line) for line in whole]
    except ValueError:
        return "a printed line is broken"
    lines.write_text("")
    with (folder / "answers").open("a") as file:
        file.write("x" * sum(a["best"]["final_loss"] < a["loss"] for a in answers))
    return ""


TASKS = {
    "write": Task(write_files, 0.05, check_file),
    "fits": Task(write_fits, 0.1, check_fits),
    "store": Task(write_store, 0.4, check_store),
    "watch": Task(watch, 3.0, check_watch, feed),
    "plain": Task(write_plainly, 0.05, check_file),
}


def prepare(folder: Path, fits: Fits) -> None:
    """Lay out what the tasks start from."""
    for name in ("logs", "out", "tmp"):
        (folder / name).mkdir()
    save_fits(folder / "fit.json", fits)
    (folder / "sum").write_text(hashlib.sha256((folder / "fit.json").read_bytes()).hexdigest())
    feed(folder)


def in_child(work: Callable[[], None]) -> int:
    """Fork; the child does `work` and ends without the parent's clean-up."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException as error:  # the child must never return into the parent's code
            os.write(2, f"{type(error).__name__}: {error}\n".encode())
            os._exit(1)
    return child


def kill_once(task: Task, folder: Path, rng: random.Random) -> str:
    """Start the task, kill it, and check what it left, in a process of its own; say what is wrong."""
    child = in_child(lambda: task.work(folder))
    stop = time.monotonic() + rng.uniform(0, task.longest)
    while (left := stop - time.monotonic()) > 0:
        if task.feed:
            task.feed(folder)
        time.sleep(min(left, 0.05))
    os.kill(child, signal.SIGKILL)
    if os.WIFEXITED(os.waitpid(child, 0)[1]):
        return "the task ended by itself"

    def check() -> None:
        (folder / "verdict").write_text(task.check(folder))

    (folder / "verdict").unlink(missing_ok=True)
    os.waitpid(in_child(check), 0)
    return (folder / "verdict").read_text() if (folder / "verdict").exists() else "the check failed"


def run(name: str, kills: int, fits: Fits, rng: random.Random) -> dict[str, Any]:
    """Kill one task so many times in a folder of its own."""
    folder = Path(tempfile.mkdtemp(prefix="kill-"))
    try:
        prepare(folder, fits)
        os.environ["TMPDIR"], tempfile.tempdir = str(folder / "tmp"), None
        wrong: dict[str, int] = {}
        for _ in range(kills):
            verdict = kill_once(TASKS[name], folder, rng)
            if verdict:
                wrong[verdict] = wrong.get(verdict, 0) + 1
        hidden = [
            p
            for p in folder.rglob("*")
            if p.name.startswith((".file", ".fit", "lehr-")) or p.suffix == ".tmp"
        ]
        answers = len((folder / "answers").read_text()) if (folder / "answers").exists() else None
        return {"kills": kills, "damaged": sum(wrong.values()), "why": wrong, "left_over": len(hidden),
                "answers": answers}  # fmt: skip
    finally:
        del os.environ["TMPDIR"]
        tempfile.tempdir = None
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=1000, help="of all tasks together")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(SHARES))
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    share = sum(SHARES.get(name, 0.1) for name in args.tasks)
    fits, rng, out = small_fit(), random.Random(args.seed), {}
    for name in args.tasks:
        kills = max(1, round(args.kills * SHARES.get(name, 0.1) / share))
        out[name] = run(name, kills, fits, rng)
    if args.json:
        print(json.dumps({"tasks": out, "damaged": sum(row["damaged"] for row in out.values())}, indent=1))
        return
    for name, row in out.items():
        print(f"{name:8s} " + "  ".join(f"{key} {value}" for key, value in row.items() if value is not None))


if __name__ == "__main__":
    main()
