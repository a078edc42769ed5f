"""`lehr import`: logs into a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import columns_of, print_json, say, show

if TYPE_CHECKING:
    from lehr.runs.importing import Import


def import_logs(
    logs: Annotated[
        list[str],
        typer.Argument(help="Files of any tracker or trainer, folders of them, or quoted patterns."),
    ],
    into: Annotated[Path, typer.Option(help="Folder of the store; created if absent.")],
    format: Annotated[str, typer.Option(help="Name of the format, or auto: told by content.")] = "auto",
    schedule: Annotated[
        str | None,
        typer.Option(help='LR schedule of the runs, e.g. "wsd(steps=24000, peak=3e-4, decay=4000)".'),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(help="ROLE=NAME for the roles step, loss, lr, tokens; repeatable."),
    ] = None,
    run: Annotated[
        list[str] | None, typer.Option(help="Runs to read of a log with several; patterns, repeatable.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name of the run; several files are then parts of it.")
    ] = None,
    params: Annotated[float | None, typer.Option(help="Non-embedding (MoE: active) parameters.")] = None,
    params_total: Annotated[float | None, typer.Option(help="All parameters.")] = None,
    batch_tokens: Annotated[float | None, typer.Option(help="Tokens of one update.")] = None,
    peak_lr: Annotated[
        float | None, typer.Option(help="Peak LR, where the log has multipliers of it.")
    ] = None,
    bytes_per_token: Annotated[
        float | None, typer.Option(help="To turn bits per byte into nats per token.")
    ] = None,
    window: Annotated[
        int | None, typer.Option(min=1, help="Each loss is the mean of so many updates, if the log hides it.")
    ] = None,
    ema: Annotated[
        float | None, typer.Option(help="Each loss is an exponential average with this decay, likewise.")
    ] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0.0, help="AdamW weight decay.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set that the losses were measured on.")] = None,
    experts: Annotated[
        int | None, typer.Option(min=1, help="Experts of a layer; sizes are then without embeddings.")
    ] = None,
    parent: Annotated[str | None, typer.Option(help="Run that this one branched from.")] = None,
    branch_step: Annotated[int | None, typer.Option(help="Updates done when it branched.")] = None,
    split: Annotated[
        str | None, typer.Option(help="val or train; by default val, and train where there is no val.")
    ] = None,
    segments: Annotated[bool, typer.Option(help="Join the segments of a resumed table.")] = False,
    order: Annotated[
        str, typer.Option(help="Order of the segments: auto, oldest-first, newest-first.")
    ] = "auto",
    total_steps: Annotated[
        int | None, typer.Option(help="Updates of the whole schedule, if the log stops earlier.")
    ] = None,
    replace_runs: Annotated[bool, typer.Option("--replace", help="Replace runs of the same name.")] = False,
    skip_unreadable: Annotated[
        bool, typer.Option("--skip-unreadable", help="Leave out logs that cannot be read, and say so.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be imported; write nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read logs with the LR schedules that made them, into a store."""
    from lehr.runs.importing import prepare
    from lehr.runs.readers.reading import ReadOptions
    from lehr.runs.store import add_runs
    from lehr.schedule.spec import parse

    options = ReadOptions(
        name=name, columns=columns_of(column or []), schedule=parse(schedule) if schedule else None, params=params,
        params_total=params_total, batch_tokens=batch_tokens, segments=segments, split=split, order=order,
        total_steps=total_steps, peak_lr=peak_lr, window=window, ema=ema, runs=tuple(run or ()),
        bytes_per_token=bytes_per_token,
    )  # fmt: skip
    told = {"weight_decay": weight_decay, "dataset": dataset, "experts": experts}
    ready = prepare(
        logs, into, options, format=format, parent=parent, branch_step=branch_step,
        meta={key: value for key, value in told.items() if value is not None}, skip_unreadable=skip_unreadable,
    )  # fmt: skip
    if not dry_run:
        add_runs(into, ready.runs, replace=replace_runs, reports=ready.reports)
    if as_json:
        print_json(to_json(ready, into, dry_run))
        return
    for each in ready.runs:
        show(_line(f"{each.name}: {len(each.step)} points over {each.steps} updates"))
        for line in ready.reports[each.name]:
            say(f"  {_line(line)}")
    for line in ready.remarks:
        say(_line(line))
    if dry_run:
        say(f"dry run: nothing was written to {into}")


def _line(text: str) -> str:
    """Keep to one line what may hold a name with a line end."""
    return text.replace("\n", "?")


def to_json(ready: Import, store: Path, dry_run: bool) -> dict[str, Any]:
    """What was, or would be, imported in JSON's terms."""
    from lehr.schedule.spec import to_text

    return {
        "store": str(store), "dry_run": dry_run,
        "runs": [
            {
                "name": run.name, "points": len(run.step), "steps": run.steps, "peak_lr": run.schedule.peak,
                "schedule": to_text(run.schedule), "parent": run.parent, "branch_step": run.branch_step,
                "report": list(ready.reports[run.name]),
            }
            for run in ready.runs
        ],
        "branches": list(ready.remarks),
    }  # fmt: skip
