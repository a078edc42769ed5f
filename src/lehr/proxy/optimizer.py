"""AdamW over a model: which parameters decay, by how much, and its state by parameter name.

Matrices decay, the embedding, the head and the router among them, and norms do not, as in nanoGPT. PyTorch
multiplies the decay by the LR: theta <- theta - lr * weight_decay * theta (Loshchilov and Hutter, arXiv 1711.05101,
with its schedule factor). The independent decay of Wortsman et al. (arXiv 2309.14322, section 3.2) is
theta <- theta - (lr / peak) * weight_decay * theta, which is PyTorch's with weight_decay / peak. Under a plan of
transfer each group has a factor of the schedule's LR.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from lehr.proxy.config import Optimizer
from lehr.proxy.model import Transformer
from lehr.proxy.parameters import describe
from lehr.proxy.transferring import torch_decay
from lehr.transfer.apply import parameter_groups
from lehr.transfer.plan import Transfer


def make_optimizer(
    model: Transformer, config: Optimizer, peak: float, plan: Transfer | None = None
) -> torch.optim.AdamW:
    """Return AdamW over the parameters of `model`.

    Parameters
    ----------
    model : not wrapped, or sharded by FSDP2.
    config : the `[optimizer]` table.
    peak : highest LR of the schedule.
    plan : of transfer, made of the two before: one group for each set of hyperparameters; None for two groups.
    """
    if plan is None:
        decay = torch_decay(config, peak)
        named = list(model.named_parameters())
        groups = [
            {"params": [p for _, p in named if p.ndim >= 2], "weight_decay": decay},
            {"params": [p for _, p in named if p.ndim < 2], "weight_decay": 0.0},
        ]
    else:
        groups = parameter_groups(model, describe(model), plan)
    # one kernel for all parameters of a group: of the three implementations the quickest on small models and on large
    return torch.optim.AdamW(
        groups, lr=peak, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True
    )


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Let the next update use the schedule's `lr`, each group times its own factor."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("lr_factor", 1.0)


def clip_gradient(parameters: list[nn.Parameter], largest: float | None) -> Tensor:
    """Scale the gradients of `parameters` so that their joint norm is at most `largest`; return the norm before."""
    gradients = [p.grad for p in parameters if p.grad is not None]
    norm = get_total_norm(gradients)
    if isinstance(norm, DTensor):
        norm = norm.full_tensor()
    if largest is not None:
        clip_grads_with_norm_(parameters, largest, norm)
    return norm


def optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, whole: Callable[[Tensor], Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Return the optimiser's tensors by the name of the parameter; `whole` gathers one from all ranks."""
    return {
        name: {key: whole(value) for key, value in optimizer.state[p].items()}
        for name, p in model.named_parameters()
        if p in optimizer.state
    }


def load_optimizer_state(
    model: nn.Module, optimizer: torch.optim.Optimizer, state: Mapping[str, Mapping[str, Tensor]],
    placed: Callable[[Tensor, Tensor], Tensor],
) -> None:  # fmt: skip
    """Give the optimiser the tensors of `optimizer_state`; `placed(value, like)` puts one where `like` is."""
    for name, p in model.named_parameters():
        if name in state:
            # the number of updates is a scalar that no rank shares
            optimizer.state[p] = {
                key: placed(value, p) if value.ndim else value.to(p.device, copy=True)
                for key, value in state[name].items()
            }
