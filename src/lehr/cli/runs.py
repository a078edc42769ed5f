"""`lehr runs`: what is in a store."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from lehr.cli.common import print_json, show, table


def runs(
    store: Annotated[
        str, typer.Argument(help="Folder of the store, or an address such as s3://bucket/store.")
    ],
    sql: Annotated[
        str | None, typer.Option(help="A SELECT over the views runs and points, see docs/store.md.")
    ] = None,
    compact: Annotated[
        bool, typer.Option("--compact", help="First put runs that were added one by one into shared files.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the runs of a store, or ask it a question in SQL."""
    from lehr.runs import store as stores

    if compact:
        stores.compact(store)
    if sql is not None:
        _ask(store, sql, as_json)
        return
    found = stores.list_runs(store)
    if as_json:
        # a line a run: of ten thousand runs an indented text takes longer to write than to find
        print('{"runs": [' + ",".join("\n" + json.dumps(run, allow_nan=False) for run in found) + "\n]}")
        return
    header = ("run", "steps", "points", "peak LR", "params", "parent", "final loss")
    show(table(header, [_row(run) for run in found]))


def _ask(store: str, text: str, as_json: bool) -> None:
    """Print what a query returns."""
    from lehr.runs.sql import query

    answer = query(store, text)
    if as_json:
        print_json({"columns": list(answer.columns), "rows": [list(row) for row in answer.rows]})
        return
    print(table(answer.columns, [[_cell(value) for value in row] for row in answer.rows]))


def _cell(value: Any) -> str:
    text = "-" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
    return text.replace("\n", " ")


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    def short(value: Any) -> str:
        return "-" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)

    return (
        run["name"], str(run["steps"]), str(run["points"]), short(run["peak_lr"]), short(run["params"]),
        short(run["parent"]), short(run["final_loss"]),
    )  # fmt: skip
