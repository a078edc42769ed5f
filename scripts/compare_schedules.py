"""Train what the laws ask for: free-form schedules and ways to go on, on the proxy of size S of the bundled runs.

Laws are fitted to bundled runs: five at two peak LRs, or all twelve of 1,000 and 2,000 updates at the peak
LR 3e-3, a whole valley of annealing ratios. Their free-form schedules for 2,000 updates, ways to go on from a run of
1,000 that has decayed, and WSD-S are then trained on the same batches and held against their predictions. Each branches
from the bundled run that shares most of its past. What is trained in DIR is left as it is, so the call can be stopped
and repeated, and DIR may be that of make_examples.py. About ten minutes of one CPU core::

    OMP_NUM_THREADS=1 python scripts/compare_schedules.py --out DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from compare_merging import PEAK, STEPS, variant
from lehr.anneal.continuation import compare_continuations
from lehr.anneal.optimize import optimize_schedule
from lehr.examples import load_examples
from lehr.examples.configs import WARMUP, bundled
from lehr.fit.fit import FitOptions, fit
from lehr.fit.result import FitResult
from lehr.laws import get_law
from lehr.predict import planned
from lehr.proxy.several import train_all
from lehr.schedule.families import rewarm, wsd_s
from lehr.schedule.schedule import Schedule

CONFIGS = {config.name: config for config in bundled()}
PARENTS = [CONFIGS[name] for name in ("S-3e-3-constant-2000", "S-3e-3-wsd-r0.2-1000")]
FIVE = (
    "S-1.5e-3-constant-2000", "S-1.5e-3-wsd-r0.2-2000", "S-3e-3-constant-2000", "S-3e-3-wsd-r0.2-2000",
    "S-3e-3-wsd-r0.4-1000",
)  # fmt: skip
BASE = PARENTS[1].training.plan
PLAN = {"peak": PEAK, "warmup": WARMUP}


def plans() -> dict[str, tuple[Schedule, FitResult]]:
    """Return by name a schedule and the fit that predicts it."""
    runs = load_examples()
    five = tuple(runs.only(FIVE))
    valley = tuple(r for r in runs if r.name.startswith("S-3e-3-") and r.name.endswith(("-1000", "-2000")))
    told = fit(get_law("weight_norm"), valley, FitOptions())
    laws = {
        f"{name}-five": fit(get_law(name), five, FitOptions())
        for name in ("weight_norm", "effective_time", "functional")
    }
    found = {
        f"free-{name}": (optimize_schedule(law, steps=STEPS, **PLAN).schedule, law)
        for name, law in {**laws, "weight_norm-valley": told}.items()
    }
    options = {o.name: o.schedule for o in compare_continuations(told, BASE, steps=STEPS, warmup=WARMUP)}
    for name in ("before decay", "free", "rewarm", "hold"):
        found[f"go-on-{name.replace(' ', '-')}"] = options[name], told
    for share in (1.0, 0.3):
        more = {"steps": STEPS - BASE.steps, "decay": STEPS - BASE.steps - WARMUP}
        again = rewarm(base=BASE, peak=share * PEAK, warmup=WARMUP, **more)
        found[f"go-on-rewarm-to-{share:g}"] = again, told
    found["wsd-s"] = wsd_s(periods=[BASE.steps, STEPS - BASE.steps], decay=200, **PLAN), told
    return found


def past(schedule: Schedule) -> tuple[str, int] | None:
    """Run and step to branch from: the last checkpoint that a run of this schedule would have passed."""
    lrs = schedule.to_array()
    shared = [
        (step, config.name)
        for config in PARENTS
        for step in (*config.training.keep, config.training.plan.steps)
        if step < schedule.steps
        and np.allclose(config.training.plan.to_array()[:step], lrs[:step], rtol=0, atol=1e-12)
    ]
    return max(shared)[::-1] if shared else None


def main() -> None:
    """Print the predicted and the measured final loss of every schedule, nats per token."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    found = plans()
    configs = [variant(name, schedule, past(schedule)) for name, (schedule, _) in found.items()]
    results = train_all([*PARENTS, *configs], args.out, begin=lambda config: print(config.name, flush=True))
    measured = {result.name: result.val_loss or 0.0 for result in results}
    runs = load_examples()
    told = found["free-weight_norm-valley"][1]
    for ratio in ("0.1", "0.2", "0.4", "0.6", "0.8"):
        run = runs[f"S-3e-3-wsd-r{ratio}-2000"]
        found[run.name], measured[run.name] = (run.schedule, told), run.final_loss
    for name, (schedule, law) in found.items():
        end = np.array([float(schedule.steps)])
        predicted = law.evaluate(planned(law, schedule, None, None, None), end, tolerance=1e-3)[0]
        print(f"{name:30s} predicted {predicted:.4f}  measured {measured[name]:.4f}")


if __name__ == "__main__":
    main()
