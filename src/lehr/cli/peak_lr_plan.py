"""`lehr peak-lr plan`: the few runs of a sweep that tell the most of a target's peak LR, asked again with results."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import columns_of, print_json, say, show, table
from lehr.cli.sweep_file import BASE_HELP, SWEEP_HELP

if TYPE_CHECKING:
    from lehr.peaklr.plan import Plan
    from lehr.peaklr.table import SweepTable


def plan(
    params: Annotated[
        str, typer.Option("--params", "--sizes", help="Sizes to train, parameters but embeddings, as N,N,...")
    ],
    tokens: Annotated[str, typer.Option(help="Tokens to train them on, as D,D,...")],
    target_params: Annotated[float, typer.Option(help="All parameters of the target, but embeddings.")],
    target_tokens: Annotated[float, typer.Option(help="Tokens the target trains on.")],
    budget_runs: Annotated[int | None, typer.Option(help="Runs in all, those done included.")] = None,
    budget_flops: Annotated[
        float | None, typer.Option(help="FLOPs in all, 6 N D a run, those done included.")
    ] = None,
    results: Annotated[
        list[Path] | None, typer.Option(help="Table or store of the runs done so far; repeatable.")
    ] = None,
    batch: Annotated[str | None, typer.Option(help="Batch sizes to use, in tokens, as B,B,...")] = None,
    target_batch: Annotated[float | None, typer.Option(help="Tokens of one update of the target.")] = None,
    active_params: Annotated[
        str | None,
        typer.Option(help="Parameters a token passes through, for each size, for models of experts."),
    ] = None,
    target_active: Annotated[float | None, typer.Option(help="The same of the target.")] = None,
    prior: Annotated[str, typer.Option(help="What is held before: a published law, or an LR.")] = "deepseek",
    prior_factor: Annotated[float, typer.Option(help="Factor by which that may well be wrong.")] = 3.0,
    cooldown: Annotated[
        float, typer.Option(help="Share of a run that its cooldown takes; 1 if runs share no trunk.")
    ] = 0.2,
    lr_step: Annotated[float, typer.Option(help="Factor between neighbouring LRs.")] = 2**0.5,
    tolerance: Annotated[
        float, typer.Option(help="Stop where the next runs should gain less excess loss than this, nats.")
    ] = 1e-4,
    within: Annotated[float | None, typer.Option(help="Stop where the LR is known to this factor.")] = None,
    at_once: Annotated[
        int | None, typer.Option(help="Runs to propose; default an eighth of the budget.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(help="ROLE=NAME for an unusual column of the results; repeatable.")
    ] = None,
    sequence_length: Annotated[
        int | None, typer.Option(help="Tokens of a sequence, where batch sizes count sequences.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the draws that gains are averaged over.")] = 0,
    sweep: Annotated[Path | None, typer.Option(help=SWEEP_HELP)] = None,
    base: Annotated[Path | None, typer.Option(help=BASE_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Plan the runs that tell a large run's peak LR; call again with their results for the next, until it says stop."""
    from lehr.cli import sweep_file
    from lehr.peaklr.plan import plan_runs
    from lehr.peaklr.plan_question import PlanQuestion
    from lehr.peaklr.published import Planned

    target = sweep_file.target_of(sweep, base)
    batches = numbers_of("--batch", batch) if batch else ()
    if target_batch is None and len(batches) == 1:
        target_batch = batches[0]
    question = PlanQuestion(
        numbers_of("--params", params), numbers_of("--tokens", tokens),
        Planned(target_params, target_tokens, target_active, target_batch), budget_runs, budget_flops, batches,
        numbers_of("--active-params", active_params) if active_params else (), prior_of(prior), prior_factor, cooldown,
        lr_step, tolerance, within,
    )  # fmt: skip
    if target:
        sweep_file.check_plan(question, target)
    done = read_results(results, columns_of(column or ()), sequence_length) if results else None
    found = plan_runs(question, done, at_once, seed)
    for remark in found.remarks:
        say(f"note: {remark}")
    if target:
        sweep_file.write_plan(found, question, target, results or [])
    if as_json:
        print_json(to_json(found))
    else:
        show(to_text(found, bool(results)))


def numbers_of(option: str, text: str) -> tuple[float, ...]:
    """Read numbers with commas between.

    Raises
    ------
    InputError
        If one is no number.
    """
    from lehr.errors import bad

    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise bad(option, "must be numbers with commas between", text, "write them as 1e8,2e8") from None


def prior_of(text: str) -> str | float:
    """An LR if it reads as a number, else the name of a law."""
    try:
        return float(text)
    except ValueError:
        return text


def read_results(paths: list[Path], columns: dict[str, str], sequence_length: int | None) -> SweepTable:
    """Read the runs done."""
    from lehr.peaklr.reading import load_sweep_table

    return load_sweep_table(paths, columns, sequence_length)


def to_json(found: Plan) -> dict[str, Any]:
    """The plan with flat names."""
    return {
        "runs": [asdict(run) for run in found.runs],
        "stop": found.stop,
        "reason": found.reason,
        "lr": found.prediction.lr,
        "lr_low": found.prediction.low,
        "lr_high": found.prediction.high,
        "law_low": found.law_low,
        "law_high": found.law_high,
        "excess": found.excess,
        "excess_after": found.excess_after,
        "done_runs": found.done_runs,
        "done_flops": found.done_flops,
        "flops": found.flops,
        "grid_runs": found.grid_runs,
        "grid_flops": found.grid_flops,
        "remarks": list(found.remarks),
    }


def to_text(found: Plan, has_results: bool) -> str:
    """What is known, the runs to do, and what then."""
    told = found.prediction
    lines = [
        f"target: peak LR {told.lr:.4g}  [{told.low:.3g}, {told.high:.3g}] at 90 %, "
        f"by {found.done_runs} runs" + ("" if has_results else " (the prior)"),
        f"  the law alone [{found.law_low:.3g}, {found.law_high:.3g}]; expected excess loss {found.excess:.2g} nats",
    ]
    if found.stop:
        return "\n".join([*lines, f"stop: {found.reason}"])
    rows = [
        (
            f"T{run.trunk}", f"{run.active:.4g}" + (f" of {run.params:.4g}" if run.active < run.params else ""),
            "-" if run.batch is None else f"{run.batch:.4g}", f"{run.lr:.4g}",
            "-" if run.branch == 0 else f"{run.branch:.4g}", f"{run.tokens:.4g}", f"{run.flops:.3g}",
        )
        for run in found.runs
    ]  # fmt: skip
    runs, flops = found.done_runs + len(found.runs), found.done_flops + found.flops
    return "\n".join([
        *lines, "", table(("trunk", "parameters", "batch", "LR", "cooldown from", "to tokens", "FLOPs"), rows), "",
        f"{len(found.runs)} runs, {found.flops:.3g} FLOPs; with those done {runs} of the {found.grid_runs} of the full "
        f"grid ({runs / found.grid_runs:.1%}), {flops / found.grid_flops:.1%} of its FLOPs",
        f"expected excess loss after them {found.excess_after:.2g} nats",
        "then call the same again with --results TABLE, a row a run done: lr, loss, params, tokens"
        + ("" if found.runs[0].batch is None else ", batch_tokens")
        + ("" if found.runs[0].active == found.runs[0].params else ", active_params"),
    ])  # fmt: skip
