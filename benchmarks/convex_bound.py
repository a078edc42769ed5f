"""The convex bound on real runs: what it says about peak LRs, ratios and losses of the 124M SlimPajama runs.

    python -m benchmarks.convex_bound DIR... [--json]

DIRs as for `benchmarks.wsd_runs`. The best peak LR of a schedule is that of the parabola in log LR through
the final losses at 5e-4, 1e-3 and 2e-3, where it lies between them. Moving it from one schedule to another
is judged by the mean distance |log(told / measured)| and by what the told LR costs on the target's parabola,
nats, beside keeping the LR:

- `between_ratios`: from ratio .2 to other linear decays, 20 % 1-sqrt and cosines of the same length.
- `between_horizons`: to another length at the same ratio.

`ratio`: the bound's best ratio at a given peak LR, its D / G anchored at the measured best peak LR of ratio
.2 at 25,000 updates; errors as in `benchmarks.wsd_runs`. `final_mape`: floor, D and G fitted to the five
training runs of that benchmark, tested on all others.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.wsd_runs import FIVE, final_loss, groups, kind, load, measured_optimum, pick
from lehr.anneal.convex import best_ratio, distance_for, fit_bound, last_iterate_bound, peak_transfer
from lehr.runs.run import Run
from lehr.schedule.schedule import Schedule

PEAKS = (5e-4, 1e-3, 2e-3)
ANCHOR = ("wsd", 0.2, "linear", 0.0)  # family, ratio, shape, end LR over peak


def sweeps(runs: list[Run]) -> dict[tuple[Any, int], tuple[Schedule, float, np.ndarray]]:
    """By schedule and length: one of its schedules, the best peak LR, the parabola over log2(LR / 1e-3)."""
    seen: dict[tuple[Any, int], dict[float, Run]] = {}
    for run in runs:
        end = round(float(run.schedule.to_array()[-1] / run.schedule.peak), 1)
        seen.setdefault(((*kind(run), end), run.steps), {})[round(run.schedule.peak, 8)] = run
    out = {}
    for key, by_peak in seen.items():
        if set(PEAKS) <= set(by_peak):
            parabola = np.polyfit([-1, 0, 1], [final_loss(by_peak[peak]) for peak in PEAKS], 2)
            best = -parabola[1] / (2 * parabola[0])
            if parabola[0] > 0 and abs(best) < 1:
                out[key] = (by_peak[1e-3].schedule, 1e-3 * 2**best, parabola)
    return out


def label(key: tuple[Any, int]) -> str:
    """Name of a sweep in tables, such as `wsd .2 linear to .0, 25000`."""
    (family, ratio, shape, end), steps = key
    return f"{f'wsd {ratio:g} {shape}' if family == 'wsd' else 'cosine'} to {end:g}, {steps}"


def moved(pairs: list[tuple[Any, Any]], found: dict[Any, Any]) -> dict[str, Any]:
    """Errors of moving the best peak LR from the first to the second sweep of each pair."""
    rows, table = [], {}
    for source, target in pairs:
        (plan, best, _), (other, measured, parabola) = found[source], found[target]
        factor = peak_transfer(plan, other)
        row: list[float] = []
        for told in (best * factor, best):
            x = float(np.log2(told / 1e-3))
            cost = np.polyval(parabola, x) - np.polyval(parabola, np.log2(measured / 1e-3))
            row += [abs(float(np.log(told / measured))), float(cost)]
        rows.append(row)
        table[f"{label(source)} -> {label(target)}"] = {"bound": factor, "measured": float(measured / best)}
    keys = ("bound_abs_log_error", "bound_cost", "kept_abs_log_error", "kept_cost")
    return {
        **dict(zip(keys, np.mean(rows, axis=0).tolist(), strict=True)),
        "pairs": len(rows),
        "factors": table,
    }


def ratios(runs: list[Run], distance: float) -> dict[str, Any]:
    """Best ratio by the bound against the measured one, and what following it costs."""
    rows, table = [], {}
    for (peak, steps), (tried, losses) in groups(runs).items():
        best, parabola = measured_optimum(tried, losses)
        told = best_ratio(steps=steps, peak=peak, distance=distance, warmup=300)
        inside = parabola.domain[0] <= told <= parabola.domain[1]
        cost = float(parabola(told)) if inside else float(np.interp(told, tried, losses))
        rows.append((abs(told - best), max(0.0, cost - float(parabola(best)))))
        table[f"{peak:g}/{steps}"] = {"measured": best, "bound": told}
    error, excess = np.mean(rows, axis=0).tolist()
    return {"abs_error": error, "excess_loss": excess, "ratios": table}


def benchmark(folders: list[Path]) -> dict[str, Any]:
    """Score the bound on every question."""
    runs = load(folders)
    found = sweeps(runs)
    lengths = sorted({steps for _, steps in found})
    across = [((ANCHOR, n), key) for n in lengths for key in found if key[1] == n and key[0] != ANCHOR]
    along = [(a, b) for a in found for b in found if a[0] == b[0] and a[1] < b[1]]
    anchor, best, _ = found[ANCHOR, 25000]
    fitted = pick(runs, FIVE)
    fit = fit_bound([run.schedule for run in fitted], [final_loss(run) for run in fitted])
    names = {run.name for run in fitted}
    told = [
        fit.floor
        + last_iterate_bound(run.schedule, distance=fit.distance, gradient_norm=fit.gradient_norm).value
        for run in runs
    ]
    errors = [
        abs(t / final_loss(run) - 1) for t, run in zip(told, runs, strict=True) if run.name not in names
    ]
    return {
        "between_ratios": moved(across, found),
        "between_horizons": moved(along, found),
        "ratio": ratios(runs, distance_for(anchor, best)),
        "final_mape": float(np.mean(errors)),
        "final_worst": float(np.max(errors)),
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = benchmark(args.folders)
    if args.json:
        print(json.dumps(out, indent=1))
        return
    for name in ("between_ratios", "between_horizons", "ratio"):
        print(name, {k: round(v, 4) for k, v in out[name].items() if not isinstance(v, dict)})
        for key, row in next(v for v in out[name].values() if isinstance(v, dict)).items():
            print("   ", key, {k: round(v, 3) for k, v in row.items()})
    print("final losses:", {k: round(out[k], 4) for k in ("final_mape", "final_worst")})


if __name__ == "__main__":
    main()
