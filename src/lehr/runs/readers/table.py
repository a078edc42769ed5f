"""Logs as tables: CSV, TSV, Parquet, JSON-lines; one run a file, or one for each name in a column of names.

The columns for step, losses, LR and tokens are found among the usual names below, or named by the
caller. A row without a loss is left out; the LR may stand in other rows than the loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lehr.errors import InputError, unknown
from lehr.runs.clean import only
from lehr.runs.readers import names
from lehr.runs.readers.frame import Column, Frame, fetch, fetch_text, kind_of, open_frame
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions

RUNS = ("run", "run_id", "run_name", "run id", "run name")
USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "step": names.STEPS,
    "loss": tuple(
        name for kind in (names.LOSSES, names.BITS) for split in names.SPLITS for name in kind[split]
    ),
    "lr": names.LRS,
    "tokens": names.TOKENS,
}


def sniff(path: Path) -> bool:
    """Whether the content of a file looks like a table."""
    return kind_of(path) is not None


def logs(path: Path, options: ReadOptions) -> tuple[Log, ...]:
    """Read the columns that a run may need; one log, or one for each value of a column of run names.

    Raises
    ------
    InputError
        Naming the file, and the line or column: see the module's text for the rules.
    """
    frame = open_frame(path)
    report: list[str] = []
    step_name, wanted = _columns(frame, options, report)
    cells = fetch(frame, [step_name, *wanted])
    parts = _parts(frame, report)
    return tuple(_log(frame, name, rows, step_name, wanted, cells, report) for name, rows in parts)


def _log(
    frame: Frame, name: str, rows: np.ndarray | None, step_name: str, wanted: Sequence[str],
    cells: Mapping[str, Column], report: list[str],
) -> Log:  # fmt: skip
    """Return the rows of one run; all rows where `rows` is None."""
    lines = list(report)
    series: dict[str, Series] = {}
    kept: dict[str, np.ndarray] = {}
    for column in wanted:
        present = cells[column].present if rows is None else rows & cells[column].present
        kept[column] = present
        series[column] = Series(only(cells[step_name].values, present), only(cells[column].values, present))
        count = series[column].step.size
        total = present.size if rows is None else int(rows.sum())
        if column in names.among(wanted, USUAL_NAMES["loss"]) and 0 < count < total:
            lines.append(f"{total - count} of {total} rows have no {column} and were left out")
    return Log(
        source=str(frame.path), name=name, series=series,
        axis="tokens" if names.among([step_name], names.TOKENS) else "updates",
        locate=lambda column, row: frame.place(int(np.flatnonzero(kept[column])[row])), report=tuple(lines),
    )  # fmt: skip


def _parts(frame: Frame, report: list[str]) -> list[tuple[str, np.ndarray | None]]:
    """Names of the runs in a table, and which rows are theirs, shape (n,)."""
    found = names.among(frame.names, RUNS)
    if len(found) != 1:
        return [(frame.path.stem, None)]
    of_row = np.array(fetch_text(frame, found[0]))
    each = list(dict.fromkeys(of_row.tolist()))
    if len(each) == 1:
        return [(each[0] or frame.path.stem, None)]
    report.append(f"{len(each)} runs, by column {found[0]}")
    return [(name or frame.path.stem, of_row == name) for name in each]


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


def _columns(frame: Frame, options: ReadOptions, report: list[str]) -> tuple[str, list[str]]:
    """Name of the column of steps, and those of losses, LRs and tokens."""
    where = str(frame.path)
    chosen, rivals = choose_columns(frame.names, options.columns, where, USUAL_NAMES)
    if "step" in rivals:
        raise InputError(
            f"{where}: {', '.join(map(repr, rivals['step']))} could each be the step column: "
            "choose one with --column step=NAME."
        )
    from_tokens = "tokens" in chosen and options.batch_tokens is not None
    for role in ("loss", "step"):
        if role not in chosen and role not in rivals and not (role == "step" and from_tokens):
            raise InputError(
                f"{where} has no {role} column among {', '.join(map(repr, frame.names))}: "
                f"name it with --column {role}=NAME."
            )
    step = chosen.get("step", chosen.get("tokens", ""))
    wanted = [
        name
        for role in ("loss", "lr", "tokens")
        for name in ([chosen[role]] if role in chosen else rivals.get(role, []))
    ]
    report.append("columns: " + ", ".join(f"{role}={name}" for role, name in chosen.items()))
    return step, [name for name in dict.fromkeys(wanted) if name != step]


def looks_like_a_run(path: Path) -> bool:
    """Whether a table has a column of losses, and of steps or tokens, under usual names."""
    try:
        columns = open_frame(path).names
    except InputError:
        return False
    return bool(names.among(columns, USUAL_NAMES["loss"])) and bool(
        names.among(columns, (*names.STEPS, *names.TOKENS))
    )
