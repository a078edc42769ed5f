"""`lehr peak-lr predict`: the best peak LR of a planned run, by a fitted sweep."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import print_json, say, show

if TYPE_CHECKING:
    from lehr.peaklr.sweep_fit import SweepFit


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

    told = to_json(load_sweep_fit(fit), params, tokens, batch, active_params, level)
    if as_json:
        print_json(told)
        return
    show(
        f"peak LR {told['lr']:.4g}  [{told['lr_low']:.4g}, {told['lr_high']:.4g}] at {level:.0%}, by {told['law']}"
    )
    if told["best_batch_tokens"] is not None:
        ends = f"[{told['best_batch_low']:.3g}, {told['best_batch_high']:.3g}]"
        show(f"best batch {told['best_batch_tokens']:.3g} tokens  {ends}")
    for remark in told["remarks"]:
        say(f"note: {remark}")


def to_json(
    fit: SweepFit, params: float, tokens: float, batch: float | None, active: float | None, level: float
) -> dict[str, Any]:
    """The best peak LR of a planned run, and the best batch where the sweep tells one."""
    planned = fit.predict(params, tokens, batch, active, level)
    best = fit.batch.predict(params, tokens, active, level) if fit.batch else None
    return {
        "lr": planned.lr, "lr_low": planned.low, "lr_high": planned.high, "law": fit.chosen,
        "best_batch_tokens": best.batch_tokens if best else None,
        "best_batch_low": best.low if best else None, "best_batch_high": best.high if best else None,
        "remarks": list(planned.remarks),
    }  # fmt: skip
