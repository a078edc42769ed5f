"""The log of a proxy training: JSON lines, a header and then a row an update.

Header, the first line: `lehr_run_log` (version of this format), `name`, `schedule` (spec of the whole life, a parent's
past included), `steps`, `parent` and `branch_step`, `params` (active, non-embedding), `params_total` (of a model of
experts non-embedding too, of a dense one with both ends), `batch_tokens`, `meta`, `config`, `data_fingerprint`,
`entropy` (floor of the mean loss in nats per token where it is known, else null), `flops_per_token`, `lehr`, `code`
(hash of the training's source), `torch`, `ranks`, and under a rule of transfer `transfer` (the rule and its warnings,
each group's LR factor, decay, epsilon and betas; the base is in `config`).

Row of step s, written after s updates: `step`; `lr` of the schedule that update s - 1 used; `train_loss` and
`grad_norm` (before clipping) of that update, so measured at the weights of s - 1 updates; `val_loss` at those of s,
where it was measured; `tokens` seen since the start of the whole life; `seconds` since the start of this run.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr import __version__
from lehr.errors import InputError, ResultError
from lehr.files import write_atomic
from lehr.proxy.config import TrainConfig
from lehr.proxy.counts import count
from lehr.proxy.transferring import decay_by_schedule, plan_of, to_header

VERSION = 1
LOG = "log.jsonl"


@dataclass(frozen=True)
class Row:
    """One line of the log; see the module's text. `val_loss` is None where it was not measured."""

    step: int
    lr: float
    train_loss: float
    grad_norm: float
    tokens: int
    seconds: float
    val_loss: float | None = None

    def line(self) -> str:
        """Its text, the end of the line included."""
        values = {
            "step": self.step, "lr": self.lr, "train_loss": self.train_loss, "val_loss": self.val_loss,
            "grad_norm": self.grad_norm, "tokens": self.tokens, "seconds": round(self.seconds, 3),
        }  # fmt: skip
        if self.val_loss is None:
            del values["val_loss"]
        return json.dumps(values, allow_nan=False, separators=(",", ":")) + "\n"

    @property
    def finite(self) -> bool:
        """Whether all that was measured is a finite number."""
        return all(map(math.isfinite, (self.train_loss, self.grad_norm, self.val_loss or 0.0)))


@dataclass(frozen=True)
class RunLog:
    """A log as it was read: its header, and rows of steps that follow one another."""

    path: Path
    header: Mapping[str, Any]
    rows: tuple[Row, ...]

    @property
    def first(self) -> int:
        """Updates done when the log began: 0, or where it branched."""
        return int(self.header["branch_step"] or 0)

    @property
    def last(self) -> int:
        """Updates done at its last row."""
        return self.rows[-1].step if self.rows else self.first

    @property
    def finished(self) -> bool:
        """Whether its last row is that of the last update."""
        return self.last == self.header["steps"]


def make_header(
    config: TrainConfig, *, vocab_size: int, fingerprint: str, entropy: float | None, parent: str | None,
    torch: str, ranks: int,
) -> dict[str, Any]:  # fmt: skip
    """Return the header of a run's log; see the module's text."""
    counts, data, training = count(config.model, vocab_size), config.data, config.training
    plan = plan_of(config)
    experts = config.model.experts
    return {
        "lehr_run_log": VERSION, "name": config.name, "schedule": training.schedule,
        "steps": training.plan.steps, "parent": parent,
        "branch_step": config.branch.step if config.branch else None,
        "params": counts.active_non_embedding, "params_total": counts.params_total, "batch_tokens": config.batch_tokens,
        "meta": {
            "dataset": f"{data.kind}-{fingerprint}",
            "weight_decay": decay_by_schedule(config, plan), "seed": training.seed,
            **({"experts": experts.count, "top_k": experts.top_k} if experts else {}),
            **({"transfer": config.transfer.rule} if config.transfer else {}),
        },
        "config": config.model_dump(mode="json"), "data_fingerprint": fingerprint, "entropy": entropy,
        "flops_per_token": counts.training_flops, "lehr": __version__, "code": code_version(), "torch": torch,
        "ranks": ranks, **({"transfer": to_header(plan)} if plan else {}),
    }  # fmt: skip


def code_version() -> str:
    """Hash of the source that trains, so that a log tells by which it was made."""
    digest, package = hashlib.sha256(), Path(__file__).parents[1]
    for path in sorted((*package.glob("proxy/*.py"), *package.glob("transfer/*.py"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:16]


def begin_log(folder: Path, header: Mapping[str, Any]) -> None:
    """Write a log that has a header and no row yet."""
    write_atomic(folder / LOG, json.dumps(header, allow_nan=False) + "\n")


def read_log(folder: Path) -> RunLog:
    """Read the log in a run's folder; a last line that was cut off is left out.

    Raises
    ------
    InputError
        If there is none, or a line is no row or does not follow the one before; the message names the line.
    """
    log, torn = read_torn_log(folder)
    if torn:
        raise InputError(f"{torn}: train the run again.")
    return log


def read_torn_log(folder: Path) -> tuple[RunLog, str | None]:
    """Read the log in a run's folder up to the first line that is no row; also return what is wrong with that line.

    Raises
    ------
    InputError
        If there is none, or it has no header.
    """
    path = folder / LOG
    try:
        lines = path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        raise InputError(f"{folder} holds no run: there is no {LOG} in it.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check it.") from None
    header = _object(lines[0] if lines else b"")
    if header.get("lehr_run_log") != VERSION:
        raise InputError(
            f"{path}, line 1 is no header of a run log of version {VERSION}: train the run again."
        )
    rows: list[Row] = []
    for expected, line in enumerate(lines[1:], start=int(header["branch_step"] or 0) + 1):
        try:
            row = Row(**_object(line))
        except TypeError:
            break
        if row.step != expected:
            break
        rows.append(row)
    torn = len(rows) < len(lines) - 1
    what = f"{path}, line {len(rows) + 2} is not the row of the step after the one before" if torn else None
    return RunLog(path, header, tuple(rows)), what


def cut_log(log: RunLog, step: int) -> RunLog:
    """Drop the rows after `step` from the file, all at once, with whatever was cut off at its end."""
    rows = tuple(row for row in log.rows if row.step <= step)
    header = log.path.read_bytes().partition(b"\n")[0] + b"\n"
    write_atomic(log.path, header + "".join(row.line() for row in rows).encode())
    return RunLog(log.path, log.header, rows)


class LogWriter:
    """Appends rows to the log of a folder; each is whole in the file before the next."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / LOG
        self._file = self.path.open("ab")

    def write(self, rows: Iterable[Row]) -> None:
        """Append rows.

        Raises
        ------
        ResultError
            If the disk refuses.
        """
        try:
            self._file.write("".join(row.line() for row in rows).encode())
            self._file.flush()
        except OSError as error:
            raise ResultError(f"could not write {self.path}: {error.strerror or error}.") from error

    def sync(self) -> None:
        """Wait until the disk has what was written: a checkpoint must not outlive its rows."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _object(line: bytes) -> dict[str, Any]:
    """A line as a JSON object; empty if it is none."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
