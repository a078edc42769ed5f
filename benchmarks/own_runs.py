"""Do the laws hold on the bundled runs? Schedules, batches, sizes, and a floor that is known.

    python -m benchmarks.own_runs [--split val|train] [--json]

| question | fitted | predicted |
| --- | --- | --- |
| SIZE cosine-to-wsd | the cosine runs of one size and peak LR | its other runs at that peak LR |
| SIZE wsd-to-cosine | its other runs at that peak LR | the cosine runs |
| SIZE peaks | constant and WSD .2 at the lower peak LRs | every run at the highest |
| SIZE long cosine-to-wsd, wsd-to-cosine | likewise, among its runs of 10,000 updates and their halves | |
| batch | the runs at the usual batch, 1,024 tokens | runs at the larger batches, in updates |
| batch above B_opt | XS64 at the smallest batch above B_opt | at the larger ones, in updates |
| sizes | dense sizes but the largest; models of experts but the larger | the runs of the largest |
| floor | all dense runs, laws over sizes | the irreducible loss, against the language's entropy |
| floor near | runs that come near the floor, on the language of 64 words | likewise |

Points before a tenth of the horizon (update 200, 1,000, 800), or within the warm-up, are neither fitted nor counted:
models still leave the unigrams then.
Errors are relative, averaged over the rest of the curve of a run; each question gives their mean and
the worst run's, and `final`, the mean at the last update. `chosen` is the law picked by losses hidden within the
fitted runs. The floor is the mean surprisal of the validation sequences under the language itself.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.common import one_size_laws, print_table
from lehr.errors import InputError
from lehr.examples import floor_of, load_examples
from lehr.fit.batch_estimate import estimate_batch
from lehr.fit.compare import compare
from lehr.fit.fit import FitOptions, conditions_of, fit
from lehr.fit.result import FitResult
from lehr.laws import LAWS
from lehr.laws.law import Law
from lehr.runs.run import Run, RunSet

OPTIONS = FitOptions(one_schedule="warn", burn_in=200)
LONG = FitOptions(one_schedule="warn", burn_in=1000)
NEAR = FitOptions(one_schedule="warn", burn_in=800)
SHORT = FitOptions(one_schedule="warn", burn_in=100)  # of 400 updates: the warm-up is a quarter of them
USUAL = 1024  # tokens a batch
USUAL_STEPS = 2000  # the longest of the usual runs


def size_of(run: Run) -> str:
    """First part of the name."""
    return run.name.split("-")[0]


def family_of(run: Run) -> str:
    """Family of the schedule."""
    return (run.schedule.call or ("table", ()))[0]


def usual(runs: RunSet, *sizes: str) -> list[Run]:
    """Runs of these sizes at the usual batch, first seed."""
    return [
        r for r in runs
        if size_of(r) in sizes and r.batch_tokens == USUAL and r.meta["seed"] == 1 and r.steps <= USUAL_STEPS
    ]  # fmt: skip


def errors(result: FitResult, runs: RunSet, tests: Iterable[Run]) -> dict[str, tuple[float, float]]:
    """Mean relative error of each run's whole curve after the burn-in, and that at its end."""
    found = {}
    for run in tests:
        step, loss = runs.curve(run.name) if run.parent in runs.names else (run.step, run.loss)
        late = step >= result.domain.burn_in
        told = result.evaluate(conditions_of(run), step[late])
        relative = told / loss[late] - 1
        found[run.name] = float(np.mean(np.abs(relative))), float(abs(relative[-1]))
    return found


def ask(
    laws: Iterable[Law], runs: RunSet, train: list[Run], tests: list[Run], options: FitOptions = OPTIONS
) -> dict[str, Any]:
    """Fit every law to `train`, choose, predict `tests`."""
    laws = tuple(laws)
    train_with_past = runs.only(run.name for run in train)
    choice = compare(laws, train_with_past, options)
    rows = {}
    for law in laws:
        try:
            result = choice.results.get(law.name) or fit(law, train_with_past, options)
            found = errors(result, runs, tests)
        except InputError as error:
            rows[law.name] = {"failed": str(error)}
            continue
        whole, final = np.array(list(found.values())).T
        rows[law.name] = {
            "mape": float(whole.mean()), "worst": float(whole.max()), "final": float(final.mean()),
            "by_run": {name: pair[0] for name, pair in found.items()},
        }  # fmt: skip
    return {"chosen": choice.chosen, "fitted": len(train), "predicted": len(tests), "laws": rows}


def schedules(runs: RunSet, size: str) -> dict[str, Any]:
    """Questions within one size."""
    mine = usual(runs, size)
    peaks = sorted({run.schedule.peak for run in mine})
    middle = 3e-3
    here = [run for run in mine if np.isclose(run.schedule.peak, middle)]
    cosine = [run for run in here if family_of(run) == "cosine"]
    others = [run for run in here if run not in cosine]
    out = {
        f"{size} cosine-to-wsd": ask(one_size_laws(), runs, cosine, others),
        f"{size} wsd-to-cosine": ask(one_size_laws(), runs, others, cosine),
    }
    if len(peaks) > 1:
        kinds = ("constant-2000", "wsd-r0.2-2000")
        low = [r for r in mine if r.schedule.peak < peaks[-1] and r.name.endswith(kinds)]
        high = [r for r in mine if np.isclose(r.schedule.peak, peaks[-1])]
        out[f"{size} peaks"] = ask(one_size_laws(), runs, low, high)
    return out


