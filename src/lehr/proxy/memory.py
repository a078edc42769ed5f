"""What a training needs of memory: estimated before it begins, and told when it did not suffice."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lehr.errors import ResultError
from lehr.proxy.config import TrainConfig
from lehr.proxy.distributed import Ranks
from lehr.proxy.footprint import GIB, estimate_memory


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
