"""Accuracy over sizes and data sets: predict the largest model never fitted, and another data set from one run of it.

    python -m benchmarks.sizes DIR... [--json] [--draws N]

DIRs hold W&B JSON exports (arXiv 2501.18965, MIT licence) and are pooled. What is predicted is the final loss on
the larger validation set (`final-val`), which lies a constant above the curve: the constant of each data set is that
of its fitted runs that end at a constant LR, or, for a transfer, that of the one run.

`largest`: the largest size found, after fits to the smaller sizes of its data set ("alone") and of all data
sets ("joint"); and the largest size of every other data set of three sizes or more, after its smaller ones.
`chosen` is the law with the smallest error on fitted sizes left out one at a time (on runs left out one at a
time, where fewer than three sizes are fitted). The row "wide priors" is the weight-norm law with the priors of its
shape three times as wide: their centres come from the models tested here, so the law's own row is not blind to them.

`transfer`: a fit to all runs of one data set moved to another by one run (`lehr.fit.adapt`), for each run in turn:
mean error over all others, averaged over the choices, of the worst choice, and of the worst single run.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import print_table
from benchmarks.wsd_runs import final_loss, shift
from lehr.errors import InputError
from lehr.fit.adapt import adapt
from lehr.fit.fit import conditions_of, fit
from lehr.fit.held_out import hold_out
from lehr.fit.pooling import data_of
from lehr.fit.uncertainty import bootstrap
from lehr.laws import LAWS
from lehr.laws.law import Law
from lehr.predict import predict
from lehr.runs.readers import read
from lehr.runs.run import Run

Runs = tuple[Run, ...]


def load(folders: Iterable[Path]) -> Runs:
    """Read the runs that tell their size and final loss, from every JSON file of `folders`."""
    runs: dict[str, Run] = {}
    for path in sorted(p for folder in folders for p in folder.glob("*.json")):
        try:
            run = read(path)[0].run
        except InputError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        final = run.meta.get("final_val_loss")
        if run.params and isinstance(final, float) and np.isfinite(final):
            runs.setdefault(path.stem, replace(run, name=path.stem))
    return tuple(runs.values())


def by_size(runs: Runs) -> dict[tuple[str, float], Runs]:
    """Runs by data set and number of parameters, in that order."""
    keys = sorted({(data_of(run), run.params or 0.0) for run in runs})
    return {key: tuple(run for run in runs if (data_of(run), run.params) == key) for key in keys}


def sized_laws() -> dict[str, Law]:
    """Every law with sizes, and the weight-norm law with wide priors."""
    laws = {name: law for name, law in LAWS.items() if law.needs_sizes}
    law: Any = LAWS["weight_norm_n"]
    wide = tuple(replace(p, prior=p.prior and (p.prior[0], 3 * p.prior[1])) for p in law.base.nonlinear)
    return laws | {"weight_norm_n, wide priors": replace(law, base=replace(law.base, nonlinear=wide))}


def tasks(runs: Runs) -> dict[str, tuple[Runs, Runs]]:
    """Runs to fit and to predict, by the name of the task."""
    groups = by_size(runs)
    data, most = max(groups, key=lambda key: key[1])
    smaller = {key: found for key, found in groups.items() if key[1] < most}

    def join(found: Iterable[Runs]) -> Runs:
        return tuple(run for group in found for run in group)

    name = f"{data} {most / 1e6:.0f}M"
    out = {
        f"{name}, alone": (join(f for k, f in smaller.items() if k[0] == data), groups[data, most]),
        f"{name}, joint": (join(smaller.values()), groups[data, most]),
    }
    for other in sorted({key[0] for key in groups} - {data}):
        sizes = [key for key in groups if key[0] == other]
        if len(sizes) > 2:
            last = max(sizes)
            out[f"{other} {last[1] / 1e6:.0f}M, alone"] = (
                join(groups[key] for key in sizes if key != last),
                groups[last],
            )
    return out


def hidden_errors(law: Law, train: Runs) -> list[float]:
    """Signed errors at the ends of fitted runs, each size left out in turn (or each run, if sizes are too few)."""
    groups = by_size(train)
    if len({key[1] for key in groups}) < 3:
        return list(hold_out(law, train).spread())
    errors = []
    for group in groups.values():
        names = {run.name for run in group}
        rest = tuple(run for run in train if run.name not in names)
        if {data_of(run) for run in rest} == {data_of(run) for run in train}:
            result = fit(law, rest)
            ends = [result.evaluate(conditions_of(run), run.step[-1:])[0] / run.loss[-1] - 1 for run in group]
            errors += ends
    return errors


def offsets(train: Runs) -> dict[str, float]:
    """Constant between the larger validation set and the curve, by data set."""
    names = {data_of(run) for run in train}
    return {name: shift(tuple(run for run in train if data_of(run) == name)) for name in names}


def predict_largest(law: Law, train: Runs, tests: Runs, draws: int) -> dict[str, Any]:
    """Errors of the final losses of `tests` after a fit to `train`."""
    result, hidden = fit(law, train), hidden_errors(law, train)
    result = replace(result, spread=tuple(hidden))
    if draws:
        result = bootstrap(result, train, draws)
    offset = offsets(train)[data_of(tests[0])]
    errors, covered = [], []
    for run in tests:
        data = data_of(run) if result.groups else None
        found = predict(
            result,
            run.schedule,
            np.array([run.steps]),
            params=run.params,
            batch_tokens=run.batch_tokens,
            data=data,
        )
        errors.append((found.loss[0] + offset) / final_loss(run) - 1)
        covered.append(found.low[0] + offset <= final_loss(run) <= found.high[0] + offset)
    relative, peaks = np.array(errors), np.array([round(run.schedule.peak, 8) for run in tests])
    return {
        "final_mape": float(np.mean(np.abs(relative))), "bias": float(np.mean(relative)),
        "worst": float(np.max(np.abs(relative))), "held_out_error": float(np.mean(np.abs(hidden))),
        "coverage_90": float(np.mean(covered)) if draws else None, "runs": len(tests),
        "by_peak_lr": {f"{p:g}": float(np.mean(relative[peaks == p])) for p in np.unique(peaks)},
        "parameters": dict(result.parameters),
    }  # fmt: skip


def transfer(law: Law, source: Runs, target: Runs) -> dict[str, Any]:
    """Errors of the final losses of `target` after a fit to `source` and one run of `target`, for every such run."""
    result = fit(law, source)
    floor = result.parameters["irreducible_loss"]
    ends = np.array([result.evaluate(conditions_of(run), np.array([float(run.steps)]))[0] for run in target])
    finals = np.array([final_loss(run) for run in target])
    rows: dict[str, tuple[float, float]] = {}
    refused = []
    for i, one in enumerate(target):
        try:
            moved = adapt(result, [one], draws=0).adapted
        except InputError:
            refused.append(one.name)
            continue
        told = floor + moved["shift"] + moved["scale"] * (ends - floor)
        told += finals[i] - told[i]  # the larger set's constant, as the one run tells it
        relative = np.abs(np.delete(told / finals - 1, i))
        rows[one.name] = float(relative.mean()), float(relative.max())
    if not rows:
        return {
            "final_mape": None,
            "worst_choice": None,
            "worst": None,
            "choices": 0,
            "refused": len(refused),
        }
    means = np.array([mean for mean, _ in rows.values()])
    sizes: dict[str, list[float]] = {}
    for run in target:
        if run.name in rows:
            sizes.setdefault(f"{(run.params or 0) / 1e6:.0f}M", []).append(rows[run.name][0])
    return {
        "final_mape": float(means.mean()), "worst_choice": float(means.max()),
        "worst": max(worst for _, worst in rows.values()), "choices": len(rows), "refused": len(refused),
        "by_size_of_the_run": {size: float(np.mean(found)) for size, found in sizes.items()},
        "choices_above_half_a_percent": [name for name, (mean, _) in rows.items() if mean > 0.005],
    }  # fmt: skip


def benchmark(folders: list[Path], draws: int) -> dict[str, Any]:
    """Both parts, for every law with sizes."""
    runs, laws = load(folders), sized_laws()
    largest: dict[str, Any] = {}
    for name, (train, tests) in tasks(runs).items():
        rows = {}
        for label, law in laws.items():
            print(f"{name}: {label}", file=sys.stderr)
            rows[label] = predict_largest(law, train, tests, draws)
        own = {label: row["held_out_error"] for label, row in rows.items() if label in LAWS}
        largest[name] = {"fitted_runs": len(train), "chosen": min(own, key=lambda n: own[n]), "laws": rows}
    names = sorted({data_of(run) for run in runs})
    moved = {}
    for a in names:
        for b in names:
            if a != b:
                source, target = (tuple(r for r in runs if data_of(r) == name) for name in (a, b))
                moved[f"{a} to {b}"] = {label: transfer(law, source, target) for label, law in laws.items()}
    return {"largest": largest, "transfer": moved}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--draws", type=int, default=0, help="bootstrap draws, for the coverage of the bands")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = benchmark(args.folders, args.draws)
    if args.json:
        print(json.dumps(out, indent=1))
        return
    for name, task in out["largest"].items():
        title = f"{name}, {task['fitted_runs']} runs fitted; chosen {task['chosen']}"
        print_table(title, task["laws"], ("final_mape", "bias", "worst", "held_out_error", "coverage_90"))
    for name, rows in out["transfer"].items():
        print_table(f"{name}, one run", rows, ("final_mape", "worst_choice", "worst"))


if __name__ == "__main__":
    main()
