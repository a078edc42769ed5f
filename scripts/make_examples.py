"""Train the bundled runs, or those whose names match, with what they branch from; then bundle them.

    OMP_NUM_THREADS=1 python scripts/make_examples.py --out DIR [--only 'S-3e-3-*' ...] [--bundle]

A run that is finished in DIR is left as it is, so the call can be stopped and repeated, and several calls may share
DIR if their runs differ. The runs themselves are `lehr.examples.configs.bundled`. `--bundle` packs the logs of all
runs into src/lehr/examples: runs.parquet (run, step, lr, train_loss, val_loss, grad_norm; a row an update, as logged)
and manifest.json (how each was made, and the floor of the validation loss).
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
SAME = ("lehr", "torch", "data_fingerprint")  # of every run: said once
KEPT = ("name", "schedule", "parent", "branch_step", "params", "params_total", "batch_tokens", "flops_per_token",
        "meta", "config", "code")  # fmt: skip


def chosen(patterns: list[str]) -> list[TrainConfig]:
    """Runs whose names match a pattern, and their parents."""
    configs = {config.name: config for config in bundled()}
    names = [name for name in configs if any(fnmatch(name, pattern) for pattern in patterns)]
    parents = [config.branch.run for name in names if (config := configs[name]).branch]
    return [configs[name] for name in dict.fromkeys([*parents, *names])]


def bundle(logs: list[RunLog]) -> None:
    """Write the rows of all logs and the manifest into the package."""
    connection = duckdb.connect()
    types = ", ".join(f"{name} {kind}" for name, kind in COLUMNS.items())
    connection.execute(f"CREATE TABLE logs (run VARCHAR, {types})")
    for log in logs:
        rows = {name: np.array([getattr(row, name) for row in log.rows], dtype=object) for name in COLUMNS}
        table = [(log.header["name"], *values) for values in zip(*rows.values(), strict=True)]
        connection.executemany(f"INSERT INTO logs VALUES (?{', ?' * len(COLUMNS)})", table)
    path = TARGET / "runs.parquet"
    connection.execute(
        f"COPY (SELECT * FROM logs ORDER BY run, step) TO '{path}' (FORMAT parquet, COMPRESSION zstd)"
    )
    facts = describe(logs)
    lines = ",\n".join(json.dumps(run) for run in facts.pop("runs"))  # a run a line
    head = json.dumps(facts, indent=1).removesuffix("\n}")
    (TARGET / "manifest.json").write_text(f'{head},\n "runs": [\n{lines}\n ]\n}}\n')
    print(f"{len(logs)} runs, {path.stat().st_size} bytes")


def describe(logs: list[RunLog]) -> dict[str, Any]:
    """Return the manifest."""
    common = {key: {json.dumps(log.header[key]) for log in logs} for key in SAME}
    mixed = [key for key, values in common.items() if len(values) > 1]
    if mixed:
        raise SystemExit(f"the runs differ in {', '.join(mixed)}: train them all by one version")
    runs = [
        {**{key: log.header[key] for key in KEPT}, "seconds": round(log.rows[-1].seconds)} for log in logs
    ]
    return {
        "command": "python scripts/make_examples.py --out DIR --only NAME",
        "device": "CPU, one core a run",
        "loss_unit": "nats per token",
        **{key: json.loads(values.pop()) for key, values in common.items()},
        "validation_sequences": VALIDATION,
        **known_losses(),
        "runs": runs,
    }


def known_losses() -> dict[str, float]:
    """Entropy of the language at this context, and the floor: its own loss on the validation sequences; nats."""
    config = bundled()[0]
    source = open_data(config.data, config.model.context)
    language = make_language(config.data.seed, source.vocab_size)
    floor = language.surprisal(source.validation(VALIDATION)).mean()
    return {"entropy": float(source.entropy or 0.0), "floor": float(floor)}


def main() -> None:
    """Train, and bundle if asked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", default=["*"], metavar="PATTERN")
    parser.add_argument("--bundle", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)

    def begin(config: TrainConfig) -> None:
        print(config.name, flush=True)

    train_all(chosen(args.only), args.out, begin=begin, remark=print)
    if args.bundle:
        bundle([read_log(args.out / config.name) for config in bundled()])


if __name__ == "__main__":
    main()
