"""Train a study: each valley's LRs one after another, until its optimum is enclosed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from lehr.errors import InputError
from lehr.files import make_folder, write_atomic
from lehr.proxy.config import TrainConfig
from lehr.proxy.counts import count
from lehr.proxy.data import open_data
from lehr.proxy.diverged import Diverged
from lehr.proxy.runlog import Row
from lehr.proxy.study import (
    Cell,
    Study,
    begin_at,
    between,
    cells,
    lacking,
    least_of,
    refine_of,
    seeds_of,
    training,
)
from lehr.proxy.train import train

DIVERGED = "diverged.txt"  # in the folder of a run that did, with the reason


@dataclass(frozen=True)
class Trained:
    """One training of a study that ended.

    Parameters
    ----------
    cell, config : what was trained.
    lr, seed : peak LR of the schedule, and of the initial weights.
    params, tokens : active parameters without embeddings, and tokens trained on.
    loss : final validation loss, nats per token; NaN if it diverged.
    """

    cell: Cell
    config: TrainConfig
    lr: float
    seed: int
    params: int
    tokens: int
    loss: float


def run_study(
    study: Study, out: Path, *, only: tuple[str, ...] = ("*",), known: Mapping[str, float] | None = None,
    begin: Callable[[TrainConfig], Callable[[Row], None] | None] | None = None,
    stop: Callable[[], bool] | None = None,
) -> list[Trained] | None:  # fmt: skip
    """Train what the study asks for in folders under `out`; what is finished is left as it is.

    Parameters
    ----------
    study : the study.
    out : folder of the runs' folders.
    only : patterns of AXIS/RULE/TARGET that are trained; the base always is.
    known : final losses of runs trained elsewhere, by their names (`lehr.proxy.study.run_name`); not trained again.
    begin, stop : as for `lehr.proxy.several.train_all`.

    Returns
    -------
    All trainings of the chosen cells; None if it was stopped.

    Raises
    ------
    InputError
        If a pattern matches no cell, or as `lehr.proxy.train.train` does.
    """
    chosen = _chosen(study, only)
    found: list[Trained] = []
    optima: dict[tuple[str, str, int], float] = {}

    def measure(cell: Cell, lr: float) -> float | None:
        """Mean loss over the seeds at one LR; None if it was stopped."""
        runs = [
            _train(study, cell, lr, seed, out, known or {}, begin, stop) for seed in seeds_of(study, cell)
        ]
        done = [run for run in runs if run is not None]
        found.extend(done)
        return sum(run.loss for run in done) / len(done) if len(done) == len(runs) else None

    for cell in chosen:
        losses: dict[float, float] = {}
        start = begin_at(cell, optima, study)
        while new := lacking(losses, start, study.factor, least_of(study, cell)):
            for lr in new:
                if (loss := measure(cell, lr)) is None:
                    return None
                losses[lr] = loss
        finite = {lr: loss for lr, loss in losses.items() if not math.isnan(loss)}
        if finite:  # before it is refined, so that all levels share the LRs that are searched first
            optima[cell.axis, cell.rule, cell.level] = min(finite, key=finite.__getitem__)
        for _ in range(refine_of(study, cell)):
            if (middle := between(losses)) is None:
                break
            if (loss := measure(cell, middle)) is None:
                return None
            losses[middle] = loss
    return found


def _chosen(study: Study, only: tuple[str, ...]) -> list[Cell]:
    """Cells that match a pattern, and the base."""
    every = cells(study)
    names = {cell: f"{cell.axis}/{cell.rule}/{cell.target.label}" for cell in every if cell.level}
    for pattern in only:
        if not any(fnmatch(name, pattern) for name in names.values()):
            raise InputError(
                f"--only {pattern!r} matches nothing of study {study.name!r}: "
                f"its cells are AXIS/RULE/TARGET, such as {next(iter(names.values()))}."
            )
    return [c for c in every if not c.level or any(fnmatch(names[c], pattern) for pattern in only)]


def _train(
    study: Study, cell: Cell, lr: float, seed: int, out: Path, known: Mapping[str, float],
    begin: Callable[[TrainConfig], Callable[[Row], None] | None] | None, stop: Callable[[], bool] | None,
) -> Trained | None:  # fmt: skip
    """Train one run, or read how it ended; None if it was stopped."""
    config = training(study, cell, lr, seed)
    folder = out / config.name
    source = open_data(config.data, config.model.context)
    params = count(config.model, source.vocab_size).active_non_embedding
    tokens = config.batch_tokens * config.training.plan.steps
    if config.name in known:
        return Trained(cell, config, lr, seed, params, tokens, known[config.name])
    if (folder / DIVERGED).exists():
        return Trained(cell, config, lr, seed, params, tokens, math.nan)
    try:
        progress = begin(config) if begin else None
        result = train(config, folder, resume=True, progress=progress, stop=stop)
    except Diverged as error:
        make_folder(folder)
        write_atomic(folder / DIVERGED, f"{error}\n")
        return Trained(cell, config, lr, seed, params, tokens, math.nan)
    if not result.finished or result.val_loss is None:
        return None
    return Trained(cell, config, lr, seed, params, tokens, result.val_loss)
