"""`lehr export`: a schedule for a framework, without an off-by-one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import print_json, say
from lehr.cli.schedules import read_schedule

if TYPE_CHECKING:
    from lehr.anneal.deviation import DeviationCost
    from lehr.schedule.export.export import Export


def export(
    schedule: Annotated[
        str,
        typer.Argument(help='The schedule, e.g. "cosine(steps=72000, peak=3e-4)", or a .json or .csv file.'),
    ],
    to: Annotated[
        str, typer.Option(help="torch, hf, megatron, torchtitan, olmo-core, optax, deepspeed or csv.")
    ],
    form: Annotated[
        str,
        typer.Option(
            help="settings of the framework, code, or auto: settings where they are exact, else code."
        ),
    ] = "auto",
    out: Annotated[Path | None, typer.Option(help="File to write; default stdout.")] = None,
    fit: Annotated[
        Path | None, typer.Option(help="File made by lehr fit --out: says what a deviation costs.")
    ] = None,
    params: Annotated[float | None, typer.Option(help="Parameters, for laws with sizes.")] = None,
    batch_tokens: Annotated[
        float | None, typer.Option(help="Tokens of one update, for laws that need it.")
    ] = None,
    weight_decay: Annotated[
        float | None, typer.Option(help="AdamW weight decay; default that of the fitted runs.")
    ] = None,
    params_total: Annotated[
        float | None, typer.Option(help="All parameters but embeddings, for a model of experts.")
    ] = None,
    data: Annotated[
        str | None, typer.Option(help="Data set (or data set/split), for a fit to several.")
    ] = None,
    law: Annotated[str | None, typer.Option(help="Law to use; default the chosen one.")] = None,
    level: Annotated[float, typer.Option(help="Probability of the cost's interval.")] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Write a schedule for a training framework, and say where the framework departs from it."""
    from lehr.anneal.deviation import deviation_cost
    from lehr.files import write_atomic
    from lehr.fit.files import load_fits
    from lehr.schedule.export import export as export_schedule
    from lehr.schedule.spec import to_text

    meant = read_schedule(schedule)
    made = export_schedule(meant, to, form)
    costs: dict[str, DeviationCost] = {}
    if fit is not None:
        result = load_fits(fit).get(law)
        costs = {
            inexact.form: deviation_cost(
                result, meant, inexact.lr, params=params, batch_tokens=batch_tokens, weight_decay=weight_decay,
                params_total=params_total, data=data, level=level,
            )
            for inexact in (made, made.nearest)
            if inexact is not None and not inexact.exact
        }  # fmt: skip
    if out is not None:
        write_atomic(out, made.text)
    if as_json:
        print_json({"schedule": to_text(meant), "steps": meant.steps, **to_json(made, costs)})
        return
    print(f"{made.framework} {made.form} written to {out}" if out else made.text, end="\n" if out else "")
    _remarks(made, costs)


def to_json(made: Export, costs: dict[str, DeviationCost]) -> dict[str, Any]:
    """An export, its deviation from the schedule, and what that costs by form, where a fit tells."""
    cost, deviation = costs.get(made.form), made.deviation
    return {
        "framework": made.framework,
        "form": made.form,
        "language": made.language,
        "text": made.text,
        "exact": made.exact,
        "deviation": {
            "largest": deviation.largest,
            "relative": deviation.relative,
            "update": deviation.update,
            "updates": deviation.updates,
            "why": deviation.why,
        },
        "cost": cost and {
            "excess_loss": cost.excess_loss, "low": cost.low, "high": cost.high, "warnings": list(cost.warnings)
        },
        "notes": list(made.notes),
        "nearest": to_json(made.nearest, costs) if made.nearest else None,
    }  # fmt: skip


def _remarks(made: Export, costs: dict[str, DeviationCost]) -> None:
    """Say on stderr how exact the export is and what else the user must know."""
    if made.exact:
        say("every update uses the schedule's LR.")
    else:
        say(f"warning: not exact: {_deviation(made, costs)}")
    for note in made.notes:
        say(f"note: {note}")
    if made.nearest:
        say(
            f"{made.framework}'s own settings cannot say this schedule, hence the code. The nearest "
            f"(--form settings): {_deviation(made.nearest, costs)}"
        )
    for warning in {w for cost in costs.values() for w in cost.warnings}:
        say(f"warning: {warning}")


def _deviation(made: Export, costs: dict[str, DeviationCost]) -> str:
    gap, cost = made.deviation, costs.get(made.form)
    text = (
        f"{gap.updates} of {len(made.lr)} updates differ, by at most {gap.largest:.3g} ({gap.relative:.2%} of the "
        f"peak) at update {gap.update}. {gap.why}"
    )
    if cost is None:
        return f"{text} --fit FIT.json says what that costs."
    interval = f" ({cost.low:+.5f} to {cost.high:+.5f})" if cost.low == cost.low else ""
    return f"{text} Predicted to cost {cost.excess_loss:+.5f} nats{interval}."
