"""`lehr recommend`: the annealing ratio of a planned run."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import print_json, progress, say, show, table
from lehr.errors import bad, unknown

if TYPE_CHECKING:
    from lehr.anneal.plan import Plan
    from lehr.anneal.ratio import Recommendation


def recommend(
    fit: Annotated[Path, typer.Argument(help="File made by lehr fit --out.")],
    peak_lr: Annotated[str, typer.Option(help="Peak LR of the planned run, or auto: the best fitted one.")],
    steps: Annotated[int | None, typer.Option(help="Its updates, warm-up included.")] = None,
    tokens: Annotated[float | None, typer.Option(help="Or its tokens (with --batch-tokens).")] = None,
    flops: Annotated[
        float | None, typer.Option(help="Or its FLOPs (with --params and --batch-tokens).")
    ] = None,
    family: Annotated[str, typer.Option(help="Family of schedules.")] = "wsd",
    shape: Annotated[str, typer.Option(help="Decay shape, or auto.")] = "linear",
    final: Annotated[str, typer.Option(help="LR at the end of the decay, or auto.")] = "0",
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
    level: Annotated[float, typer.Option(help="Probability of the intervals.")] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan a run: annealing ratio, shape, final LR, and what they are worth."""
    from lehr.anneal.plan import budget_steps, plan_run
    from lehr.fit.adapt import of_data
    from lehr.fit.files import load_fits

    if family != "wsd":
        raise unknown("family with an annealing ratio", family, ["wsd"])
    result = of_data(load_fits(fit).get(law), data)
    batch = result.domain.one_batch if batch_tokens is None else batch_tokens
    length = budget_steps(steps=steps, tokens=tokens, flops=flops, batch_tokens=batch, params=params)
    with progress(1, "recommending") as step:
        step(result.law)
        plan = plan_run(
            result, steps=length, peak=number("--peak-lr", peak_lr), shape=None if shape == "auto" else shape,
            final=number("--final", final), warmup=warmup, params=params, batch_tokens=batch_tokens,
            weight_decay=weight_decay, params_total=params_total, level=level,
        )  # fmt: skip
    if as_json:
        print_json({**to_json(plan.best), **plan_json(plan)})
    else:
        show(to_text(plan))


def number(option: str, text: str) -> float | None:
    """The number that `text` is, or None for auto.

    Raises
    ------
    InputError
        If it is neither.
    """
    if text == "auto":
        return None
    try:
        return float(text)
    except ValueError:
        raise bad(option, "must be a number or auto", text, "give e.g. 1e-3") from None


def plan_json(plan: Plan) -> dict[str, Any]:
    """What the plan says beyond the recommendation."""
    return {
        "steps": plan.best.schedule.steps,
        "peak_lr": plan.peak,
        "shape": plan.shape,
        "final_lr": plan.final,
        "gains": [asdict(gain) for gain in plan.gains],
        "evidence": [asdict(run) for run in plan.evidence],
        "explanation": plan.explanation,
    }


def to_json(found: Recommendation) -> dict[str, Any]:
    """The contract's keys, and the schedule."""
    from lehr.schedule.spec import to_text as spec_text

    return {
        "ratio": found.ratio,
        "ratio_low": found.ratio_low,
        "ratio_high": found.ratio_high,
        "decay_steps": found.decay_steps,
        "final_loss": found.final_loss,
        "final_loss_low": found.final_loss_low,
        "final_loss_high": found.final_loss_high,
        "costs": [{"ratio": ratio, "excess_loss": excess} for ratio, excess in found.costs],
        "warnings": list(found.warnings),
        "schedule": spec_text(found.schedule),
    }


def to_text(plan: Plan) -> str:
    """The recommendation in a sentence, what it gains, what other ratios cost, and why."""
    from lehr.schedule.spec import to_text as spec_text

    found = plan.best
    for warning in found.warnings:
        say(f"warning: {warning}")
    lines = [
        f"decay over the last {found.ratio:.1%} of training ({found.decay_steps} updates); "
        f"interval {found.ratio_low:.1%} to {found.ratio_high:.1%}",
        f"peak LR {plan.peak:.4g}, shape {plan.shape}, final LR {plan.final:.4g}",
        f"predicted final loss {found.final_loss:.4f} ({found.final_loss_low:.4f} to {found.final_loss_high:.4f})",
        f"schedule {spec_text(found.schedule)}",
        "",
        table(("ratio", "costs, nats"), [(f"{r:.2f}", f"{e:.4f}") for r, e in found.costs]),
        "",
        table(
            ("against, at the same peak LR", "gains, nats", "interval"),
            [(g.against, f"{g.gain:.4f}", f"{g.low:.4f} to {g.high:.4f}") for g in plan.gains],
        ),
        "",
        plan.explanation,
    ]
    return "\n".join(lines)
