"""What every reader takes and gives, and the checks that come before any of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lehr.errors import InputError, bad, unknown
from lehr.runs.clean import Cleaned, stitch
from lehr.runs.run import Run
from lehr.schedule.long_logs import blocks
from lehr.schedule.schedule import Schedule

SIZE_LIMIT = 64 << 30  # bytes; a log of a million points is about 30 MB
WHOLE_LIMIT = 1 << 30  # of files that are held in memory as text


@dataclass(frozen=True)
class ReadOptions:
    """How to read a log; every reader uses the options that concern it.

    Parameters
    ----------
    name : name of the run; the log's own or the file's stem if None.
    columns : role -> column, for the roles step, loss, lr and tokens of a table.
    schedule : the run's schedule, where the log does not tell it.
    total_steps : updates of the whole schedule, where the log stops before its end.
    params, params_total, batch_tokens : as in `lehr.runs.run.Run`.
    segments : join the segments of a resumed table instead of refusing steps that go back.
    order : order of those segments, see `lehr.runs.clean.stitch`.
    split : "val" or "train"; None for the validation loss where there is one, else the training loss.
    past : schedule up to where this run branched from another, for a log that begins late.
    peak_lr : of the run, where the log has multipliers of it in place of LRs.
    window : a loss is the mean of this many updates up to its step, where the log does not say so itself.
    ema : a loss is an exponential average with this decay, likewise.
    runs : patterns of the names of the runs to read, of a log with several; all if empty.
    bytes_per_token : to turn bits per byte into nats per token.
    """

    name: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    schedule: Schedule | None = None
    total_steps: int | None = None
    params: float | None = None
    params_total: float | None = None
    batch_tokens: float | None = None
    segments: bool = False
    order: str = "auto"
    split: str | None = None
    past: Schedule | None = None
    peak_lr: float | None = None
    window: int | None = None
    ema: float | None = None
    runs: tuple[str, ...] = ()
    bytes_per_token: float | None = None


def split_of(options: ReadOptions, known: Collection[str]) -> str:
    """Return the split to read of a log that has all in `known`: the one chosen, else "val".

    Raises
    ------
    InputError
        If the one chosen is none of them.
    """
    if options.split is not None and options.split not in known:
        raise unknown("split", options.split, known)
    return options.split or "val"


@dataclass(frozen=True)
class Reading:
    """One run read from a log, and a report of every choice made and point dropped on the way."""

    run: Run
    report: tuple[str, ...] = ()


def check_file(path: Path, streamed: bool = False) -> Path:
    """Return `path` if it is a file of a size that can be read, `streamed` if no more than its numbers is kept.

    Raises
    ------
    InputError
        If it is missing, a folder or a device, empty, or larger than `SIZE_LIMIT` (`WHOLE_LIMIT` if not streamed).
    """
    if path.is_dir():
        raise InputError(f"{path} is a folder: give the log files in it.")
    if not path.exists():
        raise InputError(f"{path} does not exist: check its name.")
    if not path.is_file():
        raise InputError(f"{path} is not a regular file: write its content to a file and give that.")
    size = path.stat().st_size
    if not size:
        raise InputError(f"{path} is empty: give a log with at least one row.")
    limit = SIZE_LIMIT if streamed else min(SIZE_LIMIT, WHOLE_LIMIT)
    if size > limit:
        raise bad(
            f"the size of {path}", f"must not exceed {limit} bytes", size,
            "log less often, or keep only the columns for step, loss and LR",
        )  # fmt: skip
    return path


def deviation(schedule: Schedule, step: np.ndarray, lr: np.ndarray, shift: int = 0) -> np.ndarray:
    """|logged LR - schedule| / peak where `lr` was logged at `step`, shape (n,).

    The LR logged at step s is compared with that of update s + shift; rows outside the
    schedule's updates (as the last one, where shift is 0) get 0.
    """
    out, peak, total = np.zeros(step.shape), schedule.peak, schedule.steps
    for part in blocks(step.size):  # a long log is not copied
        update = step[part] + shift
        inside = (update >= 0) & (update < min(total, 2**62))
        with np.errstate(over="ignore"):  # an LR that no training had
            uses = schedule.lr(update[inside].astype(int))
            out[part][inside] = np.abs(lr[part][inside] - uses) / peak
    return out


def stitched(step: np.ndarray, values: np.ndarray, order: str, where: str) -> Cleaned:
    """Join the segments of a log as `lehr.runs.clean.stitch`, naming the log if it cannot be done."""
    try:
        return stitch(step, values, order=order)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
