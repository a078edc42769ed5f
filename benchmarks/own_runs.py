"""Do the laws hold on the bundled runs? Schedules, batches, sizes, and a floor that is known.

    python -m benchmarks.own_runs [--split val|train] [--json]

| question | fitted | predicted |
| --- | --- | --- |
| SIZE cosine-to-wsd | the cosine runs of one size and peak LR | its other runs at that peak LR |
| SIZE wsd-to-cosine | its other runs at that peak LR | the cosine runs |
| SIZE peaks | constant and WSD .2 at the lower peak LRs | every run at the highest |
| batch | the runs at the usual batch, 1,024 tokens | runs at the larger batches, in updates |
| sizes | dense sizes but the largest; models of experts but the larger | the runs of the largest |
| floor | all dense runs, laws over sizes | the irreducible loss, against the language's entropy |

Points before update 200, a tenth of the horizon, are neither fitted nor counted: models still leave the unigrams then.
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
from lehr.examples import load_examples, manifest
from lehr.fit.batch_estimate import estimate_batch
from lehr.fit.compare import compare
from lehr.fit.fit import FitOptions, conditions_of, fit
from lehr.fit.result import FitResult
from lehr.laws import LAWS
from lehr.laws.law import Law
from lehr.runs.run import Run, RunSet

OPTIONS = FitOptions(one_schedule="warn", burn_in=200)
USUAL = 1024  # tokens a batch


def size_of(run: Run) -> str:
    """First part of the name."""
    return run.name.split("-")[0]


def family_of(run: Run) -> str:
    """Family of the schedule."""
    return (run.schedule.call or ("table", ()))[0]


def usual(runs: RunSet, *sizes: str) -> list[Run]:
    """Runs of these sizes at the usual batch, first seed."""
    return [r for r in runs if size_of(r) in sizes and r.batch_tokens == USUAL and r.meta["seed"] == 1]


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


def ask(laws: Iterable[Law], runs: RunSet, train: list[Run], tests: list[Run]) -> dict[str, Any]:
    """Fit every law to `train`, choose, predict `tests`."""
    laws = tuple(laws)
    train_with_past = runs.only(run.name for run in train)
    choice = compare(laws, train_with_past, OPTIONS)
    rows = {}
    for law in laws:
        try:
            result = choice.results.get(law.name) or fit(law, train_with_past, OPTIONS)
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
    truth = manifest()["floor"]
    fitted = runs.only(run.name for run in usual(runs, "XS", "S", "M", "L"))
    rows = {}
    for law in (law for law in LAWS.values() if law.needs_sizes):
        try:
            told = fit(law, fitted, OPTIONS).parameters["irreducible_loss"]
        except InputError as error:
            rows[law.name] = {"failed": str(error)}
            continue
        rows[law.name] = {"irreducible_loss": told, "off": told / truth - 1}
    return {"entropy": truth, "laws": rows}


def benchmark(split: str) -> dict[str, Any]:
    """All questions."""
    runs = load_examples(split)
    out: dict[str, Any] = {}
    for size in ("S", "M", "L", "ES", "EM"):
        out |= schedules(runs, size)
    out["batch"] = batches(runs)
    out["sizes"] = sizes(runs, ("XS", "S", "M"), "L")
    out["experts"] = sizes(runs, ("XS", "S", "M", "L", "ES"), "EM")
    out["floor"] = floor(runs)
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
        columns = ("irreducible_loss", "off") if question == "floor" else ("mape", "worst", "final")
        told = f"entropy {found['entropy']:.4f}" if question == "floor" else f"chosen {found['chosen']}"
        if "optimal_batch" in found:
            told += (
                f"; critical batch {found['critical_batch']:.0f}, B_opt {found['optimal_batch']:.0f} tokens"
            )
        print_table(f"{question}; {told}", found["laws"], columns)


if __name__ == "__main__":
    main()
