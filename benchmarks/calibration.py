"""Are intervals as often right as they say? Simulated runs of known parameters, with noise like that of real ones.

    python -m benchmarks.calibration [--law NAME]... [--repeats 100] [--json]

The plan of the runs is that of `benchmarks.wsd_runs --train five`, every 400 updates. The noise has the parts that
two MPL runs of one schedule and the residuals of the 124M runs show: a white one of .025 %; a wander, an
Ornstein-Uhlenbeck process of .03 % at 25,000 updates, of more before, that forgets over 4,000 updates; a
difference from the start of .2 % at 2,000 updates that falls as their power -1.5; and an offset of .01 %. The
intervals know of none but the first: they take the rest for one wander that forgets over a share of the run.

True parameters with a prior are drawn from it, those of the other laws are fixed. `data_alone` is the
coverage of the intervals without priors, over those that no bound opens; `data_open` the share of the others.
`accused` is the share of fits in which a bias is called significant though the law is true (meant: .05 at most).
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np

from benchmarks.common import print_table
from lehr.fit.bias import find_biases
from lehr.fit.fit import FitOptions, fit
from lehr.fit.linearised import reopen
from lehr.fit.noise import estimate_noise
from lehr.fit.profile import Interval, profile
from lehr.fit.uncertainty import bootstrap
from lehr.laws import get_law
from lehr.laws.law import Conditions, Law
from lehr.runs.run import Run
from lehr.schedule.families import constant, wsd

WHITE, WANDER, START, OFFSET = 2.5e-4, 3e-4, 5e-4, 1e-4
MEMORY, AT = 4000.0, 25000.0  # of the wander, updates; where its size is meant
EARLY, FALL = 2000.0, 1.5  # where the difference from the start is meant, and how fast it falls
LEVEL = 0.9
# nonlinear parameters without a prior
TRUTH: dict[str, dict[str, float]] = {
    "weight_norm": {},
    "effective_time": {"exponent": 0.5, "rate": 40.0, "relaxation_exponent": 2.0, "noise_exponent": 0.4},
    "multi_power": {"exponent": 0.5, "rate": 2.0, "relaxation_exponent": 0.6, "lr_exponent": 0.6},
    "tissue": {"exponent": 0.5, "memory": 500.0},
}
NATS = (2.7, 0.25, 0.2)  # the three terms at the end of the first or the second schedule, the larger
SCHEDULES = {
    "constant, 1e-3": constant(steps=50000, peak=1e-3, warmup=300),
    "ratio .2, 1e-3": wsd(steps=50000, peak=1e-3, warmup=300, decay=10000),
    "ratio .4, 1e-3": wsd(steps=25000, peak=1e-3, warmup=300, decay=10000),
    "constant, 2e-3": constant(steps=50000, peak=2e-3, warmup=300),
    "ratio .4, 2e-3": wsd(steps=25000, peak=2e-3, warmup=300, decay=10000),
}


def draw_truth(law: Law, rng: np.random.Generator) -> np.ndarray:
    """Parameters of a law: as listed or from their priors; amplitudes that make the terms as large as `NATS`."""
    nonlinear = []
    for p in law.nonlinear:
        value = TRUTH[law.name].get(p.name, -np.inf)
        while not p.low < value < p.high:
            assert p.prior is not None, f"give a value of {p.name}"
            value = p.from_search(rng.normal(*p.prior))
        nonlinear.append(value)
    at_end = [
        law.bind(Conditions(schedule), np.array([float(schedule.steps)]))(np.array(nonlinear))[0][0]
        for schedule in list(SCHEDULES.values())[:2]
    ]
    return np.concatenate([nonlinear, np.array(NATS) / np.max(np.abs(at_end), axis=0)])


def simulate(law: Law, truth: np.ndarray, rng: np.random.Generator) -> tuple[Run, ...]:
    """Runs of a law of known parameters, under white, wandering and constant errors."""
    runs = []
    for name, schedule in SCHEDULES.items():
        steps = np.arange(400, schedule.steps + 1, 400)
        count = len(law.nonlinear)
        loss = law.bind(Conditions(schedule), steps, FitOptions().tolerance)(truth[:count])[0] @ truth[count:]
        size = WANDER * np.sqrt(AT / steps)
        shape = np.linalg.cholesky(np.exp(-np.abs(steps[:, None] - steps) / MEMORY))
        error = size * (shape @ rng.standard_normal(len(steps)))
        error += WHITE * rng.standard_normal(len(steps)) + OFFSET * rng.standard_normal()
        error += START * (EARLY / steps) ** FALL * rng.standard_normal()
        runs.append(Run(name, schedule, steps, loss * (1 + error), meta={"weight_decay": 0.1}))
    return tuple(runs)


def holds(interval: Interval, value: float) -> bool:
    """Whether the interval holds `value`, an open side holding all."""
    return (interval.open_low or interval.low <= value) and (interval.open_high or value <= interval.high)


def benchmark(name: str, repeats: int, draws: int) -> dict[str, Any]:
    """Coverage of profile intervals, with and without priors, and of bootstrap intervals, by parameter; false flags."""
    law = get_law(name)
    rng = np.random.default_rng(0)
    hits: dict[str, list[tuple[bool, bool, bool, bool]]] = {}
    accused = 0
    for repeat in range(repeats):
        truth = draw_truth(law, rng)
        runs = simulate(law, truth, rng)
        result = fit(law, runs, FitOptions())
        opened = reopen(result, runs)
        biases = find_biases(opened, runs, estimate_noise(opened))
        accused += any(row.significant for part in biases.values() for row in part)
        values = dict(zip(result.parameters, truth.tolist(), strict=True))
        drawn = bootstrap(result, runs, draws, repeat).intervals if draws else {}
        for found in profile(result, runs, LEVEL):
            true = values[found.name]
            low, high = drawn.get(found.name, (np.nan, np.nan))
            is_open = found.data.open_low or found.data.open_high
            hits.setdefault(found.name, []).append(
                (holds(found.interval, true), holds(found.data, true), is_open, low <= true <= high)
            )
    rows: dict[str, Any] = {}
    for parameter, rows_of in hits.items():
        table = np.array(rows_of)
        shut = ~table[:, 2]
        rows[parameter] = {
            "profile": float(table[:, 0].mean()),
            "data_alone": float(table[shut, 1].mean()) if shut.any() else None,
            "data_open": float(table[:, 2].mean()),
            "bootstrap": float(table[:, 3].mean()) if draws else None,
        }
    return {"parameters": rows, "accused": accused / repeats}


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--law", action="append", choices=TRUTH, dest="laws")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--draws", type=int, default=0, help="of the bootstrap beside it; 0: none")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = {name: benchmark(name, args.repeats, args.draws) for name in args.laws or TRUTH}
    if args.json:
        print(json.dumps(out, indent=1))
        return
    for name, found in out.items():
        mean = np.mean([row["profile"] for row in found["parameters"].values()])
        print_table(
            f"{name}: coverage of {LEVEL:.0%} intervals, mean {mean:.3f}; accused of a bias {found['accused']:.3f}",
            found["parameters"], ("profile", "data_alone", "data_open", "bootstrap"),
        )  # fmt: skip


if __name__ == "__main__":
    main()
