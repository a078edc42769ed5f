"""Tokens a second of lehr's training against a plain loop, and the cost of experts against a dense model.

    python -m benchmarks.throughput [--width 64 --depth 2 --heads 4 --context 128 --batch 16] [--updates 60]
        [--rounds 5] [--precision float32|bfloat16] [--compile] [--json]

`loop`: the reference is written here the way nanoGPT's train.py goes about it (one matrix for query, key and value,
AdamW with decay on matrices, clipping, the loss asked for every ten updates), around the same architecture, initial
weights, batches, schedule and settings. Both train anew in every round, in turn; the first ten updates are not timed,
and neither is validation. `ratio` is the median over rounds of lehr's speed over the reference's (the aim is at least
1), `difference` the largest relative difference of two training losses at one update, and `noise` that of two
references whose initial weights differ by one part in a million.

`experts`: 8 experts of which 2 are chosen, each of half the hidden width, against the dense model: as many FLOPs a
token but for the router. Updates of both alternate; `cost` is the ratio of the median times.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lehr.proxy.config import TrainConfig, make_config
from lehr.proxy.data import Source, open_data
from lehr.proxy.distributed import Ranks
from lehr.proxy.model import Transformer, initialise
from lehr.proxy.runlog import read_log
from lehr.proxy.session import open_session, update
from lehr.proxy.train import train

WARM_UP = 10  # updates not timed: allocations, compilation


class Block(nn.Module):
    """A block in nanoGPT's manner, with lehr's architecture."""

    def __init__(self, width: int, heads: int, hidden: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.q_norm, self.k_norm = (nn.RMSNorm(width // heads, eps=1e-6) for _ in range(2))
        self.c_attn = nn.Linear(width, 3 * width, bias=False)
        self.c_proj = nn.Linear(width, width, bias=False)
        self.w_gate, self.w_up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.w_down = nn.Linear(hidden, width, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        """(B, T, C) to the same."""
        b, t, c = x.size()
        q, k, v = self.c_attn(self.ln_1(x)).split(c, dim=2)
        q, k, v = (part.view(b, t, self.heads, c // self.heads).transpose(1, 2) for part in (q, k, v))
        q, k = turned(self.q_norm(q), cos, sin), turned(self.k_norm(k), cos, sin)
        y = F.scaled_dot_product_attention(q.to(v.dtype), k.to(v.dtype), v, is_causal=True)
        x = x + self.c_proj(y.transpose(1, 2).contiguous().view(b, t, c))
        h = self.ln_2(x)
        return x + self.w_down(F.silu(self.w_gate(h)) * self.w_up(h))


def turned(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions over halves; `cos` and `sin` are (T, K / 2)."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)


def halved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Order the rows of each head so that pairs that lehr turns, neighbours, become halves."""
    return weight.unflatten(0, (heads, -1, 2)).transpose(1, 2).reshape(weight.shape)


