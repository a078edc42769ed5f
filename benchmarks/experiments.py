"""The papers' observations on the bundled runs: figures and tables of docs/experiments.md.

    python -m benchmarks.experiments [--out FOLDER] [--json]

`batch`: losses of one schedule at several batches, against updates and against tokens. `ratio`: the best
annealing ratio of every group of runs that has four ratios or more (`lehr.anneal.valley`), on validation and on
training loss, with the interval that noise gives: two seeds differ in the level of all their runs, which moves no
optimum, and by less in how one run lies to another, which does. `--out` writes the figures.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from lehr.anneal.valley import Valley, measure_valleys
from lehr.examples import floor_of, load_examples
from lehr.files import write_atomic
from lehr.fit.fit import FitOptions, fit
from lehr.laws import get_law
from lehr.predict import predict
from lehr.report.charts.curves import curves
from lehr.report.draw_matplotlib import draw, style_of, to_png
from lehr.report.palette import LIGHT
from lehr.runs.run import Run, RunSet

BATCHES = (512, 1024, 2048, 4096)
STEPS = 1500  # that runs at all batches have


def at_batches(runs: RunSet) -> dict[int, Run]:
    """Constant runs of the small model at peak LR 3e-3, by batch in tokens, their first 1500 updates."""
    found = {}
    for batch in BATCHES:
        name = "S-3e-3-constant-2000" if batch == 1024 else f"S-3e-3-constant-1500-b{batch}"
        run = runs[name]
        found[batch] = run.select(run.step <= STEPS)
    return found


def batch_table(runs: RunSet) -> dict[str, Any]:
    """Losses at the same updates and at the same tokens, by batch; and after the decays."""
    flat = at_batches(runs)
    common = BATCHES[0] * STEPS  # tokens that every batch has seen
    ends = {}
    for batch in BATCHES:
        tail = "" if batch == 1024 else f"-b{batch}"
        ends[batch] = {r: runs[f"S-3e-3-wsd-r{r}-1500{tail}"].final_loss for r in (0.2, 0.4)}
    return {
        "updates": {b: float(np.interp(STEPS, r.step, r.loss)) for b, r in flat.items()},
        "tokens": {b: float(np.interp(common / b, r.step, r.loss)) for b, r in flat.items()},
        "decayed": ends,
    }


def noise(runs: RunSet) -> tuple[float, float]:
    """Deviation of a final loss over seeds: of its level, and of one run against another of its seed; relative."""
    pairs = [(runs[name.removesuffix("-seed2")], runs[name]) for name in runs.names if name.endswith("seed2")]
    apart = np.array([b.final_loss / a.final_loss - 1 for a, b in pairs])
    return float(np.sqrt(np.mean(apart**2) / 2)), float(np.std(apart, ddof=1) / np.sqrt(2))


def valleys(runs: RunSet, deviation: float) -> dict[str, Valley]:
    """Best ratios by size, peak LR and steps."""
    found = {}
    usual = runs["S-3e-3-constant-2000"].meta[
        "dataset"
    ]  # models of one size are also trained on another language
    runs = RunSet(run for run in runs if run.meta["dataset"] == usual)
    names = {run.params: run.name.split("-")[0] for run in runs if "experts" not in run.meta}
    experts = {run.params_total: run.name.split("-")[0] for run in runs if "experts" in run.meta}
    for kind, labels in (("dense", names), ("experts", experts)):
        mine = [r for r in runs if ("experts" in r.meta) == (kind == "experts") and r.meta["seed"] == 1]
        for size in dict.fromkeys(labels.values()):
            group = [ended(r) for r in mine if r.name.startswith(f"{size}-")]
            if not any(run.name.endswith("r0.4-2000") for run in group):
                continue
            for valley in measure_valleys(group, deviation):
                if valley.shape == "linear":
                    found[f"{size}, peak {valley.peak:g}, {valley.steps} updates"] = valley
    return found


def ended(run: Run) -> Run:
    """The run with its last loss as its final one: the last window of training losses ends before the end."""
    return replace(run, meta={**run.meta, "final_val_loss": float(run.loss[-1])})


def batch_figure(runs: RunSet) -> Figure:
    """Loss against updates and against tokens at every batch."""
    with mpl.rc_context(style_of(LIGHT, 10)):
        figure = Figure(figsize=(8.4, 3.6), layout="constrained")
        for place, axes in enumerate(figure.subplots(1, 2, sharey=True)):
            for colour, (batch, run) in zip(LIGHT.colours, at_batches(runs).items(), strict=False):
                late = run.step >= 150
                across = run.step[late] * (batch if place else 1)
                axes.plot(across, run.loss[late], color=colour, linewidth=1.3, label=f"{batch} tokens")
            axes.set_xlabel("tokens" if place else "updates")
            axes.set_xscale("log")
            axes.xaxis.set_minor_locator(NullLocator())
            axes.set_xticks((1e5, 3e5, 1e6, 3e6) if place else (150, 300, 600, 1500))
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        figure.axes[0].set_ylabel("validation loss (nats per token)")
        figure.axes[0].legend(title="batch", fontsize=8)
    return figure


def ratio_figure(val: dict[str, Valley], train: dict[str, Valley]) -> Figure:
    """Best ratio with its interval, a row a group; training loss beside validation loss."""
    with mpl.rc_context(style_of(LIGHT, 10)):
        figure = Figure(figsize=(6.8, 0.42 * len(val) + 1.1), layout="constrained")
        axes = figure.add_subplot()
        for shift, found, colour, label in (
            (0.12, val, LIGHT.colours[0], "validation"),
            (-0.12, train, LIGHT.colours[1], "training"),
        ):
            rows = [list(val)[::-1].index(name) + shift for name in found]
            ratios = np.array([valley.ratio for valley in found.values()])
            ends = np.array([interval(valley) for valley in found.values()]).T
            axes.errorbar(
                ratios, rows, xerr=np.abs(ends - ratios), fmt="o", color=colour, label=f"{label} loss"
            )
        axes.set_yticks(range(len(val)), list(val)[::-1])
        axes.set_xlim(0, 1)
        axes.set_xlabel("best annealing ratio, with its 90 % interval")
        axes.legend(fontsize=8)
    return figure


def interval(valley: Valley) -> tuple[float, float]:
    """90 % interval of the best ratio, from the deviation of its logit."""
    logit = np.log(valley.ratio / (1 - valley.ratio))
    low, high = logit - 1.645 * valley.deviation, logit + 1.645 * valley.deviation
    return float(1 / (1 + np.exp(-low))), float(1 / (1 + np.exp(-high)))


def schedule_figure(runs: RunSet) -> Figure:
    """Curves predicted from three WSD runs, by weight_norm."""
    names = ["S-3e-3-constant-2000", "S-3e-3-wsd-r0.2-2000", "S-3e-3-wsd-r0.4-1000"]
    result = fit(get_law("weight_norm"), runs.only(names), FitOptions(burn_in=200))
    shown = [runs[name] for name in ("S-3e-3-cosine10-2000", "S-3e-3-cosine0-1000", "S-3e-3-wsd-r0.6-2000")]
    pairs = [(run.select(run.step >= 200), predict(result, run.schedule)) for run in shown]
    return draw(curves(pairs, "fitted: constant, WSD .2, and WSD .4 to 1,000"))


def benchmark() -> tuple[dict[str, Any], dict[str, Figure]]:
    """Tables and figures."""
    val, train = load_examples("val"), load_examples("train")
    level, spread = noise(val)
    both = {"val": valleys(val, spread), "train": valleys(train, spread)}
    rows = {
        split: {
            name: {"ratio": v.ratio, "interval": interval(v), "at_edge": v.at_edge}
            for name, v in found.items()
        }
        for split, found in both.items()
    }
    figures = {
        "batch": batch_figure(val),
        "schedules": schedule_figure(val),
        "ratios": ratio_figure(both["val"], both["train"]),
    }
    return {
        "level_noise": level,
        "seed_noise": spread,
        "floor": floor_of(val["S-3e-3-constant-2000"]),
        "batch": batch_table(val),
        "ratio": rows,
    }, figures


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="folder for the figures")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    tables, figures = benchmark()
    if args.out:
        for name, figure in figures.items():
            write_atomic(args.out / f"experiments-{name}.png", to_png(figure, dpi=150))
    if args.json:
        print(json.dumps(tables, indent=1))
        return
    print(f"seeds: level {tables['level_noise']:.3%}, differences within a seed {tables['seed_noise']:.3%}")
    for key, row in tables["batch"].items():
        print(key, row)
    for name, row in tables["ratio"]["val"].items():
        other = tables["ratio"]["train"].get(name, {"ratio": np.nan, "interval": (np.nan, np.nan)})
        cells = [f"{r['ratio']:.2f} ({r['interval'][0]:.2f} to {r['interval'][1]:.2f})" for r in (row, other)]
        print(f"{name:34s} {cells[0]:22s} training {cells[1]}{' at the edge' if row['at_edge'] else ''}")


if __name__ == "__main__":
    main()
