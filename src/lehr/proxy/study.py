"""A study of how the best peak LR moves: one base, changed along several axes, under several rules of transfer.

Every cell of a study, a rule at a target, has a valley of final loss against the peak LR. Which LRs are trained is
found out on the way (`lacking`), so that a valley costs four or five runs wherever it lies. No torch.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from lehr.errors import InputError, bad
from lehr.proxy.config import (
    Count,
    Data,
    Model,
    Optimizer,
    Part,
    Positive,
    Share,
    TrainConfig,
    make_config,
    read_toml,
)
from lehr.transfer.tables import get_rule

KEEP = "sp"  # the rule that changes no LR: at the base all rules are this one
MOST = 12  # LRs tried in one valley


class Target(Part):
    """What differs from the base; keys of `[model]`, or the length.

    Parameters
    ----------
    steps, batch : updates and sequences an update.
    depth, width, heads, ffn_width : of the model.
    experts, top_k, expert_width : of its experts.
    seeds : of its valleys alone, whatever the rule; the largest target, which is predicted, may want more.
    """

    steps: Count | None = None
    batch: Count | None = None
    depth: Count | None = None
    width: Count | None = None
    heads: Count | None = None
    ffn_width: Count | None = None
    experts: Count | None = None
    top_k: Count | None = None
    expert_width: Count | None = None
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] | None = None

    @property
    def label(self) -> str:
        """Name among the targets: what differs, the heads and seeds aside."""
        given = self.model_dump(exclude_none=True, exclude={"heads", "seeds"})
        return "-".join(f"{key}{value}" for key, value in given.items()) or "base"


class Axis(Part):
    """One direction of growth.

    Parameters
    ----------
    targets : from the smallest to the largest; the last is the one that is predicted.
    rules : names of rules of transfer.
    least, refine : of its valleys; by default as the study's. Noisy ones want more.
    seeds : of the valleys of single rules; those of the others as the study's.
    """

    targets: Annotated[tuple[Target, ...], Field(min_length=1)]
    rules: Annotated[tuple[str, ...], Field(min_length=1)]
    least: Annotated[int, Field(ge=3)] | None = None
    refine: Annotated[int, Field(ge=0, le=8)] | None = None
    seeds: dict[str, Annotated[tuple[int, ...], Field(min_length=1)]] = {}

    @model_validator(mode="after")
    def _seeds_of_its_rules(self) -> Self:
        unknown = [rule for rule in self.seeds if rule not in self.rules]
        if unknown:
            raise ValueError(f"seeds: {unknown[0]} is none of the axis's rules, {', '.join(self.rules)}")
        return self


class Study(Part):
    """The tables of a study's file.

    Parameters
    ----------
    name : of the study; run names begin with it.
    model, data, optimizer : of the base, as for `lehr train`.
    steps, batch : updates of the base and sequences an update.
    warmup, ratio : shares of the updates that raise and that decay the LR, linearly, to 0.
    start : peak LR at which the search of the base's valley begins.
    factor : between neighbouring LRs.
    least : LRs of a valley, each `factor` from the next.
    refine : LRs put between the best one and the better of its neighbours after that, one after another.
    seeds : of the initial weights; each LR is trained with each.
    base_seeds : of the base, on which every way of predicting rests and which is cheap; by default as `seeds`.
    validation_sequences : that the final loss is measured on.
    axes : by name.
    """

    name: Annotated[str, Field(min_length=1, max_length=60)]
    model: Model
    data: Data = Data()
    optimizer: Optimizer = Optimizer()
    steps: Count
    batch: Count
    warmup: Share = 0.1
    ratio: Share = 0.4
    start: Positive
    factor: Annotated[float, Field(gt=1.1)] = 2.0
    least: Annotated[int, Field(ge=3)] = 4
    refine: Annotated[int, Field(ge=0, le=8)] = 0
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (1,)
    base_seeds: tuple[int, ...] = ()
    validation_sequences: Count = 512
    axes: Annotated[dict[str, Axis], Field(min_length=1)]

    @model_validator(mode="after")
    def _known_rules(self) -> Self:
        for axis in self.axes.values():
            for rule in axis.rules:
                get_rule(rule)
        return self


@dataclass(frozen=True)
class Cell:
    """A valley of a study: a rule at a target.

    Parameters
    ----------
    axis, rule : names; the base belongs to no axis and has rule `KEEP`.
    target : what differs from the base.
    level : 0 for the base, then 1 for the smallest target of the axis.
    """

    axis: str
    rule: str
    target: Target
    level: int

    @property
    def name(self) -> str:
        """Of its runs, without study, LR and seed."""
        return "base" if self.level == 0 else f"{self.rule}-{self.target.label}"


BASE = Cell("", KEEP, Target(), 0)


def run_name(study: str, cell: str, lr: float, seed: int) -> str:
    """Name of a training, by the names of its study and of its cell."""
    return f"{study}-{cell}-lr{lr:.3g}-seed{seed}"


def seeds_of(study: Study, cell: Cell) -> tuple[int, ...]:
    """Seeds that each LR of a cell is trained with."""
    if cell.level == 0:
        return study.base_seeds or study.seeds
    return cell.target.seeds or study.axes[cell.axis].seeds.get(cell.rule, study.seeds)


def least_of(study: Study, cell: Cell) -> int:
    """LRs that a cell's valley is to have."""
    own = study.axes[cell.axis].least if cell.level else None
    return own or study.least


