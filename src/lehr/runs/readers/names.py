"""Usual names of steps, losses, LRs and token counts in logs, and how one is chosen among them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

STEPS = (
    "step", "_step", "steps", "iter", "iters", "iteration", "iterations", "global_step", "global step",
    "trainer/global_step", "update", "updates", "num_updates", "train/step", "train/global_step",
)  # fmt: skip
LOSSES: dict[str, tuple[str, ...]] = {
    "train": (
        "loss", "train_loss", "train/loss", "train loss", "training_loss", "training loss", "train", "loss/train",
        "lm loss", "lm_loss", "loss/out", "train_loss_step", "train/ce loss", "loss_metrics/global_avg_loss",
    ),
    "val": (
        "val_loss", "val/loss", "val loss", "valid_loss", "validation_loss", "validation loss", "val", "loss/val",
        "eval_loss", "eval/loss", "eval loss", "lm loss validation", "validation_metrics/loss",
    ),
}  # fmt: skip
BITS: dict[str, tuple[str, ...]] = {
    "train": ("train/bpb", "train_bpb"),
    "val": ("val/bpb", "val_bpb", "eval/bpb", "eval_bpb", "validation bpb", "bpb"),
}
LRS = (
    "lr", "learning_rate", "learning rate", "learning-rate", "train_lr", "train/lr", "train/learning_rate",
    "optim/lr", "optim/learning_rate", "optim/lr (group 0)", "lr-adam", "lr-adamw", "lr/adamw", "lr/adamw/0",
)  # fmt: skip
TOKENS = (
    "tokens", "total_tokens", "tokens_seen", "n_tokens_seen", "num_tokens", "num_tokens_seen",
    "consumed_tokens", "num_input_tokens_seen", "throughput/total_tokens", "throughput/total tokens",
    "optim/total_tokens",
)  # fmt: skip
# one LR a parameter group: Lightning's lr-AdamW/pg1, torchtitan's lr/AdamW/0, OLMo-core's optim/LR (group 1)
_GROUP = re.compile(r"(lr[-/][a-z]+(/(pg)?\d+)?|optim/lr \(group \d+\))\Z")
SPLITS = ("val", "train")


def among(names: Iterable[str], usual: Iterable[str]) -> list[str]:
    """Names that are usual ones but for their case and blanks around, in their order."""
    usual = set(usual)
    return [name for name in names if name.strip().lower() in usual]


def losses(names: Iterable[str], roles: Mapping[str, str], split: str) -> list[str]:
    """Names of the losses of a split: the one that the format fixes, else those in nats, else those in bits."""
    names = tuple(names)
    if roles.get(split) in names:
        return [roles[split]]
    return among(names, LOSSES[split]) or among(names, BITS[split])


def learning_rates(names: Iterable[str], roles: Mapping[str, str]) -> list[str]:
    """Names of the LR: the one that the format fixes, else the usual ones and those of parameter groups."""
    names = tuple(names)
    if roles.get("lr") in names:
        return [roles["lr"]]
    return [name for name in names if among([name], LRS) or _GROUP.match(name.strip().lower())]
