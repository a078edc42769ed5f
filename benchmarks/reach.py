"""How far each law reaches: errors at another peak LR, and beyond the fitted horizon, against its bands.

    python -m benchmarks.reach DIR... [--json]

DIRs hold the W&B JSON exports of arXiv 2501.18965 (MIT licence); the 124M SlimPajama runs, which
`benchmarks.wsd_runs` tests on, are left out. Each other model was run with WSD at one peak LR and with
cosine at twice it. `peak_lr`: fitted to either, predicting the end of the other; `horizon`: fitted to
the shortest runs and the beginning of the constant one, predicting the ends of the longer.
`per_doubling` is the error, for each doubling, that the band did not hold: the source of `lehr.fit.reach`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import one_size_laws, print_table
from benchmarks.wsd_runs import SIZE, kind
from lehr.errors import LehrError
from lehr.fit.fit import FitOptions, fit
from lehr.fit.reach import reach_error
from lehr.fit.uncertainty import bootstrap
from lehr.laws.law import Law
from lehr.predict import predict
from lehr.runs.readers import read
from lehr.runs.run import Run

OPTIONS = FitOptions(one_schedule="warn", starts=12, polished=2)
ONE_SIGMA = 0.6827
Split = tuple[str, tuple[Run, ...], tuple[Run, ...]]


def load_groups(folders: list[Path]) -> list[list[Run]]:
    """Runs of each model and data set but the tested one."""
    groups: dict[tuple[Any, int], dict[str, Run]] = {}
    for path in sorted(p for folder in folders for p in folder.glob("*.json")):
        try:
            run = read(path)[0].run
        except LehrError:
            continue
        size = run.params_total or 0.0
        if not (run.meta["dataset"] == "slimpajama" and SIZE[0] < size < SIZE[1]):
            groups.setdefault((run.meta["dataset"], round(size / 1e6)), {})[path.stem] = run
    return [list(runs.values()) for runs in groups.values()]


def splits(runs: list[Run]) -> list[Split]:
    """What to fit and what to predict, of one model."""
    cosine = tuple(r for r in runs if kind(r)[0] == "one_cycle")
    wsd = tuple(r for r in runs if kind(r)[0] in ("wsd", "constant"))
    shortest = min(r.steps for r in runs)
    short = tuple(r for r in runs if r.steps == shortest)
    begun = tuple(r.select(r.step <= shortest) for r in runs if kind(r)[0] == "constant")
    longer = tuple(r for r in runs if r.steps > shortest)
    return [("peak_lr", wsd, cosine), ("peak_lr", cosine, wsd), ("horizon", short + begun, longer)]


def ends(law: Law, split: Split, draws: int) -> list[tuple[str, float, float, float]]:
    """Per predicted run: what is left, doublings beyond what was fitted, error, standard deviation of the band."""
    name, train, tests = split
    try:
        result = bootstrap(fit(law, train, OPTIONS), train, draws)
    except LehrError:
        return []
    rows = []
    for run in tests:
        end = run.step[-1:]
        found = predict(result, run.schedule, end, level=ONE_SIGMA)
        band = float(found.high[0] - found.low[0]) / 2 / found.loss[0]
        known = reach_error(law.name, result.domain, run.schedule.peak)
        inner = float(np.sqrt(max(band**2 - known**2, 0.0)))
        beyond = 1.0 if name == "peak_lr" else max(0.0, float(np.log2(end[0] / result.domain.steps)))
        rows.append((name, beyond, float(found.loss[0] / run.loss[-1] - 1), inner))
    return rows


def benchmark(folders: list[Path], draws: int) -> dict[str, Any]:
    """Errors and coverage of every law, for each way of leaving what was fitted."""
    groups = load_groups(folders)
    out: dict[str, Any] = {}
    for law in one_size_laws():
        rows = [row for runs in groups for split in splits(runs) for row in ends(law, split, draws)]
        for name in ("peak_lr", "horizon"):
            values = np.array([row[1:] for row in rows if row[0] == name])
            if not len(values):
                continue
            beyond, error, band = values.T
            more = float(np.mean(error**2 - band**2) / np.mean(beyond**2))
            out[f"{law.name}, {name}"] = {
                "runs": len(values),
                "mean_abs_error": float(np.mean(np.abs(error))),
                "held_by_90": float(np.mean(np.abs(error) < 1.645 * band)),
                "per_doubling": float(np.sqrt(max(more, 0.0))),
            }
    return out


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--draws", type=int, default=25)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = benchmark(args.folders, args.draws)
    if args.json:
        print(json.dumps(out, indent=1))
        return
    print_table(
        "bands without the reach error", out, ("mean_abs_error", "held_by_90", "per_doubling", "runs")
    )


if __name__ == "__main__":
    main()
