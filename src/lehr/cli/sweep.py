"""`lehr sweep`: run many trainings, and see, cancel or repeat them; `lehr sweep SWEEP.toml` is `lehr sweep run`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from lehr.cli.common import clean, print_json, say, table
from lehr.errors import InputError, ResultError, unknown

if TYPE_CHECKING:
    from lehr.proxy.sweep.driver import Drive, Engine
    from lehr.proxy.sweep.jobs import Job, Plan
    from lehr.proxy.sweep.measuring import Speed
    from lehr.proxy.sweep.outcome import Outcome
    from lehr.proxy.sweep.queue import Queue
    from lehr.proxy.sweep.status import Standing

SHOWN = 40  # runs in a table, unless all are asked for
GIB = 2**30


class _RunByDefault(TyperGroup):
    """What is no verb is the file to run."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_RunByDefault, help="Many trainings, unattended: a grid, trunks with cooldowns, or your own command.",
    no_args_is_help=True, rich_markup_mode=None,
)  # fmt: skip
Folder = Annotated[Path, typer.Argument(help="Folder of the sweep, the --out of lehr sweep run.")]
Names = Annotated[list[str] | None, typer.Argument(help="Runs, by name or pattern; all without any.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command("run")
def run(
    sweep: Annotated[Path, typer.Argument(help="SWEEP.toml: what to train.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the sweep; default sweeps/NAME.")] = None,
    engine: Annotated[
        str, typer.Option(help="What trains: local, processes of this machine; slurm or ray, a cluster.")
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Trainings at a time; default one a GPU, else one a core; slurm: 32."),
    ] = None,
    store: Annotated[
        Path | None, typer.Option(help="Store that finished runs are put into as they end.")
    ] = None,
    strict_code: Annotated[
        bool, typer.Option("--strict-code", help="Train anew what another version of the code trained.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be trained; write nothing.")
    ] = False,
    measure: Annotated[
        bool, typer.Option("--measure", help="With --dry-run: time a few updates for the estimate.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train all runs of a sweep that are not done; stopped or killed, the same command goes on."""
    from lehr.proxy.sweep.engines import ENGINES, make_engine
    from lehr.proxy.sweep.jobs import write_plan
    from lehr.proxy.sweep.planning import plan_sweep
    from lehr.proxy.sweep.queue import Queue
    from lehr.proxy.sweep.spec import load_sweep

    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    if measure and not dry_run:
        raise InputError("--measure goes with --dry-run, which is not given: add it, or leave --measure out.")
    spec = load_sweep(sweep)
    folder = out or Path("sweeps") / spec.name
    queue = Queue(folder)
    planned = plan_sweep(spec, str(sweep), queue, strict_code)
    for remark in planned.remarks:
        say(remark)
    if dry_run:
        _show_plan(queue, planned.plan, as_json, _speeds(planned.plan, workers) if measure else [])
        return
    if any(job.kind == "train" for job in planned.plan.jobs):
        _check_torch()
    queue.make()
    write_plan(folder, planned.plan)
    seen = _drive(queue, planned.plan, make_engine(engine, folder, workers, spec.engine), store)
    _report(queue, planned.plan, seen, store, as_json)


@app.command("status")
def status(
    folder: Folder,
    every: Annotated[bool, typer.Option("--all", help=f"List all runs, not the first {SHOWN}.")] = False,
    figure: Annotated[
        Path | None, typer.Option(help="File to draw it to: .png, .svg, .pdf, .csv or .json.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say how every run of a sweep stands; needs no driver."""
    from lehr.proxy.sweep.jobs import read_plan
    from lehr.proxy.sweep.queue import Queue
    from lehr.proxy.sweep.status import counts, standings

    plan = read_plan(folder)
    found = standings(Queue(folder), plan)
    number = counts(found)
    if figure:
        _draw(plan.name, Queue(folder), found, number, figure)
    if as_json:
        print_json(
            {
                "sweep": plan.name,
                "folder": str(folder),
                "counts": number,
                "runs": [_to_json(e) for e in found],
            }
        )
        return
    order = {"failed": 0, "diverged": 1, "running": 2}
    listed = sorted(found, key=lambda each: order.get(each.state, 3))
    print(clean(f"{plan.name}: {_in_words(number)}"))
    print(_table(listed if every else listed[:SHOWN]))
    if not every and len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more; --all lists them")


def _draw(name: str, queue: Queue, found: list[Standing], number: dict[str, int], path: Path) -> None:
    """Draw how many runs are in each state, and the final losses in the order in which they came."""
    from lehr.report.charts.sweeps import sweep_progress
    from lehr.report.saving import save_chart

    ends = sorted(
        (queue.ended_at(each.job.address, each.state), each.loss)
        for each in found
        if each.state == "done" and each.loss is not None
    )
    told = [((place + 1) / len(found), loss) for place, (_, loss) in enumerate(ends)]
    save_chart(sweep_progress(number, told, f"{name}: {_in_words(number)}"), path)


@app.command("logs")
def logs(
    folder: Folder, name: Annotated[str, typer.Argument(help="Run, by name.")], as_json: AsJson = False
) -> None:
    """Say where the files of a run are and how it ended; the end of its log and of what it printed."""
    from lehr.proxy.sweep.jobs import find_jobs, read_plan
    from lehr.proxy.sweep.queue import Queue
    from lehr.proxy.sweep.status import last_lines, standings

    plan, queue = read_plan(folder), Queue(folder)
    job = find_jobs(plan, [name])[0]
    stands = next(each for each in standings(queue, plan) if each.job.address == job.address)
    ends = last_lines(queue.run_folder(job.address))
    if as_json:
        print_json({**_to_json(stands), "files": str(queue.run_folder(job.address)), "ends": ends})
        return
    print(clean(f"{job.name}: {stands.state}{f', {stands.reason}' if stands.reason else ''}"))
    print(clean(str(queue.run_folder(job.address))))
    for path, lines in ends.items():
        print(clean(f"== {path}\n" + "\n".join(lines)))


@app.command("cancel")
def cancel(folder: Folder, names: Names = None, as_json: AsJson = False) -> None:
    """Cancel runs that have not ended; those in hand stop within a second, wherever they are."""
    from lehr.proxy.sweep.command import end_leftovers
    from lehr.proxy.sweep.jobs import find_jobs, read_plan
    from lehr.proxy.sweep.queue import Queue

    queue, plan = Queue(folder), read_plan(folder)
    ended = queue.ended()
    chosen = [job for job in find_jobs(plan, names or []) if job.address not in ended]
    for address in queue.ask_cancel([job.address for job in chosen]):
        end_leftovers(queue.run_folder(address))
    _tell_changed("asked to cancel", chosen, as_json)


@app.command("retry")
def retry(folder: Folder, names: Names = None, as_json: AsJson = False) -> None:
    """Let runs that failed or were cancelled wait again, with the branches that were skipped for them.

    Runs that diverged are tried again only by name: unless the machine was at fault, they diverge again.
    """
    from lehr.proxy.sweep.jobs import find_jobs, read_plan
    from lehr.proxy.sweep.queue import Queue

    queue, plan = Queue(folder), read_plan(folder)
    ended = queue.ended()
    kinds = ("failed", "cancelled", "skipped", *(("diverged",) if names else ()))
    chosen = {job.address: job for job in find_jobs(plan, names or []) if ended.get(job.address) in kinds}
    for job in plan.jobs:  # parents come before their branches
        if job.parent in chosen and ended.get(job.address) == "skipped":
            chosen[job.address] = job
    changed = [job for job in chosen.values() if queue.retry(job.address)]
    _tell_changed("waiting again", changed, as_json)
    if changed and not as_json:
        say("`lehr sweep run` with the same --out trains them, if it does not run already")


def _tell_changed(what: str, jobs: list[Job], as_json: bool) -> None:
    if as_json:
        print_json({"runs": [job.name for job in jobs]})
        return
    print(clean(f"{what}: {', '.join(job.name for job in jobs) or 'none'}"))


def _check_torch() -> None:
    from importlib.util import find_spec

    try:
        there = find_spec("torch") is not None
    except ValueError:
        there = False
    if not there:
        raise InputError("training needs torch: install it with `pip install 'lehr[train]'`.")


def _drive(queue: Queue, plan: Plan, engine: Engine, store: Path | None) -> Drive:
    from lehr.cli.train import stopping
    from lehr.proxy.sweep.driver import drive

    live = sys.stderr.isatty()
    try:
        with stopping() as stop, _table_of(queue, plan, live) as look:
            return drive(
                queue, plan, engine, store=store, stop=stop, look=look, tell=None if live else _tell_ended
            )
    except KeyboardInterrupt:
        engine.stop(hard=True)
        raise ResultError("stopped at once: the same command goes on from the last checkpoints.") from None


def _tell_ended(job: Job, outcome: Outcome) -> None:
    loss = f", loss {outcome.loss:.4f}" if outcome.loss is not None else ""
    say(f"{job.name}: {outcome.state}{loss}{f', {outcome.reason}' if outcome.reason else ''}")


def _report(queue: Queue, plan: Plan, seen: Drive, store: Path | None, as_json: bool) -> None:
    from lehr.proxy.sweep.results import TABLE
    from lehr.proxy.sweep.status import counts, standings

    for name, reason in seen.refused.items():
        say(f"warning: {name} was not stored: {reason}")
    if seen.stopped:
        raise ResultError(
            f"stopped with {len(seen.ended)} of {len(plan.jobs)} runs ended: the same command goes on."
        )
    found = standings(queue, plan)
    number = counts(found)
    if as_json:
        print_json({
            "sweep": plan.name, "folder": str(queue.folder), "table": str(queue.folder / TABLE),
            "store": str(store) if store else None, "counts": number, "not_stored": seen.refused,
            "runs": [_to_json(each) for each in found],
        })  # fmt: skip
    else:
        print(clean(f"{plan.name}: {_in_words(number)}\nfinal losses: {queue.folder / TABLE}"))
    failed = number["failed"] + number["skipped"]
    if failed or seen.refused:
        raise ResultError(
            f"{failed} runs failed and {len(seen.refused)} could not be stored: `lehr sweep status {queue.folder}` "
            f"says why, `lehr sweep retry {queue.folder}` lets them wait again."
        )


def _speeds(plan: Plan, workers: int | None) -> list[Speed]:
    """Measure the shapes of a sweep with the threads that a worker of the local engine has."""
    from lehr.proxy.sweep.local import threads_of
    from lehr.proxy.sweep.measuring import measure

    if any(job.kind == "train" for job in plan.jobs):
        _check_torch()
    else:
        say("nothing was measured: only lehr's own trainings are, and these are commands")
    return measure(plan.jobs, threads_of(workers), lambda name: say(f"measuring the shape of {name}"))


def _show_plan(queue: Queue, plan: Plan, as_json: bool, speeds: list[Speed]) -> None:
    """Print what would be trained, what is done, and what it costs."""
    from lehr.proxy.sweep.measuring import expected_seconds
    from lehr.proxy.sweep.outcome import read_outcome
    from lehr.proxy.sweep.status import estimate_seconds

    states = queue.ended()
    left = [job for job in plan.jobs if job.address not in states]
    done = {a: read_outcome(queue, a, s) for a, s in states.items() if s == "done"}
    seconds = estimate_seconds(left, done, plan.jobs)
    measured = seconds is None and bool(speeds)  # runs that ended tell more than a few updates
    seconds = expected_seconds(left, speeds) if measured else seconds
    flops = sum(job.flops or 0.0 for job in left)
    memory = max((job.memory or 0 for job in left), default=0)
    if as_json:
        print_json({
            "sweep": plan.name, "folder": str(queue.folder), "dry_run": True, "to_train": len(left), "flops": flops,
            "worker_seconds": seconds, "measured": [asdict(speed) for speed in speeds], "memory_bytes": memory,
            "runs": [
                {"name": j.name, "address": j.address, "state": states.get(j.address, "waiting"), "updates": j.updates,
                 "flops": j.flops, "memory_bytes": j.memory, "schedule": j.schedule} for j in plan.jobs
            ],
        })  # fmt: skip
        return
    rows = [
        (job.name, states.get(job.address, "waiting"), str(job.updates), f"{job.flops:.3g}" if job.flops else "?",
         f"{job.memory / GIB:.2f}" if job.memory else "?") for job in plan.jobs[:SHOWN]
    ]  # fmt: skip
    print(table(("run", "state", "updates", "FLOPs", "GiB"), rows))
    if len(plan.jobs) > SHOWN:
        print(f"and {len(plan.jobs) - SHOWN} more")
    time = (
        f"about {seconds:.0f} s of one worker{' by a few updates of each shape' if measured else ''}"
        if seconds is not None
        else "time unknown until a run has ended (--measure times a few updates)"
    )
    print(
        f"{len(left)} of {len(plan.jobs)} runs to train: {flops:.3g} FLOPs, {time}, at most {memory / GIB:.2f} GiB each"
    )


def _to_json(each: Standing) -> dict[str, Any]:
    return {
        "name": each.job.name, "address": each.job.address, "state": each.state, "step": each.step,
        "steps": each.job.steps, "loss": each.loss, "reason": each.reason, "silent_seconds": each.silent,
    }  # fmt: skip


def _table(found: list[Standing]) -> str:
    def row(each: Standing) -> tuple[str, ...]:
        step = f"{each.step}/{each.job.steps}" if each.step is not None else f"-/{each.job.steps}"
        loss = f"{each.loss:.4f}" if each.loss is not None else "-"
        reason = each.reason if len(each.reason) <= 80 else each.reason[:77] + "..."
        return each.job.name, each.state, step, loss, reason

    rows = [row(each) for each in found]
    header = ("run", "state", "step", "loss", "")
    return table(header if any(cells[-1] for cells in rows) else header[:-1],
                 rows if any(cells[-1] for cells in rows) else [cells[:-1] for cells in rows])  # fmt: skip


def _in_words(number: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in number.items() if count) or "no runs"


@contextmanager
def _table_of(queue: Queue, plan: Plan, live: bool) -> Iterator[Callable[[Drive], None] | None]:
    """Show the counts and the runs in hand on stderr, while they change."""
    if not live:
        yield None
        return
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    from lehr.proxy.sweep.status import counts, standings

    with Live(console=Console(stderr=True), refresh_per_second=2, transient=True) as shown:

        def look(seen: Drive) -> None:
            found = standings(queue, plan, details=len(plan.jobs) <= 1000)
            running = [each for each in found if each.state == "running"][:SHOWN]
            shown.update(Text(f"{_in_words(counts(found))}\n{_table(running)}"))

        yield look
