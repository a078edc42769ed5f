"""Is the floor found where runs come near it? Proxies on the synthetic language of 64 words, and the fitted floor.

Models of sizes XS, S and M (lehr.examples.configs) at peak LR 3e-3: a constant trunk, cooldowns to 2,000 and 1,000
updates, a cosine. Laws are fitted to each size alone and to all; their irreducible loss is held against the loss of
the language itself on the validation sequences. What is trained in DIR is left as it is. About eight minutes of
one CPU core::

    OMP_NUM_THREADS=1 python scripts/find_floor.py --out DIR
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from lehr.errors import InputError
from lehr.examples.configs import VALIDATION, family, with_branch_points
from lehr.fit.fit import FitOptions, fit
from lehr.laws import LAWS
from lehr.proxy.config import TrainConfig
from lehr.proxy.data import open_data
from lehr.proxy.language import make_language
from lehr.proxy.several import train_all
from lehr.runs.parents import resolve_parents
from lehr.runs.readers import read

SIZES, WORDS, PEAK = ("S", "XS", "M"), 64, "3e-3"
OPTIONS = FitOptions(burn_in=200)


def configs() -> list[TrainConfig]:
    """Return all trainings."""
    found: list[TrainConfig] = []
    for size in SIZES:
        found += family(size, PEAK, 2000, (0.2, 0.4), cosine=0.1)
        found += family(size, PEAK, 1000, (0.2, 0.4), trunk=2000)
    return [
        config.model_copy(update={"data": config.data.model_copy(update={"vocab_size": WORDS})})
        for config in with_branch_points(found)
    ]


def main() -> None:
    """Train, fit, and print each floor and by how much it is off."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)
    wanted = configs()
    train_all(wanted, args.out, remark=print)
    runs, _ = resolve_parents(read(args.out / config.name / "log.jsonl")[0].run for config in wanted)
    source = open_data(wanted[0].data, wanted[0].model.context)
    validation = source.validation(VALIDATION)
    floor = float(make_language(wanted[0].data.seed, WORDS).surprisal(validation).mean())
    print(f"floor {floor:.4f}; lowest loss {min(run.final_loss for run in runs):.4f}")
    for law in LAWS.values():
        for size in ("all",) if law.needs_sizes else SIZES:
            names = [run.name for run in runs if size == "all" or run.name.startswith(f"{size}-")]
            try:
                told = fit(law, runs.only(names), OPTIONS).parameters["irreducible_loss"]
            except InputError as error:
                print(f"{law.name:22s} {size:4s} {error}")
                continue
            print(f"{law.name:22s} {size:4s} {told:.4f} {told / floor - 1:+.1%}")


if __name__ == "__main__":
    main()
