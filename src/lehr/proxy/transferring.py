"""The hyperparameters of a training that has a `[transfer]` table: its base, and the plan by the rule. No torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lehr.errors import InputError, bad
from lehr.proxy.config import Model, Optimizer, TrainConfig
from lehr.proxy.parameters import architecture
from lehr.transfer.plan import DecayMode, Settings, Transfer, transfer
from lehr.transfer.roles import Group
from lehr.transfer.sizes import Scale

ALONE = "sp"  # every rule is the same where base and target are


def plan_of(config: TrainConfig) -> Transfer | None:
    """Plan the hyperparameters of a training; None with neither a `[transfer]` table nor LR factors.

    Raises
    ------
    InputError
        As `lehr.transfer.plan.transfer`, naming the table, or if `init_std` differs from the base's.
    """
    table, training = config.transfer, config.training
    if table is None:
        return _alone(config) if config.optimizer.lr_factors else None
    if table.base.model.init_std != config.model.init_std:
        raise bad(
            "model.init_std", f"must be that of [transfer.base.model], {table.base.model.init_std:g}, from which the "
            "rule derives every initial weight", config.model.init_std, "set one of them",
        )  # fmt: skip
    peak, steps = training.plan.peak, training.plan.steps
    base = scale(table.base.model, table.base.batch or training.batch, table.base.steps or steps)
    try:
        return transfer(
            base, scale(config.model, training.batch, steps), table.rule,
            settings(config.model, config.optimizer, peak),
            weight_decay=table.weight_decay or default_decay(config.optimizer), horizon=table.horizon,
            treat=table.treat,  # type: ignore[arg-type]  # names are checked there
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"[transfer]: {error}") from None


def _alone(config: TrainConfig) -> Transfer:
    """The plan of a training that is its own base."""
    sizes = scale(config.model, config.training.batch, config.training.plan.steps)
    own = settings(config.model, config.optimizer, config.training.plan.peak)
    return transfer(sizes, sizes, ALONE, own)


def plan_between(
    base: TrainConfig, target: TrainConfig, rule: str, *, weight_decay: DecayMode | None = None,
    horizon: str | None = None, treat: Mapping[Group, Group] = {},  # noqa: B006  # never changed
) -> Transfer:  # fmt: skip
    """Plan what is tuned in `base` for the sizes, batch and steps of `target`; its own peak and optimiser are not read.

    Raises
    ------
    InputError
        As `lehr.transfer.plan.transfer`.
    """
    small, large = (
        scale(each.model, each.training.batch, each.training.plan.steps) for each in (base, target)
    )
    return transfer(
        small, large, rule, settings(base.model, base.optimizer, base.training.plan.peak),
        weight_decay=weight_decay or default_decay(base.optimizer), horizon=horizon, treat=treat,
    )  # fmt: skip


def scale(model: Model, batch: int, steps: int) -> Scale:
    """Sizes of a model and of its training: sequences an update, and updates."""
    return Scale(architecture(model), batch * model.context, batch * model.context * steps)


def settings(model: Model, optimizer: Optimizer, peak: float) -> Settings:
    """Hyperparameters of a training at a peak LR, its weight decay as PyTorch has it."""
    return Settings(
        lr=peak, init_std=model.init_std, weight_decay=torch_decay(optimizer, peak), epsilon=optimizer.epsilon,
        beta1=optimizer.beta1, beta2=optimizer.beta2, lr_factors=optimizer.lr_factors,
    )  # fmt: skip


def torch_decay(optimizer: Optimizer, peak: float) -> float:
    """Coefficient that PyTorch, which multiplies it by the LR, needs."""
    return optimizer.weight_decay / peak if optimizer.independent else optimizer.weight_decay


def decay_by_schedule(config: TrainConfig, plan: Transfer | None) -> float:
    """What the schedule's LR is multiplied by in the decay of a hidden matrix, which laws of loss curves ask for."""
    if plan is None:
        return torch_decay(config.optimizer, config.training.plan.peak)
    own = plan.of("attention_query")
    return own.lr.factor * own.weight_decay.value


def default_decay(optimizer: Optimizer) -> DecayMode:
    """How decay is carried over where nothing is said: an independent one stays what it is."""
    return "independent" if optimizer.independent else "rule"


def to_header(plan: Transfer) -> dict[str, Any]:
    """What the log of a run records of its plan."""
    return {
        "rule": plan.rule.name, "horizon": plan.horizon, "weight_decay": plan.weight_decay,
        "residual": plan.residual.value, "attention": plan.attention.value, "output": plan.output.value,
        "groups": {
            group: {
                "init_std": own.init_std and own.init_std.value, "lr_factor": own.lr.factor,
                "weight_decay": own.weight_decay.value, "epsilon": own.epsilon.value,
                "beta1": own.beta1, "beta2": own.beta2,
            }
            for group, own in plan.groups.items()
        },
        "warnings": list(plan.warnings),
    }  # fmt: skip
