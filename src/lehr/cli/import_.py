"""`lehr import`: logs into a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from lehr.cli.common import clean, columns_of, print_json, say
from lehr.errors import bad


def import_logs(
    logs: Annotated[list[Path], typer.Argument(help="CSV, TSV, Parquet, JSON lines or W&B JSON exports.")],
    into: Annotated[Path, typer.Option(help="Folder of the store; created if absent.")],
    format: Annotated[str, typer.Option(help="Name of the format, or auto.")] = "auto",
    schedule: Annotated[
        str | None,
        typer.Option(help='LR schedule of the runs, e.g. "wsd(steps=24000, peak=3e-4, decay=4000)".'),
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="ROLE=NAME for the roles step, loss, lr, tokens; repeatable.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run; one log only.")] = None,
    params: Annotated[float | None, typer.Option(help="Non-embedding (MoE: active) parameters.")] = None,
    params_total: Annotated[float | None, typer.Option(help="All parameters.")] = None,
    batch_tokens: Annotated[float | None, typer.Option(help="Tokens of one update.")] = None,
    weight_decay: Annotated[float | None, typer.Option(min=0.0, help="AdamW weight decay.")] = None,
    dataset: Annotated[str | None, typer.Option(help="Data set that the losses were measured on.")] = None,
    experts: Annotated[
        int | None, typer.Option(min=1, help="Experts of a layer; sizes are then without embeddings.")
    ] = None,
    parent: Annotated[str | None, typer.Option(help="Run that this one branched from.")] = None,
    branch_step: Annotated[int | None, typer.Option(help="Updates done when it branched.")] = None,
    split: Annotated[str, typer.Option(help="val or train, where a log has both.")] = "val",
    segments: Annotated[bool, typer.Option(help="Join the segments of a resumed log.")] = False,
    order: Annotated[
        str, typer.Option(help="Order of the segments: auto, oldest-first, newest-first.")
    ] = "auto",
    total_steps: Annotated[
        int | None, typer.Option(help="Updates of the whole schedule, if the log stops earlier.")
    ] = None,
    replace_runs: Annotated[bool, typer.Option("--replace", help="Replace runs of the same name.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read logs with the LR schedules that made them, into a store."""
    from lehr.runs.parents import resolve_parents
    from lehr.runs.readers import read
    from lehr.runs.readers.reading import ReadOptions
    from lehr.runs.store import add_runs, is_store, load_runs
    from lehr.schedule.spec import parse

    if name and len(logs) > 1:
        raise bad("--name", "names one run", f"{len(logs)} logs", "import the logs one by one")
    options = ReadOptions(
        name=name, columns=columns_of(column or []), schedule=parse(schedule) if schedule else None, params=params,
        params_total=params_total, batch_tokens=batch_tokens, segments=segments, split=split,
        order=order, total_steps=total_steps,
    )  # fmt: skip
    readings = [reading for log in logs for reading in read(log, options, format)]
    read_runs = [r.run for r in readings]
    told = {"weight_decay": weight_decay, "dataset": dataset, "experts": experts}
    given = {key: value for key, value in told.items() if value is not None}
    read_runs = [replace(run, meta={**run.meta, **given}) for run in read_runs]
    if parent is not None or branch_step is not None:
        read_runs = [replace(run, parent=parent, branch_step=branch_step) for run in read_runs]
    names = {run.name for run in read_runs}
    stored = load_runs(into) if is_store(into) else ()
    _, family = resolve_parents([*(run for run in stored if run.name not in names), *read_runs])
    reports = {run.name: reading.report for run, reading in zip(read_runs, readings, strict=True)}
    add_runs(into, read_runs, replace=replace_runs, reports=reports)
    if as_json:
        rows = [
            {"name": run.name, "points": len(run.step), "steps": run.steps, "report": list(reports[run.name])}
            for run in read_runs
        ]
        print_json({"store": str(into), "runs": rows, "branches": list(family)})
        return
    for run in read_runs:
        print(clean(f"{run.name}: {len(run.step)} points over {run.steps} updates"))
        for line in reports[run.name]:
            say(f"  {line}")
    for line in family:
        say(line)
