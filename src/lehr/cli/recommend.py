"""`lehr recommend`: the annealing ratio of a planned run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import print_json, progress, say, table
from lehr.errors import unknown

if TYPE_CHECKING:
    from lehr.anneal.ratio import Recommendation


def recommend(
    fit: Annotated[Path, typer.Argument(help="File made by lehr fit --out.")],
    steps: Annotated[int, typer.Option(help="Updates of the planned run, warm-up included.")],
    peak_lr: Annotated[float, typer.Option(help="Its peak LR.")],
    family: Annotated[str, typer.Option(help="Family of schedules.")] = "wsd",
    shape: Annotated[str, typer.Option(help="Decay shape.")] = "linear",
    final: Annotated[float, typer.Option(help="LR at the end of the decay.")] = 0.0,
    warmup: Annotated[
        int | None, typer.Option(help="Warm-up updates; default that of the fitted runs.")
    ] = None,
    params: Annotated[float | None, typer.Option(help="Parameters, for laws with sizes.")] = None,
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
    """Find the annealing ratio of a planned run, and what a wrong one costs."""
    from lehr.anneal.ratio import recommend_ratio
    from lehr.fit.adapt import of_data
    from lehr.fit.files import load_fits

    if family != "wsd":
        raise unknown("family with an annealing ratio", family, ["wsd"])
    result = of_data(load_fits(fit).get(law), data)
    with progress(1, "recommending") as step:
        step(result.law)
        found = recommend_ratio(
            result, steps=steps, peak=peak_lr, shape=shape, final=final, warmup=warmup, params=params,
            weight_decay=weight_decay, level=level,
        )  # fmt: skip
    if as_json:
        print_json(to_json(found))
    else:
        print(to_text(found))


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


def to_text(found: Recommendation) -> str:
    """The recommendation in a sentence, then what other ratios cost."""
    from lehr.schedule.spec import to_text as spec_text

    for warning in found.warnings:
        say(f"warning: {warning}")
    lines = [
        f"decay over the last {found.ratio:.1%} of training ({found.decay_steps} updates); "
        f"interval {found.ratio_low:.1%} to {found.ratio_high:.1%}",
        f"predicted final loss {found.final_loss:.4f} ({found.final_loss_low:.4f} to {found.final_loss_high:.4f})",
        f"schedule {spec_text(found.schedule)}",
        "",
        table(("ratio", "costs, nats"), [(f"{r:.2f}", f"{e:.4f}") for r, e in found.costs]),
    ]
    return "\n".join(lines)
