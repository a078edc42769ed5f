"""Free-form schedules: lehr's search against the recipe of the Multi-Power Law's authors; what laws say of extremes.

    python -m benchmarks.optimize DIR... [--iterations 10000] [--json]

DIR holds the nine CSVs of one size (arXiv 2503.12811); laws are fitted on the three training curves. Plan: 24,000
updates, peak LR 3e-4, final LR free or at least 3e-5.

Reference: Adam on the fall of the LR at every update, kept at or above 0; the LR is clamped at 1e-10 or at the
final LR; LR of Adam 5e-9, 10,000 iterations, from a constant LR (the released code's setting). Its best iterate
counts. Its gradient is written out here, so that no part of lehr is timed with it. It runs on the law as
fitted and with the parameters that the authors released.

Every loss is the law's, update by update. The law rewards jumps: a fall relaxes at the LR right after it, to the power
-gamma. Adam's solution holds a few, each of some percent of the peak; `reference_smooth_loss` is that of its
moving mean over 101 updates. `stairs_loss` is that of lehr's search among schedules that may jump. Seconds are
those of the processor.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import mpl_curves
from benchmarks.common import one_size_laws
from lehr.anneal.family_search import search_family
from lehr.anneal.optimize import optimize_schedule
from lehr.fit.fit import FitOptions, fit
from lehr.fit.result import FitResult
from lehr.laws import get_law
from lehr.laws.law import Conditions
from lehr.schedule.families import constant, from_array, wsd
from lehr.schedule.schedule import Schedule, Segment

STEPS, WARMUP, PEAK = 24000, 2160, 3e-4
FINALS = (0.0, 3e-5)
FLOOR = 1e-10
# alpha, C, beta, gamma, L0, A, B of the released code's README
RELEASED = {
    "csv_25": (0.508, 2.066, 0.583, 0.641, 3.040, 0.525, 363.8),
    "csv_100": (0.453, 2.132, 0.598, 0.655, 2.651, 0.601, 437.9),
}
SMOOTH = 101  # updates


def loss_of(result: FitResult, lr: np.ndarray | Schedule) -> float:
    """Final loss of a schedule, update by update."""
    schedule = lr if isinstance(lr, Schedule) else from_array(values=lr)
    end = np.array([float(schedule.steps)])
    return float(result.evaluate(Conditions(schedule), end, tolerance=0.0)[0])


def multi_power(
    parameters: np.ndarray, area: float, floor: float, falls: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """Final loss for falls from PEAK after an LR sum of `area`, its slope by the falls, and the LRs."""
    alpha, rate, beta, gamma, bottom, amplitude, gain = parameters
    raw = PEAK - np.cumsum(falls)
    lr = np.maximum(raw, floor)
    fall = -np.diff(lr, prepend=PEAK)
    ahead = np.cumsum(lr[::-1])[::-1]
    total = area + ahead[0]
    scale = rate * lr**-gamma
    kernel = (1 + scale * ahead) ** -beta
    loss = bottom + amplitude * total**-alpha - gain * fall @ (1 - kernel)
    bend = fall * beta * kernel / (1 + scale * ahead) * scale
    by_lr = -alpha * amplitude * total ** (-alpha - 1) - gain * (np.cumsum(bend) - gamma * bend * ahead / lr)
    by_lr += gain * (1 - kernel)
    by_lr[:-1] -= gain * (1 - kernel[1:])
    by_lr[raw <= floor] = 0.0
    return float(loss), -np.cumsum(by_lr[::-1])[::-1], lr


def reference(parameters: np.ndarray, warm: np.ndarray, floor: float, iterations: int) -> np.ndarray:
    """LRs that the published recipe finds, warm-up included."""
    falls = np.zeros(STEPS - WARMUP)
    mean, square = np.zeros_like(falls), np.zeros_like(falls)
    lowest, best = np.inf, falls
    for i in range(1, iterations + 1):
        loss, slope, lr = multi_power(parameters, warm.sum(), floor, falls)
        if loss < lowest:
            lowest, best = loss, lr
        mean = 0.9 * mean + 0.1 * slope
        square = 0.999 * square + 0.001 * slope * slope
        step = mean / (1 - 0.9**i) / (np.sqrt(square / (1 - 0.999**i)) + 1e-8)
        falls = np.maximum(falls - 5e-9 * step, 0.0)
    return np.concatenate([warm, best])


def form(lr: np.ndarray, final: float) -> tuple[float, float]:
    """Decaying share of the updates after the warm-up, and k, of the (1 - x)^k decay nearest to `lr`."""
    from scipy.optimize import minimize

    left = 1 - np.arange(STEPS - WARMUP) / (STEPS - WARMUP)
    share = (lr[WARMUP:] - final) / (PEAK - final)

    def miss(p: np.ndarray) -> float:
        return float(np.sum((np.minimum(left / np.exp(p[0]), 1.0) ** p[1] - share) ** 2))

    fits = [minimize(miss, [np.log(d), 1.5], method="Nelder-Mead") for d in (0.1, 0.2, 0.4)]
    best = min(fits, key=lambda f: f.fun).x
    return float(np.exp(best[0])), float(best[1])


def smooth(lr: np.ndarray) -> np.ndarray:
    """Moving mean of the LRs after the warm-up, never rising."""
    after = np.pad(lr[WARMUP:], SMOOTH // 2, mode="edge")
    mean = np.convolve(after, np.ones(SMOOTH) / SMOOTH, "valid")
    return np.concatenate([lr[:WARMUP], np.minimum.accumulate(mean)])


def against_reference(result: FitResult, final: float, iterations: int) -> dict[str, float]:
    """One plan by both."""
    plan: dict[str, Any] = {"steps": STEPS, "peak": PEAK, "final": final, "warmup": WARMUP}
    floor = max(final, FLOOR)
    optimize_schedule(result, steps=600, peak=PEAK, warmup=0)  # imports are not timed
    begin = time.process_time()
    found = optimize_schedule(result, **plan)
    seconds = time.process_time() - begin
    ours = found.schedule.to_array()
    warm = constant(steps=STEPS, peak=PEAK, warmup=WARMUP).to_array()[:WARMUP]
    begin = time.process_time()
    theirs = reference(result.vector, warm, floor, iterations)
    reference_seconds = time.process_time() - begin
    falls = -np.diff(theirs[WARMUP - 1 :])
    apart = loss_of(result, theirs) - multi_power(result.vector, warm.sum(), floor, falls)[0]
    if abs(apart) > 1e-5:
        raise SystemExit(f"the reference's formula is {apart:g} off the law's: one of them is wrong")
    share, exponent = form(ours, final)
    reference_share, reference_exponent = form(theirs, final)
    return {
        "loss": loss_of(result, ours), "reference_loss": loss_of(result, theirs),
        "reference_smooth_loss": loss_of(result, smooth(theirs)),
        "reference_jump": float(falls.max() / PEAK),
        "stairs_loss": loss_of(result, optimize_schedule(result, stairs=True, **plan).schedule),
        "wsd_loss": loss_of(result, found.wsd.schedule), "seconds": seconds,
        "reference_seconds": reference_seconds, "ratio": seconds / reference_seconds, "decay_share": share,
        "exponent": exponent, "reference_decay_share": reference_share, "reference_exponent": reference_exponent,
        "end_over_peak": float(ours[-1] / PEAK),
    }  # fmt: skip


def probe(result: FitResult) -> dict[str, float | None]:
    """What a law says of extremes, as changes from the loss of the best linear WSD schedule.

    `padding`: a tenth more updates at LR 0. `best_scale`: the factor of 1, 2, 4 ... 1024 on the LR with the
    lowest loss. `best_drop`: constant LR and one drop, the best of a grid of levels and times. `free`, `stairs`: the
    free form, of lines and of stairs.
    """
    wsd_best = search_family(
        result, steps=STEPS, peak=PEAK, warmup=WARMUP, shapes=("linear",), finals=(0.0,)
    )[0]
    base = loss_of(result, wsd_best.schedule)
    padded = wsd_best.schedule.then(Schedule((Segment(STEPS // 10, 0.0, 0.0),)))
    scales = [2.0**k for k in range(11)]
    plan = {"steps": STEPS, "warmup": WARMUP, "decay": wsd_best.decay_steps}
    scaled = [loss_of(result, wsd(peak=scale * PEAK, **plan)) for scale in scales]
    flat = constant(steps=STEPS, peak=PEAK, warmup=WARMUP)
    drops = [
        loss_of(result, flat.first(STEPS - late).then(Schedule((Segment(late, level, level),))))
        for late in np.geomspace(10, 12000, 12).astype(int).tolist()
        for level in (PEAK * np.geomspace(1e-6, 0.5, 10)).tolist()
    ]
    out: dict[str, float | None] = {
        "wsd_loss": base, "wsd_ratio": wsd_best.ratio, "padding": loss_of(result, padded) - base,
        "best_scale": scales[int(np.argmin(scaled))], "best_drop": min(drops) - base, "free": None,
        "stairs": None, "fall_share": None, "free_seconds": None,
    }  # fmt: skip
    if not result.get_law().degenerate:
        begin = time.process_time()
        found = optimize_schedule(result, steps=STEPS, peak=PEAK, warmup=WARMUP)
        out["free_seconds"] = time.process_time() - begin
        out["free"] = loss_of(result, found.schedule) - base
        jumping = optimize_schedule(result, steps=STEPS, peak=PEAK, warmup=WARMUP, stairs=True)
        out["stairs"] = loss_of(result, jumping.schedule) - base
        out["fall_share"] = None if found.fall_steps is None else found.fall_steps / STEPS
    return out


def benchmark(folder: Path, iterations: int) -> dict[str, Any]:
    """Both comparisons for the curves of one folder."""
    runs = tuple(mpl_curves.load(folder, name) for name in mpl_curves.PROTOCOLS["three"][0])
    fitted = fit(get_law("multi_power"), runs, FitOptions())
    sources = {"fitted": fitted}
    if folder.name in RELEASED:
        values = dict(zip(fitted.parameters, RELEASED[folder.name], strict=True))
        sources["released"] = replace(fitted, parameters=values)
    return {
        "multi_power": {
            source: {f"{final:g}": against_reference(result, final, iterations) for final in FINALS}
            for source, result in sources.items()
        },
        "laws": {
            law.name: probe(fit(law, runs, FitOptions())) for law in one_size_laws() if law.needs_anneal
        },
    }


def show(title: str, rows: dict[str, dict[str, Any]]) -> None:
    """Print one line a row and column."""
    print(f"\n{title}")
    names = list(rows)
    print(f"{'':24s}" + "".join(f"{name:>22s}" for name in names))
    for column in rows[names[0]]:
        cells = (rows[name][column] for name in names)
        print(f"{column:24s}" + "".join(f"{'-':>22s}" if c is None else f"{c:22.6f}" for c in cells))


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--iterations", type=int, default=10000)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    out = {"sizes": {folder.name: benchmark(folder, args.iterations) for folder in args.folders}}
    if args.json:
        print(json.dumps(out, indent=1))
        return
    for size, found in out["sizes"].items():
        cases = {
            f"{source}, final {final}": row
            for source, by_final in found["multi_power"].items()
            for final, row in by_final.items()
        }
        show(f"{size}: Multi-Power, lehr against the released recipe", cases)
        show(f"{size}: what laws say of extremes", found["laws"])


if __name__ == "__main__":
    main()
