"""Hold merged checkpoints against real decays, on the tiny model of the bundled runs.

A trunk is trained at constant LR and leaves a checkpoint every 20 updates; linear decays of several lengths
branch off it and end where it ends, on the same batches.  The merge of the trunk's checkpoints by the
weights of the same decay (``lehr.anneal.merging``) then competes with each on the held-out text, at several
intervals between the checkpoints.  Two seeds take about five minutes of one CPU core::

    OMP_NUM_THREADS=1 python scripts/compare_merging.py --seeds 1 2
"""

from __future__ import annotations

import argparse
import copy
import tempfile
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from lehr.anneal.merging import decay_weights
from lehr.checkpoints.averaging import merge_checkpoints
from lehr.schedule.families import constant, wsd
from make_examples import CLIP, WARMUP, Run, build
from stdlib_text import BATCH, VAL_WINDOWS, Batches, load_data, windows
from tiny_model import SEQ_LEN

STEPS, PEAK = 2000, 3e-3
DECAYS = (100, 400, 1000)
EVERY = 20
INTERVALS = (20, 100, 200, 500)


def advance(model, optimiser, batches, schedule, begin, after):
    """Train from update `begin` to the end of `schedule`; call `after` with the number of updates done."""
    rates = schedule.to_array()
    for k in range(begin, schedule.steps):
        for group in optimiser.param_groups:
            group["lr"] = float(rates[k])
        loss = model(*batches[k])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        after(k + 1)


def held_out(model, val):
    """Loss on the held-out text, nats per byte."""
    with torch.no_grad():
        return float(np.mean([model(*chunk).item() for chunk in val]))


def compare(seed, data, val, folder):
    """Return the loss of the trunk's end, of each decay and of each merge, by name."""
    model, optimiser = build(Run("trunk", "S", "constant", STEPS, PEAK, seed=seed))
    batches, branches, paths = Batches(data, seed), {}, {}

    def keep(step):
        if STEPS - step in DECAYS:
            branches[STEPS - step] = copy.deepcopy((model.state_dict(), optimiser.state_dict()))
        if STEPS - step <= max(DECAYS) and step % EVERY == 0:
            paths[step] = folder / f"step-{step}.safetensors"
            save_file(model.state_dict(), paths[step])

    advance(model, optimiser, batches, constant(steps=STEPS, peak=PEAK, warmup=WARMUP), 0, keep)
    found = {"end of the trunk": held_out(model, val)}
    for decay, (weights, state) in branches.items():
        model.load_state_dict(weights)
        optimiser.load_state_dict(state)
        plan = wsd(steps=STEPS, peak=PEAK, warmup=WARMUP, decay=decay)
        advance(model, optimiser, batches, plan, STEPS - decay, lambda step: None)
        found[f"decay of {decay}"] = held_out(model, val)
        for interval in INTERVALS:
            if decay % interval == 0:
                for shape in ("linear", "sqrt"):
                    steps = list(range(STEPS - decay, STEPS + 1, interval))
                    out = folder / "merged.safetensors"
                    merge_checkpoints([paths[s] for s in steps], decay_weights(steps, shape).tolist(), out)
                    model.load_state_dict(load_file(out))
                    found[f"merge of {decay}, every {interval}, {shape}"] = held_out(model, val)
    return found


def main():
    """Print one row a way to end, and its gain over the end of the trunk, nats per byte."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, text, _ = load_data()
    starts = np.linspace(0, len(text) - SEQ_LEN - 1, VAL_WINDOWS).astype(np.int64)
    val = [windows(text, part) for part in np.split(starts, VAL_WINDOWS // BATCH)]
    tables = []
    for seed in args.seeds:
        with tempfile.TemporaryDirectory() as name:
            tables.append(compare(seed, data, val, Path(name)))
    for name in tables[0]:
        losses = [table[name] for table in tables]
        gains = [table["end of the trunk"] - table[name] for table in tables]
        print(f"{name:35s}", *(f"{v:.4f}" for v in losses), " gain", *(f"{v:+.4f}" for v in gains))


if __name__ == "__main__":
    main()
