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
import hashlib
import json
import math
import os
import platform
import sysconfig
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

SIZES = {
    "S": {"width": 64, "layers": 3, "heads": 2},
    "M": {"width": 128, "layers": 4, "heads": 4},
}
BATCH, SEQ_LEN, WARMUP = 8, 128, 100
LOG_EVERY, VAL_EVERY, VAL_WINDOWS = 20, 50, 256
WEIGHT_DECAY, CLIP, SEED, SPLIT_SEED = 0.1, 1.0, 1, 0
SKIPPED_FOLDERS = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3"}


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


def load_data():
    """Read the standard library's sources and split them by file.

    Returns
    -------
    train, val : numpy.ndarray
        Bytes of the training and of the held-out files.
    facts : dict
        Provenance for the manifest.
    """
    root = Path(sysconfig.get_path("stdlib"))
    names = sorted(
        p.relative_to(root).as_posix()
        for p in root.rglob("*.py")
        if not SKIPPED_FOLDERS & set(p.relative_to(root).parts)
    )
    texts = [(root / name).read_bytes() for name in names]
    order = np.random.default_rng(SPLIT_SEED).permutation(len(texts))
    held = set(order[: len(texts) // 20].tolist())
    train = b"\0".join(t for i, t in enumerate(texts) if i not in held)
    val = b"\0".join(t for i, t in enumerate(texts) if i in held)
    whole = b"\0".join(texts)
    facts = {
        "description": "*.py of the Python standard library by relative path, joined by NUL",
        "skipped_folders": sorted(SKIPPED_FOLDERS),
        "python": platform.python_version(),
        "files": len(texts),
        "bytes": len(whole),
        "sha256": hashlib.sha256(whole).hexdigest(),
        "val_files": len(held),
        "train_bytes": len(train),
        "val_bytes": len(val),
        "val_tokens_measured": VAL_WINDOWS * SEQ_LEN,
        "split_seed": SPLIT_SEED,
    }
    return np.frombuffer(train, np.uint8), np.frombuffer(val, np.uint8), facts


def windows(data, starts):
    """Cut inputs and next-byte targets, one row per start, out of `data`."""
    cut = torch.from_numpy(data[starts[:, None] + np.arange(SEQ_LEN + 1)].astype(np.int64))
    return cut[:, :-1], cut[:, 1:]


class Batches:
    """Training batches; the batch of update `k` depends on the seed and `k` alone.

    The data is cut into disjoint windows which are visited in a seeded random
    order, so a run shorter than the data sees no window twice, and a branch
    sees exactly what its trunk would have seen.
    """

    def __init__(self, data, seed):
        self.data = data
        self.order = np.random.default_rng(seed).permutation((len(data) - 1) // SEQ_LEN)

    def __getitem__(self, k):
        picked = np.arange(k * BATCH, (k + 1) * BATCH) % len(self.order)
        return windows(self.data, self.order[picked] * SEQ_LEN)


class Block(nn.Module):
    """Pre-norm attention and SwiGLU, each with a residual connection."""

    def __init__(self, width, heads):
        super().__init__()
        hidden = -(-8 * width // 24) * 8  # 8/3 of the width, rounded up to a multiple of 8
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x, cos, sin):
        """Map ``(batch, length, width)`` to the same shape."""
        b, n, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        # QK-norm (without gain) bounds the attention logits, so that the
        # highest learning rates stay stable; RoPE then turns q and k together.
        qk = F.rms_norm(qkv[:2], qkv.shape[-1:], eps=1e-6)
        first, second = qk.chunk(2, dim=-1)
        qk = qk * cos + torch.cat((-second, first), dim=-1) * sin
        mixed = F.scaled_dot_product_attention(qk[0], qk[1], qkv[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, n, width))
        gate, value = self.up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * value)


class Model(nn.Module):
    """Byte-level transformer whose output head is its embedding."""

    def __init__(self, width, layers, heads):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                std = 0.02 if name == "embed.weight" else p.shape[1] ** -0.5
                if name.endswith(("out.weight", "down.weight")):
                    std /= (2 * layers) ** 0.5  # so that depth does not inflate the stream
                nn.init.normal_(p, std=std)
        half = width // heads // 2
        frequency = 10000.0 ** (-torch.arange(half) / half)
        angle = torch.outer(torch.arange(SEQ_LEN), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, x, y):
        """Return the mean cross-entropy in nats per byte."""
        h = self.embed(x)
        for block in self.blocks:
            h = block(h, self.cos, self.sin)
        logits = F.linear(self.norm(h), self.embed.weight)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())


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
