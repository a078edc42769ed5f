"""Peak-LR laws on public sweeps: leave one (N, D) group out, predict its best LR, and count what following it costs.

    python -m benchmarks.lr_sweeps FILE... [--json]

FILEs are tables of final losses over LR, batch size, N and D (those of arXiv 2503.04715: `smooth loss`, batches in
sequences of 2048). A group of MoE runs has one number of active parameters too.

One rule for every law: the excess loss of a group is the loss at the predicted LR, interpolated linearly in ln LR
between the group's runs at its best batch size, over the group's lowest loss (`lehr.peaklr.score`). A law that uses
the batch is told that batch size, as a user would tell it the one that is planned. `own_batch_excess_mean` is the cost
where the law chooses the batch as well (own laws by the best-batch law of the training groups): the measured batch
size nearest to its choice, over the group's lowest loss at any. A group whose LRs enclose no optimum is fitted with the
others but scores nothing (`not_scored`).

Laws: `oracle` is the hidden group's own parabola; `chosen` is picked within the training groups of each fold by leaving
out one more group at a time (`lehr.peaklr.choose`), so that no test group has a say in it; the others of that module
are listed too. Published laws are as published (`lehr.peaklr.published`); `NAME_anchored` keeps the exponents and takes
the prefactor from the optima of the training groups. `abs_dln_lr` is the mean |ln LR - ln LR of the oracle|.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.common import print_table
from lehr.errors import InputError
from lehr.peaklr.batch import BestBatchLaw, fit_batch_law
from lehr.peaklr.choose import CANDIDATES, choose_law, fit_candidate, rule_of
from lehr.peaklr.optima import Optimum, measure_optima
from lehr.peaklr.published import LAWS, Planned, PublishedLaw
from lehr.peaklr.reading import load_sweep_table
from lehr.peaklr.score import Rule, measured_excess
from lehr.peaklr.table import SweepGroup, SweepTable
from lehr.peaklr.valley import fit_valley

SEQUENCE_LENGTH = 2048
CHOSEN = "chosen"
ANCHORED = "_anchored"


@dataclass
class Scores:
    """Excess losses of one law over the groups, and the distances of its LR from the oracle's."""

    excess: list[float] = field(default_factory=list)
    own_batch: list[float] = field(default_factory=list)
    distance: list[float] = field(default_factory=list)

    def row(self) -> dict[str, float | None]:
        """The law's row of the table."""
        return {
            "excess_loss_mean": float(np.mean(self.excess)),
            "excess_loss_max": float(np.max(self.excess)),
            "abs_dln_lr": float(np.mean(self.distance)),
            "own_batch_excess_mean": float(np.mean(self.own_batch)) if self.own_batch else None,
        }


def published_rule(law: PublishedLaw, optima: tuple[Optimum, ...] | None = None) -> Rule:
    """A published law as a rule; with `optima`, its prefactor is the median of those over the law's ratio."""
    scale = 1.0
    if optima is not None:
        ratios = [o.lr / law.lr.value(Planned(o.params, o.tokens, o.active), law.of_total) for o in optima]
        scale = float(np.exp(np.median(np.log(ratios))))
    return lambda group: scale * law.lr.value(Planned(group.params, group.tokens, group.active), law.of_total)


def own_batch_excess(group: SweepGroup, rule: Rule, batch: float) -> float:
    """Excess over the group's lowest loss at any batch, at the measured batch nearest to `batch`."""
    part = group.at_batch(min(group.batches, key=lambda size: abs(np.log(size / batch))))
    floor = float(np.nanmin(group.table.loss))
    return measured_excess(part, rule(part)) + float(np.nanmin(part.table.loss)) - floor


def rules_without(table: SweepTable, held: int) -> tuple[dict[str, Rule], str, BestBatchLaw | None]:
    """Every law fitted or anchored without group number `held`; what was chosen; the law of the best batch."""
    train = table.select(table.group_numbers() != held)
    choice = choose_law(train)
    rules = {}
    for name, candidate in CANDIDATES.items():
        if name in choice.excess:
            rules[name] = rule_of(fit_candidate(candidate, train)[0])
    rules[CHOSEN] = rules[choice.chosen]
    optima, _ = measure_optima(train, "parabola")
    for name, law in LAWS.items():
        if law.lr.prefactor is not None:
            rules[name] = published_rule(law)
        rules[name + ANCHORED] = published_rule(law, optima)
    return rules, choice.chosen, fit_batch_law(train, draws=0)[0] if table.batch_tokens is not None else None


def batch_of(name: str, group: SweepGroup, own: BestBatchLaw | None) -> float | None:
    """The batch size that a law chooses for a group, if it does."""
    law = LAWS.get(name.removesuffix(ANCHORED))
    if law is not None:
        planned = Planned(group.params, group.tokens, group.active)
        return None if law.batch is None else law.batch.value(planned, law.of_total)
    return None if own is None else own.predict(group.params, group.tokens, group.active).batch_tokens


def benchmark(table: SweepTable, progress: Callable[[str], None]) -> dict[str, Any]:
    """Leave each group out and score all laws on it."""
    scores: dict[str, Scores] = {}
    picked: Counter[str] = Counter()
    groups = table.groups()
    not_scored: list[str] = []
    for held, group in enumerate(groups):
        progress(f"group {held + 1} of {len(groups)}: {group.name}")
        best = group.best_batch()
        try:
            oracle = fit_valley(best.table.lr, best.table.loss, "parabola", where=best.name).lr
        except InputError as error:
            not_scored.append(str(error))
            continue
        rules, chosen, own = rules_without(table, held)
        picked[chosen] += 1
        for name, rule in {"oracle": lambda _, lr=oracle: lr, **rules}.items():
            row = scores.setdefault(name, Scores())
            lr = rule(best)
            if lr <= 0:  # Kaplan's line, far out
                continue
            row.excess.append(measured_excess(best, lr))
            row.distance.append(abs(float(np.log(lr / oracle))))
            batch = None if name == "oracle" else batch_of(name, group, own)
            if batch is not None:
                row.own_batch.append(own_batch_excess(group, rule, batch))
    scored = len(groups) - len(not_scored)
    return {
        "groups": scored,
        "laws": {name: row.row() for name, row in scores.items() if len(row.excess) == scored},
        "chosen": CHOSEN,
        "chosen_by_fold": dict(picked),
        "not_scored": not_scored,
    }


def load(path: Path) -> SweepTable:
    """Read one of the public tables."""
    return load_sweep_table(path, {"loss": "smooth loss"}, SEQUENCE_LENGTH)


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found: Mapping[str, Any] = {
        path.name: benchmark(load(path), lambda text: print(text, file=sys.stderr)) for path in args.files
    }
    if args.json:
        print(json.dumps({"files": found}, indent=1))
        return
    columns = ("excess_loss_mean", "excess_loss_max", "abs_dln_lr", "own_batch_excess_mean")
    for name, result in found.items():
        title = f"{name}: {result['groups']} groups; chosen by fold: {result['chosen_by_fold']}"
        print_table(
            title, dict(sorted(result["laws"].items(), key=lambda r: r[1]["excess_loss_mean"])), columns
        )


if __name__ == "__main__":
    main()
