"""Runs that go on from another's checkpoint: where the parent is, and whether it is the past that the branch claims."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lehr.errors import InputError, bad
from lehr.proxy.config import TrainConfig, make_config
from lehr.proxy.runlog import RunLog, read_log
from lehr.proxy.transferring import plan_of

# what must be the parent's: with anything else the joint curve would be that of no one training
SAME = ("model", "data", "optimizer", "transfer", "training.batch", "training.seed", "training.precision")
LR_TOLERANCE = 1e-9  # of the peak: rounding between two ways of writing one schedule


def find_parent(run: str, out: Path) -> Path:
    """Folder of the run to branch from: `run` as given, or beside the folder `out` of the branch.

    Raises
    ------
    InputError
        If neither is a folder.
    """
    places = (Path(run), out.parent / run)
    for place in places:
        if place.is_dir():
            return place
    raise InputError(
        f"branch.run names no folder, neither {places[0]} nor {places[1]}: train the parent first, or correct it."
    )


def check_parent(config: TrainConfig, out: Path) -> tuple[Path, RunLog]:
    """Return the parent's folder and log, once it is sure that `config` is a branch of it.

    Raises
    ------
    InputError
        If it is missing, differs in what a branch shares, used another LR before the branch, or ends before it.
    """
    assert config.branch is not None
    step = config.branch.step
    folder = find_parent(config.branch.run, out)
    log = read_log(folder)
    parent = make_config(dict(log.header["config"]), str(log.path))
    ours, theirs = (value.model_dump(mode="json") for value in (config, parent))
    for key, (mine, other) in differences(ours, theirs).items():
        if key.startswith(SAME):
            raise InputError(
                f"{key} must be that of the run it branches from ({folder}), {other!r}, got {mine!r}: correct it, "
                "or train from the start without [branch]."
            )
    if not step < config.training.plan.steps:
        raise bad(
            "branch.step", f"must lie before the schedule's last update {config.training.plan.steps - 1}", step,
            "give the schedule of the whole life, the parent's past included",
        )  # fmt: skip
    _check_past(config, parent, step, folder)
    if step > log.last:
        raise bad(
            "branch.step", f"must not exceed the {log.last} updates done in {folder}", step, "train it first"
        )
    return folder, log


def _check_past(config: TrainConfig, parent: TrainConfig, step: int, folder: Path) -> None:
    """Refuse a schedule that is not the parent's up to the branch."""
    ours, theirs = config.training.plan, parent.training.plan
    shared = np.arange(min(step, theirs.steps))
    lrs = ours.lr(shared), theirs.lr(shared)
    wrong = np.flatnonzero(np.abs(lrs[0] - lrs[1]) > LR_TOLERANCE * theirs.peak)
    if wrong.size:
        at = int(wrong[0])
        raise InputError(
            f"training.schedule must be that of {folder} up to the branch at step {step}: update {at} uses "
            f"{lrs[0][at]:.9g} here and {lrs[1][at]:.9g} there: correct it, or the step."
        )
    plans = plan_of(config), plan_of(parent)
    if plans[0] and plans[1] and plans[0].groups != plans[1].groups:
        raise InputError(
            f"the rule for tokens gives {folder} of {theirs.steps} updates other LRs or decays than a run of "
            f"{ours.steps}: branch at the same steps, or leave transfer.horizon and 'timescale' out in both."
        )
    if config.optimizer.independent and ours.peak != theirs.peak:
        raise bad(
            "training.schedule", f"must have the parent's peak {theirs.peak:g}, by which the independent decay is "
            "measured", ours.peak, "use optimizer.independent = false to rise above it",
        )  # fmt: skip


def differences(
    ours: Mapping[str, Any], theirs: Mapping[str, Any], prefix: str = ""
) -> dict[str, tuple[Any, Any]]:
    """Keys, such as "training.batch", in which two nested tables differ, with both values."""
    found: dict[str, tuple[Any, Any]] = {}
    for key in (*ours, *(key for key in theirs if key not in ours)):
        mine, other = ours.get(key), theirs.get(key)
        if isinstance(mine, Mapping) and isinstance(other, Mapping):
            found |= differences(mine, other, f"{prefix}{key}.")
        elif mine != other:
            found[f"{prefix}{key}"] = (mine, other)
    return found
