"""What a training needs of memory: estimated before it begins, and told when it did not suffice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from lehr.errors import ResultError
from lehr.proxy.config import TrainConfig
from lehr.proxy.distributed import Ranks
from lehr.proxy.parameters import parameters

STATE = 16  # bytes a parameter: weight, gradient and Adam's two moments in float32
FLOAT = {
    "float32": 4.0,
    "bfloat16": 2.6,
}  # bytes a saved activation; autocast leaves norms and sums in float32
GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """Bytes on one device: `state` of parameters and optimiser, `activations` of one forward pass."""

    state: int
    activations: int

    @property
    def total(self) -> int:
        """Both."""
        return self.state + self.activations

    def __str__(self) -> str:
        """Such as `0.10 GiB of weights, gradients and optimiser, and 0.50 GiB of activations`."""
        return (
            f"{self.state / GIB:.2f} GiB of weights, gradients and optimiser, and {self.activations / GIB:.2f} GiB "
            "of activations"
        )


def estimate_memory(config: TrainConfig, vocab_size: int, ranks: int = 1) -> Memory:
    """Estimate what one rank needs.

    What autograd saves was counted in the model, in numbers a token: 14 D a block for norms, attention and residual
    stream; 4 a hidden unit of the feed-forward; of an expert, which computes some of it anew, 2, and D for its copy
    of the token; 3 V for logits, their log-softmax and its gradient.

    Parameters
    ----------
    config : of the training.
    vocab_size : V.
    ranks : that share it.
    """
    model, training = config.model, config.training
    count = sum(role.size for role in parameters(model, vocab_size).values())
    shards = ranks if training.parallel == "fsdp" else 1
    if model.experts is None:
        feed_forward = 4 * model.hidden
    else:
        chosen, shared = model.experts.top_k, model.experts.shared
        feed_forward = chosen * (model.width + 2 * model.expert_hidden) + shared * 4 * model.expert_hidden
    hidden = model.depth * (14 * model.width + feed_forward) * FLOAT[training.precision]
    tokens = max(1, training.batch // (ranks * training.accumulate)) * model.context
    return Memory(STATE * count // shards, int(tokens * (hidden + 3 * 4 * vocab_size)))


def check_memory(config: TrainConfig, vocab_size: int, ranks: Ranks) -> None:
    """Refuse a training that the whole device could not hold.

    Raises
    ------
    ResultError
        With the estimate.
    """
    need, there = estimate_memory(config, vocab_size, ranks.size), _there(ranks.device)
    if there is not None and need.total > there:
        raise ResultError(
            f"run {config.name!r} needs about {need}, but {ranks.device.type} has {there / GIB:.1f} GiB: "
            f"{_remedy(config)}."
        )


@contextmanager
def explaining_shortage(config: TrainConfig, vocab_size: int, ranks: Ranks) -> Iterator[None]:
    """Turn an allocation that failed into a message with the estimate.

    Raises
    ------
    ResultError
        In place of torch's own errors.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
            text = str(error)
            if "allocate memory" not in text and "not enough memory" not in text:
                raise
        raise ResultError(
            f"out of memory on {ranks.device.type}: run {config.name!r} needs about "
            f"{estimate_memory(config, vocab_size, ranks.size)}: {_remedy(config)}."
        ) from None


def _remedy(config: TrainConfig) -> str:
    training = config.training
    if training.accumulate < training.batch:
        return (
            f"cut the batch with training.accumulate = {min(2 * training.accumulate, training.batch)} or more"
        )
    return 'shorten model.context, make the model smaller, or share it by training.parallel = "fsdp"'


def _there(device: torch.device) -> int | None:
    """Bytes of memory that the device has in all, where that can be told."""
    if device.type == "cuda":
        return int(torch.cuda.get_device_properties(device).total_memory)
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