class Reference(nn.Module):
    """The whole model in nanoGPT's manner, begun with lehr's initial weights."""

    def __init__(self, config: TrainConfig, vocab_size: int, scale: float = 1.0) -> None:
        super().__init__()
        shape, hidden = config.model, config.model.hidden
        self.wte = nn.Embedding(vocab_size, shape.width)
        self.h = nn.ModuleList(Block(shape.width, shape.heads, hidden) for _ in range(shape.depth))
        self.ln_f = nn.RMSNorm(shape.width, eps=1e-6)
        self.lm_head = nn.Linear(shape.width, vocab_size, bias=False)
        half = shape.width // shape.heads // 2
        frequencies = shape.rope_base ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.outer(torch.arange(shape.context, dtype=torch.float64), frequencies)
        self.register_buffer("cos", angles.cos().float())
        self.register_buffer("sin", angles.sin().float())
        ours = Transformer(shape, vocab_size)
        initialise(ours, config.training.seed)
        theirs = dict(ours.named_parameters())
        with torch.no_grad():
            self.wte.weight.copy_(theirs["embedding.weight"])
            self.lm_head.weight.copy_(theirs["head.weight"] * scale)
            for index, block in enumerate(self.h):
                assert isinstance(block, Block)
                part = {name.removeprefix(f"blocks.{index}."): p for name, p in theirs.items()}
                query, key = (halved(part[f"attention.{x}.weight"], shape.heads) for x in ("query", "key"))
                block.c_attn.weight.copy_(torch.cat([query, key, part["attention.value.weight"]]))
                block.c_proj.weight.copy_(part["attention.output.weight"])
                block.w_gate.weight.copy_(part["ffn.gate.weight"])
                block.w_up.weight.copy_(part["ffn.up.weight"])
                block.w_down.weight.copy_(part["ffn.down.weight"])

    def forward(self, idx: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean loss of (B, T) tokens."""
        x = self.wte(idx)
        for block in self.h:
            x = block(x, self.cos, self.sin)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)).float(), targets.reshape(-1))


def run_reference(
    config: TrainConfig, source: Source, device: torch.device, scale: float = 1.0
) -> tuple[float, list[float]]:
    """Train plainly; return seconds an update and the loss of each."""
    training, adam = config.training, config.optimizer
    model = Reference(config, source.vocab_size, scale).to(device)
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [
        {"params": matrices, "weight_decay": adam.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW(
        groups, lr=1.0, betas=(adam.beta1, adam.beta2), eps=adam.epsilon, fused=device.type == "cuda"
    )
    if training.compile:
        model.compile()
    lrs, losses, start = training.plan.to_array(), [], 0.0
    half = training.precision == "bfloat16"
    for k, lr in enumerate(lrs):
        if k == WARM_UP:
            _wait(device)
            start = time.perf_counter()
        data = torch.from_numpy(source.train(k * training.batch, training.batch))
        if device.type == "cuda":
            data = data.pin_memory().to(device, non_blocking=True)
        x, y = data[:, :-1].contiguous(), data[:, 1:].contiguous()
        for group in optimizer.param_groups:
            group["lr"] = float(lr)
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            loss = model(x, y)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), adam.clip or math.inf)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.detach())
        if k % 10 == 0:
            losses[-1].item()
    _wait(device)
    seconds = (time.perf_counter() - start) / (len(lrs) - WARM_UP)
    return seconds, torch.stack(losses).tolist()


def run_lehr(config: TrainConfig, device: torch.device) -> tuple[float, list[float]]:
    """Train with lehr, its log included; return seconds an update (from the log) and the loss of each."""
    times: list[float] = []
    with tempfile.TemporaryDirectory(prefix="lehr-") as folder:

        def note(row: Any) -> None:
            times.append(time.perf_counter())

        train(config, Path(folder) / "run", progress=note)
        losses = [row.train_loss for row in read_log(Path(folder) / "run").rows]
    # the last row waits for the validation
    return (times[-2] - times[WARM_UP - 1]) / (len(times) - 1 - WARM_UP), losses


def compare_loops(config: TrainConfig, rounds: int) -> dict[str, Any]:
    """Alternate the two loops."""
    source, device = open_data(config.data, config.model.context), _device()
    ratios, speeds = [], []
    for _ in range(rounds):
        ours, our_losses = run_lehr(config, device)
        theirs, their_losses = run_reference(config, source, device)
        ratios.append(theirs / ours)
        speeds.append((config.batch_tokens / ours, config.batch_tokens / theirs))
    moved = run_reference(config, source, device, scale=1 + 1e-6)[1]
    return {
        "tokens_per_second": statistics.median(a for a, _ in speeds),
        "reference_tokens_per_second": statistics.median(b for _, b in speeds),
        "ratio": statistics.median(ratios), "ratios": ratios,
        "difference": _difference(our_losses, their_losses), "noise": _difference(moved, their_losses),
    }  # fmt: skip


def compare_experts(config: TrainConfig, updates: int) -> dict[str, Any]:
    """Alternate updates of the dense model and of one with experts."""
    mixed = config.model_dump()
    mixed["model"]["experts"] = {"count": 8, "top_k": 2}
    source, ranks = open_data(config.data, config.model.context), Ranks(0, 1, _device())
    sessions = [open_session(c, source, ranks) for c in (config, make_config(mixed))]
    times: list[list[float]] = [[], []]
    for index in range(min(updates, config.training.plan.steps)):
        for session, taken in zip(sessions, times, strict=True):
            _wait(ranks.device)
            start = time.perf_counter()
            update(session)
            _wait(ranks.device)
            if index >= WARM_UP:
                taken.append(time.perf_counter() - start)
    dense, experts = (statistics.median(taken) for taken in times)
    return {"dense_seconds": dense, "experts_seconds": experts, "cost": experts / dense}


def _difference(ours: list[float], theirs: list[float]) -> float:
    return float(np.max(np.abs(np.array(ours) / np.array(theirs) - 1)))


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, value in (("width", 64), ("depth", 2), ("heads", 4), ("context", 128), ("batch", 16),
                        ("updates", 60), ("rounds", 5), ("vocabulary", 512)):  # fmt: skip
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    config = make_config({
        "name": "throughput",
        "model": {"depth": args.depth, "width": args.width, "heads": args.heads, "context": args.context},
        "data": {"vocab_size": args.vocabulary},
        "training": {
            "schedule": f"wsd(steps={args.updates}, peak=3e-3, warmup=5, decay={args.updates // 4})",
            "batch": args.batch, "validate_every": args.updates, "validate_sequences": 1,
            "precision": args.precision, "compile": args.compile,
        },
    })  # fmt: skip
    out = {
        "device": str(_device()), "threads": torch.get_num_threads(), "loop": compare_loops(config, args.rounds),
        "experts": compare_experts(config, args.updates),
    }  # fmt: skip
    if args.json:
        print(json.dumps(out, indent=1))
        return
    loop, experts = out["loop"], out["experts"]
    print(f"{out['device']}, {out['threads']} threads")
    print(f"loop: {loop['tokens_per_second']:,.0f} tokens/s, reference {loop['reference_tokens_per_second']:,.0f}, "
          f"ratio {loop['ratio']:.3f} (rounds: {', '.join(f'{r:.3f}' for r in loop['ratios'])})")  # fmt: skip
    print(f"curves: largest relative difference {loop['difference']:.2g}, noise {loop['noise']:.2g}")
    mixed, dense = (experts[f"{name}_seconds"] * 1e3 for name in ("experts", "dense"))
    print(f"experts: {mixed:.1f} ms an update, dense {dense:.1f} ms: {experts['cost']:.3f} times")


if __name__ == "__main__":
    main()
