"""Does a suggested run help? Start from three real runs, add the suggested real one, compare with adding others.

    python -m benchmarks.suggest DIR... [--law weight_norm] [--starts 6] [--draws 80] [--json]

DIRs hold the 124M SlimPajama runs of `benchmarks.wsd_runs`. A target is a (peak LR, 50,000 updates) group whose
ratios were measured; candidates are the real runs of at most half its length that are not among the three.
The law is fitted to the three, bootstrapped, and asked for a suggestion among the candidates. Then every
candidate is added in turn and the law fitted again, so that `random` is the mean over all of them and no
matter of luck. Scored on the target: |ratio - measured| (`lehr.anneal.valley`), what the law's ratio costs by the
same parabola, and the mean relative error
of the final losses of the target group's runs. The starts are the three runs of `--train three` and others
drawn at random among those of at most 25,000 updates. `longest` adds the candidate at the target's peak LR (or
the nearest) that is longest and decays most nearly over .4: what one would do without asking.

No target run enters any fit or suggestion; nothing was set by these figures.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.wsd_runs import (
    THREE,
    final_loss,
    groups,
    kind,
    load,
    pick,
    shift,
)
from lehr.anneal.outlook import ask, would_show
from lehr.anneal.plans import Part, Plan
from lehr.anneal.ratio import recommend_ratio
from lehr.anneal.suggest import weigh
from lehr.anneal.valley import fit_valley
from lehr.errors import InputError
from lehr.fit.fit import FitOptions, conditions_of, fit
from lehr.fit.result import FitResult
from lehr.fit.uncertainty import bootstrap
from lehr.laws import get_law
from lehr.laws.law import Law
from lehr.runs.run import Run

STEPS = 50000  # of the targets
SIZES = (None, None, 0.1, None)
OPTIONS = FitOptions(one_schedule="warn")
METRICS = ("ratio_error", "excess_loss", "final_error")


def as_plan(run: Run) -> Plan:
    """A real run as a candidate: its own points begin where its log does."""
    return Plan((Part(run.schedule, int(run.step[0]) if run.step[0] > 1000 else 0),))


def outcome(result: FitResult, peak: float, ratios: np.ndarray, losses: np.ndarray, tests: list[Run],
            offset: float) -> dict[str, float]:  # fmt: skip
    """Errors of `result` on the target group at `peak`."""
    told = recommend_ratio(result, steps=STEPS, peak=peak, warmup=300, weight_decay=0.1).ratio
    best, _, bend, _ = fit_valley(ratios, losses)
    final = [
        (result.evaluate(conditions_of(run), np.array([float(run.steps)]))[0] + offset) / final_loss(run) - 1
        for run in tests
    ]
    return {
        "ratio_error": abs(told - best),
        "excess_loss": bend * (np.sqrt(told) - np.sqrt(best)) ** 2,
        "final_error": float(np.mean(np.abs(final))),
    }


def starts(runs: list[Run], count: int) -> list[tuple[Run, ...]]:
    """The three runs of `--train three`, then random triples of short runs that identify an annealing term."""
    rng = np.random.default_rng(0)
    short = [run for run in runs if run.steps <= STEPS // 2 and len(run.step) >= 60]
    found = [pick(runs, THREE)]
    while len(found) < count:
        found.append(tuple(short[i] for i in rng.choice(len(short), 3, replace=False)))
    return found


def without_asking(candidates: list[Run], peak: float) -> Run:
    """The candidate nearest to the target in LR, then the longest, then the nearest to a ratio of .4."""
    return min(
        candidates,
        key=lambda r: (round(abs(np.log(r.schedule.peak / peak)), 6), -r.steps, abs(kind(r)[1] - 0.4)),
    )


def one_start(
    law: Law, three: tuple[Run, ...], runs: list[Run], draws: int, offset: float
) -> list[dict[str, Any]]:
    """Rows of one start: a target each, with the errors before, after the suggestion, and after every candidate."""
    before = bootstrap(fit(law, three, OPTIONS), three, draws)
    used = {run.name for run in three}
    candidates = [run for run in runs if run.steps <= STEPS // 2 and run.name not in used]
    shown = [would_show(before, as_plan(run), SIZES) for run in candidates]
    after = [fit(law, (*three, run), OPTIONS) for run in candidates]
    rows = []
    for (peak, steps), (ratios, losses) in groups(runs).items():
        if steps != STEPS:
            continue
        tests = [
            run
            for run in runs
            if (round(run.schedule.peak, 8), run.steps) == (peak, steps) and run.name not in used
        ]
        question = ask(before, STEPS, peak, SIZES)
        told = [weigh(question, as_plan(run), seen) for run, seen in zip(candidates, shown, strict=True)]
        gains = np.array([s.gain for s in told])
        per_cost = np.array([s.gain_per_cost for s in told])
        ends = [outcome(result, peak, ratios, losses, tests, offset) for result in after]
        plain = candidates.index(without_asking(candidates, peak))
        rows.append({
            "peak": peak,
            "candidates": len(candidates),
            "suggested": candidates[int(np.argmax(gains))].name,
            "expected_gain": float(gains.max()),
            "before": outcome(before, peak, ratios, losses, tests, offset),
            "by_gain": ends[int(np.argmax(gains))],
            "by_gain_per_cost": ends[int(np.argmax(per_cost))],
            "longest": ends[plain],
            "random": {m: float(np.mean([e[m] for e in ends])) for m in METRICS},
            "best_possible": {m: float(np.min([e[m] for e in ends])) for m in METRICS},
            "share_beaten": {
                m: float(np.mean([ends[int(np.argmax(gains))][m] <= e[m] for e in ends])) for m in METRICS
            },
            "rank_correlation": {m: rank_correlation(gains, np.array([e[m] for e in ends])) for m in METRICS},
        })  # fmt: skip
    return rows


def rank_correlation(gains: np.ndarray, errors: np.ndarray) -> float:
    """Spearman's correlation of the expected gains with the errors after: negative where gains foretell."""
    a, b = gains.argsort().argsort(), errors.argsort().argsort()
    return float(np.corrcoef(a, b)[0, 1])


