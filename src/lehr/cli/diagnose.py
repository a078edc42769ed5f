"""`lehr diagnose`: what a trained proxy's checkpoints and log tell of its stability and of what it learns."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import clean, print_json, show, table
from lehr.errors import InputError

if TYPE_CHECKING:
    from lehr.proxy.diagnosis import Diagnosis, State


def diagnose(
    run: Annotated[Path, typer.Argument(help="Folder of a run that lehr train made.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Measure the checkpoints of a proxy: sizes, updates, attention, experts, loss spikes; name what is amiss."""
    try:
        from lehr.proxy.diagnosis import diagnose as look
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise InputError("opening checkpoints needs torch: `pip install 'lehr[train]'`.") from None
    found = look(run)
    print_json(to_json(found)) if as_json else show(to_text(found))


def to_json(found: Diagnosis) -> dict[str, Any]:
    """All that was measured, in JSON's terms."""
    return {
        "name": found.name,
        "states": [
            {
                "step": state.step,
                "coordinates": [
                    {"part": part, "measure": measure, "value": value}
                    for (part, measure), value in state.coordinates.items()
                ],
                "attention": [asdict(each) for each in state.attention],
                "routers": [asdict(each) for each in state.routers],
                "updates": dict(state.updates),
            }
            for state in found.states
        ],
        "spikes": [asdict(each) for each in found.spikes],
        "findings": [{**asdict(each), "text": each.text} for each in found.findings],
    }  # fmt: skip


def to_text(found: Diagnosis) -> str:
    """A table of the checkpoints, the spikes, and what is beyond its limit."""
    from lehr.transfer.slopes import STREAM

    header = ("", *(f"step {state.step}" for state in found.states))
    rows = [("stream, size", *(_value(state.coordinates[STREAM, "size"]) for state in found.states))]
    rows.append(
        ("logits, change", *(_value(state.coordinates["logits", "change"]) for state in found.states))
    )
    rows.append(("attention entropy, least", *(_value(_least_entropy(state)) for state in found.states)))
    rows.append(("attention logit, largest", *(_value(_largest_logit(state)) for state in found.states)))
    if found.states[0].routers:
        rows.append(("expert load, least per level", *(_value(_least_load(state)) for state in found.states)))
        rows.append(
            ("router entropy, least (nats)", *(_value(_least_router(state)) for state in found.states))
        )
    for group in found.states[-1].updates:
        ratios = (_value(state.updates.get(group)) for state in found.states)
        rows.append((f"update per weight, {group}", *ratios))
    lines = [clean(found.name), table(header, rows), ""]
    for spike in found.spikes:
        lines.append(
            f"loss spike: updates {spike.first} to {spike.last}, {spike.height:.1%} above the median before "
            f"({spike.deviations:.0f} deviations)"
        )
    lines += [each.text for each in found.findings]
    if not (found.spikes or found.findings):
        lines.append("no loss spike, and nothing beyond its limit")
    return "\n".join(lines)


def _value(number: float | None) -> str:
    return "-" if number is None else f"{number:.3g}"


def _least_entropy(state: State) -> float:
    return min(entropy for each in state.attention for entropy in each.entropy)


def _largest_logit(state: State) -> float:
    return max(each.largest_logit for each in state.attention)


def _least_load(state: State) -> float:
    return min(load * len(each.load) for each in state.routers for load in each.load)


def _least_router(state: State) -> float:
    return min(each.entropy for each in state.routers)
