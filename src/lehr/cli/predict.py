"""`lehr predict`: the loss curve of a planned schedule."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lehr.cli.common import print_json, say, show, table


def predict(
    fit: Annotated[Path, typer.Argument(help="File made by lehr fit --out.")],
    schedule: Annotated[
        str, typer.Option(help='The planned schedule, e.g. "cosine(steps=72000, peak=3e-4)".')
    ],
    params: Annotated[float | None, typer.Option(help="Parameters, for laws with sizes.")] = None,
    batch_tokens: Annotated[
        float | None,
        typer.Option(help="Tokens of one update; default that of the fitted runs. Refused where it matters."),
    ] = None,
    at: Annotated[
        list[int] | None, typer.Option(help="Step to predict; repeatable. Default: the whole curve.")
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
    law: Annotated[
        str | None, typer.Option(help="Law to use, or stack if the fits have one; default the chosen law.")
    ] = None,
    level: Annotated[float, typer.Option(help="Probability of the band.")] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Predict the whole loss curve of a schedule, with a band."""
    import numpy as np

    from lehr.fit.files import load_fits
    from lehr.fit.stack import STACK
    from lehr.predict import predict as predict_curve
    from lehr.predict import predict_stack
    from lehr.schedule.spec import parse
    from lehr.units import tokens_for_steps

    fits = load_fits(fit)
    plan, steps = parse(schedule), np.unique(np.array(at, dtype=float)) if at else None
    sizes: dict[str, Any] = {
        "params": params, "batch_tokens": batch_tokens, "weight_decay": weight_decay,
        "params_total": params_total, "data": data,
    }  # fmt: skip
    if law == STACK:
        found = predict_stack(fits.get_stack(), plan, steps, **sizes, level=level)
    else:
        found = predict_curve(fits.get(law), plan, steps, **sizes, level=level)
    batch = batch_tokens or fits.get().domain.one_batch
    tokens = [tokens_for_steps(step, batch) for step in found.steps.tolist()] if batch else None
    if as_json:
        keys = {"steps": found.steps, "loss": found.loss, "low": found.low, "high": found.high}
        print_json({**{k: v.tolist() for k, v in keys.items()}, "tokens": tokens, "level": level,
                    "law": law or fits.chosen,
                    "warnings": list(found.warnings)})  # fmt: skip
        return
    for warning in found.warnings:
        say(f"warning: {warning}")
    shown = range(len(found.steps)) if at else np.unique(np.linspace(0, len(found.steps) - 1, 12).astype(int))
    rows: list[tuple[str, ...]] = [
        (f"{found.steps[i]:.0f}", f"{found.loss[i]:.4f}", f"{found.low[i]:.4f}", f"{found.high[i]:.4f}")
        for i in shown
    ]
    header: tuple[str, ...] = ("step", "loss", f"low ({level:.0%})", "high")
    if tokens:
        header = (*header, "tokens")
        rows = [(*row, f"{tokens[i]:.4g}") for i, row in zip(shown, rows, strict=True)]
    show(table(header, rows))
