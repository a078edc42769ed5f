"""Tables of sweeps on disk: CSV, TSV, Parquet, JSON-lines or a JSON array, a row a training; or a store of runs.

Columns are found by their usual names, those of the Step Law files (arXiv 2503.04715) among them, or named by the
caller. Where two could be meant, neither is guessed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from lehr.errors import InputError, bad
from lehr.peaklr.from_runs import table_of
from lehr.peaklr.table import SweepTable, merge
from lehr.runs.readers.frame import Column, Frame, fetch, fetch_text, open_frame
from lehr.runs.readers.table import choose_columns
from lehr.runs.store import is_store, load_runs

USUAL_NAMES: dict[str, tuple[str, ...]] = {
    "lr": ("lr", "peak_lr", "peak lr", "max_lr", "learning_rate", "learning rate", "learning-rate", "eta"),
    "loss": (
        "loss", "final_loss", "final loss", "smooth loss", "smooth_loss", "val_loss", "validation_loss", "eval_loss",
        "train_loss", "final_val_loss",
    ),
    "params": ("n", "params", "n_params", "num_params", "parameters", "params_total", "total_params"),
    "active_params": ("na", "active_params", "n_active", "params_active", "activated_params"),
    "tokens": ("d", "tokens", "n_tokens", "num_tokens", "train_tokens", "total_tokens", "training_tokens"),
    "batch_tokens": ("batch_tokens", "batch_size_tokens", "tokens_per_batch", "tokens_per_step"),
    "batch_sequences": ("bs", "batch_size", "batch size", "batch", "batch_sequences", "global_batch_size"),
    "sequence_length": ("seq_len", "sequence_length", "seq_length", "seqlen", "context_length"),
    "name": ("name", "run", "run_name", "exp_name", "experiment"),
}  # fmt: skip
REQUIRED = ("lr", "loss", "params", "tokens")


def load_sweep_table(
    paths: Path | str | Sequence[Path | str], columns: Mapping[str, str] | None = None,
    sequence_length: int | None = None,
) -> SweepTable:  # fmt: skip
    """Read sweeps from files or stores and put them under one another.

    Parameters
    ----------
    paths : one or several files, or stores of runs (`lehr import --into`).
    columns : role -> column name, for columns with unusual names; the roles are those of `USUAL_NAMES`.
    sequence_length : tokens of a sequence, where the batch size is counted in sequences.

    Raises
    ------
    InputError
        Naming the file and line or column, the rule broken and the remedy.
    """
    listed = [paths] if isinstance(paths, Path | str) else list(paths)
    if not listed:
        raise InputError("no table was named: give at least one.")
    return merge([_read(Path(path), columns or {}, sequence_length) for path in listed])


def _read(path: Path, columns: Mapping[str, str], sequence_length: int | None) -> SweepTable:
    if is_store(path):
        return table_of(load_runs(path))
    frame = open_frame(path)
    chosen = _choose(frame, columns)
    cells = fetch(frame, [name for role, name in chosen.items() if role != "name"])
    roles = {role: cells[name] for role, name in chosen.items() if role != "name"}
    for role in REQUIRED:
        _check(frame, role, chosen[role], roles[role])
    batch = _batch(frame, chosen, roles, sequence_length)
    active = roles.get("active_params")
    if active is not None:
        _check(frame, "active_params", chosen["active_params"], active)
    count = len(roles["lr"].values)
    if not count:
        raise InputError(f"{path} has no row under its header: give one a training.")
    told = fetch_text(frame, chosen["name"]) if "name" in chosen else ("",) * count
    names = tuple(
        f"{frame.path.name}: {name}" if name else f"{frame.path}, row {row + 1}"
        for row, name in enumerate(told)
    )
    return SweepTable(
        roles["lr"].values, roles["loss"].values, roles["params"].values, roles["tokens"].values,
        None if active is None else active.values, batch, names,
    )  # fmt: skip


def _choose(frame: Frame, asked: Mapping[str, str]) -> dict[str, str]:
    """Find the column of each role."""
    chosen, rivals = choose_columns(frame.names, asked, str(frame.path), USUAL_NAMES)
    if "batch_tokens" in chosen:  # said in tokens, it need not be computed
        for role in ("batch_sequences", "sequence_length"):
            chosen.pop(role, None)
            rivals.pop(role, None)
    rivals.pop("name", None)
    for role, names in rivals.items():
        raise InputError(
            f"{frame.path}: {', '.join(map(repr, names))} could each be the {role} column: "
            f"choose one with --column {role}=NAME."
        )
    for role in REQUIRED:
        if role not in chosen:
            raise InputError(
                f"{frame.path} has no {role} column among {', '.join(map(repr, frame.names))}: "
                f"name it with --column {role}=NAME."
            )
    return chosen


def _check(frame: Frame, role: str, name: str, column: Column) -> None:
    """Refuse empty cells, and numbers that no size or LR can be; a loss may be NaN or infinite."""
    empty = np.flatnonzero(~column.present)
    if empty.size:
        hint = (
            "write nan if the run diverged, or remove the row"
            if role == "loss"
            else "fill it or remove the row"
        )
        raise InputError(f"{frame.place(int(empty[0]))}: column {name!r} ({role}) is empty: {hint}.")
    finite = np.isfinite(column.values)
    wrong = np.flatnonzero((finite & (column.values <= 0)) | (~finite & (role != "loss")))
    if wrong.size:
        raise bad(
            f"{frame.place(int(wrong[0]))}: column {name!r} ({role})", "must be above 0",
            float(column.values[wrong[0]]), "mend the row or remove it",
        )  # fmt: skip


def _batch(
    frame: Frame, chosen: Mapping[str, str], roles: Mapping[str, Column], sequence_length: int | None
) -> np.ndarray | None:
    """Batch sizes in tokens, shape (n,), or None if the table does not tell them."""
    if "batch_tokens" in roles:
        _check(frame, "batch_tokens", chosen["batch_tokens"], roles["batch_tokens"])
        return roles["batch_tokens"].values
    if "batch_sequences" not in roles:
        return None
    _check(frame, "batch_sequences", chosen["batch_sequences"], roles["batch_sequences"])
    if sequence_length is not None:
        if sequence_length < 1:
            raise bad(
                "sequence_length", "must be at least 1", sequence_length, "give the tokens of a sequence"
            )
        return roles["batch_sequences"].values * sequence_length
    if "sequence_length" in roles:
        _check(frame, "sequence_length", chosen["sequence_length"], roles["sequence_length"])
        return roles["batch_sequences"].values * roles["sequence_length"].values
    raise InputError(
        f"{frame.path}: the batch size in column {chosen['batch_sequences']!r} counts sequences, whose length is not "
        f"known: give it with --sequence-length, or name a column in tokens with --column batch_tokens=NAME."
    )
