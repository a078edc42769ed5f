"""Logs of lehr's own trainings: JSON lines, a header and then a row an update (see `lehr.proxy.runlog`).

The header tells everything but the losses, so nothing is guessed: the schedule is its spec, held against the LR of
every row. Two losses may be read:

- "val" (the default): `val_loss` at step s, measured after s updates;
- "train": `train_loss` of the row at step s was measured before update s - 1 changed the weights, on sequences that
  were not seen before, so it is the loss after s - 1 updates and is read as such.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lehr.errors import InputError, bad, unknown
from lehr.runs.clean import drop_broken
from lehr.runs.readers.fields import mapping, parse_json
from lehr.runs.readers.reading import Reading, ReadOptions, check_file, deviation, split_of
from lehr.runs.run import Run
from lehr.schedule.schedule import Schedule
from lehr.schedule.spec import parse

VERSION = 1
LR_TOLERANCE = 1e-6  # of the peak: how far a logged LR may be from the schedule
LOSSES = {"val": "val_loss", "train": "train_loss"}
HEADER_LIMIT = 1 << 20  # characters


def sniff(path: Path) -> bool:
    """Whether the first line is the header of such a log."""
    with path.open("rb") as file:
        line = file.readline(HEADER_LIMIT)
    if not line.startswith(b'{"lehr_run_log"'):
        return False
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def read(path: Path, options: ReadOptions | None = None) -> tuple[Reading, ...]:
    """Read the log of one run, with the losses of `options.split`, or of the column named for the role loss.

    Raises
    ------
    InputError
        Naming the file, and the field or line that is missing, malformed or contradicts the schedule.
    """
    options = options or ReadOptions()
    header, rows = _lines(check_file(path))
    column = _column(options)
    report: list[str] = []
    schedule = _schedule(path, header, rows, options)
    step, loss = _points(path, rows, column, report)
    parent, branch_step = _branch(path, header)
    if branch_step is not None:
        step, loss = step[step > branch_step], loss[step > branch_step]
        report.append(f"branched from {parent!r} after {branch_step} updates")
    if not step.size:
        raise InputError(
            f"{path}: no row has a {column} yet: wait for the training, or choose the other split."
        )
    points = drop_broken(step, loss)
    report += points.report
    try:
        run = Run(
            name=options.name or str(header.get("name") or path.stem), schedule=schedule, step=points.step,
            loss=points.loss, parent=parent, branch_step=branch_step,
            params=options.params or header.get("params"),
            params_total=options.params_total or header.get("params_total"),
            batch_tokens=options.batch_tokens or header.get("batch_tokens"), meta=_meta(path, header, column),
        )  # fmt: skip
    except (InputError, TypeError) as error:
        raise InputError(f"{path}: {error}") from error
    return (Reading(run, tuple(report)),)


def _lines(path: Path) -> tuple[Mapping[str, Any], list[Mapping[str, Any]]]:
    """Header and rows; a last line without its end, as a killed writer leaves, is not there yet."""
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")[:-1]
    header = mapping(parse_json(lines[0] if lines else "", f"{path}, line 1"), f"{path}, line 1")
    if header.get("lehr_run_log") != VERSION:
        raise bad(
            f"{path}, line 1: lehr_run_log", f"must be {VERSION}", header.get("lehr_run_log"),
            "read the log with the version of lehr that wrote it",
        )  # fmt: skip
    rows = []
    for number, line in enumerate(lines[1:], start=2):
        where = f"{path}, line {number}"
        rows.append(mapping(parse_json(line, where), where))
    if not rows:
        raise InputError(f"{path} has no row yet: wait for the training.")
    return header, rows


def _branch(path: Path, header: Mapping[str, Any]) -> tuple[str | None, int | None]:
    """Name of the run it branched from, and the updates done then."""
    parent, branch_step = header.get("parent"), header.get("branch_step")
    if parent is not None and not isinstance(parent, str):
        raise bad(f"{path}, line 1: parent", "must be a name", parent, "train the run again")
    whole = isinstance(branch_step, int) and not isinstance(branch_step, bool) and 0 <= branch_step < 2**53
    if branch_step is not None and not whole:
        raise bad(
            f"{path}, line 1: branch_step", "must be a count of updates", branch_step, "train the run again"
        )
    return parent, branch_step


def _column(options: ReadOptions) -> str:
    split = split_of(options, LOSSES)
    for role in options.columns:
        if role != "loss":
            raise unknown("column role of a lehr run log", role, ["loss"])
    column = options.columns.get("loss", LOSSES[split])
    if column not in LOSSES.values():
        raise unknown("column of a lehr run log", column, LOSSES.values())
    return column


def _numbers(path: Path, rows: list[Mapping[str, Any]], name: str) -> np.ndarray:
    """A column as numbers, NaN where a row lacks it; shape (n,)."""
    out = np.full(len(rows), np.nan)
    for index, row in enumerate(rows):
        value = row.get(name)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise bad(f"{path}, line {index + 2}: {name}", "must be a number", value, "train the run again")
        try:
            out[index] = value
        except OverflowError:  # a whole number beyond any float
            out[index] = np.inf if value > 0 else -np.inf
    return out


def _points(
    path: Path, rows: list[Mapping[str, Any]], column: str, report: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Steps and losses of a column, shape (n,)."""
    step, loss = _numbers(path, rows, "step"), _numbers(path, rows, column)
    wrong = np.flatnonzero(~(np.diff(step, prepend=-1) > 0))
    if wrong.size:
        at = int(wrong[0])
        raise bad(
            f"{path}, line {at + 2}: step", "must rise from row to row", rows[at].get("step"),
            "train the run again",
        )  # fmt: skip
    there = np.isfinite(loss)
    step, loss = step[there], loss[there]
    report.append(f"columns: step=step, loss={column}; {len(step)} of {len(rows)} rows have it")
    if column == "train_loss":
        report.append("the training loss of row s is read at step s - 1: it was measured before that update")
        step = step - 1
    return step, loss


