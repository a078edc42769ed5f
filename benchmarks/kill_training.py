"""Kill signals at random moments of a training: it must go on every time and end as if nothing had happened.

    python -m benchmarks.kill_training [--kills 50] [--seed 0] [--updates 400] [--json]

A child process trains a tiny model, writing a checkpoint every few updates, and is sent SIGKILL after a random time;
the next goes on from what it left. Once a run has ended, its log is compared with that of a run that nobody disturbed:
`step`, `lr`, losses, norm and tokens of every row, as text, and the weights of the last checkpoint, bit by bit. Then
the next run begins, until there have been `kills` kills, a trunk and a branch of it in turn.

`refused` counts children that ended with an error, `different` runs whose log or weights differ, `in_checkpoint` the
kills that fell into the writing of a checkpoint (they leave a file that the next deletes), `advanced` those of a child
that had got further than any before, `passed_over` remarks of damage. `refused`, `different` and `passed_over` must
be 0.
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
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch._dynamo  # noqa: F401  # an optimiser imports it, in a second that no child should spend

from benchmarks.kill import in_child
from lehr.proxy.checkpoint import load_checkpoint
from lehr.proxy.config import TrainConfig, make_config
from lehr.proxy.data import open_data
from lehr.proxy.runlog import read_log
from lehr.proxy.train import train

LONGEST = 0.6  # seconds that a child lives at most
EVERY = 4  # updates between two checkpoints: a good part of the time goes into them


def trunk(updates: int) -> TrainConfig:
    """A tiny run."""
    return make_config({
        "name": "trunk", "model": {"depth": 1, "width": 16, "heads": 2, "context": 16},
        "data": {"vocab_size": 32},
        "training": {
            "schedule": f"constant(steps={updates}, peak=1e-2, warmup=10)", "batch": 4,
            "validate_every": 10, "validate_sequences": 4, "checkpoint_every": EVERY, "keep": [updates // 2],
        },
    })  # fmt: skip


def branch(updates: int) -> TrainConfig:
    """A branch of it with a decay, in the second half of its life."""
    values = trunk(updates).model_dump()
    values["name"], values["branch"] = "branch", {"run": "trunk", "step": updates // 2}
    values["training"]["schedule"] = f"wsd(steps={updates}, peak=1e-2, warmup=10, decay={updates // 2})"
    return make_config(values)


def rows(folder: Path) -> list[str]:
    """Rows of a log as text, the seconds aside."""
    return [line.partition(',"seconds"')[0] for line in (folder / "log.jsonl").read_text().splitlines()[1:]]


def work(config: TrainConfig, folder: Path) -> None:
    """Train in the child; what is said goes to a file beside the run."""
    torch.set_num_threads(1)
    with (folder.parent / f"{folder.name}.said").open("a") as said:
        train(config, folder, resume=True, remark=lambda text: print(text, file=said, flush=True))


def disturb(config: TrainConfig, folder: Path, rng: random.Random, most: int) -> dict[str, int]:
    """Train with up to `most` kills; return what happened."""
    found = {"kills": 0, "refused": 0, "in_checkpoint": 0, "advanced": 0}
    before = 0
    while True:
        child = in_child(lambda: work(config, folder))
        if found["kills"] < most:
            time.sleep(rng.uniform(0, LONGEST))
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        if os.WIFSIGNALED(status):
            found["kills"] += 1
            last = read_log(folder).last if (folder / "log.jsonl").exists() else 0
            found["advanced"] += last > before
            before = last
            found["in_checkpoint"] += any((folder / "checkpoints").glob(".step-*"))
        elif os.WEXITSTATUS(status):
            found["refused"] += 1
            return found
        else:
            return found


def compare(one: Path, other: Path, step: int) -> None:
    """Fail unless two runs have the same rows and the same weights at the end."""
    ours, theirs = (load_checkpoint(folder, step).model for folder in (one, other))
    assert rows(one) == rows(other) != []
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def run(kills: int, seed: int, updates: int) -> dict[str, Any]:
    """Kill so many times; see the module's text."""
    rng, base = random.Random(seed), Path(tempfile.mkdtemp(prefix="kill-training-"))
    total = {
        "kills": 0,
        "refused": 0,
        "in_checkpoint": 0,
        "advanced": 0,
        "runs": 0,
        "different": 0,
        "passed_over": 0,
    }
    configs = [trunk(updates), branch(updates)]
    # known before forking, or no child would live long enough to measure it
    assert open_data(configs[0].data, configs[0].model.context).entropy is not None
    try:
        for config in configs:
            (base / "straight").mkdir(exist_ok=True)
            os.waitpid(in_child(partial(work, config, base / "straight" / config.name)), 0)
        while total["kills"] < kills:
            for config in configs:
                folder = base / f"disturbed-{total['runs'] // 2}" / config.name
                folder.parent.mkdir(exist_ok=True)
                for key, value in disturb(config, folder, rng, kills - total["kills"]).items():
                    total[key] += value
                total["runs"] += 1
                # compared in a child too: this process must not compute before it forks
                compared = in_child(partial(compare, folder, base / "straight" / config.name, updates))
                total["different"] += os.WEXITSTATUS(os.waitpid(compared, 0)[1])
                total["passed_over"] += len((folder.parent / f"{folder.name}.said").read_text().splitlines())
        return total
    finally:
        shutil.rmtree(base, ignore_errors=True)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = run(args.kills, args.seed, args.updates)
    print(json.dumps(found, indent=1) if args.json else "  ".join(f"{k} {v}" for k, v in found.items()))


if __name__ == "__main__":
    main()
