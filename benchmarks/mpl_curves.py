"""Accuracy on the Multi-Power Law curves: fit three schedules of one size, predict six others.

    python -m benchmarks.mpl_curves DIR... [--protocol three|cosine-to-wsd|wsd-to-cosine] [--json]

DIR holds the nine CSVs of one size (arXiv 2503.12811, MIT licence). Errors are fractions of the loss,
averaged over a curve, then over the test curves. `chosen` is the law with the smallest error on
losses hidden within the training runs; no test curve is read before it is picked. `stack` is the weighted
mean of laws that the same hidden losses give.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import held_out, one_size_laws, print_table, stack
from lehr.fit.compare import compare
from lehr.fit.fit import FitOptions, fit
from lehr.laws.law import Conditions
from lehr.runs.run import Run
from lehr.schedule.families import constant, cosine, multistep, wsd
from lehr.schedule.schedule import Schedule

PEAK = 3e-4
WARMUP = {"warmup": 2160, "warmup_phase": 0, "peak": PEAK}
SCHEDULES: dict[str, Schedule] = {
    "constant_24000": constant(steps=24000, **WARMUP),
    "constant_72000": constant(steps=72000, **WARMUP),
    "cosine_24000": cosine(steps=24000, final=3e-5, **WARMUP),
    "cosine_72000": cosine(steps=72000, final=3e-5, **WARMUP),
    "wsd_20000_24000": wsd(steps=24000, decay=4000, shape="exponential", final=3e-5, **WARMUP),
    "wsdld_20000_24000": wsd(steps=24000, decay=4000, final=3e-5, **WARMUP),
    **{
        f"wsdcon_{x}": multistep(steps=16000, milestones=[8000], factors=[x * 1e-5 / PEAK], **WARMUP)
        for x in (3, 9, 18)
    },
}
BRANCHES = {
    "wsd_20000_24000": 20000,
    "wsdld_20000_24000": 20000,
    "wsdcon_3": 8000,
    "wsdcon_9": 8000,
    "wsdcon_18": 8000,
}
PROTOCOLS = {
    "three": (
        ("cosine_24000", "constant_24000", "wsdcon_9"),
        ("constant_72000", "cosine_72000", "wsd_20000_24000", "wsdld_20000_24000", "wsdcon_3", "wsdcon_18"),
    ),
    "cosine-to-wsd": (("cosine_24000",), ("wsd_20000_24000",)),
    "wsd-to-cosine": (("wsd_20000_24000",), ("cosine_24000",)),
}


def load(folder: Path, name: str) -> Run:
    """Read one CSV (step, lr, loss) as a run; its logged LR must be that of the known schedule."""
    step, lr, loss = np.loadtxt(folder / f"{name}.csv", delimiter=",", skiprows=1, unpack=True)
    schedule = SCHEDULES[name]
    keep = step <= schedule.steps
    step, lr, loss = step[keep], lr[keep], loss[keep]
    used = schedule.lr(np.minimum(step.astype(int), schedule.steps - 1))
    inside = step < schedule.steps
    if not np.allclose(used[inside], lr[inside], rtol=1e-6):
        raise SystemExit(f"{folder / name}: the logged LR is not that of the schedule this benchmark knows")
    return Run(name, schedule, step, loss)


Curve = Callable[[Conditions, np.ndarray], np.ndarray]


def score(curve: Curve, folder: Path, tests: tuple[str, ...]) -> dict[str, Any]:
    """Errors of predicted curves over the test curves, averaged as the paper does."""
    rows: dict[str, list[float]] = {key: [] for key in ("pred_e", "worst_e", "mae", "rmse", "r2", "late")}
    by_curve = {}
    for name in tests:
        run = load(folder, name)
        predicted = curve(Conditions(run.schedule), run.step)
        error = predicted - run.loss
        relative = np.abs(error) / run.loss
        by_curve[name] = float(relative.mean())
        rows["pred_e"].append(relative.mean())
        rows["worst_e"].append(relative.max())
        rows["mae"].append(np.abs(error).mean())
        rows["rmse"].append(np.sqrt(np.mean(error**2)))
        rows["r2"].append(1 - np.sum(error**2) / np.sum((run.loss - run.loss.mean()) ** 2))
        if name in BRANCHES:
            rows["late"].append(relative[run.step > BRANCHES[name]].mean())
    means = {key: float(np.mean(values)) if values else None for key, values in rows.items()}
    means["post_branch_pred_e"] = means.pop("late")
    return {**means, "by_curve": by_curve}


def benchmark(folder: Path, protocol: str) -> dict[str, Any]:
    """Fit every law on the training curves of `folder`, choose one, then score them all."""
    train, tests = PROTOCOLS[protocol]
    runs = tuple(load(folder, name) for name in train)
    options = FitOptions(one_schedule="warn")
    fits = {}
    for law in one_size_laws():
        begin = time.perf_counter()
        fits[law.name] = (fit(law, runs, options), time.perf_counter() - begin)
    choice = compare(one_size_laws(), runs, options)
    laws = {
        name: {**score(result.evaluate, folder, tests), "fit_seconds": seconds, **held_out(choice, name)}
        for name, (result, seconds) in fits.items()
    }
    out: dict[str, Any] = {"chosen": choice.chosen, "laws": laws}
    if found := stack(choice, choice.results):
        mix, row = found

        def curve(conditions: Conditions, steps: np.ndarray) -> np.ndarray:
            parts = [w * mix.members[law].evaluate(conditions, steps) for law, w in mix.weights.items()]
            return np.sum(parts, axis=0)

        out["stack"] = {**row, **score(curve, folder, tests)}
    return out


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="three")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = {"sizes": {folder.name: benchmark(folder, args.protocol) for folder in args.folders}}
    if args.json:
        print(json.dumps(out, indent=1))
        return
    for size, found in out["sizes"].items():
        print_table(
            f"{size}, {args.protocol}; chosen {found['chosen']}",
            found["laws"],
            ("pred_e", "worst_e", "post_branch_pred_e", "held_out_error", "fit_seconds"),
        )


if __name__ == "__main__":
    main()
