"""`lehr demo`: the main job on the bundled runs, from logs to a recommendation and a report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import print_json, say
from lehr.cli.fit import fit_all, to_text

if TYPE_CHECKING:
    from lehr.anneal.ratio import Recommendation
    from lehr.fit.files import Fits
    from lehr.runs.run import Run, RunSet

TRAIN = (
    "S-1.5e-3-constant-3000", "S-1.5e-3-wsd-r0.2-3000", "S-3e-3-constant-3000", "S-3e-3-wsd-r0.2-3000",
    "S-3e-3-wsd-r0.4-1500",
)  # fmt: skip
STEPS, PEAK, WARMUP = 3000, 3e-3, 100
SHOWN = ("S-3e-3-wsd-r0.6-3000", "S-3e-3-cosine10-3000", "S-1.5e-3-wsd-r0.4-3000")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for the store, the fits and the report.")] = Path(
        "lehr-demo"
    ),
    draws: Annotated[int, typer.Option(min=0, help="Bootstrap draws.")] = 100,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Read the bundled runs, fit all laws, compare them, recommend a ratio, write a report."""
    from lehr.anneal.ratio import recommend_ratio
    from lehr.examples import load_examples
    from lehr.files import make_folder, write_atomic
    from lehr.fit.files import save_fits
    from lehr.fit.fit import FitOptions
    from lehr.laws import LAWS
    from lehr.report.figures import to_png, to_svg
    from lehr.runs.store import add_runs

    make_folder(out)
    runs = load_examples()
    add_runs(out / "store", runs, replace=True)
    small = [
        run for run in runs if run.name.startswith("S-") and run.name not in TRAIN and run.meta["seed"] == 1
    ]
    laws = [law for law in LAWS.values() if not law.needs_sizes]
    fits = fit_all(laws, tuple(runs.only(TRAIN)), tuple(small), FitOptions(), draws, 0)
    save_fits(out / "fit.json", fits)
    found = recommend_ratio(fits.get(), steps=STEPS, peak=PEAK, warmup=WARMUP)
    valley = _valley(fits, found, runs)
    write_atomic(out / "ratio.png", to_png(valley))
    write_atomic(out / "report.html", _report(fits, found, runs, len(small), to_svg(valley)))
    summary = _summary(fits, found, runs)
    if as_json:
        print_json({**summary, "out": str(out)})
        return
    say(f"read {len(runs)} bundled runs; fitted {len(TRAIN)}, kept {len(small)} apart as a test\n")
    print(to_text(fits))
    print()
    print(_sentence(summary))
    print(f"\nwritten to {out}: report.html, ratio.png, fit.json, store")
    print(f"next: lehr recommend {out / 'fit.json'} --steps 6000 --peak-lr 2e-3")


def _measured(runs: RunSet) -> list[tuple[float, float]]:
    """Ratio and final loss of the runs that decay linearly at the planned peak and length, not fitted."""
    points = []
    for run in runs:
        family, arguments = run.schedule.call or ("", ())
        values = dict(arguments)
        planned = family == "wsd" and values.get("shape", "linear") == "linear" and run.meta["seed"] == 1
        if planned and run.steps == STEPS and values["peak"] == PEAK and run.params == runs[TRAIN[0]].params:
            points.append((float(str(values["decay"])) / STEPS, run.final_loss))
    return sorted(points)


def _summary(fits: Fits, found: Recommendation, runs: RunSet) -> dict[str, Any]:
    """What the demo found, as numbers."""
    measured = _measured(runs)
    best = min(measured, key=lambda point: point[1])
    tests = {name: sum(e.values()) / len(e) for name, e in fits.test_errors.items() if e}
    return {
        "chosen": fits.chosen,
        "held_out_error": dict(fits.held_out),
        "test_error": tests,
        "ratio": found.ratio,
        "ratio_low": found.ratio_low,
        "ratio_high": found.ratio_high,
        "final_loss": found.final_loss,
        "best_measured_ratio": best[0],
        "best_measured_loss": best[1],
    }


