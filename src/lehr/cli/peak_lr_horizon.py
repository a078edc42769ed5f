"""`lehr peak-lr horizon`: the valley at more tokens than were run, from runs of one size at several token counts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lehr.cli.common import columns_of, print_json, show, table
from lehr.cli.peak_lr_fit import read_tables


def horizon(
    tables: Annotated[
        list[Path],
        typer.Argument(
            help="As of lehr peak-lr fit: runs at three token counts or more.", metavar="TABLE..."
        ),
    ],
    tokens: Annotated[float, typer.Option(help="Tokens of the planned run.")],
    params: Annotated[
        float | None,
        typer.Option(help="Parameters a token passes through, where the tables hold several sizes."),
    ] = None,
    batch: Annotated[
        float | None, typer.Option(help="Tokens of one update, where the tables hold several batch sizes.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="ROLE=NAME, as of lehr peak-lr fit; repeatable.")
    ] = None,
    sequence_length: Annotated[
        int | None, typer.Option(help="Tokens of a sequence, where batch sizes count sequences.")
    ] = None,
    runs: Annotated[
        list[str] | None, typer.Option(help="Runs of a store to use, as patterns; repeatable. Default: all.")
    ] = None,
    form: Annotated[str, typer.Option(help="Form of the valley: asymmetric or parabola.")] = "asymmetric",
    level: Annotated[float, typer.Option(help="Probability of the interval.")] = 0.9,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Carry the losses of a sweep to more tokens, LR by LR, and tell the best LR there."""
    from lehr.peaklr.horizon import fit_horizon, valley_at

    sweep = read_tables(tables, columns_of(column or ()), sequence_length, runs).at(params, batch)
    fitted = fit_horizon(sweep)
    valley = valley_at(fitted, tokens, form, level)
    loss, deviation = fitted.loss(tokens)
    if as_json:
        print_json({
            "lr": valley.lr, "lr_low": valley.low, "lr_high": valley.high, "lowest_loss": valley.lowest_loss,
            "gamma": fitted.gamma, "times_longest": tokens / fitted.longest,
            "losses": [
                {"lr": lr, "loss": value, "deviation": wide}
                for lr, value, wide in zip(fitted.lr.tolist(), loss.tolist(), deviation.tolist(), strict=True)
            ],
        })  # fmt: skip
        return
    rows = [
        (f"{lr:.3g}", f"{v:.4f}", f"{d:.4f}") for lr, v, d in zip(fitted.lr, loss, deviation, strict=True)
    ]
    show(
        f"at {tokens:.3g} tokens, {tokens / fitted.longest:.2g} times the longest run; L0 + A D^-{fitted.gamma:.2f}"
    )
    show(table(("LR", "loss", "deviation"), rows))
    show(f"peak LR {valley.lr:.4g}  [{valley.low:.4g}, {valley.high:.4g}] at {level:.0%}")