def benchmark(folders: list[Path], law: str, count: int, draws: int) -> dict[str, Any]:
    """Mean errors over all starts and targets."""
    runs = load(folders)
    offset = shift(pick(runs, THREE))
    rows, left_out = [], []
    for index, three in enumerate(starts(runs, count)):
        try:
            rows += [{"start": index, **row} for row in one_start(get_law(law), three, runs, draws, offset)]
        except InputError as error:
            left_out.append(f"start {index}: {error}")
    keys = ("before", "by_gain", "by_gain_per_cost", "longest", "random", "best_possible", "share_beaten",
            "rank_correlation")  # fmt: skip
    return {
        "law": law,
        "left_out": left_out,
        "mean": {key: {m: float(np.mean([row[key][m] for row in rows])) for m in METRICS} for key in keys},
        "rows": rows,
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--law", default="weight_norm")
    parser.add_argument("--starts", type=int, default=6)
    parser.add_argument("--draws", type=int, default=80)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = benchmark(args.folders, args.law, args.starts, args.draws)
    if args.json:
        print(json.dumps(out, indent=1))
        return
    print(f"{out['law']}: mean over {len(out['rows'])} starts and targets")
    print("  ".join([f"{'':18s}", *(f"{m:>12s}" for m in METRICS)]))
    for key, row in out["mean"].items():
        print("  ".join([f"{key:18s}", *(f"{row[m]:12.5f}" for m in METRICS)]))
    for row in out["rows"]:
        print(f"start {row['start']}, peak {row['peak']:g}: {row['suggested'][:24]}",
              {k: {m: round(row[k][m], 5) for m in METRICS} for k in ("before", "by_gain", "random")})  # fmt: skip
    print("\n".join(out["left_out"]))


if __name__ == "__main__":
    main()
