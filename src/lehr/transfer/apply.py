"""Apply a plan of transfer to a PyTorch module: initial weights, and groups of parameters for AdamW.

The module is not wrapped (DDP, `torch.compile`): give the one inside. FSDP2 (`fully_shard`) shards it in place and
keeps its names, before or after.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor, distribute_tensor

from lehr.errors import InputError, bad
from lehr.transfer.plan import Hyperparameters, Transfer
from lehr.transfer.roles import NORMS, Role, group_of


def parameter_groups(module: nn.Module, roles: Mapping[str, Role], plan: Transfer) -> list[dict[str, Any]]:
    """Return groups for `torch.optim.AdamW`, one for each set of hyperparameters that differs.

    A group's `lr` is that at the peak, so that PyTorch's LR schedulers, which scale each group's own, are right. Its
    `lr_factor` is for loops that set `group["lr"] = schedule * group["lr_factor"]`.

    Parameters
    ----------
    module : whose parameters are grouped; those that need no gradient are left out.
    roles : of every parameter, by name.
    plan : whose target the module is.

    Raises
    ------
    InputError
        If a parameter has no role, or one of another fan-in than the plan's target has, or that the target lacks.
    """
    groups: dict[tuple[Any, ...], dict[str, Any]] = {}
    for name, weight, role in _with_roles(module, roles):
        if not weight.requires_grad:
            continue
        own = _planned(name, role, plan)
        made = {
            "lr": own.lr.value, "lr_factor": own.lr.factor, "weight_decay": own.weight_decay.value,
            "eps": own.epsilon.value, "betas": (own.beta1, own.beta2),
        }  # fmt: skip
        groups.setdefault(tuple(made.values()), {"params": [], **made})["params"].append(weight)
    return list(groups.values())


def initialise(module: nn.Module, roles: Mapping[str, Role], plan: Transfer, seed: int) -> None:
    """Fill the weights as planned: matrices normal, norms 1, biases 0; the global generator is not touched.

    Parameters
    ----------
    module : whose parameters are filled, sharded or not.
    roles : of every parameter, by name.
    plan : whose target the module is.
    seed : of the generator, the same on every device and rank.

    Raises
    ------
    InputError
        If a parameter has no role, or one of another fan-in than the plan's target has, or that the target lacks.
    """

    def std(name: str, role: Role) -> float:
        planned = _planned(name, role, plan).init_std
        return planned.value if planned else 0.0

    draw_weights(module, roles, std, seed)


def draw_weights(
    module: nn.Module, roles: Mapping[str, Role], std: Callable[[str, Role], float], seed: int
) -> None:
    """Fill norms with 1, biases with 0, and all else from one seeded generator, by the standard deviation `std`."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight, role in _with_roles(module, roles):
            if role.kind in NORMS or role.kind == "bias":
                weight.fill_(float(role.kind in NORMS))
                continue
            drawn = torch.randn(weight.shape, generator=generator) * std(name, role)
            if isinstance(weight, DTensor):
                drawn = distribute_tensor(drawn.to(weight.device), weight.device_mesh, weight.placements)
            weight.copy_(drawn)


def _planned(name: str, role: Role, plan: Transfer) -> Hyperparameters:
    """Hyperparameters of a parameter.

    Raises
    ------
    InputError
        If the module is not the target that was planned for.
    """
    own, fan_in = plan.of(role.kind), plan.target.fan_in(group_of(role.kind))
    if role.fan_in != fan_in:
        raise bad(
            f"fan-in of {name!r}", f"must be that of {role.kind} in the target that was planned for, {fan_in}",
            role.fan_in, "plan for this module's architecture, or correct the role",
        )  # fmt: skip
    return own


def _with_roles(module: nn.Module, roles: Mapping[str, Role]) -> Iterator[tuple[str, nn.Parameter, Role]]:
    """Every parameter with its name and role.

    Raises
    ------
    InputError
        Naming a parameter that has none.
    """
    for name, weight in module.named_parameters():
        if name not in roles:
            raise InputError(
                f"parameter {name!r} of shape {tuple(weight.shape)} has no role: add it to roles, such as "
                f"roles[{name!r}] = Role('ffn_up', shape, fan_in)."
            )
        yield name, weight, roles[name]
