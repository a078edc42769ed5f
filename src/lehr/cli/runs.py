"""`lehr runs`: what is in a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from lehr.cli.common import print_json, show, table


def runs(
    store: Annotated[Path, typer.Argument(help="Folder of the store.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the runs of a store."""
    from lehr.runs.store import list_runs

    found = list_runs(store)
    if as_json:
        print_json({"runs": found})
        return
    header = ("run", "steps", "points", "peak LR", "params", "parent", "final loss")
    show(table(header, [_row(run) for run in found]))


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    def short(value: Any) -> str:
        return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

    return (
        run["name"], str(run["steps"]), str(run["points"]), short(run["peak_lr"]), short(run["params"]),
        short(run["parent"]), short(run["final_loss"]),
    )  # fmt: skip
