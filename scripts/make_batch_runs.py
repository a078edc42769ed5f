"""Train the tiny model at several batches under one schedule, for docs/batch-size.md.

Constant LR after the warm-up, so that losses of all batches are compared in the same phase. The
data is the same; a larger batch goes through more of it. About eight minutes on one core::

    OMP_NUM_THREADS=1 python scripts/make_batch_runs.py --out DIR
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from make_examples import CLIP, VAL_EVERY, Run, build, write_text
from stdlib_text import BATCH, VAL_WINDOWS, load_data, windows
from tiny_model import SEQ_LEN

BATCHES = (2, 4, 8, 16, 32)  # sequences of `SEQ_LEN` bytes
STEPS, PEAK = 1500, 3e-3


def train(run, batch, data, val, out):
    """Train `run` with `batch` sequences an update and write its CSV."""
    model, optimiser = build(run)
    order = np.random.default_rng(run.seed).permutation((len(data) - 1) // SEQ_LEN)
    lines = ["step,lr,val_loss,tokens"]
    for k in range(run.steps):
        for group in optimiser.param_groups:
            group["lr"] = run.lr(k)
        picked = np.arange(k * batch, (k + 1) * batch) % len(order)
        loss = model(*windows(data, order[picked] * SEQ_LEN))
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        if (k + 1) % VAL_EVERY == 0:
            with torch.no_grad():
                held_out = np.mean([model(*chunk).item() for chunk in val])
            lines.append(f"{k + 1},{run.lr(k):.9g},{held_out:.7f},{(k + 1) * batch * SEQ_LEN}")
    write_text(out / f"{run.name}.csv", "\n".join(lines) + "\n")


def main():
    """Train the runs that are not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the CSVs")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    data, held, _ = load_data()
    starts = np.linspace(0, len(held) - SEQ_LEN - 1, VAL_WINDOWS).astype(np.int64)
    val = [windows(held, part) for part in np.split(starts, VAL_WINDOWS // BATCH)]
    for batch in BATCHES:
        run = Run(f"batch-{batch * SEQ_LEN}", "S", "constant", STEPS, PEAK)
        if not (args.out / f"{run.name}.csv").exists():
            began = time.perf_counter()
            train(run, batch, data, val, args.out)
            print(f"{run.name}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
