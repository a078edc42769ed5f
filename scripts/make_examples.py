"""Train the tiny proxy models behind the bundled example loss curves.

A byte-level, decoder-only transformer (RMSNorm, RoPE, QK-norm, SwiGLU, tied
head) is trained on the sources of the Python standard library under constant,
warm-up--stable--decay and cosine learning-rate schedules.  Each run leaves one
CSV; ``manifest.json`` says what every run was.  The runs are small on purpose:
real losses for demonstrating and testing curve fits, not evidence about large
models.  Everything takes about forty minutes on one CPU core::

    OMP_NUM_THREADS=1 python scripts/make_examples.py --out .examples-raw

Update ``k`` (from 0) uses ``lr[k]``; a loss "at step s" is measured after ``s``
updates.  In a CSV, ``step`` is the number of updates done, ``lr`` the rate of
the last one, ``train_loss`` the mean over the updates since the previous row
and ``val_loss`` the loss on a fixed held-out set (empty where not measured),
both in nats per byte.  A cooldown continues from a checkpoint of its constant
trunk, and its CSV starts after the branch step.  Finished runs are skipped, so
an interrupted call can simply be repeated.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import os
import platform
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from stdlib_text import BATCH, VAL_WINDOWS, Batches, load_data, windows
from tiny_model import SEQ_LEN, Model

SIZES = {
    "S": {"width": 64, "layers": 3, "heads": 2},
    "M": {"width": 128, "layers": 4, "heads": 4},
}
WARMUP = 100
LOG_EVERY, VAL_EVERY = 20, 50
WEIGHT_DECAY, CLIP, SEED = 0.1, 1.0, 1


@dataclass(frozen=True)
class Run:
    """One training run; its schedule is described from step 0 even if it branches.

    Attributes
    ----------
    name : str
        Name of the run and stem of its CSV.
    size : str
        Key of `SIZES`.
    kind : {"constant", "wsd", "cosine"}
        Family of the learning-rate schedule.
    steps : int
        Total number of updates, warm-up included.
    peak, final : float
        Highest and last learning rate.
    decay : int
        Updates in the final decay ("wsd" only).
    shape : {"linear", "sqrt"}
        Shape of that decay.
    seed : int
        Seed of the initial weights and of the data order.
    parent : str or None
        Trunk the run branches from.
    """

    name: str
    size: str
    kind: str
    steps: int
    peak: float
    final: float = 0.0
    decay: int = 0
    shape: str = "linear"
    seed: int = SEED
    parent: str | None = None

    @property
    def start(self) -> int:
        """Number of updates inherited from the trunk."""
        return self.steps - self.decay if self.parent else 0

    @property
    def spec(self) -> str:
        """Schedule as text."""
        text = f"{self.kind}(steps={self.steps}, peak={self.peak:g}, warmup={WARMUP}"
        if self.kind == "wsd":
            text += f", decay={self.decay}, shape={self.shape}"
        if self.kind != "constant":
            text += f", final={self.final:g}"
        return text + ")"

    def lr(self, k: int) -> float:
        """Return the learning rate of update `k`, counted from 0."""
        if k < WARMUP:
            return self.peak * (k + 1) / WARMUP
        if self.kind == "cosine":
            x = (k - WARMUP) / (self.steps - WARMUP)
            return self.final + (self.peak - self.final) * (1 + math.cos(math.pi * x)) / 2
        j = k - (self.steps - self.decay)
        if self.kind == "constant" or j < 0:
            return self.peak
        x = j / self.decay
        factor = 1 - (math.sqrt(x) if self.shape == "sqrt" else x)
        return self.final + (self.peak - self.final) * factor


def family(size, peak, cooldowns, cosines, seed=SEED, steps=3000):
    """List a constant trunk with its branches and the cosine runs beside it.

    Parameters
    ----------
    size, peak : str
        Model size, and the peak learning rate as it appears in names.
    cooldowns : list of (int, float, str)
        Total steps, annealing ratio and shape of each branch.
    cosines : list of (int, float)
        Total steps, and final rate as a fraction of the peak.
    seed, steps : int
        Seed of the family and length of its trunk.

    Returns
    -------
    list of Run
        The trunk first.
    """
    end = "" if seed == SEED else f"-seed{seed}"
    lr = float(peak)
    trunk = Run(f"{size}-{peak}-constant-{steps}{end}", size, "constant", steps, lr, seed=seed)
    runs = [trunk]
    for total, ratio, shape in cooldowns:
        label = "wsd" if shape == "linear" else f"wsd{shape}"
        runs.append(
            Run(
                f"{size}-{peak}-{label}-r{ratio}-{total}{end}",
                size,
                "wsd",
                total,
                lr,
                decay=round(ratio * total),
                shape=shape,
                seed=seed,
                parent=trunk.name,
            )
        )
    for total, fraction in cosines:
        runs.append(
            Run(
                f"{size}-{peak}-cosine{round(100 * fraction)}-{total}{end}",
                size,
                "cosine",
                total,
                lr,
                final=lr * fraction,
                seed=seed,
            )
        )
    return runs


def catalogue():
    """List all runs, the most useful first; every trunk precedes its branches."""
    ratios = (0.1, 0.2, 0.4, 0.6)
    medium = [(2000, r, "linear") for r in ratios]
    small = [(3000, r, "linear") for r in (*ratios, 0.8)]
    small += [(1500, r, "linear") for r in ratios[1:]] + [(3000, 0.2, "sqrt")]
    cosines = [(3000, 0.1), (1500, 0.0)]
    return [
        *family("S", "3e-3", small, cosines),
        *family("M", "3e-3", medium, [(2000, 0.1)], steps=2000),
        *family("S", "1.5e-3", small, cosines),
        *family("S", "6e-3", small, cosines),
        *family("S", "3e-3", [(3000, 0.2, "linear")], [], seed=2),
    ]


def build(run):
    """Create the seeded model and its AdamW; matrices (the embedding too) decay."""
    torch.manual_seed(run.seed)
    model = Model(**SIZES[run.size])
    groups = [
        {"params": [p for p in model.parameters() if p.ndim == 2], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in model.parameters() if p.ndim < 2], "weight_decay": 0.0},
    ]
    return model, torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True)


def write_text(path, text):
    """Write `text` so that a reader never sees half of it."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)