def long_schedules(runs: RunSet, size: str) -> dict[str, Any]:
    """The longer runs of one size: schedules predict each other."""
    mine = [r for r in runs if size_of(r) == size and r.steps > USUAL_STEPS and r.batch_tokens == USUAL]
    cosine = [run for run in mine if family_of(run) == "cosine"]
    others = [run for run in mine if run not in cosine]
    if not cosine or not others:
        return {}
    return {
        f"{size} long cosine-to-wsd": ask(one_size_laws(), runs, cosine, others, LONG),
        f"{size} long wsd-to-cosine": ask(one_size_laws(), runs, others, cosine, LONG),
    }


def large_batches(runs: RunSet) -> dict[str, Any]:
    """Batches above B_opt predict each other in updates: above that at the lowest loss which they reach themselves."""
    mine = [r for r in runs if size_of(r) == "XS64"]
    law = estimate_batch([r for r in mine if family_of(r) == "constant"])
    lowest: dict[float, float] = {}
    for run in mine:
        lowest[run.batch_tokens or 0] = min(run.final_loss, lowest.get(run.batch_tokens or 0, np.inf))
    above = sorted(batch for batch, loss in lowest.items() if batch >= law.optimal(loss))
    fitted = [r for r in mine if r.batch_tokens == above[0]]
    larger = [r for r in mine if (r.batch_tokens or 0) > above[0]]
    return {
        **ask(one_size_laws(), runs, fitted, larger, SHORT), "above": above,
        "critical_batch": law.critical(lowest[above[0]]), "optimal_batch": law.optimal(lowest[above[0]]),
    }  # fmt: skip


def batches(runs: RunSet) -> dict[str, Any]:
    """The usual batch predicts the larger ones at the same number of updates."""
    small = [r for r in usual(runs, "S") if np.isclose(r.schedule.peak, 3e-3)]
    larger = [r for r in runs if size_of(r) == "S" and (r.batch_tokens or 0) > USUAL]
    law = estimate_batch([r for r in runs if size_of(r) == "S" and np.isclose(r.schedule.peak, 3e-3)])
    end = min(r.final_loss for r in small)
    return {
        **ask(one_size_laws(), runs, small, larger),
        "critical_batch": law.critical(end),
        "optimal_batch": law.optimal(end),
    }


def sizes(runs: RunSet, train: tuple[str, ...], test: str) -> dict[str, Any]:
    """Smaller models predict a larger one."""
    sized = [law for law in LAWS.values() if law.needs_sizes]
    fitted = [r for r in usual(runs, *train) if np.isclose(r.schedule.peak, 3e-3)]
    return ask(sized, runs, fitted, usual(runs, test))


def floor(runs: RunSet) -> dict[str, Any]:
    """Irreducible loss of laws over sizes against the truth."""
    fitted = usual(runs, "XS", "S", "M", "L")
    return floors((law for law in LAWS.values() if law.needs_sizes), runs, fitted, OPTIONS)


def floor_near(runs: RunSet) -> dict[str, Any]:
    """Irreducible loss of laws of one size where runs come near the truth, and which law hidden losses choose."""
    fitted = [r for r in runs if size_of(r) == "M64"]
    chosen = compare(tuple(one_size_laws()), runs.only(r.name for r in fitted), NEAR).chosen
    return {**floors(one_size_laws(), runs, fitted, NEAR), "chosen": chosen}


def floors(laws: Iterable[Law], runs: RunSet, fitted: list[Run], options: FitOptions) -> dict[str, Any]:
    """The irreducible loss that each law finds."""
    truth, rows = floor_of(fitted[0]), {}
    for law in laws:
        try:
            told = fit(law, runs.only(r.name for r in fitted), options).parameters["irreducible_loss"]
        except InputError as error:
            rows[law.name] = {"failed": str(error)}
            continue
        rows[law.name] = {"irreducible_loss": told, "off": told / truth - 1}
    return {"entropy": truth, "lowest_loss": min(r.final_loss for r in fitted), "laws": rows}


def benchmark(split: str) -> dict[str, Any]:
    """All questions."""
    runs = load_examples(split)
    out: dict[str, Any] = {}
    for size in ("S", "M", "L", "ES", "EM"):
        out |= schedules(runs, size)
        out |= long_schedules(runs, size)
    out["batch"] = batches(runs)
    out["batch above B_opt"] = large_batches(runs)
    out["sizes"] = sizes(runs, ("XS", "S", "M"), "L")
    out["experts"] = sizes(runs, ("XS", "S", "M", "L", "ES"), "EM")
    out["floor"] = floor(runs)
    out["floor near"] = floor_near(runs)
    return out


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--split", choices=("val", "train"), default="val")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = benchmark(args.split)
    if args.json:
        print(json.dumps(out, indent=1))
        return
    for question, found in out.items():
        floors_told = "entropy" in found
        columns = ("irreducible_loss", "off") if floors_told else ("mape", "worst", "final")
        told = f"chosen {found.get('chosen')}"
        if floors_told:
            told += f"; entropy {found['entropy']:.4f}, lowest loss {found['lowest_loss']:.4f}"
        if "optimal_batch" in found:
            told += (
                f"; critical batch {found['critical_batch']:.0f}, B_opt {found['optimal_batch']:.0f} tokens"
            )
        print_table(f"{question}; {told}", found["laws"], columns)


if __name__ == "__main__":
    main()