def _schedule(
    path: Path, header: Mapping[str, Any], rows: list[Mapping[str, Any]], options: ReadOptions
) -> Schedule:
    """Return the schedule of the header, or the one given, held against the logged LRs."""
    try:
        schedule = options.schedule or parse(str(header.get("schedule")))
    except InputError as error:
        raise InputError(f"{path}, line 1: schedule: {error}") from None
    step, lr = _numbers(path, rows, "step"), _numbers(path, rows, "lr")
    there = np.isfinite(step) & np.isfinite(lr)
    apart = deviation(schedule, step[there], lr[there], shift=-1)
    wrong = np.flatnonzero(apart > LR_TOLERANCE)
    if wrong.size:
        at = wrong[0]
        uses = float(schedule.lr(np.array([int(step[there][at]) - 1]))[0])
        raise InputError(
            f"{path}: the LR {lr[there][at]:.9g} logged at step {step[there][at]:g} contradicts the "
            f"{'given' if options.schedule else 'logged'} schedule, which uses {uses:.9g} there: "
            f"{'leave out --schedule' if options.schedule else 'train the run again'}."
        )
    return schedule


def _meta(path: Path, header: Mapping[str, Any], column: str) -> dict[str, str | float | int | bool | None]:
    """What else is worth keeping: scalars only."""
    split = next(split for split, name in LOSSES.items() if name == column)
    meta: dict[str, str | float | int | bool | None] = {"source": path.name, "split": split}
    told = header.get("meta")
    for key, value in (told if isinstance(told, Mapping) else {}).items():
        if isinstance(value, str | int | float):
            meta[str(key)] = value
    for key in ("entropy", "flops_per_token"):
        if isinstance(header.get(key), int | float):
            meta[key] = header[key]
    return meta
