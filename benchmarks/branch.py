"""Final losses of runs in progress: the log cut in the stable phase, the real decay predicted.

    python -m benchmarks.branch DATA [--json]

DATA holds `wsd-runs` and `mpl-curves`. A law (weight_norm) is fitted to other runs; each test run is shown up to
.5, .7 and .9 of the updates before its decay, the fit is updated with that log (`lehr.fit.update`), and the
loss after the decay that was really run is predicted. Sets:

| set | fitted | predicted |
| --- | --- | --- |
| three, five | the training sets of benchmarks.wsd_runs | final losses of all other 124M SlimPajama WSD runs |
| own-25, own-100 | cosine_24000 and wsdcon_9 of that size | wsd_20000_24000, wsdld_20000_24000, last row |
| other-25, other-100 | cosine_24000, constant_24000, wsdcon_9 of the other size | the same |

Final losses of wsd-runs are measured on a larger set than the log; the constant between the two is taken from
the fitted runs, as benchmarks.wsd_runs does. At peak LRs that were fitted, the stable phase that is shown belongs
to a fitted run: `by_peak_lr` keeps these apart. `without` are the errors of the fit as it was, not updated.
Cuts with fewer than five points after the burn-in are left out and counted (`too_early`). Errors are fractions
of the loss; `coverage_90` is the share of the losses within the 90 % band, `half_width` half its median width.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import mpl_curves, wsd_runs
from lehr.fit.fit import FitOptions, fit
from lehr.fit.result import FitResult
from lehr.fit.uncertainty import bootstrap
from lehr.fit.update import update
from lehr.laws import get_law
from lehr.predict import predict
from lehr.runs.parents import resolve_parents
from lehr.runs.readers import read
from lehr.runs.run import Run, RunSet

CUTS = (0.5, 0.7, 0.9)
FEWEST = 5  # points after the burn-in without which a cut is left out: they are logged each 200 updates
MPL_TRAIN = {"own": ("cosine_24000", "wsdcon_9"), "other": ("cosine_24000", "constant_24000", "wsdcon_9")}
MPL_TESTS = ("wsd_20000_24000", "wsdld_20000_24000")
OTHER_SIZE = {"25": "100", "100": "25"}


def decay_start(run: Run) -> int:
    """Updates before the decay of a WSD run."""
    return run.steps - int(dict((run.schedule.call or ("", ()))[1]).get("decay", 0))


def whole(runs: RunSet, name: str) -> Run:
    """Return a branch with its parent's losses before its own."""
    step, loss = runs.curve(name)
    return replace(runs[name], step=step, loss=loss, parent=None, branch_step=None)


def fitted(law: str, runs: tuple[Run, ...], draws: int) -> FitResult:
    """Fit and bootstrap, whatever the number of schedules."""
    return bootstrap(fit(get_law(law), runs, FitOptions(one_schedule="warn")), runs, draws)


def trial(result: FitResult, run: Run, cut: float, true: float, shift: float) -> dict[str, Any] | None:
    """Show `run` up to `cut` of its stable phase and predict its end; None where that is too early."""
    shown = run.step <= cut * decay_start(run)
    if np.sum(shown & (run.step >= result.domain.burn_in)) < FEWEST:
        return None
    updated = update(result, run.select(shown))
    told = [predict(r, run.schedule, np.array([run.steps])) for r in (updated.result, result)]
    after, before = ((p.loss[0] + shift) / true - 1 for p in told)
    inside = told[0].low[0] + shift <= true <= told[0].high[0] + shift
    half = (told[0].high[0] - told[0].low[0]) / 2 / true
    peak = round(run.schedule.peak, 8)
    return {"cut": cut, "peak_lr": peak, "error": after, "without": before, "inside": inside, "half_width": half,
            "scale": updated.scale, "run": run.name}  # fmt: skip


