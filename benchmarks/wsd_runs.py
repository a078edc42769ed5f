"""Accuracy over peak LR, length and ratio: fit three or five of the 124M SlimPajama runs, predict the others.

    python -m benchmarks.wsd_runs DIR... --train three|five [--json]

DIRs hold W&B JSON exports (arXiv 2501.18965, MIT licence) and are pooled. Laws are fitted to the validation
curves; what is predicted is the final loss on the larger set (`final-val`), which lies a constant above.
That constant is measured on the training runs that end at constant LR, where the last validation point,
200 updates earlier, stands for the end. `chosen` is the law with the smallest error on losses hidden
within the training runs; no other run is looked at before. `stack` is the weighted mean of laws that the
same hidden losses give.

The optimal ratio of a (peak LR, steps) group is that of the parabola through the five measured ratios
around the best (linear decay to 0, at least five ratios run). The valley is skewed and the ratios lie
unevenly, so this optimum lies up to .07 off that of the curve itself: a law that were the truth would
seem wrong by `ratio_estimator_bias` if its own best ratio were held against it. So the same parabola
is put through the law's losses at the same ratios (`ratio_mean_abs_error`); the plain difference is
`ratio_argmin_abs_error`. A parabola in the square root of the ratio has hardly any bias
(`lehr.anneal.valley`): against its optimum the law's own is off by `ratio_valley_abs_error`. Excess loss
is what the ratio that lehr recommends costs on the measured losses, interpolated.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import held_out, one_size_laws, print_table, stack
from lehr.anneal.ratio import recommend_ratio
from lehr.anneal.valley import fit_valley
from lehr.errors import InputError
from lehr.fit.compare import compare
from lehr.fit.fit import FitOptions
from lehr.fit.result import FitResult
from lehr.fit.uncertainty import bootstrap_all
from lehr.predict import Prediction, planned, predict, predict_stack
from lehr.runs.readers import read
from lehr.runs.run import Run
from lehr.schedule.families import wsd
from lehr.schedule.schedule import Schedule

SIZE = (120e6, 128e6)
THREE = ((1e-3, 50000, 0.0), (1e-3, 50000, 0.2), (1e-3, 25000, 0.4))
FIVE = (*THREE, (2e-3, 50000, 0.0), (2e-3, 25000, 0.4))
TRAIN = {"three": THREE, "five": FIVE}


def load(folders: Iterable[Path]) -> list[Run]:
    """Read the 124M SlimPajama runs that have a final loss, from every JSON file of `folders`."""
    runs: dict[str, Run] = {}
    for path in sorted(p for folder in folders for p in folder.glob("*.json")):
        try:
            run = read(path)[0].run
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        size, final = run.params_total or 0.0, run.meta.get("final_val_loss")
        ended = isinstance(final, float) and np.isfinite(final)
        if run.meta["dataset"] == "slimpajama" and SIZE[0] < size < SIZE[1] and ended:
            # some exports carry the name of another run: the file's name tells them apart
            runs.setdefault(path.stem, replace(run, name=path.stem))
    return list(runs.values())


def kind(run: Run) -> tuple[str, float, str]:
    """Family, annealing ratio and decay shape of a run's schedule."""
    family, arguments = run.schedule.call or ("", ())
    values = dict(arguments)
    ratio = (
        round(float(str(values.get("decay", 0))) / run.steps, 3) if family in ("wsd", "constant") else -1.0
    )
    return family, ratio, str(values.get("shape", "linear"))


def pick(runs: list[Run], wanted: tuple[tuple[float, int, float], ...]) -> tuple[Run, ...]:
    """Training runs by peak LR, steps and ratio (linear decay); the longest log where several match."""
    chosen = []
    for peak, steps, ratio in wanted:
        fits = [
            run for run in runs
            if np.isclose(run.schedule.peak, peak) and run.steps == steps
            and kind(run)[1] == ratio and (ratio == 0 or kind(run)[2] == "linear")
        ]  # fmt: skip
        if not fits:
            raise SystemExit(
                f"no run at peak LR {peak:g} of {steps} steps with ratio {ratio:g} in the folders"
            )
        chosen.append(max(fits, key=lambda run: len(run.step)))
    return tuple(chosen)


def final_loss(run: Run) -> float:
    """Loss on the larger validation set at the end of the run."""
    return float(str(run.meta["final_val_loss"]))


def shift(train: tuple[Run, ...]) -> float:
    """By how much the larger validation set's loss lies above the smaller's, from runs that end flat."""
    flat = [run for run in train if kind(run)[1] == 0]
    return float(np.mean([final_loss(run) - run.loss[-1] for run in flat]))


def groups(runs: list[Run]) -> dict[tuple[float, int], tuple[np.ndarray, np.ndarray]]:
    """Measured ratios and final losses by (peak LR, steps), where at least five ratios were run."""
    found: dict[tuple[float, int], dict[float, float]] = {}
    for run in runs:
        family, ratio, shape = kind(run)
        if (
            family == "wsd"
            and ratio > 0
            and shape == "linear"
            and run.schedule.to_array()[-1] < 0.01 * run.schedule.peak
        ):
            found.setdefault((round(run.schedule.peak, 8), run.steps), {})[ratio] = final_loss(run)
    out = {}
    for key, points in found.items():
        if len(points) >= 5:
            ratios = np.array(sorted(points))
            out[key] = (ratios, np.array([points[r] for r in ratios]))
    return out