def _sentence(summary: dict[str, Any]) -> str:
    return (
        f"For {STEPS} updates at peak LR {PEAK:g}, decay over the last {summary['ratio']:.0%} "
        f"({summary['ratio_low']:.0%} to {summary['ratio_high']:.0%}): predicted final loss "
        f"{summary['final_loss']:.4f}. Of the ratios really run, {summary['best_measured_ratio']:.0%} was best, "
        f"with {summary['best_measured_loss']:.4f}."
    )


def _valley(fits: Fits, found: Recommendation, runs: RunSet) -> Any:
    """Figure of the final loss against the ratio, with the runs at this peak and length not fitted."""
    from lehr.report.figures import ratio_valley

    fitted = {(name.rsplit("-", 2)[1], runs[name].steps, runs[name].schedule.peak) for name in TRAIN}
    measured = [p for p in _measured(runs) if (f"r{p[0]:g}", STEPS, PEAK) not in fitted]
    return ratio_valley(found, _band(fits, found), measured, f"{STEPS} updates at peak LR {PEAK:g}")


def _report(fits: Fits, found: Recommendation, runs: RunSet, tested: int, valley: str) -> str:
    """The HTML page of the demo; `valley` is the figure of the ratio as SVG."""
    from lehr.cli.recommend import to_json
    from lehr.predict import predict
    from lehr.report.figures import curves, law_errors, to_svg
    from lehr.report.page import Section, render

    summary = _summary(fits, found, runs)
    shown: list[Run] = [runs[name] for name in SHOWN if name in runs]
    pairs = [(_whole(runs, run), predict(fits.get(), run.schedule)) for run in shown]
    sections = [
        Section("What other ratios cost", f"Fitted on {len(TRAIN)} runs at two peak LRs; the dots were not fitted.",
                ("ratio", "costs (nats)"), [(f"{r:.2f}", f"{e:.4f}") for r, e in found.costs], valley,
                "final loss against annealing ratio"),
        Section("Whole curves of runs that were not fitted", "", svg=to_svg(curves(pairs, "")), alt="loss curves"),
        Section("Every law on one footing",
                f"Mean error on losses hidden within the training runs, and on {tested} test runs. The choice "
                "looks at the former alone.",
                ("law", "hidden", "test"),
                [(n, f"{fits.held_out[n]:.3%}", f"{summary['test_error'][n]:.3%}") for n in
                 sorted(fits.held_out, key=lambda n: fits.held_out[n])],
                to_svg(law_errors(fits.held_out, summary["test_error"], fits.chosen)), "errors of the laws"),
        Section("Warnings", " ".join((*found.warnings, *fits.get().warnings)) or "None."),
    ]  # fmt: skip
    facts = {"command": "lehr demo", "fitted runs": ", ".join(TRAIN), "schedule": to_json(found)["schedule"],
             "data fingerprint": fits.get().fingerprint}  # fmt: skip
    return render("How to anneal: the bundled runs", _sentence(summary), sections, facts)


def _whole(runs: RunSet, run: Run) -> Run:
    """The run with its parent's past, from the warm-up's end on, for drawing."""
    from dataclasses import replace

    step, loss = runs.curve(run.name)
    keep = step >= WARMUP
    return replace(run, step=step[keep], loss=loss[keep], parent=None, branch_step=None)


def _band(fits: Fits, found: Recommendation) -> tuple[Any, Any, Any, Any]:
    """Predicted final loss with its band over a grid of ratios."""
    import numpy as np

    from lehr.predict import predict
    from lehr.schedule.families import wsd

    ratios = np.linspace(0.02, 0.95, 40)
    ends = [
        predict(
            fits.get(), wsd(steps=STEPS, peak=PEAK, warmup=WARMUP, decay=int(r * STEPS)), np.array([STEPS])
        )
        for r in ratios
    ]
    loss, low, high = (np.array([getattr(end, part)[0] for end in ends]) for part in ("loss", "low", "high"))
    return ratios, loss, low, high
