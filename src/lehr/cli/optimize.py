"""`lehr optimize`: the schedule with the lowest predicted final loss."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import print_json, progress, say, show, table
from lehr.errors import InputError, unknown

if TYPE_CHECKING:
    from lehr.anneal.family_search import Member
    from lehr.anneal.optimize import Optimum
    from lehr.schedule.schedule import Schedule


def optimize(
    fit: Annotated[Path, typer.Argument(help="File made by lehr fit --out.")],
    peak_lr: Annotated[float, typer.Option(help="Highest LR allowed.")],
    out: Annotated[Path, typer.Option(help="File to write the schedule to, as JSON.")],
    steps: Annotated[int | None, typer.Option(help="Updates of the planned run, warm-up included.")] = None,
    tokens: Annotated[float | None, typer.Option(help="Or its tokens (with --batch-tokens).")] = None,
    flops: Annotated[
        float | None, typer.Option(help="Or its FLOPs (with --params and --batch-tokens).")
    ] = None,
    family: Annotated[
        str, typer.Option(help="free, or wsd: the best decay shape, final LR and ratio.")
    ] = "free",
    monotone: Annotated[bool, typer.Option(help="Never raise the LR after the warm-up (free only).")] = True,
    stairs: Annotated[
        bool, typer.Option(help="Hold the LR between knots instead of straight lines (free only).")
    ] = False,
    knots: Annotated[int, typer.Option(help="Number of knots at most (free only).")] = 40,
    final: Annotated[float, typer.Option(help="Lowest LR allowed after the warm-up.")] = 0.0,
    warmup: Annotated[
        int | None, typer.Option(help="Warm-up updates; default that of the fitted runs.")
    ] = None,
    params: Annotated[float | None, typer.Option(help="Parameters, for laws with sizes.")] = None,
    params_total: Annotated[
        float | None, typer.Option(help="All parameters but embeddings, for a model of experts.")
    ] = None,
    batch_tokens: Annotated[
        float | None, typer.Option(help="Tokens of an update; default as fitted.")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="AdamW weight decay; default that of the fitted runs.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set (or data set/split), for a fit to several.")
    ] = None,
    law: Annotated[str | None, typer.Option(help="Law to use; default the chosen one.")] = None,
    level: Annotated[float, typer.Option(help="Probability of the band.")] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Find the schedule with the lowest predicted final loss, free-form or of the WSD family."""
    import json

    from lehr.anneal.family_search import family_warnings, search_family
    from lehr.anneal.optimize import optimize_schedule
    from lehr.anneal.plan import budget_steps
    from lehr.files import write_atomic
    from lehr.fit.adapt import of_data
    from lehr.fit.files import load_fits
    from lehr.schedule.spec import to_dict

    if family not in ("free", "wsd"):
        raise unknown("family to search", family, ["free", "wsd"])
    if not out.parent.is_dir():
        raise InputError(f"the folder of {out} does not exist: create it first.")
    result = of_data(load_fits(fit).get(law), data)
    batch = result.domain.one_batch if batch_tokens is None else batch_tokens
    length = budget_steps(steps=steps, tokens=tokens, flops=flops, batch_tokens=batch, params=params)
    plan: dict[str, Any] = {
        "steps": length, "peak": peak_lr, "final": final, "warmup": warmup, "params": params,
        "batch_tokens": batch_tokens, "weight_decay": weight_decay, "params_total": params_total,
    }  # fmt: skip
    with progress(1, "optimising") as step:
        step(result.law)
        if family == "wsd":
            members = search_family(result, **plan)
            schedule = members[0].schedule
        else:
            found = optimize_schedule(
                result, monotone=monotone, stairs=stairs, knots=knots, level=level, **plan
            )
            schedule = found.schedule
    write_atomic(out, json.dumps(to_dict(schedule), indent=1))
    if family == "wsd":
        notes = family_warnings(result, members[0], params, params_total)
        print_json(family_json(members, notes)) if as_json else show(family_text(members, notes, out))
    else:
        print_json(to_json(found, result.law)) if as_json else show(to_text(found, out))


def to_json(found: Optimum, law: str) -> dict[str, Any]:
    """What was found, and the best WSD schedule beside it."""
    from lehr.schedule.spec import to_dict

    return {
        "law": law,
        "final_loss": found.final_loss,
        "final_loss_low": found.final_loss_low,
        "final_loss_high": found.final_loss_high,
        "gain": found.gain,
        "fall_steps": found.fall_steps,
        "wsd": _member(found.wsd),
        "warnings": list(found.warnings),
        "schedule": to_dict(found.schedule),
    }


def to_text(found: Optimum, out: Path) -> str:
    """The schedule at a few places, its loss, and what it gains over the best WSD schedule."""
    from lehr.schedule.spec import to_text as spec_text

    for warning in found.warnings:
        say(f"warning: {warning}")
    fall = found.fall_steps
    lines = [
        f"predicted final loss {found.final_loss:.4f} ({found.final_loss_low:.4f} to {found.final_loss_high:.4f}), "
        f"{found.gain:.4f} below the best WSD schedule:",
        f"  {spec_text(found.wsd.schedule)}",
        *(
            [f"the LR falls from 90 % to 10 % of its highest within {fall} updates"]
            if fall is not None
            else []
        ),
        "",
        table(("update", "LR"), _places(found.schedule)),
        "",
        f"written to {out}",
    ]
    return "\n".join(lines)


def family_json(members: tuple[Member, ...], notes: tuple[str, ...]) -> dict[str, Any]:
    """The best of the WSD family, and the best of every shape and final LR."""
    from lehr.schedule.spec import to_dict

    return {
        **_member(members[0]), "warnings": list(notes), "schedule": to_dict(members[0].schedule),
        "members": [_member(member) for member in members],
    }  # fmt: skip


def family_text(members: tuple[Member, ...], notes: tuple[str, ...], out: Path) -> str:
    """The best of every shape and final LR, best first."""
    from lehr.schedule.spec import to_text as spec_text

    for warning in notes:
        say(f"warning: {warning}")
    rows = [
        (
            m.shape,
            f"{m.final:g}",
            f"{m.ratio:.3f}",
            f"{m.final_loss:.4f}",
            f"{m.final_loss - members[0].final_loss:.4f}",
        )
        for m in members
    ]
    head = ("shape", "final LR", "ratio", "final loss", "above the best")
    return f"{table(head, rows)}\n\nschedule {spec_text(members[0].schedule)}\nwritten to {out}"


def _member(member: Member) -> dict[str, Any]:
    from lehr.schedule.spec import to_text as spec_text

    return {
        "shape": member.shape, "final": member.final, "ratio": member.ratio, "decay_steps": member.decay_steps,
        "final_loss": member.final_loss, "text": spec_text(member.schedule),
    }  # fmt: skip


def _places(schedule: Schedule) -> list[tuple[str, str]]:
    """LR at the ends of the segments, at most a dozen of them, and at the last update."""
    import numpy as np

    updates = np.unique(np.append(schedule.starts[:-1], schedule.steps - 1))
    shown = updates[np.unique(np.linspace(0, len(updates) - 1, 12).round().astype(int))]
    return [(str(k), f"{lr:.3g}") for k, lr in zip(shown.tolist(), schedule.lr(shown).tolist(), strict=True)]
