"""Train the bundled runs, or those whose names match, with what they branch from; then bundle them.

    OMP_NUM_THREADS=1 python scripts/make_examples.py --out DIR [--only 'S-3e-3-*' ...] [--bundle]

A run that is finished in DIR is left as it is, so the call can be stopped and repeated, and several calls may share
DIR if their runs differ. The runs themselves are `lehr.examples.configs.bundled`. `--bundle` packs the logs of all
runs into src/lehr/examples: runs.parquet (run, step, lr, train_loss, val_loss, grad_norm; a row an update, as logged)
and manifest.json (how each was made, and the floor of the validation loss). Runs that are not in DIR stay as they
are bundled, if they are still among those.
"""

from __future__ import annotations

import argparse
import json
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import torch

from lehr.examples import manifest
from lehr.examples.configs import VALIDATION, bundled
from lehr.proxy.config import TrainConfig
from lehr.proxy.data import open_data
from lehr.proxy.language import make_language
from lehr.proxy.runlog import RunLog, read_log
from lehr.proxy.several import train_all

TARGET = Path(__file__).parent.parent / "src" / "lehr" / "examples"
COLUMNS = {
    "step": "INTEGER",
    "lr": "DOUBLE",
    "train_loss": "FLOAT",
    "val_loss": "FLOAT",
    "grad_norm": "FLOAT",
}
SMALL = "FORMAT parquet, PARQUET_VERSION V2, COMPRESSION zstd, COMPRESSION_LEVEL 19"  # bytes of floats side by side
SAME = ("lehr", "torch")  # of every run: said once
KEPT = ("name", "schedule", "parent", "branch_step", "params", "params_total", "batch_tokens", "flops_per_token",
        "meta", "config", "code")  # fmt: skip


def chosen(patterns: list[str]) -> list[TrainConfig]:
    """Runs whose names match a pattern, and their parents."""
    configs = {config.name: config for config in bundled()}
    names = [name for name in configs if any(fnmatch(name, pattern) for pattern in patterns)]
    parents = [config.branch.run for name in names if (config := configs[name]).branch]
    return [configs[name] for name in dict.fromkeys([*parents, *names])]


def bundle(logs: list[RunLog]) -> None:
    """Write the rows of `logs` into the package beside those of the other runs, and the manifest."""
    path, old = TARGET / "runs.parquet", manifest()
    connection = duckdb.connect()
    types = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    connection.execute(f"CREATE TABLE logs (run VARCHAR, {types})")
    made = {log.header["name"]: log for log in logs}
    wanted = {config.name for config in bundled()}
    kept = [name for entry in old["runs"] if (name := entry["name"]) in wanted and name not in made]
    connection.execute(
        "INSERT INTO logs SELECT * FROM read_parquet(?) WHERE list_contains(?, run)", [str(path), kept]
    )
    for log in logs:
        rows = {name: np.array([getattr(row, name) for row in log.rows], dtype=object) for name in COLUMNS}
        table = [(log.header["name"], *values) for values in zip(*rows.values(), strict=True)]
        connection.executemany(f"INSERT INTO logs VALUES (?{', ?' * len(COLUMNS)})", table)
    connection.execute(f"COPY (SELECT * FROM logs ORDER BY run, step) TO '{path}' ({SMALL})")
    facts = describe(made, old)
    lines = ",\n".join(json.dumps(run) for run in facts.pop("runs"))  # a run a line
    head = json.dumps(facts, indent=1).removesuffix("\n}")
    (TARGET / "manifest.json").write_text(f'{head},\n "runs": [\n{lines}\n ]\n}}\n')
    print(f"{len(kept) + len(logs)} runs, {path.stat().st_size} bytes")


def describe(made: dict[str, RunLog], old: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of the runs `made` and of those that `old` has beside them."""
    before = {entry["name"]: entry for entry in old["runs"]}
    runs = []
    for config in bundled():
        if config.name not in made:
            if config.name not in before:
                raise SystemExit(f"{config.name} is neither bundled nor trained: train it first")
            runs.append(before[config.name])
            continue
        log = made[config.name]
        wrong = [key for key in SAME if log.header[key] != old[key]]
        if wrong:
            raise SystemExit(f"{config.name} differs in {', '.join(wrong)}: train all runs by one version")
        runs.append({**{key: log.header[key] for key in KEPT}, "seconds": round(log.rows[-1].seconds)})
    return {
        "command": "python scripts/make_examples.py --out DIR --only NAME",
        "device": "CPU, one core a run",
        "loss_unit": "nats per token",
        **{key: old[key] for key in SAME},
        "validation_sequences": VALIDATION,
        "datasets": known_losses(),
        "runs": runs,
    }


def known_losses() -> dict[str, dict[str, float]]:
    """Entropy of each language at this context, and its floor: its own loss on the validation sequences; nats."""
    found = {}
    for config in {config.data: config for config in bundled()}.values():
        source = open_data(config.data, config.model.context)
        language = make_language(config.data.seed, source.vocab_size)
        floor = language.surprisal(source.validation(VALIDATION)).mean()
        found[f"{config.data.kind}-{source.fingerprint}"] = {
            "vocab_size": source.vocab_size, "entropy": float(source.entropy or 0.0), "floor": float(floor),
        }  # fmt: skip
    return found


def main() -> None:
    """Train, and bundle if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="*", default=["*"], metavar="PATTERN")
    parser.add_argument("--bundle", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)

    def begin(config: TrainConfig) -> None:
        print(config.name, flush=True)

    if args.only:
        train_all(chosen(args.only), args.out, begin=begin, remark=print)
    if args.bundle:
        bundle(
            [read_log(args.out / config.name) for config in bundled() if (args.out / config.name).exists()]
        )


if __name__ == "__main__":
    main()
