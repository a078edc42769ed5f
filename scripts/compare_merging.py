"""Hold merged checkpoints against real decays, on the proxy of size S of the bundled runs.

A trunk at constant LR leaves a checkpoint every 20 updates; linear decays of several lengths branch off it and end
where it ends, on the same batches. The merge of the trunk's checkpoints by the weights of the same decay
(`lehr.anneal.merging`) then competes with each on the held-out sequences, at several intervals between the
checkpoints. 7,000 updates in all, about five minutes of one CPU core; what is trained in DIR is left as it is, so the
call can be stopped and repeated::

    OMP_NUM_THREADS=1 python scripts/compare_merging.py --out DIR --seeds 1 2
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from lehr.anneal.merging import decay_weights
from lehr.checkpoints.averaging import merge_checkpoints
from lehr.examples.configs import WARMUP, bundled
from lehr.proxy.checkpoint import checkpoint_path
from lehr.proxy.config import Branch, TrainConfig
from lehr.proxy.data import open_data
from lehr.proxy.distributed import joined
from lehr.proxy.session import Session, open_session, validate
from lehr.proxy.several import train_all
from lehr.schedule.families import wsd
from lehr.schedule.schedule import Schedule
from lehr.schedule.spec import to_text

TRUNK = {config.name: config for config in bundled()}["S-3e-3-constant-2000"]
STEPS, PEAK = 2000, 3e-3
DECAYS = (100, 400, 1000)
EVERY = 20
INTERVALS = (20, 100, 200, 500)


def variant(
    name: str, schedule: Schedule, branch: tuple[str, int] | None = None, **training: object
) -> TrainConfig:
    """Return the bundled trunk's configuration under another schedule, validated at its end alone."""
    values = {"schedule": to_text(schedule), "validate_every": schedule.steps, "keep": (), **training}
    return TRUNK.model_copy(
        update={
            "name": name,
            "training": TRUNK.training.model_copy(update=values),
            "branch": Branch(run=branch[0], step=branch[1]) if branch else None,
        }
    )


def trainings(seed: int) -> list[TrainConfig]:
    """Return the trunk, which keeps its checkpoints over the longest decay, and the decays branched from it."""
    trunk, keep = f"trunk-seed{seed}", tuple(range(STEPS - max(DECAYS), STEPS, EVERY))
    decays = [
        variant(
            f"decay-{decay}-seed{seed}",
            wsd(steps=STEPS, peak=PEAK, warmup=WARMUP, decay=decay),
            (trunk, STEPS - decay),
            seed=seed,
        )
        for decay in DECAYS
    ]
    return [variant(trunk, TRUNK.training.plan, seed=seed, keep=keep), *decays]


def compare(seed: int, out: Path, session: Session) -> dict[str, float]:
    """Return the final loss of the trunk, of each decay and of each merge, by name."""
    trunk, *decays = train_all(trainings(seed), out, begin=lambda config: print(config.name, flush=True))
    found = {"end of the trunk": trunk.val_loss or 0.0}
    for decay, trained in zip(DECAYS, decays, strict=True):
        found[f"decay of {decay}"] = trained.val_loss or 0.0
        for interval in (each for each in INTERVALS if decay % each == 0):
            steps = list(range(STEPS - decay, STEPS + 1, interval))
            paths = [checkpoint_path(trunk.folder, step) for step in steps]
            for shape in ("linear", "sqrt"):
                merged = out / "merged.safetensors"
                merge_checkpoints(paths, decay_weights(steps, shape).tolist(), merged)
                session.model.load_state_dict(load_file(merged))
                found[f"merge of {decay}, every {interval}, {shape}"] = validate(session)
    return found


def main() -> None:
    """Print one row a way to end: its loss and its gain over the end of the trunk, nats per token."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    args = parser.parse_args()
    torch.set_num_threads(1)
    with joined() as ranks:
        session = open_session(TRUNK, open_data(TRUNK.data, TRUNK.model.context), ranks)
        tables = [compare(seed, args.out, session) for seed in args.seeds]
    for name in tables[0]:
        losses = [table[name] for table in tables]
        gains = [table["end of the trunk"] - table[name] for table in tables]
        print(f"{name:35s}", *(f"{v:.4f}" for v in losses), " gain", *(f"{v:+.4f}" for v in gains))


if __name__ == "__main__":
    main()
