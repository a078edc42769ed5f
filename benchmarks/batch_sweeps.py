"""What a table of final losses over LR, batch, N and D says about the batch.

    python -m benchmarks.batch_sweeps FILE [--json]

FILE is dense.csv of the Step Law repository (arXiv 2503.04715): whole runs at a tuned LR, not curves at one LR, so
this tests the forms of `lehr.fit.batch`, not its estimate. Two questions.

`best_batch`: the batch of the lowest loss of each (N, D) group, as a power law in the loss, in D, and in N with
either: R^2 and the root mean square of ln B over groups left out one at a time.

`updates`: at each N, the updates to a loss (ln D interpolated over the loss at each batch), fitted by S(B, L)
with and without B_min: misfit of ln S, the same for batches left out one at a time (the outermost apart), and
the batch of fewest tokens that the form implies beside the measured one.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import PchipInterpolator

from lehr.fit.updates import Updates, fit_updates, middle

SEQUENCE = 2048
LEVELS = 12
Table = dict[float, dict[float, dict[float, float]]]  # N -> D -> batch in tokens -> loss


def valley(x: np.ndarray, y: np.ndarray, reach: int = 1) -> tuple[float, float]:
    """Place and depth of the minimum of a parabola through the points around the lowest."""
    order = np.argsort(x)
    x, y = x[order], y[order]
    low = int(np.argmin(y))
    if low in (0, len(x) - 1):
        return float(x[low]), float(y[low])
    near = slice(max(0, low - reach), low + reach + 1)
    a, b, c = np.polyfit(x[near] - x[low], y[near], 2)
    return float(x[low] - b / (2 * a)), float(c - b**2 / (4 * a))


def load(path: Path) -> Table:
    """Loss of each (N, D, batch) at its best LR."""
    rows: dict[tuple[float, float, float], list[tuple[float, float]]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            key = (float(row["N"]), float(row["D"]), float(row["bs"]) * SEQUENCE)
            rows.setdefault(key, []).append((np.log(float(row["lr"])), float(row["smooth loss"])))
    table: Table = {}
    for (size, tokens, batch), points in sorted(rows.items()):
        lr, loss = np.array(points).T
        table.setdefault(size, {}).setdefault(tokens, {})[batch] = valley(lr, loss)[1]
    return table


def best_batch(table: Table) -> dict[str, Any]:
    """Power laws of the best batch of each group."""
    groups = []
    for size, by_tokens in table.items():
        for tokens, by_batch in by_tokens.items():
            batch, loss = valley(np.log(list(by_batch)), np.array(list(by_batch.values())), reach=2)
            groups.append((np.log(size), np.log(tokens), np.log(loss), batch))
    size, tokens, loss, batch = np.array(groups).T
    found: dict[str, Any] = {"groups": len(batch)}
    for name, columns in {
        "loss": (loss,),
        "tokens": (tokens,),
        "params, loss": (size, loss),
        "params, tokens": (size, tokens),
    }.items():
        design = np.column_stack([np.ones(len(batch)), *columns])
        weights = np.linalg.lstsq(design, batch, rcond=None)[0]
        residual = batch - design @ weights
        hat = np.einsum("ij,ji->i", design, np.linalg.pinv(design))
        found[name] = {
            "exponents": weights[1:].tolist(),
            "r2": float(1 - residual.var() / batch.var()),
            "left_out_rms": float(np.sqrt(np.mean((residual / (1 - hat)) ** 2))),
        }
    return found


def left_out(log_updates: np.ndarray, batch: np.ndarray, losses: np.ndarray, floor: bool) -> np.ndarray:
    """Root mean square error of ln S at each batch when it is left out."""
    errors = []
    for i in range(len(batch)):
        others = np.arange(len(batch)) != i
        found = fit_updates(log_updates[others], batch[others], losses, floor)
        errors.append(np.sqrt(np.mean((told(found, batch[i], losses) - log_updates[i]) ** 2)))
    return np.array(errors)


def told(found: Updates, batch: float, losses: np.ndarray) -> np.ndarray:
    """The form's ln S at `batch`."""
    x = np.exp(found.search[0] + found.search[1] * np.log(middle(losses) / losses)) / batch
    return found.log_fewest + np.log1p(x / np.maximum(1 - found.search[2] * x, 1e-4))


def updates(by_tokens: dict[float, dict[float, float]]) -> dict[str, Any]:
    """S(B, L) at one N, from the losses of several D."""
    tokens = sorted(by_tokens)
    batch = np.array(sorted(set.intersection(*(set(by_tokens[d]) for d in tokens))))
    loss = np.array([[by_tokens[d][b] for d in tokens] for b in batch])
    high, low = loss[:, 0].min(), loss[:, -1].max()
    losses = np.exp(np.linspace(np.log(high) - 1e-3, np.log(low) + 1e-3, LEVELS))
    log_updates = np.stack(
        [
            PchipInterpolator(-row, np.log(tokens))(-losses) - np.log(b)
            for row, b in zip(loss, batch, strict=True)
        ]
    )
    found: dict[str, Any] = {"losses": [low, high], "batches": batch.tolist()}
    for name, floor in (("hyperbola", False), ("with_floor", True)):
        fit = fit_updates(log_updates, batch, losses, floor)
        apart = left_out(log_updates, batch, losses, floor)
        share = fit.search[2]
        found[name] = {
            "critical_at_middle": float(np.exp(fit.search[0])),
            "middle_loss": middle(losses),
            "exponent": float(fit.search[1]),
            "floor": float(share),
            "misfit": float(np.sqrt(np.mean(fit.residual**2))),
            "left_out_inner": float(np.sqrt(np.mean(apart[1:-1] ** 2))),
            "left_out_smallest": float(apart[0]),
            "left_out_largest": float(apart[-1]),
            "fewest_tokens": float(np.exp(fit.search[0]) * (share + np.sqrt(share))),
        }
    needed = np.log(batch)[:, None] + log_updates
    found["measured_fewest_tokens"] = float(
        np.exp(np.median([valley(np.log(batch), c)[0] for c in needed.T]))
    )
    return found


def main() -> None:
    """Run the benchmark from the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    table = load(args.file)
    found = {
        "best_batch": best_batch(table),
        "updates": {f"{size:.4g}": updates(by_tokens) for size, by_tokens in table.items()},
    }
    if args.json:
        print(json.dumps(found, indent=1))
        return
    for name, row in found["best_batch"].items():
        if name != "groups":
            powers = ", ".join(f"{p:.2f}" for p in row["exponents"])
            print(
                f"best batch in {name:15s} exponents {powers:15s} R2 {row['r2']:.3f} left out {row['left_out_rms']:.3f}"
            )
    for size, at in found["updates"].items():
        for name in ("hyperbola", "with_floor"):
            print(f"N {size} {name:10s} " + "  ".join(f"{k} {v:.4g}" for k, v in at[name].items()))
        print(f"N {size} measured fewest tokens at batch {at['measured_fewest_tokens']:.4g}")


if __name__ == "__main__":
    main()
