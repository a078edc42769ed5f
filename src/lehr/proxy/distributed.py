"""One process or many: who takes part, how the model is shared, and sums over all.

Under `torchrun` every rank runs the same training on its share of each batch; rank 0 writes. DDP (Li et al., arXiv
2006.15704) copies the model to every rank; FSDP2 (`torch.distributed.fsdp.fully_shard`) shards parameters,
gradients and optimiser state among them. Checkpoints hold whole tensors, so any number of ranks can go on from them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from lehr.errors import LehrError, bad
from lehr.proxy.model import Transformer

T = TypeVar("T")


@dataclass(frozen=True)
class Ranks:
    """The processes that train together, and the device of this one.

    Parameters
    ----------
    rank : this process, from 0.
    size : how many there are.
    device : on which this one computes.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this one writes files and messages."""
        return self.rank == 0


@contextmanager
def joined() -> Iterator[Ranks]:
    """Join the processes that `torchrun` started (by its environment variables), or be alone; leave them at the end.

    Within another `joined`, the processes stay joined: joining twice at one address would race.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank, local = int(os.environ.get("RANK", "0")), int(os.environ.get("LOCAL_RANK", "0"))
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", local) if gpu else torch.device("cpu")
    if gpu:
        torch.cuda.set_device(device)
    if size == 1 or dist.is_initialized():
        yield Ranks(rank, size, device)
        return
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        yield Ranks(rank, size, device)
        dist.barrier()  # none leaves while another still talks to it
    finally:
        dist.destroy_process_group()


def check_split(batch: int, accumulate: int, ranks: Ranks) -> int:
    """Return the sequences of one forward pass.

    Raises
    ------
    InputError
        If the batch is not a multiple of ranks times parts.
    """
    parts = ranks.size * accumulate
    if batch % parts:
        raise bad(
            "training.batch", f"must be a multiple of ranks x training.accumulate ({ranks.size} x {accumulate})",
            batch, "change one of them",
        )  # fmt: skip
    return batch // parts


def share(model: Transformer, ranks: Ranks, how: Literal["ddp", "fsdp"]) -> nn.Module:
    """Return what to call for the forward pass: the model itself, or its wrapper for many ranks.

    FSDP changes the parameters of `model` in place; either way `model` still names and holds them.
    """
    if ranks.size == 1:
        return model
    if how == "ddp":
        devices = [ranks.device] if ranks.device.type == "cuda" else None
        # the loads of experts differ among ranks until they are summed: none may overwrite the others'
        return DistributedDataParallel(model, device_ids=devices, broadcast_buffers=False)
    from torch.distributed.fsdp import fully_shard

    mesh = dist.device_mesh.init_device_mesh(ranks.device.type, (ranks.size,))
    for block in model.blocks:
        fully_shard(block, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


@contextmanager
def synchronising(wrapped: nn.Module, last: bool) -> Iterator[None]:
    """Share gradients among ranks only in the last of the accumulated parts."""
    if isinstance(wrapped, DistributedDataParallel) and not last:
        with wrapped.no_sync():
            yield
        return
    set_for_fsdp: Any = getattr(wrapped, "set_requires_gradient_sync", None)
    if set_for_fsdp is not None:
        set_for_fsdp(last)
    yield


def mean_over_ranks(values: Tensor, ranks: Ranks) -> Tensor:
    """Mean of a tensor over the ranks; changes `values`."""
    if ranks.size > 1:
        dist.all_reduce(values)
        values /= ranks.size
    return values


def from_first(ranks: Ranks, ask: Callable[[], T]) -> T:
    """Let the first rank do something with files, and return its answer on all.

    Raises
    ------
    InputError, ResultError
        What `ask` raises, on every rank.
    """
    if ranks.size == 1:
        return ask()
    answer: list[Any] = [None, None]
    if ranks.first:
        try:
            answer[0] = ask()
        except LehrError as error:
            answer[1] = error
    dist.broadcast_object_list(answer, device=ranks.device)
    if isinstance(answer[1], LehrError):
        raise answer[1]
    return cast(T, answer[0])


def same_for_all(value: bool, ranks: Ranks) -> bool:
    """Whether `value` is true on any rank."""
    if ranks.size == 1:
        return value
    flag = torch.tensor([float(value)], device=ranks.device)
    dist.all_reduce(flag)
    return bool(flag.item())


def whole(value: Tensor) -> Tensor:
    """A copy of a tensor on the CPU, gathered if it is sharded; every rank must ask."""
    if isinstance(value, DTensor):
        value = value.full_tensor()
    return value.detach().to("cpu", copy=True)


def placed(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor put where `like` is, sharded as it is."""
    if isinstance(like, DTensor):
        return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)
    return value.to(like.device, copy=True)
