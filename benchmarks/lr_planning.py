"""Planning LR sweeps, simulated on public ones: excess loss of the LR found, against the share of the grid run.

    python -m benchmarks.lr_planning FILE... [--seeds 2] [--json]

FILEs are those of `benchmarks.lr_sweeps`. For each group in turn as the target, the planner (`lehr.peaklr.posterior`,
`lehr.peaklr.propose`) buys runs: only runs in the file exist, each costs one run, and a loss is seen when it is paid
for. It starts with no loss known and the law of DeepSeek (arXiv 2401.02954) as its prior, which knows nothing of these
files (Step Law was fitted on one of them). After every `ROUND` of the grid it looks at what came and proposes anew.

What may be bought is ruled three ways:

- `others`, the main figures: all groups but the target's, as in `benchmarks.lr_sweeps`, which leaves the target out;
- `whole`: all groups, the target's among them;
- `cheaper`: groups of less compute (6 N_active D) than the target's, for targets with `FEWEST_GROUPS` of these or more.

The answer is the LR of the law fitted to what was bought, at the batch size of the target's lowest loss (which it is
told, as a user tells the batch that is planned), scored as there. `random` buys at random; `subgrid` every third LR of
evenly spaced groups and batch sizes; both are fitted in the same way. The full grid's answer is that same fit on all
runs, or the surface of form "surge" of `lehr.peaklr.surface`, whichever is better. `flops` is the share of compute;
`stops` is where the planner stops by itself, the next `ROUND` being expected to gain less than `TOLERANCE`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.lr_sweeps import load
from lehr.peaklr.choose import rule_of
from lehr.peaklr.posterior import Posterior, fit_posterior
from lehr.peaklr.prior import Prior, make_prior
from lehr.peaklr.propose import propose
from lehr.peaklr.published import Planned
from lehr.peaklr.score import measured_excess
from lehr.peaklr.surface import fit_surface
from lehr.peaklr.table import SweepGroup, SweepTable
from lehr.peaklr.valley import fit_valley

SHARES = (0.02, 0.05, 0.10, 0.15, 0.30)
BAR = 0.15
ROUND = 0.02  # of the grid between two looks
PRIOR = "deepseek"
FEWEST_GROUPS = 3
MAIN = "others"
LEVEL = 0.9
STOP, TOLERANCE = -1.0, 1e-4  # nats, as of the command line


def numbers(values: list[int], table: SweepTable) -> SweepTable | None:
    """Runs bought; None if none was."""
    return table.select(np.array(values)) if values else None


def shop(
    table: SweepTable, prior: Prior, target: Planned, seed: int
) -> Iterator[tuple[float, list[int], Posterior]]:
    """Let the planner buy; yields what it has at each of `SHARES`, and where it would stop by itself."""
    unseen = SweepTable(
        table.lr, np.full(len(table), np.nan), table.params, table.tokens, table.active_params, table.batch_tokens
    )  # fmt: skip
    have: list[int] = []
    ones = np.ones(len(table))  # each run costs one
    posterior, stopped = fit_posterior(prior, None), False
    for share in SHARES:
        due = round(share * len(table))
        while len(have) < due:
            most = min(due - len(have), max(round(ROUND * len(table)), 1))
            found = propose(
                posterior, numbers(have, table), unseen, target, lambda _: ones, np.inf, most, seed
            )
            if not found.picked:
                break
            gain = posterior.expected_excess(target) - posterior.expected_excess(target, found.variance)
            if gain < TOLERANCE and not stopped:
                stopped = True
                yield STOP, list(have), posterior
            have += found.picked
            posterior = fit_posterior(prior, numbers(have, table))
        yield share, list(have), posterior


def at_random(table: SweepTable, count: int, seed: int) -> list[int]:
    """Choose runs at random."""
    return np.random.default_rng(seed).permutation(len(table))[:count].tolist()


def subgrid(table: SweepTable, count: int, seed: int) -> list[int]:
    """Every third LR of groups and batch sizes evenly spread."""
    cell = table.group_numbers(by_batch=True)
    kept = []
    for number in range(int(cell.max()) + 1):
        rows = np.flatnonzero(cell == number)
        kept.append(rows[np.argsort(table.lr[rows])][1 + seed % 2 :: 3])
    cells = max(round(count / float(np.mean([len(rows) for rows in kept]))), 1)
    offset = np.random.default_rng(seed).random()
    chosen = np.floor((np.arange(cells) + offset) * len(kept) / cells).astype(int)
    return np.concatenate([kept[number] for number in chosen])[:count].tolist()


def allowed(table: SweepTable, groups: tuple[SweepGroup, ...], held: int, access: str) -> SweepTable | None:
    """Runs that may be bought for target number `held`; None if these are too few to ask."""
    number = table.group_numbers()
    if access == "whole":
        return table
    if access == "others":
        return table.select(number != held)
    compute = np.array([group.active * group.tokens for group in groups])
    cheaper = np.flatnonzero(compute < 0.99 * compute[held])
    return table.select(np.isin(number, cheaper)) if len(cheaper) >= FEWEST_GROUPS else None


def question(group: SweepGroup) -> tuple[SweepGroup, Planned]:
    """The part of a group that is scored, and the run that it stands for."""
    best = group.best_batch()
    active = group.active if group.active < group.params else None
    return best, Planned(group.params, group.tokens, active, best.batch_tokens)


def benchmark(table: SweepTable, access: str, seeds: int, progress: Callable[[str], None]) -> dict[str, Any]:
    """Ask for the LR of every group."""
    rows: dict[Any, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    groups = table.groups()
    for held, group in enumerate(groups):
        grid = allowed(table, groups, held, access)
        if grid is None:
            continue
        progress(f"{access}, group {held + 1} of {len(groups)}: {group.name}")
        best, target = question(group)
        oracle = np.log(fit_valley(best.table.lr, best.table.loss, "parabola", where=best.name).lr)
        compute = grid.active * grid.tokens
        prior = make_prior(grid, PRIOR, target)

        def cost(posterior: Posterior, best: SweepGroup = best, target: Planned = target) -> float:
            return measured_excess(best, posterior.predict(target).lr)

        full = rows["full"]
        full["runs"].append(len(grid))
        full["same_fit"].append(cost(fit_posterior(prior, grid)))
        full["surface"].append(measured_excess(best, rule_of(fit_surface(grid, "surge", 0).law)(best)))
        for seed in range(seeds):
            for share, have, posterior in shop(grid, prior, target, seed):
                row = rows[share]
                found = posterior.predict(target, LEVEL)
                row["runs"].append(len(have))
                row["flops"].append(float(compute[have].sum() / compute.sum()))
                row["plan"].append(cost(posterior))
                row["told"].append(posterior.expected_excess(target))
                row["covered"].append(bool(np.log(found.low) <= oracle <= np.log(found.high)))
                if access != MAIN or share == STOP:
                    continue
                for name, choose in (("random", at_random), ("subgrid", subgrid)):
                    other = choose(grid, len(have), seed)
                    row[name].append(cost(fit_posterior(prior, grid.select(np.array(other)))))
    return summary(rows)


def summary(rows: Mapping[Any, Mapping[str, list[float]]]) -> dict[str, Any]:
    """Means over targets and seeds."""
    full = {name: float(np.mean(values)) for name, values in rows["full"].items()}
    full["excess_loss_mean"] = min(full["same_fit"], full["surface"])
    plans = []
    for share in SHARES:
        mean = {name: float(np.mean(values)) for name, values in rows[share].items()}
        plans.append({
            "share": share, "runs": mean["runs"], "flops": mean["flops"], "excess_loss_mean": mean["plan"],
            "excess_loss_max": float(np.max(rows[share]["plan"])), "expected_excess": mean["told"],
            "coverage": mean["covered"], "random": mean.get("random"), "subgrid": mean.get("subgrid"),
        })  # fmt: skip
    at_bar = next(plan for plan in plans if plan["share"] == BAR)
    bar = {"share": BAR, "excess_over_full": at_bar["excess_loss_mean"] - full["excess_loss_mean"]}
    stop = rows[STOP]
    stops = {name: float(np.mean(stop[name])) for name in ("runs", "flops", "plan")} if stop["runs"] else None
    targets = len(rows["full"]["runs"])
    return {"targets": targets, "full": full, "plans": plans, "stops": stops, "bar": bar}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: dict[str, Any] = {}
    for path in args.files:
        table = load(path)
        by_access = {
            access: benchmark(table, access, args.seeds, lambda text: print(text, file=sys.stderr))
            for access in (MAIN, "whole", "cheaper")
        }
        found[path.name] = {
            **by_access[MAIN],
            "access": {name: by_access[name] for name in ("whole", "cheaper")},
        }
    if args.json:
        print(json.dumps({"files": found, "prior": PRIOR}, indent=1))
        return
    for name, result in found.items():
        for access, part in {MAIN: result, **result["access"]}.items():
            report(f"{name}, {access}: {part['targets']} targets", part)


def report(title: str, part: Mapping[str, Any]) -> None:
    """Print one way of buying as a table."""
    full = part["full"]
    print(f"\n{title}; full grid {full['runs']:.0f} runs, excess {full['excess_loss_mean']:.5f}"
          f" (same fit {full['same_fit']:.5f}, surface {full['surface']:.5f})")  # fmt: skip
    columns = (
        "runs",
        "flops",
        "excess_loss_mean",
        "excess_loss_max",
        "expected_excess",
        "coverage",
        "random",
        "subgrid",
    )
    print("share  " + "  ".join(f"{column:>16s}" for column in columns))
    for plan in part["plans"]:
        cells = ("-" if plan[column] is None else f"{plan[column]:.5g}" for column in columns)
        print(f"{plan['share']:5.2f}  " + "  ".join(f"{cell:>16s}" for cell in cells))
    if part["stops"]:
        stops = part["stops"]
        print(f"stops by itself after {stops['runs']:.1f} runs ({stops['flops']:.1%} of the FLOPs), excess "
              f"{stops['plan']:.5f}")  # fmt: skip
    print(f"at {part['bar']['share']:.0%}: {part['bar']['excess_over_full']:+.5f} nats over the full grid")


if __name__ == "__main__":
    main()
