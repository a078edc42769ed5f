"""A training in memory: model, optimiser and data, and what is done with them: an update, a validation, a state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from lehr.errors import InputError
from lehr.proxy import distributed
from lehr.proxy.checkpoint import Checkpoint
from lehr.proxy.config import TrainConfig
from lehr.proxy.data import Source
from lehr.proxy.distributed import Ranks
from lehr.proxy.model import Transformer, initialise
from lehr.proxy.optimizer import clip_gradient, load_optimizer_state, make_optimizer, optimizer_state, set_lr
from lehr.proxy.transferring import plan_of
from lehr.transfer.roles import Multipliers


@dataclass
class Session:
    """What an update changes (the model, the optimiser, `step`) and what it reads.

    Parameters
    ----------
    config, source, ranks : what is trained, on what, by whom.
    model : parameters by their own names.
    wrapped : what to call for a forward pass.
    optimizer : over the parameters of `model`.
    lrs : LR of every update.
    step : updates done.
    """

    config: TrainConfig
    source: Source
    ranks: Ranks
    model: Transformer
    wrapped: nn.Module
    optimizer: torch.optim.Optimizer
    lrs: np.ndarray
    step: int = 0

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters."""
        return [p for group in self.optimizer.param_groups for p in group["params"]]


def open_session(config: TrainConfig, source: Source, ranks: Ranks) -> Session:
    """Build the model with its initial weights, and its optimiser."""
    transfer = plan_of(config)
    model = Transformer(config.model, source.vocab_size, transfer.multipliers if transfer else Multipliers())
    initialise(model, config.training.seed, transfer)
    model.to(ranks.device)
    if config.training.compile:
        fsdp = ranks.size > 1 and config.training.parallel == "fsdp"
        for part in model.blocks if fsdp else [model]:  # parameters are gathered block by block
            part.compile()
    wrapped = distributed.share(model, ranks, config.training.parallel)
    plan = config.training.plan
    optimizer = make_optimizer(model, config.optimizer, plan.peak, transfer)
    return Session(config, source, ranks, model, wrapped, optimizer, plan.to_array())


def update(session: Session) -> tuple[Tensor, Tensor]:
    """Do one update; return the mean loss of this rank's share of its batch, and the gradient's norm, both 0-d."""
    training, ranks = session.config.training, session.ranks
    part = distributed.check_split(training.batch, training.accumulate, ranks)
    first = session.step * training.batch + ranks.rank * part * training.accumulate
    losses = []
    for index in range(training.accumulate):
        tokens = _on_device(session.source.train(first + index * part, part), ranks)
        with distributed.synchronising(session.wrapped, last=index == training.accumulate - 1):
            with precision(session):
                output = session.wrapped(tokens[:, :-1], tokens[:, 1:])
            ((output.loss + output.auxiliary) / training.accumulate).backward()
        losses.append(output.loss.detach())
    norm = clip_gradient(session.parameters, session.config.optimizer.clip)
    set_lr(session.optimizer, float(session.lrs[session.step]))
    session.optimizer.step()
    session.optimizer.zero_grad(set_to_none=True)
    session.model.after_update()
    session.step += 1
    return (losses[0] if len(losses) == 1 else torch.stack(losses).mean()), norm


def validate(session: Session) -> float:
    """Mean loss over the held-out sequences, in nats per token, without auxiliary terms."""
    training, ranks = session.config.training, session.ranks
    count = training.validate_sequences
    share = (
        count // ranks.size if count % ranks.size == 0 else count
    )  # all of them where they cannot be shared
    first = ranks.rank * share if share < count else 0
    sequences = session.source.validation(count)[first : first + share]
    most = training.batch // (ranks.size * training.accumulate)
    session.wrapped.eval()
    total = torch.zeros((), dtype=torch.float64)
    for part in _parts(sequences, most):
        tokens = _on_device(part, ranks)
        with torch.no_grad(), precision(session):
            loss = session.wrapped(tokens[:, :-1], tokens[:, 1:]).loss
        total += loss.double().cpu() * len(part) / share
    session.wrapped.train()
    return distributed.mean_over_ranks(total.to(ranks.device), ranks).item()


def take_state(session: Session) -> Checkpoint:
    """Copy the state to the CPU, whole; every rank must ask."""
    persistent = session.model.state_dict().keys()
    tensors = dict(session.model.named_parameters()) | {
        name: buffer for name, buffer in session.model.named_buffers() if name in persistent
    }
    return Checkpoint(
        session.step, {name: distributed.whole(tensor) for name, tensor in tensors.items()},
        optimizer_state(session.model, session.optimizer, distributed.whole), session.source.fingerprint,
    )  # fmt: skip


def restore(session: Session, state: Checkpoint, where: str) -> None:
    """Put a state in place.

    Raises
    ------
    InputError
        Naming `where` it came from, if it is that of another model.
    """
    tensors = dict(session.model.named_parameters()) | dict(session.model.named_buffers())
    for name, p in session.model.named_parameters():
        if name not in state.model or state.model[name].shape != p.shape:
            raise InputError(
                f"{where} is a checkpoint of another model: {name} is missing or of another shape."
            )
    with torch.no_grad():
        for name, value in state.model.items():
            tensors[name].copy_(distributed.placed(value, tensors[name]))
    load_optimizer_state(session.model, session.optimizer, state.optimizer, distributed.placed)
    session.step = state.step


def weights_finite(session: Session) -> bool:
    """Whether every weight on this rank is a finite number."""
    shards = (p.to_local() if isinstance(p, DTensor) else p for p in session.model.parameters())
    with torch.no_grad():
        return all(bool(torch.isfinite(shard).all()) for shard in shards)


def precision(session: Session) -> AbstractContextManager[object]:
    """Autocast to bfloat16 where the configuration asks for it."""
    if session.config.training.precision == "float32":
        return nullcontext()
    return torch.autocast(session.ranks.device.type, torch.bfloat16)


def _on_device(sequences: np.ndarray, ranks: Ranks) -> Tensor:
    tokens = torch.from_numpy(sequences)
    if ranks.device.type == "cuda":
        return tokens.pin_memory().to(ranks.device, non_blocking=True)
    return tokens


def _parts(sequences: np.ndarray, most: int) -> Iterator[np.ndarray]:
    for start in range(0, len(sequences), most):
        yield sequences[start : start + most]
