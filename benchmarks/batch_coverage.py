"""How often the interval of B_opt holds the truth, on simulated logs of known critical batch.

    python -m benchmarks.batch_coverage [--sets 60] [--json]

Logs follow S(B, L) but for white noise of .3 % of the loss at each point and a shift of .05 % of each run, as
between two runs of one configuration. `coverage` is that of the 90 % interval at the lowest, the middle and
the highest loss compared; `error` the root mean square of ln(B_opt / truth), `half_width` the median half
width of the interval in ln B.
"""

from __future__ import annotations

import argparse
import json
from typing import Any

import numpy as np
from tests.batch_curves import BATCHES, CRITICAL, batch_runs, true_critical

from lehr.fit.batch import TOLERANCE
from lehr.fit.batch_estimate import estimate_batch

CASES = {
    "five batches": (BATCHES, CRITICAL, 0.0),
    "five batches, B_min": (BATCHES, CRITICAL, 0.05),
    "three batches": (BATCHES[1:4], CRITICAL, 0.0),
    "two batches": ((1.3e5, 5.2e5), CRITICAL, 0.0),
    "three batches far above": (BATCHES[2:], 2e4, 0.0),
}


def measure(batches: tuple[float, ...], critical: float, floor: float, sets: int) -> dict[str, Any]:
    """Coverage, error and width over `sets` simulated sets of logs."""
    hits, errors, widths = [], [], []
    for seed in range(sets):
        law = estimate_batch(batch_runs(batches, critical=critical, floor=floor, seed=seed), seed=seed)
        for loss in (law.losses[0], law.reference_loss, law.losses[1]):
            truth = true_critical(loss, critical) * (1 / TOLERANCE + floor)
            low, high = law.interval(loss)
            hits.append(low <= truth <= high)
            errors.append(np.log(law.optimal(loss) / truth))
            widths.append(np.log(high / max(low, 1e-9)) / 2)
    return {
        "coverage": np.reshape(hits, (-1, 3)).mean(axis=0).tolist(),
        "error": float(np.sqrt(np.mean(np.square(errors)))),
        "half_width": float(np.median(widths)),
    }


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sets", type=int, default=60)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    found = {name: measure(*case, args.sets) for name, case in CASES.items()}
    if args.json:
        print(json.dumps(found, indent=1))
        return
    for name, row in found.items():
        shares = " ".join(f"{share:.2f}" for share in row["coverage"])
        print(f"{name:25s} coverage {shares}  error {row['error']:.3f}  half width {row['half_width']:.3f}")


if __name__ == "__main__":
    main()
