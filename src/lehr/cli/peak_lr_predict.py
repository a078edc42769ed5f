"""`lehr peak-lr predict`: the best peak LR of a planned run, by a fitted sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lehr.cli.common import print_json, say, show


def predict(
    fit: Annotated[Path, typer.Argument(help="File made by lehr peak-lr fit --out.")],
    params: Annotated[float, typer.Option(help="All parameters of the planned run, but embeddings.")],
    tokens: Annotated[float, typer.Option(help="Tokens it trains on.")],
    batch: Annotated[
        float | None, typer.Option(help="Tokens of one update; default the best batch by the same sweep.")
    ] = None,
    active_params: Annotated[
        float | None, typer.Option(help="Parameters a token passes through, for a model of experts.")
    ] = None,
    level: Annotated[float, typer.Option(help="Probability of the interval.")] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Tell the best peak LR of a planned run, with an interval."""
    from lehr.peaklr.sweep_fit import load_sweep_fit

    found = load_sweep_fit(fit)
    planned = found.predict(params, tokens, batch, active_params, level)
    best = found.batch.predict(params, tokens, active_params, level) if found.batch else None
    if as_json:
        print_json({
            "lr": planned.lr, "lr_low": planned.low, "lr_high": planned.high, "law": found.chosen,
            "best_batch_tokens": best.batch_tokens if best else None,
            "best_batch_low": best.low if best else None, "best_batch_high": best.high if best else None,
            "remarks": list(planned.remarks),
        })  # fmt: skip
        return
    show(
        f"peak LR {planned.lr:.4g}  [{planned.low:.4g}, {planned.high:.4g}] at {level:.0%}, by {found.chosen}"
    )
    if best is not None:
        show(f"best batch {best.batch_tokens:.3g} tokens  [{best.low:.3g}, {best.high:.3g}]")
    for remark in planned.remarks:
        say(f"note: {remark}")
