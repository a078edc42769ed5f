"""`lehr branch`: when to start the decay of a run that is training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import clean, columns_of, print_json, progress, say, show, table
from lehr.errors import InputError, bad

if TYPE_CHECKING:
    from lehr.anneal.branch import DecayAdvice
    from lehr.anneal.in_progress import Decay
    from lehr.cli.watching import Remarks
    from lehr.runs.run import Run


def branch(
    fit: Annotated[Path, typer.Argument(help="File made by lehr fit --out, from other runs.")],
    log: Annotated[Path, typer.Argument(help="Log so far of the run; it may be growing.")],
    target_loss: Annotated[float | None, typer.Option(help="Loss to reach in the fewest updates.")] = None,
    deadline_steps: Annotated[
        int | None, typer.Option(help="Updates at which training ends; default the planned end.")
    ] = None,
    horizon_steps: Annotated[
        int | None, typer.Option(help="Updates within which to reach the target; default twice the plan.")
    ] = None,
    schedule: Annotated[
        str | None, typer.Option(help='The planned schedule, e.g. "constant(steps=50000, peak=1e-3)".')
    ] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="Decay shape to choose among; repeatable. Default: linear, sqrt.")
    ] = None,
    final: Annotated[float, typer.Option(help="LR at the end of the decay.")] = 0.0,
    parent: Annotated[Path | None, typer.Option(help="Log of the run that this one branched from.")] = None,
    format: Annotated[str, typer.Option(help="Name of the log's format, or auto.")] = "auto",
    column: Annotated[
        list[str] | None, typer.Option(help="ROLE=NAME for the roles step, loss, lr, tokens; repeatable.")
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="val or train; by default val, and train where there is no val.")
    ] = None,
    segments: Annotated[bool, typer.Option(help="Join the segments of a resumed log.")] = False,
    params: Annotated[float | None, typer.Option(help="Parameters, for laws with sizes.")] = None,
    batch_tokens: Annotated[float | None, typer.Option(help="Tokens of one update.")] = None,
    weight_decay: Annotated[
        float | None,
        typer.Option(min=0.0, help="AdamW weight decay; default that of the log or the fitted runs."),
    ] = None,
    law: Annotated[str | None, typer.Option(help="Law to use; default the chosen one.")] = None,
    level: Annotated[float, typer.Option(help="Probability of the intervals.")] = 0.9,
    watch: Annotated[
        bool, typer.Option(help="Follow the log; a line for each new answer, until Ctrl-C.")
    ] = False,
    every: Annotated[float, typer.Option(help="Seconds between two looks.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON; with --watch, a line each.")] = False,
) -> None:
    """Say when to start the decay of a run in progress, and what waiting costs."""
    from lehr.anneal.branch import SHAPES, check_question, recommend_decay
    from lehr.cli.watching import follow
    from lehr.fit.files import load_fits
    from lehr.runs.following import read_followed, read_growing
    from lehr.runs.readers.reading import ReadOptions
    from lehr.schedule.spec import parse

    if not 0 < every < 1e6:
        raise bad("--every", "must be a number of seconds above 0", every, "use e.g. 30")
    options = ReadOptions(
        columns=columns_of(column or []), schedule=parse(schedule) if schedule else None, params=params,
        batch_tokens=batch_tokens, segments=segments or watch, split=split,
        order="oldest-first" if watch else "auto",
    )  # fmt: skip
    result, shapes = load_fits(fit).get(law), tuple(shape or SHAPES)
    check_question(result, deadline_steps, target_loss, shapes, level)  # before a watch waits for a log

    def advise(run: Run) -> DecayAdvice:
        whole = _with_parent(run, parent, options, format) if parent else run
        return recommend_decay(
            result, whole, deadline=deadline_steps, target=target_loss, horizon=horizon_steps,
            shapes=shapes, final=final, weight_decay=weight_decay, level=level,
        )  # fmt: skip

    if watch:
        follow(
            log, lambda seen: read_followed(seen, log, options, format)[0].run, advise,
            lambda found, remarks: _print_answer(found, as_json, remarks), every, deadline_steps,
        )  # fmt: skip
        return
    reading = read_growing(log, options, format)[0]
    with progress(1, "deciding") as step:
        step(result.law)
        found = advise(reading.run)
    for line in reading.report:
        say(f"  {line}")
    if as_json:
        print_json(to_json(found))
    else:
        show(to_text(found))


def _with_parent(run: Run, path: Path, options: Any, format: str) -> Run:
    """Join the losses of the run it branched from, up to its own first."""
    from lehr.runs.parents import resolve_parents
    from lehr.runs.readers import read

    past = read(path, replace(options, schedule=None), format)[0].run
    earlier = past.step[past.step < run.step[0]]
    if not earlier.size:
        raise InputError(
            f"{path}: none of its losses comes before step {run.step[0]:g}, the first of run {run.name!r}: give "
            "the log of the run that it branched from."
        )
    if run.parent is None:
        run = replace(run, parent=past.name, branch_step=int(earlier[-1]))
    family, _ = resolve_parents([replace(past, name=str(run.parent)), run])
    step, loss = family.curve(run.name)
    return replace(run, step=step, loss=loss, parent=None, branch_step=None)


def _print_answer(found: DecayAdvice, as_json: bool, remarks: Remarks) -> None:
    if as_json:
        print_json(to_json(found), one_line=True)
        return
    remarks.warn(found.warnings)
    wait = found.options[0].cost
    unit = "nats" if found.target_loss is None else "updates more"
    costs = f"; starting now costs {_number(wait)} {unit}" if wait is not None else ""
    show(clean(f"step {found.now} loss {found.loss:.4f}: {_sentence(found)}{costs}"), flush=True)


def to_json(found: DecayAdvice) -> dict[str, Any]:
    """All that was found, as in `lehr.anneal.branch.DecayAdvice`."""
    return {
        "run": found.run,
        "steps_done": found.now,
        "loss": found.loss,
        "law": found.updated.result.law,
        "deadline_steps": found.deadline_steps,
        "target_loss": found.target_loss,
        "horizon_steps": found.horizon_steps,
        "reached": found.reached,
        "probability": found.probability,
        "best": _decay(found.best),
        "low": found.low,
        "high": found.high,
        "options": [_decay(option) for option in found.options],
        "planned": _decay(found.planned) if found.planned else None,
        "update": {
            "points": found.updated.points,
            "scale": found.updated.scale,
            "shift": found.updated.shift,
        },
        "warnings": list(found.warnings),
    }


def _decay(decay: Decay) -> dict[str, Any]:
    from lehr.schedule.spec import to_text as spec_text

    return {
        "start": decay.start,
        "decay_steps": decay.decay_steps,
        "steps": decay.steps,
        "shape": decay.shape,
        "final_loss": decay.final_loss,
        "final_loss_low": decay.final_loss_low,
        "final_loss_high": decay.final_loss_high,
        "cost": decay.cost,
        "schedule": spec_text(decay.schedule),
    }


def to_text(found: DecayAdvice) -> str:
    """The answer in a sentence, then what other starts cost."""
    from lehr.schedule.spec import to_text as spec_text

    for warning in found.warnings:
        say(f"warning: {warning}")
    updated = found.updated
    lines = [
        f"{found.run} at step {found.now}: loss {found.loss:.4f}; law {updated.result.law}, "
        f"{updated.shift:+.2%} off before it was updated with {updated.points} points",
        _sentence(found),
        f"schedule {spec_text(found.best.schedule)}",
        "",
        table(
            ("start", "decay", "ends at", "shape", "final loss", "low", "high", f"costs, {_unit(found)}"),
            [_row(decay) for decay in (*found.options, *((found.planned,) if found.planned else ()))],
        ),
    ]
    return clean("\n".join(lines))


def _sentence(found: DecayAdvice) -> str:
    best = found.best
    ends = f"{best.final_loss:.4f} ({best.final_loss_low:.4f} to {best.final_loss_high:.4f})"
    begin = "now" if best.start == found.now else f"from step {best.start}"
    decay = f"decay {begin} over {best.decay_steps} updates ({best.shape})"
    if found.target_loss is None:
        return (
            f"{decay}: predicted final loss {ends}; best start between {found.low:.0f} and {found.high:.0f}"
        )
    chance = f"chance within {found.horizon_steps} updates {found.probability:.1%}"
    if not found.reached:
        missed = f"{found.target_loss:g} is not reached within {found.horizon_steps} updates"
        return f"{missed}; the best {decay} ends at {ends}; {chance}"
    high = "later than the horizon" if found.high is None else f"{found.high:.0f}"
    low = best.steps if found.low is None else found.low
    return (
        f"{decay} reaches {found.target_loss:g} at step {best.steps} (between {low:.0f} and {high}); {chance}"
    )


def _row(decay: Decay) -> tuple[str, ...]:
    return (
        str(decay.start), str(decay.decay_steps), str(decay.steps), decay.shape, f"{decay.final_loss:.4f}",
        f"{decay.final_loss_low:.4f}", f"{decay.final_loss_high:.4f}", _number(decay.cost),
    )  # fmt: skip


def _unit(found: DecayAdvice) -> str:
    return "nats" if found.target_loss is None else "updates"


def _number(cost: float | None) -> str:
    return "-" if cost is None else f"{cost:.0f}" if cost >= 1 else f"{cost:.4f}"
