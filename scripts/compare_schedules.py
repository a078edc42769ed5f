"""Train what the laws ask for: free-form schedules and ways to go on, on the tiny model of the bundled runs.

Laws are fitted to bundled runs of size S: the five that `lehr demo` fits, or all twelve at the peak LR 3e-3, a
whole valley of annealing ratios. Their free-form schedules for 3,000 updates, ways to go on from a run of
1,500 that has decayed, and WSD-S are then trained on the same batches and held against their predictions.
Fourteen runs take about a quarter of an hour of one CPU core::

    OMP_NUM_THREADS=1 python scripts/compare_schedules.py
"""

from __future__ import annotations

import argparse
import fnmatch

import numpy as np
import torch

from compare_merging import advance, held_out
from lehr.anneal.continuation import compare_continuations
from lehr.anneal.optimize import optimize_schedule
from lehr.cli.demo import TRAIN
from lehr.examples import load_examples
from lehr.fit.fit import FitOptions, fit
from lehr.laws import get_law
from lehr.predict import planned
from lehr.schedule.families import rewarm, wsd, wsd_s
from make_examples import WARMUP, Run, build
from stdlib_text import BATCH, VAL_WINDOWS, Batches, load_data, windows
from tiny_model import SEQ_LEN

STEPS, PEAK = 3000, 3e-3
PLAN = {"peak": PEAK, "warmup": WARMUP}
BASE = wsd(steps=1500, decay=300, **PLAN)


def plans():
    """Return by name a schedule and the fit that predicts it."""
    runs = load_examples()
    five = tuple(runs.only(TRAIN))
    valley = tuple(r for r in runs if r.name.startswith("S-3e-3-") and not r.name.endswith("seed2"))
    laws = {
        name: fit(get_law(name), five, FitOptions())
        for name in ("weight_norm", "effective_time", "functional")
    }
    told = fit(get_law("weight_norm"), valley, FitOptions())
    found = {
        f"free form, {name}, five runs": (optimize_schedule(law, steps=STEPS, **PLAN).schedule, law)
        for name, law in laws.items()
    }
    found["free form, weight_norm, valley"] = optimize_schedule(told, steps=STEPS, **PLAN).schedule, told
    options = {o.name: o.schedule for o in compare_continuations(told, BASE, steps=STEPS, warmup=WARMUP)}
    for name in ("free", "rewarm", "hold"):
        found[f"go on: {name}"] = options[name], told
    for share in (1.0, 0.3):
        again = rewarm(base=BASE, steps=1500, peak=share * PEAK, warmup=WARMUP, decay=1400)
        found[f"go on: rewarm to {share:g} of the peak, decay 1400"] = again, told
    found["WSD-S, two periods"] = wsd_s(periods=[1500, 1500], decay=300, **PLAN), told
    for ratio in ("0.1", "0.2", "0.4", "0.6"):
        found[f"bundled: WSD, ratio {ratio}"] = runs[f"S-3e-3-wsd-r{ratio}-3000"].schedule, told
    return found


def main():
    """Print the predicted and the measured final loss of every schedule, nats per byte."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="*", help="schedules to train, as a shell pattern")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(1)
    data, text, _ = load_data()
    starts = np.linspace(0, len(text) - SEQ_LEN - 1, VAL_WINDOWS).astype(np.int64)
    val = [windows(text, part) for part in np.split(starts, VAL_WINDOWS // BATCH)]
    for name, (schedule, law) in plans().items():
        if not fnmatch.fnmatch(name, args.only):
            continue
        end = np.array([float(schedule.steps)])
        predicted = law.evaluate(planned(law, schedule, None, None, None), end, tolerance=1e-3)[0]
        model, optimiser = build(Run(name, "S", "constant", STEPS, PEAK, seed=args.seed))
        advance(model, optimiser, Batches(data, args.seed), schedule, 0, lambda step: None)
        print(f"{name:50s} predicted {predicted:.4f}  measured {held_out(model, val):.4f}", flush=True)


if __name__ == "__main__":
    main()