def refine_of(study: Study, cell: Cell) -> int:
    """LRs that are put between those of a cell's valley."""
    own = study.axes[cell.axis].refine if cell.level else None
    return study.refine if own is None else own


def cells(study: Study) -> list[Cell]:
    """The base, then every target of every axis under every rule, smaller ones first."""
    found = [BASE]
    for name, axis in study.axes.items():
        for level, target in enumerate(axis.targets, start=1):
            found += [Cell(name, rule, target, level) for rule in axis.rules]
    return found


def training(study: Study, cell: Cell, lr: float, seed: int) -> TrainConfig:
    """Return one training of a cell.

    Raises
    ------
    InputError
        If the target's keys do not fit the base, or the rule refuses it.
    """
    target = cell.target
    steps, batch = target.steps or study.steps, target.batch or study.batch
    spec = (
        f"wsd(steps={steps}, peak={lr:.6g}, warmup={round(study.warmup * steps)}, "
        f"decay={round(study.ratio * steps)})"
    )
    values: dict[str, Any] = {
        "name": run_name(study.name, cell.name, lr, seed),
        "model": _model(study.model, target),
        "data": study.data.model_dump(), "optimizer": study.optimizer.model_dump(),
        "training": {
            "schedule": spec, "batch": batch, "seed": seed, "validate_every": steps,
            "validate_sequences": study.validation_sequences,
        },
    }  # fmt: skip
    if cell.level:
        base = {"model": study.model.model_dump(), "batch": study.batch, "steps": study.steps}
        values["transfer"] = {"rule": cell.rule, "base": base}
    return make_config(values, f"study {study.name!r}, target {target.label}")


def _model(base: Model, target: Target) -> dict[str, Any]:
    """The base's table with what the target changes."""
    values = base.model_dump()
    for key in ("depth", "width", "heads", "ffn_width"):
        if getattr(target, key) is not None:
            values[key] = getattr(target, key)
    for key, name in (("experts", "count"), ("top_k", "top_k"), ("expert_width", "width")):
        value = getattr(target, key)
        if value is None:
            continue
        if values["experts"] is None:
            raise bad(
                f"target {target.label}: {key}", "needs a base with experts", value, "add [model.experts]"
            )
        values["experts"] = {**values["experts"], name: value}
    return values


def lacking(losses: Mapping[float, float], start: float, factor: float, least: int) -> list[float]:
    """LRs to train next in a valley; none once its optimum is enclosed by `least` LRs.

    The lowest loss must have a neighbour on either side, then neighbours are added where the loss is lower. A run
    that diverged counts as the highest.

    Parameters
    ----------
    losses : final loss by LR, so far; NaN where the run diverged.
    start : LR to begin at.
    factor, least : see `Study`.
    """
    if not losses:
        return [start / factor, start, start * factor]
    grid = sorted(losses)
    loss = [math.inf if math.isnan(losses[lr]) else losses[lr] for lr in grid]
    if len(grid) >= MOST:
        return []
    best = min(range(len(grid)), key=loss.__getitem__)
    below, above = grid[0] / factor, grid[-1] * factor
    if math.isinf(loss[best]) or best == 0:
        return [below]
    if best == len(grid) - 1:
        return [above]
    if len(grid) < least:
        return [below if loss[best - 1] < loss[best + 1] else above]
    return []


def between(losses: Mapping[float, float]) -> float | None:
    """LR in the middle between the best one and the better of its neighbours; None where no loss is known.

    Parameters
    ----------
    losses : final loss by LR; NaN where the run diverged, which counts as the highest.
    """
    grid = sorted(losses)
    loss = [math.inf if math.isnan(losses[lr]) else losses[lr] for lr in grid]
    best = min(range(len(grid)), key=loss.__getitem__, default=0)
    beside = [i for i in (best - 1, best + 1) if 0 <= i < len(grid)]
    if not beside or math.isinf(loss[best]):
        return None
    return math.sqrt(grid[best] * grid[min(beside, key=loss.__getitem__)])


def begin_at(cell: Cell, optima: Mapping[tuple[str, str, int], float], study: Study) -> float:
    """LR at which the search of a cell's valley begins: the best trained one of the next smaller level."""
    for level in range(cell.level - 1, 0, -1):
        if (cell.axis, cell.rule, level) in optima:
            return optima[cell.axis, cell.rule, level]
    return optima.get(("", KEEP, 0), study.start)


def load_study(path: Path) -> Study:
    """Read the TOML file of a study.

    Raises
    ------
    InputError
        If the file is missing, no TOML, or a key is unknown, missing or wrong; the message names file and key.
    """
    try:
        return Study.model_validate(read_toml(path))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"{path}: {where}: {first['msg'].removeprefix('Value error, ')}.") from None