def train(run, batches, val, out, checkpoints, keep):
    """Train one run and write its CSV.

    Parameters
    ----------
    run : Run
        What to train.
    batches : Batches
        Training data.
    val : list of (torch.Tensor, torch.Tensor)
        Validation chunks of equal size.
    out, checkpoints : pathlib.Path
        Folders of the CSVs and of the checkpoints.
    keep : set of int
        Steps after which branches start: the state is saved there.
    """
    model, optimiser = build(run)
    if run.parent:
        state = torch.load(checkpoints / f"{run.parent}-{run.start}.pt")
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
    lines, losses = ["step,lr,train_loss,val_loss"], []
    for k in range(run.start, run.steps):
        for group in optimiser.param_groups:
            group["lr"] = run.lr(k)
        loss = model(*batches[k])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), CLIP)
        optimiser.step()
        losses.append(loss.item())
        step = k + 1
        measure = step % VAL_EVERY == 0 or step in keep or step == run.steps
        if measure or step % LOG_EVERY == 0:
            held_out = ""
            if measure:
                with torch.no_grad():
                    held_out = f"{np.mean([model(*chunk).item() for chunk in val]):.7f}"
            lines.append(f"{step},{run.lr(k):.9g},{np.mean(losses):.7f},{held_out}")
            losses = []
        if step in keep:
            target = checkpoints / f"{run.name}-{step}.pt"
            torch.save(
                {"model": model.state_dict(), "optimiser": optimiser.state_dict()}, target.with_suffix(".tmp")
            )
            os.replace(target.with_suffix(".tmp"), target)
    write_text(out / f"{run.name}.csv", "\n".join(lines) + "\n")


def write_manifest(path, facts):
    """Describe the finished runs; refuse a folder of other data or another PyTorch."""
    top = {
        "data": facts,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "command": "python scripts/make_examples.py --out DIR",
        "optimiser": "AdamW, betas 0.9 and 0.95, weight decay on matrices",
        "gradient_clip": CLIP,
        "model": "byte-level transformer: RMSNorm, RoPE, QK-norm, SwiGLU, tied head",
        "sizes": SIZES,
        "loss_unit": "nats per byte",
    }
    if path.exists():
        old = json.loads(path.read_text(encoding="utf-8"))
        if (old["data"], old["torch"]) != (facts, torch.__version__):
            raise SystemExit(f"{path} is from other data or another PyTorch; use an empty folder")
    entries = []
    for run in catalogue():
        if (path.parent / f"{run.name}.csv").exists():
            model, _ = build(run)
            total = sum(p.numel() for p in model.parameters())
            entries.append(
                {
                    "name": run.name,
                    "spec": run.spec,
                    "parent": run.parent,
                    "branch_step": run.start if run.parent else None,
                    "params_total": total,
                    "params_non_embedding": total - model.embed.weight.numel(),
                    "batch_tokens": BATCH * SEQ_LEN,
                    "seq_len": SEQ_LEN,
                    "data": f"Python {platform.python_version()} standard library",
                    "seed": run.seed,
                    "steps": run.steps,
                    "weight_decay": WEIGHT_DECAY,
                }
            )
    write_text(path, json.dumps({**top, "runs": entries}, indent=1) + "\n")


def main():
    """Train the runs that are selected and not there yet."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for CSVs and manifest")
    parser.add_argument("--only", default="*", help="names to make, as a shell pattern")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        help="folder of the trunks' checkpoints",
        default=Path(tempfile.gettempdir()) / "make-examples",
    )
    args = parser.parse_args()
    for folder in (args.out, args.checkpoints):
        folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # models this small only lose time with more
    data, held, facts = load_data()
    starts = np.linspace(0, len(held) - SEQ_LEN - 1, VAL_WINDOWS).astype(np.int64)
    val = [windows(held, part) for part in np.split(starts, VAL_WINDOWS // BATCH)]
    write_manifest(args.out / "manifest.json", facts)
    runs = catalogue()
    todo = [
        r for r in runs if fnmatch.fnmatch(r.name, args.only) and not (args.out / f"{r.name}.csv").exists()
    ]
    # A branch needs its trunk again if the checkpoint is gone, or if the trunk's
    # CSV is, because the checkpoint is then of unknown origin.
    again = {
        r.parent
        for r in todo
        if r.parent
        and not (
            (args.checkpoints / f"{r.parent}-{r.start}.pt").exists()
            and (args.out / f"{r.parent}.csv").exists()
        )
    }
    for run in runs:
        if run in todo or run.name in again:
            began = time.perf_counter()
            keep = {r.start for r in runs if r.parent == run.name}
            train(run, Batches(data, run.seed), val, args.out, args.checkpoints, keep)
            write_manifest(args.out / "manifest.json", facts)
            print(f"{run.name}: {time.perf_counter() - began:.0f} s", flush=True)


if __name__ == "__main__":
    main()