def wsd_trials(folder: Path, train: str, law: str, draws: int) -> list[dict[str, Any] | None]:
    """Trials on the 124M runs that were not fitted."""
    runs = wsd_runs.load([folder])
    chosen = wsd_runs.pick(runs, wsd_runs.TRAIN[train])
    names = {run.name for run in chosen}
    # parents that have no final loss still hold stable phases
    everything = [replace(read(p)[0].run, name=p.stem) for p in sorted(folder.glob("*.json"))]
    # without a decay its shape says nothing: two names of one run, whose losses agree within .01 %
    family, _ = resolve_parents(
        replace(run, parent=run.parent and run.parent.replace("_decay_sqrt_0.0_", "_decay_linear_0.0_"))
        for run in everything
    )
    result, shift = fitted(law, chosen, draws), wsd_runs.shift(chosen)
    tests = [run for run in runs if run.name not in names and wsd_runs.kind(run)[1] > 0]
    return [
        trial(result, whole(family, run.name), cut, wsd_runs.final_loss(run), shift)
        for run in tests
        for cut in CUTS
    ]


def mpl_trials(folder: Path, kind: str, size: str, law: str, draws: int) -> list[dict[str, Any] | None]:
    """Trials on the decaying curves of csv_`size`, by a fit of the same or the other size."""
    source = folder / f"csv_{size if kind == 'own' else OTHER_SIZE[size]}"
    result = fitted(law, tuple(mpl_curves.load(source, name) for name in MPL_TRAIN[kind]), draws)
    tests = [mpl_curves.load(folder / f"csv_{size}", name) for name in MPL_TESTS]
    return [trial(result, run, cut, run.final_loss, 0.0) for run in tests for cut in CUTS]


def summary(trials: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and worst error, with and without the update, and coverage."""
    size = np.abs([t["error"] for t in trials])
    return {
        "mean": float(size.mean()),
        "worst": float(size.max()),
        "without_mean": float(np.abs([t["without"] for t in trials]).mean()),
        "without_worst": float(np.abs([t["without"] for t in trials]).max()),
        "coverage_90": float(np.mean([t["inside"] for t in trials])),
        "half_width": float(np.median([t["half_width"] for t in trials])),
        "scale": float(np.median([t["scale"] for t in trials])),
        "trials": len(trials),
    }


def report(trials: list[dict[str, Any] | None]) -> dict[str, Any]:
    """Summary of a set, also by cut and by peak LR."""
    made = [t for t in trials if t is not None]

    def by(key: str) -> dict[str, Any]:
        values = sorted({t[key] for t in made})
        return {f"{v:g}": summary([t for t in made if t[key] == v]) for v in values}

    return {
        **summary(made),
        "too_early": len(trials) - len(made),
        "by_cut": by("cut"),
        "by_peak_lr": by("peak_lr"),
    }


def benchmark(data: Path, law: str, draws: int) -> dict[str, Any]:
    """Run all sets."""
    out = {train: report(wsd_trials(data / "wsd-runs", train, law, draws)) for train in wsd_runs.TRAIN}
    for kind in MPL_TRAIN:
        for size in OTHER_SIZE:
            out[f"{kind}-{size}"] = report(mpl_trials(data / "mpl-curves", kind, size, law, draws))
    return out


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--law", default="weight_norm")
    parser.add_argument("--draws", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = benchmark(args.data, args.law, args.draws)
    if args.json:
        print(json.dumps({"law": args.law, "sets": out}, indent=1))
        return
    keys = ("mean", "worst", "without_mean", "without_worst", "coverage_90", "half_width", "scale", "trials")
    print(f"{'':22s}" + "".join(f"{key:>15s}" for key in keys))
    for name, row in out.items():
        print(f"{name:22s}" + "".join(f"{row[key]:15.5f}" for key in keys))
        for part in ("by_cut", "by_peak_lr"):
            for value, inner in row[part].items() if len(row[part]) > 1 else ():
                print(f"{'  ' + part[3:] + ' ' + value:22s}" + "".join(f"{inner[key]:15.5f}" for key in keys))


if __name__ == "__main__":
    main()
