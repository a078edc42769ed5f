"""`lehr demo`: the main job on the bundled runs, from logs to a recommendation and a report."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import print_json, say, show
from lehr.cli.fit import fit_all, to_text

if TYPE_CHECKING:
    from lehr.fit.files import Fits
    from lehr.report.report import Report
    from lehr.runs.run import Run, RunSet

WARMUP = 100


@dataclass(frozen=True)
class Job:
    """What is asked of which runs: those to fit, and the planned run."""

    train: tuple[str, ...]
    steps: int
    peak: float


BUNDLED = Job(
    ("S-7.5e-4-constant-2000", "S-7.5e-4-wsd-r0.2-2000", "S-1.5e-3-constant-2000", "S-1.5e-3-wsd-r0.2-2000",
     "S-1.5e-3-wsd-r0.4-1000"),
    2000, 1.5e-3,
)  # fmt: skip
SCRATCH = Job(
    ("XS-1.5e-3-constant-1200", "XS-1.5e-3-wsd-r0.2-1200", "XS-3e-3-constant-1200", "XS-3e-3-wsd-r0.2-1200",
     "XS-3e-3-wsd-r0.4-600"),
    1200, 3e-3,
)  # fmt: skip


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the store, the fits and the report.")] = Path(
        "lehr-demo"
    ),
    draws: Annotated[int, typer.Option(min=0, help="Bootstrap draws.")] = 100,
    from_scratch: Annotated[
        bool,
        typer.Option("--from-scratch", help="Train the runs first: minutes on two cores; needs [train]."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read the bundled runs, fit all laws, compare them, recommend a ratio, write a report."""
    from lehr.examples import load_examples
    from lehr.files import make_folder, write_atomic
    from lehr.fit.files import save_fits
    from lehr.fit.fit import FitOptions
    from lehr.laws import LAWS
    from lehr.report.draw_matplotlib import draw, to_png
    from lehr.report.page import to_html
    from lehr.runs.store import add_runs

    make_folder(out)
    job, runs = (SCRATCH, _trained(out / "training")) if from_scratch else (BUNDLED, load_examples())
    add_runs(out / "store", runs, replace=True)
    tests = [run for run in runs if run.name not in job.train and _alike(run, runs[job.train[0]])]
    laws = [law for law in LAWS.values() if not law.needs_sizes]
    fits = fit_all(laws, tuple(runs.only(job.train)), tuple(tests), FitOptions(), draws, 0)
    save_fits(out / "fit.json", fits)
    report = _report(fits, runs, job, out)
    write_atomic(out / "report.html", to_html(report))
    write_atomic(out / "ratio.png", to_png(draw(report.parts[0].charts[0])))
    summary = _summary(fits, report.recommendation, runs, job)
    if as_json:
        print_json({**summary, "out": str(out)})
        return
    read = "trained" if from_scratch else "read"
    kind = "" if from_scratch else " bundled"
    say(f"{read} {len(runs)}{kind} runs; fitted {len(job.train)}, kept {len(tests)} apart as a test\n")
    show(to_text(fits))
    show()
    show(_sentence(summary))
    show(f"\nwritten to {out}: report.html, ratio.png, fit.json, store")
    show(f"next: lehr recommend {out / 'fit.json'} --steps {2 * job.steps} --peak-lr 2e-3")


def _trained(folder: Path) -> RunSet:
    """Train the small set in `folder`, or what of it is not yet trained, and read its logs."""
    from lehr.cli.train import train_several
    from lehr.examples.configs import minimal
    from lehr.runs.readers import read
    from lehr.runs.run import RunSet

    configs = minimal()
    train_several(configs, folder)
    return RunSet(read(folder / config.name / "log.jsonl")[0].run for config in configs)


def _alike(run: Run, other: Run) -> bool:
    """Whether both are of one size, batch and seed."""
    return (run.params_total, run.batch_tokens, run.meta["seed"]) == (
        other.params_total, other.batch_tokens, other.meta["seed"],
    )  # fmt: skip


def _measured(runs: RunSet, job: Job) -> list[tuple[float, float]]:
    """Ratio and final loss of the runs that decay linearly at the planned peak and length, not fitted."""
    points = []
    for run in runs:
        family, arguments = run.schedule.call or ("", ())
        values = dict(arguments)
        planned = (
            family == "wsd" and values.get("shape", "linear") == "linear" and _alike(run, runs[job.train[0]])
        )
        if planned and run.steps == job.steps and values["peak"] == job.peak:
            points.append((float(str(values["decay"])) / job.steps, run.final_loss))
    return sorted(points)


def _summary(fits: Fits, found: Mapping[str, Any], runs: RunSet, job: Job) -> dict[str, Any]:
    """What the demo found, as numbers."""
    measured = _measured(runs, job)
    best = min(measured, key=lambda point: point[1])
    tests = {name: sum(e.values()) / len(e) for name, e in fits.test_errors.items() if e}
    return {
        "steps": job.steps,
        "peak_lr": job.peak,
        "chosen": fits.chosen,
        "held_out_error": dict(fits.held_out),
        "test_error": tests,
        "ratio": found["ratio"],
        "ratio_low": found["ratio_low"],
        "ratio_high": found["ratio_high"],
        "final_loss": found["final_loss"],
        "best_measured_ratio": best[0],
        "best_measured_loss": best[1],
    }


def _sentence(summary: dict[str, Any]) -> str:
    return (
        f"For {summary['steps']} updates at peak LR {summary['peak_lr']:g}, decay over the last {summary['ratio']:.0%} "
        f"({summary['ratio_low']:.0%} to {summary['ratio_high']:.0%}): predicted final loss "
        f"{summary['final_loss']:.4f}. Of the ratios really run, {summary['best_measured_ratio']:.0%} was best, "
        f"with {summary['best_measured_loss']:.4f}."
    )


def _report(fits: Fits, runs: RunSet, job: Job, folder: Path) -> Report:
    """The report of the demo, made as `lehr report` makes it."""
    from lehr.report.gather import gather
    from lehr.report.reproduce import Source
    from lehr.report.study import Question

    question = Question(steps=job.steps, peak=job.peak, warmup=WARMUP)
    return gather(
        fits, question, runs, title="How to anneal: the bundled runs",
        source=Source(str(folder / "fit.json"), str(folder / "store"), ("--out", str(folder / "report.html"))),
    )  # fmt: skip
