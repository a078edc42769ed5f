"""Coordinate checks of the proxies: slopes of every module's scale, under right rules and under SP.

    OMP_NUM_THREADS=1 python -m benchmarks.coord_check [--out FOLDER] [--json]

Widths 64 to 512 and depths 2 to 16, dense and mixture of experts, some minutes on one core. Every slope and a verdict
for each check: under the right rule all are to be within .1 of 0, and under SP not. `--out` writes the figures.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import torch

from lehr.cli.coord_check import to_json, to_text
from lehr.files import make_folder, write_atomic
from lehr.proxy.config import TrainConfig, make_config
from lehr.proxy.coordcheck import Check, check_rule
from lehr.report.charts.coordinates import coordinate_check
from lehr.report.draw_matplotlib import draw as draw_chart
from lehr.report.draw_matplotlib import to_png

SIZES: dict[Any, Any] = {"width": (64, 128, 256, 512), "depth": (2, 4, 8, 16)}
RIGHT: dict[Any, int] = {
    "width": 3,
    "depth": 6,
}  # seeds: small models of many depths are cheap, and scatter more
WRONG: dict[Any, int] = {"width": 1, "depth": 1}
# rule, whether a mixture of experts, seeds by scale
CHECKS: tuple[tuple[str, bool, dict[Any, int]], ...] = (
    ("completep", False, RIGHT),
    ("mup", False, {"width": 3}),
    ("completep-moe", True, RIGHT),
    ("mup-moe", True, {"width": 3}),
    ("sp", False, WRONG),
    ("sp", True, WRONG),
    ("mup", False, {"depth": 1}),
)
EXPERTS = {"count": 8, "top_k": 2}
# losses at half and twice of it are in docs/coordinate-check.md
PEAK = "3e-3"


def base(experts: bool) -> TrainConfig:
    """The base: few words and small initial weights, see docs/coordinate-check.md."""
    model: dict[str, Any] = {"depth": 2, "width": 64, "heads": 4, "context": 64, "init_std": 0.01}
    values = {
        "name": "moe" if experts else "dense",
        "model": model | ({"experts": EXPERTS} if experts else {}),
        "data": {"vocab_size": 64},
        "training": {"schedule": f"wsd(steps=600, peak={PEAK}, warmup=60, decay=120)", "batch": 8},
    }
    return make_config(values)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    found: list[dict[str, Any]] = []
    for rule, experts, scales in CHECKS:
        checks = []
        for scale, seeds in scales.items():
            began = time.perf_counter()
            check = check_rule(base(experts), rule, {scale: SIZES[scale]}, seeds=seeds)
            found.append({"seconds": time.perf_counter() - began, **to_json(check)})
            checks.append(check)
            if not args.json:
                print(
                    f"\n{check.base}, {seeds} seeds, {found[-1]['seconds']:.0f} s\n{to_text(check)}",
                    flush=True,
                )
        if args.out:
            draw(checks, args.out / f"coordinates-{rule}-{checks[0].base}-{'-'.join(scales)}.png")
    if args.json:
        print(json.dumps(found, indent=1))


def draw(checks: list[Check], path: Path) -> None:
    """Write the figure of one rule over all its scales."""
    verdicts = [verdict for check in checks for verdict in check.verdicts]
    readings = [reading for check in checks for reading in check.readings]
    make_folder(path.parent)
    chart = coordinate_check(verdicts, readings, f"{checks[0].rule}, {checks[0].base} proxies")
    write_atomic(path, to_png(draw_chart(chart), dpi=100))


if __name__ == "__main__":
    main()
