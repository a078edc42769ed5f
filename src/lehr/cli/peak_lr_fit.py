"""`lehr peak-lr fit`: from tables of final losses, or stores of runs, to a law of the best peak LR."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import columns_of, match_names, print_json, progress, say, show, table

if TYPE_CHECKING:
    from lehr.peaklr.optima import Optimum
    from lehr.peaklr.sweep_fit import SweepFit
    from lehr.peaklr.table import SweepTable


def fit(
    tables: Annotated[
        list[Path],
        typer.Argument(
            help="CSV, Parquet or JSON-lines with a row a training, or stores of runs.", metavar="TABLE..."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="File for the fit, for lehr peak-lr predict.")] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            help='ROLE=NAME for an unusual column, such as loss="smooth loss"; repeatable. Roles: lr, loss, params, '
            "active_params, tokens, batch_tokens, batch_sequences, sequence_length, name."
        ),
    ] = None,
    sequence_length: Annotated[
        int | None, typer.Option(help="Tokens of a sequence, where batch sizes count sequences.")
    ] = None,
    runs: Annotated[
        list[str] | None, typer.Option(help="Runs of a store to use, as patterns; repeatable. Default: all.")
    ] = None,
    law: Annotated[str | None, typer.Option(help="Law to fit; default the best on hidden groups.")] = None,
    draws: Annotated[int, typer.Option(help="Bootstrap draws, for the intervals.")] = 100,
    seed: Annotated[int, typer.Option(help="Seed of the draws.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Fit how the best peak LR moves with size, tokens and batch size."""
    from lehr.errors import bad
    from lehr.peaklr.sweep_fit import STEPS, fit_sweep, save_sweep_fit

    if draws < 0:
        raise bad("--draws", "must be at least 0", draws, "give a number of draws, such as 100")
    sweep = read_tables(tables, columns_of(column or ()), sequence_length, runs)
    with progress(STEPS, "fitting") as step:
        found = fit_sweep(sweep, law, draws, seed, begun=step)
    if out is not None:
        save_sweep_fit(out, found)
        say(f"the fit is in {out}")
    for reason in found.refused:
        say(f"no optimum: {reason}")
    if as_json:
        print_json(to_json(found))
    else:
        show(to_text(found))


def read_tables(
    paths: list[Path], columns: dict[str, str], sequence_length: int | None, runs: list[str] | None
) -> SweepTable:
    """Read tables and stores; of stores the runs that match."""
    from lehr.peaklr.from_runs import table_of
    from lehr.peaklr.reading import load_sweep_table
    from lehr.peaklr.table import merge
    from lehr.runs.store import is_store, list_runs, load_runs

    parts = []
    for path in paths:
        if runs and is_store(path):
            names = match_names(runs, [str(record["name"]) for record in list_runs(path)])
            parts.append(table_of(load_runs(path, names)))
        else:
            parts.append(load_sweep_table(path, columns, sequence_length))
    return merge(parts)


def to_json(found: SweepFit) -> dict[str, Any]:
    """The fit without its draws."""
    return {
        "chosen": found.chosen,
        "formula": found.law.formula,
        "coefficients": dict(zip(found.law.labels, found.law.coefficients, strict=True)),
        "centre": dict(found.law.centre),
        "scatter": found.law.scatter,
        "batch_formula": found.batch.formula if found.batch else None,
        "held_out_excess": dict(found.held_out),
        "failed": dict(found.failed),
        "groups": [group_json(optimum) for optimum in found.optima],
        "refused": list(found.refused),
        "runs": found.runs,
        "diverged": found.diverged,
    }


def group_json(optimum: Optimum) -> dict[str, Any]:
    """One group's best LR."""
    return {
        "params": optimum.params, "active_params": optimum.active, "tokens": optimum.tokens,
        "batch_tokens": optimum.batch_tokens, "lr": optimum.lr, "lr_low": optimum.low, "lr_high": optimum.high,
        "lowest_loss": optimum.loss,
    }  # fmt: skip


def to_text(found: SweepFit) -> str:
    """Optima, the law, and how well it does on hidden groups."""
    rows = [
        (
            f"{o.active:.3g}" + (f" of {o.params:.3g}" if o.active < o.params else ""), f"{o.tokens:.3g}",
            "-" if o.batch_tokens is None else f"{o.batch_tokens:.3g}", f"{o.lr:.3g}",
            "-" if o.low is None or o.high is None else f"{o.low:.3g} to {o.high:.3g}", f"{o.loss:.4f}",
        )
        for o in found.optima
    ]  # fmt: skip
    scores = sorted((value, name) for name, value in found.held_out.items() if value is not None)
    lines = [
        f"{found.runs} runs, {found.diverged} of them diverged; {len(found.optima)} groups with an optimum",
        table(("parameters", "tokens", "best batch", "best LR", "90 % interval", "lowest loss"), rows),
        "",
        f"law {found.chosen}: {found.law.formula}",
        "  N: parameters a token passes through, D: tokens, B: batch in tokens, S: all parameters over N",
    ]
    if found.batch is not None:
        lines.append(f"best batch: {found.batch.formula}")
    if scores:
        lines += ["", "excess loss on groups left out one at a time, nats:"]
        lines.append(table(("law", "excess loss"), [(mark(n, found.chosen), f"{v:.4f}") for v, n in scores]))
    else:
        lines.append("too few groups to leave one out: how well the law predicts is not known")
    return "\n".join(lines)


def mark(name: str, chosen: str) -> str:
    """The name, marked if it is the chosen one."""
    return f"{name} *" if name == chosen else name