def measured_optimum(ratios: np.ndarray, losses: np.ndarray) -> tuple[float, Any]:
    """Best ratio by the parabola through the five points around the lowest, and that parabola."""
    best = int(np.argmin(losses))
    first = int(np.clip(best - 2, 0, len(ratios) - 5))
    near = slice(first, first + 5)
    parabola = np.polynomial.Polynomial.fit(ratios[near], losses[near], 2)
    return float(np.clip(parabola.deriv().roots()[0].real, ratios[0], ratios[-1])), parabola


def ratio_scores(result: FitResult, measured: dict[Any, Any]) -> dict[str, Any]:
    """Error of the law's best ratio in every measured group, and what following it costs."""
    rows, table = [], {}
    plain = replace(result, draws=())
    for (peak, steps), (ratios, losses) in measured.items() if result.get_law().needs_anneal else ():
        best, parabola = measured_optimum(ratios, losses)
        told = recommend_ratio(plain, steps=steps, peak=peak, warmup=300).ratio
        likewise = measured_optimum(ratios, predicted_finals(plain, ratios, peak, steps))[0]
        inside = parabola.domain[0] <= told <= parabola.domain[1]
        cost = float(parabola(told)) if inside else float(np.interp(told, ratios, losses))
        excess = max(0.0, cost - float(parabola(best)))
        valley = fit_valley(ratios, losses)[0]
        rows.append(
            (abs(likewise - best), abs(told - best), abs(likewise - told), abs(told - valley), excess)
        )
        table[f"{peak:g}/{steps}"] = {
            "measured": best,
            "law": likewise,
            "recommended": told,
            "valley": valley,
        }
    keys = (
        "ratio_mean_abs_error", "ratio_argmin_abs_error", "ratio_estimator_bias", "ratio_valley_abs_error",
        "ratio_excess_loss",
    )  # fmt: skip
    # None: no group with enough ratios, or a law that cannot tell ratios apart
    means = np.mean(rows, axis=0).tolist() if rows else [None] * len(keys)
    return {**dict(zip(keys, means, strict=True)), "ratios": table}


def predicted_finals(result: FitResult, ratios: np.ndarray, peak: float, steps: int) -> np.ndarray:
    """Final losses that a law predicts for linear decays to 0 at each of `ratios`; the same shape."""
    end = np.array([float(steps)])
    schedules = [wsd(steps=steps, peak=peak, warmup=300, decay=round(r * steps)) for r in ratios]
    return np.array([result.evaluate(planned(result, s, None, None, None), end)[0] for s in schedules])


Predictor = Callable[[Schedule, np.ndarray], Prediction]


def score(predictor: Predictor, tests: list[Run], offset: float) -> dict[str, Any]:
    """Errors of the final loss over the test runs, by peak LR and by length; coverage of the band."""
    errors, covered = [], []
    for run in tests:
        found = predictor(run.schedule, np.array([run.steps]))
        errors.append((found.loss[0] + offset) / final_loss(run) - 1)
        covered.append(found.low[0] + offset <= final_loss(run) <= found.high[0] + offset)
    relative = np.array(errors)

    def by(values: list[float]) -> dict[str, dict[str, float]]:
        return {
            f"{v:g}": {"mape": float(np.mean(np.abs(relative[mask]))), "bias": float(np.mean(relative[mask]))}
            for v in sorted(set(values))
            for mask in [np.array(values) == v]
        }

    return {
        "final_mape": float(np.mean(np.abs(relative))),
        "worst": float(np.max(np.abs(relative))),
        "by_peak_lr": by([round(run.schedule.peak, 8) for run in tests]),
        "by_steps": by([float(run.steps) for run in tests]),
        "coverage_90": float(np.mean(covered)),
        "runs": len(tests),
    }


def benchmark(folders: list[Path], train: str, draws: int) -> dict[str, Any]:
    """Fit, choose by hidden losses, then score on everything else."""
    runs = load(folders)
    fitted = pick(runs, TRAIN[train])
    choice = compare(one_size_laws(), fitted, FitOptions(one_schedule="warn"))
    names = {run.name for run in fitted}
    tests = [run for run in runs if run.name not in names]
    measured, offset = groups(runs), shift(fitted)
    sure = bootstrap_all(choice.results, fitted, draws)
    laws = {
        name: {
            **score(partial(predict, result), tests, offset), **ratio_scores(result, measured),
            **held_out(choice, name), "parameters": dict(result.parameters),
        }
        for name, result in sure.items()
    }  # fmt: skip
    out = {"chosen": choice.chosen, "shift": offset, "laws": laws}
    if found := stack(choice, sure):
        mix, row = found
        out["stack"] = {**row, **score(partial(predict_stack, mix), tests, offset)}
    return out


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--train", choices=TRAIN, default="five")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = benchmark(args.folders, args.train, args.draws)
    if args.json:
        print(json.dumps(out, indent=1))
        return
    columns = (
        "final_mape",
        "worst",
        "ratio_mean_abs_error",
        "ratio_argmin_abs_error",
        "ratio_estimator_bias",
        "ratio_valley_abs_error",
        "ratio_excess_loss",
        "coverage_90",
        "held_out_error",
    )
    print_table(f"trained on {args.train}; chosen {out['chosen']}", out["laws"], columns)
    for name, row in out["laws"].items():
        print(
            name,
            "by peak LR:",
            {k: f"{v['mape']:.4f} ({v['bias']:+.4f})" for k, v in row["by_peak_lr"].items()},
        )


if __name__ == "__main__":
    main()
