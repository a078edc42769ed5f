"""Logs as tables: CSV, TSV, Parquet, JSON-lines; one run a file.

The columns for step, loss, LR and tokens are found among the usual names below, or named by the
caller. A row without a loss is left out; the LR may stand in other rows than the loss.

The schedule is the one given, checked against the LR column if there is one; else it is read off
that column, which then must reach back to the start of training: an annealing law needs every
update's LR, and no interpolation can tell a warm-up or a drop that was not logged.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lehr.errors import InputError, bad, unknown
from lehr.runs.clean import drop_broken
from lehr.runs.readers.frame import Column, Frame, fetch, kind_of, open_frame
from lehr.runs.readers.reading import Reading, ReadOptions, deviation, stitched
from lehr.runs.run import Run
from lehr.schedule.infer import infer
from lehr.schedule.schedule import Schedule

SCHEDULE_TOLERANCE = 0.01  # of the peak: how far a given schedule may be from the logged LR
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "step": (
        "step", "_step", "steps", "iter", "iters", "iteration", "iterations", "global_step", "global step",
        "trainer/global_step", "update", "updates", "num_updates", "train/step", "train/global_step",
    ),
    "loss": (
        "loss", "train_loss", "train/loss", "train loss", "training_loss", "training loss", "train", "loss/train",
        "val_loss", "val/loss", "val loss", "valid_loss", "validation_loss", "validation loss", "val", "loss/val",
        "eval_loss", "eval/loss", "eval loss", "lm loss", "lm_loss", "lm loss validation", "loss/out",
        "train_loss_step", "train/ce loss", "loss_metrics/global_avg_loss", "validation_metrics/loss",
    ),
    "lr": (
        "lr", "learning_rate", "learning rate", "learning-rate", "train_lr", "train/lr", "train/learning_rate",
        "optim/lr", "optim/learning_rate", "optim/lr (group 0)", "lr-adam", "lr-adamw", "lr/adamw", "lr/adamw/0",
    ),
    "tokens": (
        "tokens", "total_tokens", "tokens_seen", "n_tokens_seen", "num_tokens", "num_tokens_seen",
        "consumed_tokens", "num_input_tokens_seen", "throughput/total_tokens", "optim/total_tokens",
    ),
}  # fmt: skip


def sniff(path: Path) -> bool:
    """Whether the content of a file looks like a table."""
    return kind_of(path) is not None


def read(path: Path, options: ReadOptions | None = None) -> tuple[Reading, ...]:
    """Read a table as one run.

    Raises
    ------
    InputError
        Naming the file, and the line or column: see the module's text for the rules.
    """
    options = options or ReadOptions()
    frame = open_frame(path)
    report: list[str] = []
    columns = _columns(frame, options, report)
    step = _steps(frame, columns, options, report)
    loss = columns["loss"]
    rows = np.flatnonzero(loss.present)
    if not rows.size or not np.isfinite(loss.values[rows]).any():
        raise InputError(
            f"{path}: no row has a number as its loss: name another column with --column loss=NAME."
        )
    if rows.size < step.size:
        report.append(f"{step.size - rows.size} of {step.size} rows have no loss and were left out")
    rows = _in_order(frame, step, loss.values, rows, options, report, "loss")
    points = drop_broken(step[rows], loss.values[rows])
    report += points.report
    if not points.step.size:
        raise InputError(f"{path}: no loss is a finite number above 0: give the loss in nats per token.")
    schedule = _schedule(frame, step, columns.get("lr"), float(points.step[-1]), options, report)
    try:
        run = Run(
            name=options.name or path.stem, schedule=schedule, step=points.step, loss=points.loss,
            params=options.params, params_total=options.params_total,
            batch_tokens=_batch_tokens(frame, columns, step, options, report), meta={"source": path.name},
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return (Reading(run, tuple(report)),)


def choose_columns(
    names: tuple[str, ...], asked: Mapping[str, str], where: str,
    usual_names: Mapping[str, tuple[str, ...]] = USUAL_NAMES,
) -> tuple[dict[str, str], dict[str, list[str]]]:  # fmt: skip
    """Find the column of each role: the one asked for, else the one with a usual name of the role.

    Returns
    -------
    The role -> column found, and the role -> columns that compete for it.

    Raises
    ------
    InputError
        If a role or a column that was asked for is unknown.
    """
    chosen: dict[str, str] = {}
    rivals: dict[str, list[str]] = {}
    for role in asked:
        if role not in usual_names:
            raise unknown("column role", role, usual_names)
    for role, usual in usual_names.items():
        if role in asked:
            if names.count(asked[role]) > 1:
                raise InputError(
                    f"{where} has {names.count(asked[role])} columns {asked[role]!r}: rename them."
                )
            if asked[role] not in names:
                raise unknown(f"column of {where}", asked[role], names)
            chosen[role] = asked[role]
            continue
        found = [name for name in names if name.strip().lower() in usual]
        if len(found) == 1:
            chosen[role] = found[0]
        elif found:
            rivals[role] = found
    return chosen, rivals


def _columns(frame: Frame, options: ReadOptions, report: list[str]) -> dict[str, Column]:
    """Read the columns that the run needs, by role."""
    chosen, rivals = choose_columns(frame.names, options.columns, str(frame.path))
    optional = {"tokens"} if "step" in chosen else set()
    optional |= {"lr"} if options.schedule is not None else set()
    for role, names in rivals.items():
        if role in optional:
            report.append(
                f"no {role} column was read: {', '.join(names)} compete; choose with --column {role}=NAME"
            )
            continue
        raise InputError(
            f"{frame.path}: {', '.join(map(repr, names))} could each be the {role} column: "
            f"choose one with --column {role}=NAME."
        )
    from_tokens = "tokens" in chosen and options.batch_tokens is not None
    for role in ("loss", "step"):
        if role not in chosen and not (role == "step" and from_tokens):
            raise InputError(
                f"{frame.path} has no {role} column among {', '.join(map(repr, frame.names))}: "
                f"name it with --column {role}=NAME."
            )
    report.append("columns: " + ", ".join(f"{role}={name}" for role, name in chosen.items()))
    cells = fetch(frame, list(chosen.values()))
    return {role: cells[name] for role, name in chosen.items()}


def _steps(
    frame: Frame, columns: Mapping[str, Column], options: ReadOptions, report: list[str]
) -> np.ndarray:
    """Step of every row, shape (n,), from the step column or from tokens; NaN where a row has none."""
    if "step" in columns:
        step, what = columns["step"].values, "step"
    else:
        step, what = columns["tokens"].values / float(options.batch_tokens or 1), "tokens / batch_tokens"
        near = np.round(step)
        step = np.where(np.abs(step - near) <= 1e-4 * np.maximum(near, 1), near, step)
        report.append(f"steps are tokens / {options.batch_tokens:g}")
    used = np.zeros(step.shape, dtype=bool)
    for role in ("loss", "lr"):
        if role in columns:
            used |= columns[role].present
    wrong = np.flatnonzero(used & ~(np.isfinite(step) & (step >= 0) & (step == np.floor(step))))
    if wrong.size:
        raise bad(
            f"{frame.place(int(wrong[0]))}: {what}", "must be a whole number of updates, 0 or more",
            float(step[wrong[0]]), "mend the row, or name another column with --column step=NAME",
        )  # fmt: skip
    return step


def _in_order(
    frame: Frame, step: np.ndarray, values: np.ndarray, rows: np.ndarray, options: ReadOptions,
    report: list[str], what: str,
) -> np.ndarray:  # fmt: skip
    """Return the rows left, with strictly increasing steps, joined from segments if that was asked for."""
    back = np.flatnonzero(np.diff(step[rows]) <= 0)
    if not back.size:
        return rows
    if not options.segments:
        row, before = int(rows[back[0] + 1]), int(rows[back[0]])
        raise InputError(
            f"{frame.place(row)}: steps must increase, got {step[row]:g} after {step[before]:g}: "
            "if this is a resumed run, join its segments with --segments."
        )
    joined = stitched(step[rows], values[rows], options.order, str(frame.path))
    report += [f"{what}: {line}" for line in joined.report]
    return rows[joined.kept]


def _schedule(
    frame: Frame, step: np.ndarray, lr: Column | None, last: float, options: ReadOptions, report: list[str]
) -> Schedule:
    """Return the given schedule, checked, or the one that the LR column tells."""
    if lr is None or not lr.present.any():
        if options.schedule is None:
            raise InputError(
                f"{frame.path} has no LR column: give the run's schedule with --schedule, "
                "or name the column with --column lr=NAME."
            )
        report.append("the schedule was given; there is no LR column to check it against")
        return options.schedule
    rows = np.flatnonzero(lr.present)
    wrong = rows[~(np.isfinite(lr.values[rows]) & (lr.values[rows] >= 0))]
    if wrong.size:
        raise bad(
            f"{frame.place(int(wrong[0]))}: LR", "must be a finite number of at least 0",
            float(lr.values[wrong[0]]), "mend the row, or leave the cell empty",
        )  # fmt: skip
    if options.schedule is not None:
        report.append(_check_given(frame, options.schedule, step, lr, rows))
        return options.schedule
    rows = _in_order(frame, step, lr.values, rows, options, report, "LR")
    return _inferred(frame, step[rows], lr.values[rows], last, options, report)


def _check_given(frame: Frame, schedule: Schedule, step: np.ndarray, lr: Column, rows: np.ndarray) -> str:
    """Report how far the given schedule is from the LR column, or refuse it."""
    # a log prints the LR of the update just done or of the next one: take what fits
    errors = {shift: deviation(schedule, step[rows], lr.values[rows], shift) for shift in (0, -1)}
    shift, error = min(
        errors.items(), key=lambda item: (int((item[1] > SCHEDULE_TOLERANCE).sum()), item[1].sum())
    )
    wrong = np.flatnonzero(error > SCHEDULE_TOLERANCE)
    if wrong.size:
        row = int(rows[wrong[0]])
        uses = float(schedule.lr(np.array([int(step[row]) + shift]))[0])
        raise InputError(
            f"{frame.place(row)}: the logged LR {lr.values[row]:.6g} at step {step[row]:g} contradicts the given "
            f"schedule, which uses {uses:.6g} there (more than {SCHEDULE_TOLERANCE:.0%} of its peak apart): "
            "correct --schedule, or leave it out if the log starts at step 0."
        )
    return f"the given schedule agrees with the LR column within {error.max():.2g} of its peak"


def _inferred(
    frame: Frame, step: np.ndarray, lr: np.ndarray, last: float, options: ReadOptions, report: list[str]
) -> Schedule:
    """Read the schedule off an LR column that starts at the start of training."""
    interval = float(np.median(np.diff(step))) if step.size > 1 else 1.0
    if step[0] > max(1.0, 1.5 * interval):
        raise InputError(
            f"{frame.path} starts at step {step[0]:g}, so the LR of the updates before it is unknown: "
            "give the run's whole schedule with --schedule."
        )
    try:
        found = infer(step, lr, total_steps=options.total_steps)
        if found.schedule.steps < last:  # losses go on after the last logged LR
            found = infer(step, lr, total_steps=int(last))
    except InputError as error:
        raise InputError(f"{frame.path}: {error}") from error
    report.append(
        f"schedule inferred from the LR column: {found.family}, largest deviation "
        f"{found.max_relative_error:.2g} of the peak; {found.note}"
    )
    return found.schedule


def _batch_tokens(
    frame: Frame, columns: Mapping[str, Column], step: np.ndarray, options: ReadOptions, report: list[str]
) -> float | None:
    """Tokens of one update: as given, and as the tokens column tells."""
    if "tokens" not in columns or "step" not in columns:
        return options.batch_tokens
    tokens = columns["tokens"]
    rows = np.flatnonzero(tokens.present & columns["step"].present & np.isfinite(tokens.values))
    if rows.size < 2 or step[rows].min() == step[rows].max():
        return options.batch_tokens
    slope, start = np.polyfit(step[rows], tokens.values[rows], 1)
    misfit = np.abs(start + slope * step[rows] - tokens.values[rows]).max() / np.ptp(tokens.values[rows])
    if not (slope > 0 and misfit <= 1e-3):
        report.append("tokens are not proportional to steps: no batch size was taken from them")
        return options.batch_tokens
    if options.batch_tokens is not None and abs(slope / options.batch_tokens - 1) > 0.01:
        raise bad(
            f"{frame.path}: batch_tokens", f"must agree with the tokens column, {slope:.6g} an update",
            options.batch_tokens, "correct it or leave it out",
        )  # fmt: skip
    report.append(f"batch size from the tokens column: {slope:.6g} tokens an update")
    return options.batch_tokens if options.batch_tokens is not None else float(slope)
