"""A sweep from logged runs: their final losses, under one recipe.

Runs differ in peak LR, length, size and batch alone: a final loss under another schedule, weight decay or data set
belongs to another valley.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from lehr.errors import InputError
from lehr.peaklr.table import SweepTable
from lehr.runs.run import Run
from lehr.units import tokens_for_steps

AT_END = 0.995  # share of the schedule that a log must reach to hold the final loss
FREE = ("steps", "peak", "warmup")  # arguments of a schedule in which the runs of a sweep may differ
LENGTHS = ("decay", "final")  # taken over the steps and the peak


def table_of(runs: Iterable[Run]) -> SweepTable:
    """Take the final loss and the peak LR of runs that reached their end, trunks aside, from which others branch.

    Parameters
    ----------
    runs : with the number of parameters and the batch size known. `params` of a run are the active ones; a run of a
        model of experts (`experts` in its meta) counts its `params_total` as all parameters.

    Raises
    ------
    InputError
        If there is none, one does not tell its size or batch, its log ends early, or the recipes differ.
    """
    rows: list[tuple[float, ...]] = []
    names: list[str] = []
    recipes: dict[tuple[str, ...], str] = {}
    runs = tuple(runs)
    trunks = {run.parent for run in runs}
    for run in runs:
        if run.name in trunks:
            continue
        for what, value in (("params", run.params), ("batch_tokens", run.batch_tokens)):
            if value is None:
                option = f"--{what.replace('_', '-')}"
                raise InputError(f"run {run.name!r} does not tell its {what}: import it with {option}.")
        active, batch = run.params or 0.0, run.batch_tokens or 0.0
        total = run.params_total if run.meta.get("experts") and run.params_total else active
        tokens = tokens_for_steps(run.steps, batch)
        rows.append((run.schedule.peak, final_loss(run), max(total, active), tokens, active, batch))
        names.append(run.name)
        recipes.setdefault(recipe(run), run.name)
    if not rows:
        raise InputError("there is no run: give at least one.")
    if len(recipes) > 1:
        (one, first), (other, second) = list(recipes.items())[:2]
        raise InputError(
            f"the runs are of {len(recipes)} recipes, such as {first!r} ({', '.join(filter(None, one))}) and "
            f"{second!r} ({', '.join(filter(None, other))}), whose final losses are of different valleys: "
            "choose those of one."
        )
    lr, loss, params, tokens, active, batch = np.array(rows).T
    return SweepTable(
        lr, loss, params, tokens, active if (active < params).any() else None, batch, tuple(names)
    )


def recipe(run: Run) -> tuple[str, ...]:
    """What must be the same for runs of one sweep, in words."""
    family, arguments = run.schedule.call or ("a schedule of another kind", ())
    parts = [family]
    for name, value in arguments:
        if name in LENGTHS:
            over = run.steps if name == "decay" else run.schedule.peak
            parts.append(
                f"{name} {float(str(value)) / over:.2g} of {'the steps' if name == 'decay' else 'the peak'}"
            )
        elif name not in FREE:
            parts.append(f"{name} {value}")
    return (
        " ".join(parts),
        *(f"{name} {run.meta[name]}" if name in run.meta else "" for name in ("dataset", "split", "weight_decay")),
    )  # fmt: skip


def final_loss(run: Run) -> float:
    """Loss at the end of `run`: its `final_val_loss` if it tells one, else its last point.

    Raises
    ------
    InputError
        If its log ends before `AT_END` of the schedule.
    """
    told = run.meta.get("final_val_loss")
    if isinstance(told, float):
        return told
    if run.step[-1] < AT_END * run.steps:
        raise InputError(
            f"run {run.name!r} ends at step {run.step[-1]:g} of {run.steps}: its final loss is not known; "
            "leave it out, or finish it."
        )
    return run.final_loss
