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
from lehr.runs.readers import names
from lehr.runs.readers.batches import batch_of_tokens
from lehr.runs.readers.frame import Column, Frame, fetch, kind_of, open_frame
from lehr.runs.readers.reading import Reading, ReadOptions, stitched
from lehr.runs.readers.scheduling import LoggedLR, find_schedule
from lehr.runs.run import Run

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "step": names.STEPS,
    "loss": (*names.LOSSES["train"], *names.LOSSES["val"]),
    "lr": names.LRS,
    "tokens": names.TOKENS,
}


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
    logged = _logged_lr(frame, step, columns.get("lr"), options, report)
    schedule = find_schedule(str(frame.path), logged, float(points.step[-1]), options, report)
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
    for role, found in rivals.items():
        if role in optional:
            report.append(
                f"no {role} column was read: {', '.join(found)} compete; choose with --column {role}=NAME"
            )
            continue
        raise InputError(
            f"{frame.path}: {', '.join(map(repr, found))} could each be the {role} column: "
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


def _logged_lr(
    frame: Frame, step: np.ndarray, lr: Column | None, options: ReadOptions, report: list[str]
) -> LoggedLR | None:
    """Return the rows that have an LR."""
    if lr is None:
        return None
    rows = np.flatnonzero(lr.present)

    def in_order() -> np.ndarray:
        return np.searchsorted(rows, _in_order(frame, step, lr.values, rows, options, report, "LR"))

    return LoggedLR(step[rows], lr.values[rows], lambda row: frame.place(int(rows[row])), in_order)


def _batch_tokens(
    frame: Frame, columns: Mapping[str, Column], step: np.ndarray, options: ReadOptions, report: list[str]
) -> float | None:
    """Tokens of one update: as given, and as the tokens column tells."""
    if "tokens" not in columns or "step" not in columns:
        return options.batch_tokens
    tokens = columns["tokens"]
    rows = np.flatnonzero(tokens.present & columns["step"].present & np.isfinite(tokens.values))
    return batch_of_tokens(step[rows], tokens.values[rows], options.batch_tokens, str(frame.path), report)


def looks_like_a_run(path: Path) -> bool:
    """Whether a table has a column of losses, and of steps or tokens, under usual names."""
    try:
        columns = open_frame(path).names
    except InputError:
        return False
    return bool(names.among(columns, USUAL_NAMES["loss"])) and bool(
        names.among(columns, (*names.STEPS, *names.TOKENS))
    )
