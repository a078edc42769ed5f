"""`lehr transfer`: every module's initial weights, LR, weight decay and epsilon in a larger model, and why."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import clean, print_json, say, show, table
from lehr.errors import InputError, bad

if TYPE_CHECKING:
    from lehr.proxy.config import TrainConfig
    from lehr.transfer.plan import Hyperparameters, Transfer, Value

QUANTITIES = {
    "init_std": "initial std",
    "lr": "peak LR",
    "weight_decay": "weight decay",
    "epsilon": "epsilon",
}


def transfer(
    to: Annotated[Path, typer.Option("--to", help="TOML file of the training to plan for.")],
    base: Annotated[
        Path | None,
        typer.Option("--from", help="TOML file of the tuned one; without it, TARGET's [transfer] table."),
    ] = None,
    rule: Annotated[
        str | None,
        typer.Option(
            help="sp, mup, depth-mup, completep (default), completep-lv, completed-p, mup-moe, completep-moe."
        ),
    ] = None,
    weight_decay: Annotated[
        str | None, typer.Option(help="How decay is carried over: rule, independent or timescale.")
    ] = None,
    horizon: Annotated[
        str | None, typer.Option(help="Rule for training tokens and batch: bjorck, zhou, sqrt or sde.")
    ] = None,
    treat: Annotated[
        list[str] | None, typer.Option(help="GROUP=GROUP: what the rule does not know, and as what to treat it.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:  # fmt: skip
    """Carry a tuned training's hyperparameters over to a larger one, by a rule of transfer."""
    from lehr.proxy.config import load_config
    from lehr.proxy.transferring import plan_between, plan_of

    target = load_config(to)
    if base is None:
        asked = {"--rule": rule, "--weight-decay": weight_decay, "--horizon": horizon, "--treat": treat}
        given = next((name for name, value in asked.items() if value), None)
        if given:
            raise InputError(f"{given} needs --from: the [transfer] table of {to} has its own.")
        plan = plan_of(target)
        if plan is None or target.transfer is None:  # one with LR factors alone is its own base
            raise InputError(f"{to} has no [transfer] table: give the tuned training by --from.")
    else:
        plan = plan_between(
            load_config(base), target, rule or "completep", weight_decay=weight_decay,  # type: ignore[arg-type]
            horizon=horizon, treat=_pairs(treat or ()),  # type: ignore[arg-type]  # names are checked there
        )  # fmt: skip
    names = _names(target)
    if as_json:
        print_json(to_json(plan, names))
        return
    show(to_text(plan, names))
    for text in plan.warnings:
        say(f"warning: {text}")


def to_json(plan: Transfer, names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """A plan in JSON's terms; `names` are those of the parameters of each group, blocks left open."""
    return {
        "rule": plan.rule.name, "source": plan.rule.source, "certainty": plan.rule.certainty, "horizon": plan.horizon,
        "weight_decay": plan.weight_decay,
        "ratios": {name: value for name, value in vars(plan.ratios).items() if name != "fan_in"},
        "groups": {
            group: {
                "parameters": list(names[group]),
                **{name: _value(getattr(own, name)) for name in QUANTITIES},
                "beta1": own.beta1, "beta2": own.beta2,
            }
            for group, own in plan.groups.items()
        },
        "multipliers": {name: _value(getattr(plan, name)) for name in ("residual", "attention", "output")},
        "warnings": list(plan.warnings),
    }  # fmt: skip


def to_text(plan: Transfer, names: Mapping[str, Sequence[str]]) -> str:
    """Lay a plan out as a table, a row a group, with the reasons under it."""
    changed = ", ".join(
        f"{name} x {value:.4g}"
        for name, value in vars(plan.ratios).items()
        if name not in ("fan_in", "parameters") and value != 1
    )
    rows = [
        (group, *(_number(getattr(own, name)) for name in QUANTITIES)) for group, own in plan.groups.items()
    ]
    first = next(iter(plan.groups.values()))
    lines = [
        f"{plan.rule.name}: {plan.rule.summary} ({plan.rule.source}; {plan.rule.certainty})",
        f"target over base: {changed or 'the same'}",
        "",
        table(("parameters", *QUANTITIES.values()), rows),
        "",
        *(
            f"{words} x {value.value:.6g}{_because(value)}"
            for words, value in (
                ("residual branches", plan.residual), ("queries times keys", plan.attention), ("logits", plan.output),
            )
        ),
        f"beta1 {first.beta1:.6g}, beta2 {first.beta2:.6g}",
        "",
        *(
            f"{group}: {', '.join(names[group])}\n    {_reasons(own)}" for group, own in plan.groups.items()
        ),
    ]  # fmt: skip
    return clean("\n".join(lines))


def _names(config: TrainConfig) -> dict[str, list[str]]:
    """Names of the parameters of each group, those of all blocks as one."""
    from lehr.proxy.parameters import parameters
    from lehr.transfer.roles import group_of

    found: dict[str, dict[str, None]] = {}
    for name, role in parameters(config.model, 1).items():
        open_name = re.sub(r"^blocks\.\d+\.", "blocks.*.", name)
        found.setdefault(group_of(role.kind), {})[open_name] = None
    return {group: list(names) for group, names in found.items()}


def _pairs(texts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for text in texts:
        group, equals, known = text.partition("=")
        if not (group and equals and known):
            raise bad("--treat", "must be GROUP=GROUP", text, "such as --treat router=head")
        pairs[group] = known
    return pairs


def _value(value: Value | None) -> dict[str, Any] | None:
    if value is None:
        return None
    return {"value": value.value, "base": value.base, "factor": value.factor, "why": value.why}


def _number(value: Value | None) -> str:
    return "-" if value is None else f"{value.value:.4g}"


def _because(value: Value) -> str:
    return f" = {value.base:.4g} x {value.why}" if value.why else ""


def _reasons(own: Hyperparameters) -> str:
    told = [
        f"{words} {value.base:.4g} x {value.why}"
        for name, words in QUANTITIES.items()
        if (value := getattr(own, name)) is not None and value.why and value.base
    ]
    return "; ".join(told) or "as in the base"
