"""`lehr peak-lr`: the peak LR of a planned run, from sweeps and from published laws; one verb a file."""

from __future__ import annotations

import typer

from lehr.cli import (
    peak_lr_compare,
    peak_lr_fit,
    peak_lr_horizon,
    peak_lr_plan,
    peak_lr_predict,
    peak_lr_published,
)

app = typer.Typer(
    help="The peak LR of a planned run, from sweeps of smaller ones, published laws and rules of transfer.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("plan")(peak_lr_plan.plan)
app.command("fit")(peak_lr_fit.fit)
app.command("predict")(peak_lr_predict.predict)
app.command("horizon")(peak_lr_horizon.horizon)
app.command("published")(peak_lr_published.published)
app.command("compare")(peak_lr_compare.compare)
