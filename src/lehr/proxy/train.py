"""Train one proxy: from the start, from a checkpoint of its own, or as a branch of another run.

A run's folder holds `log.jsonl` (see `lehr.proxy.runlog`) and `checkpoints/`. Whatever happens to the process, the
folder is at a state from which the run goes on to the same end: rows reach the disk before the checkpoint that
follows them, a checkpoint is whole or absent, and going on first drops the rows after it. The last row of all comes
after the last checkpoint, so that a log that is complete has it.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from lehr.errors import bad
from lehr.files import make_folder
from lehr.proxy import checkpoint, distributed
from lehr.proxy.config import TrainConfig
from lehr.proxy.data import open_data
from lehr.proxy.diverged import Diverged, explain
from lehr.proxy.memory import check_memory, explaining_shortage
from lehr.proxy.resuming import Start, find_start
from lehr.proxy.runlog import LogWriter, Row, read_log
from lehr.proxy.session import Session, open_session, restore, take_state, update, validate, weights_finite
from lehr.proxy.transferring import plan_of

ROWS_AT_ONCE = {"cpu": 1, "cuda": 16}  # a GPU that is asked for every loss waits for the CPU every time


@dataclass(frozen=True)
class Result:
    """What became of a training.

    Parameters
    ----------
    name, folder : of the run.
    step, steps : updates done, and to be done, a parent's past included.
    train_loss, val_loss : at the last row, and the last that was measured, in nats per token.
    seconds, tokens : since the start of the run, without a parent's; over all goes.
    resumed_from : the step that this go began at; None for the start.
    remarks : what was said on the way.
    """

    name: str
    folder: Path
    step: int
    steps: int
    train_loss: float | None
    val_loss: float | None
    seconds: float
    tokens: int
    resumed_from: int | None = None
    remarks: tuple[str, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether every update of the schedule was done."""
        return self.step == self.steps


def train(
    config: TrainConfig, out: Path | str, *, resume: bool = False, progress: Callable[[Row], None] | None = None,
    stop: Callable[[], bool] | None = None, remark: Callable[[str], None] | None = None,
) -> Result:  # fmt: skip
    """Train the run of `config` in the folder `out`.

    Parameters
    ----------
    config : what to train.
    out : folder of the run; made if absent.
    resume : go on where the folder's run stands; a finished run is left as it is.
    progress : called with every row of the log, on the first rank.
    stop : asked after every update (on a GPU, every few); once it says so, a checkpoint is written and the result
        is unfinished.
    remark : called with what the reader should know, such as a damaged checkpoint that was passed over.

    Raises
    ------
    InputError
        If the folder holds another run, or this one and `resume` is false; if the parent of a branch is not its past;
        if the batch cannot be split; as `lehr.proxy.data.open_data` and `lehr.proxy.transferring.plan_of` do.
    ResultError
        If the loss is not finite any more (`lehr.proxy.diverged.Diverged`), or memory or disk do not suffice.
    """
    out, remarks = Path(out), []

    def say(text: str) -> None:
        remarks.append(text)
        if remark:
            remark(text)

    wrong = [step for step in config.training.keep if step > config.training.plan.steps]
    if wrong:
        raise bad(
            "training.keep", f"must lie within the schedule's {config.training.plan.steps} updates", wrong[0],
            "correct it",
        )  # fmt: skip
    plan = plan_of(config)
    with distributed.joined() as ranks:
        distributed.check_split(config.training.batch, config.training.accumulate, ranks)
        source = open_data(config.data, config.model.context)
        start = distributed.from_first(ranks, lambda: find_start(config, out, source, ranks.size, resume))
        for text in (*start.remarks, *(plan.warnings if plan else ())):
            say(text)
        if not start.finished:
            check_memory(config, source.vocab_size, ranks)
            with explaining_shortage(config, source.vocab_size, ranks):
                session = open_session(config, source, ranks)
                _begin(session, out, start)
                _Run(session, out, start, progress, stop).go()
    return _result(config, out, start, tuple(remarks))


def _begin(session: Session, out: Path, start: Start) -> None:
    """Put the session where it starts, and see that the disk will hold its checkpoints."""
    if start.checkpoint is not None:
        state = checkpoint.load_checkpoint(*start.checkpoint)
        restore(session, state, str(checkpoint.checkpoint_path(*start.checkpoint)))
    size = 12 * sum(p.numel() for p in session.model.parameters())  # weights and Adam's two moments, float32
    count = checkpoint.LATEST + 1 + len(session.config.training.keep)
    if session.ranks.first:
        make_folder(out)
        checkpoint.check_disk(out, size, count)


class _Run:
    """The loop, with what it has pending: rows are computed on the device and read later."""

    def __init__(
        self, session: Session, out: Path, start: Start, progress: Callable[[Row], None] | None,
        stop: Callable[[], bool] | None,
    ) -> None:  # fmt: skip
        self.session, self.out, self.start = session, out, start
        self.progress, self.stop = progress, stop
        self.training, self.steps = session.config.training, session.config.training.plan.steps
        self.pending: list[tuple[int, torch.Tensor, torch.Tensor, float | None]] = []
        self.began = time.perf_counter() - start.seconds
        self.writer = LogWriter(out) if session.ranks.first else None

    def go(self) -> None:
        """Train to the end, or until asked to stop."""
        session, at_once = self.session, ROWS_AT_ONCE[self.session.ranks.device.type]
        try:
            while session.step < self.steps:
                loss, norm = update(session)
                step, last = session.step, session.step == self.steps
                measured = validate(session) if last or step % self.training.validate_every == 0 else None
                self.pending.append((step, loss, norm, measured))
                due = self._due(step)
                if due or measured is not None or len(self.pending) >= at_once:
                    held = self._write_rows(hold=last)
                    stopped = distributed.same_for_all(bool(self.stop and self.stop()), session.ranks)
                    if due or stopped:
                        self._save()
                    self._log(held)
                    if stopped:
                        return
        finally:
            if self.writer:
                self.writer.close()

    def _due(self, step: int) -> bool:
        every = self.training.checkpoint_every
        return step == self.steps or step in self.training.keep or bool(every and step % every == 0)

    def _write_rows(self, hold: bool) -> list[Row]:
        """Read what is pending and log it, up to the first loss that is not finite; with `hold` return the last row."""
        ranks, batch_tokens = self.session.ranks, self.session.config.batch_tokens
        read = torch.stack([torch.stack((loss, norm)) for _, loss, norm, _ in self.pending])
        values = distributed.mean_over_ranks(read.double(), ranks).tolist()
        seconds, rows = time.perf_counter() - self.began, []
        for (step, _, _, measured), (loss, norm) in zip(self.pending, values, strict=True):
            lr = float(self.session.lrs[step - 1])
            rows.append(Row(step, lr, loss, norm, step * batch_tokens, seconds, measured))
        self.pending.clear()
        broken = next((row for row in rows if not row.finite), None)
        rows = rows[: rows.index(broken)] if broken else rows
        kept = len(rows) - (hold and not broken)
        self._log(rows[:kept])
        if broken:
            trained = math.isfinite(broken.train_loss) and math.isfinite(broken.grad_norm)
            what = "validation loss" if trained else "loss or gradient"
            raise self._diverged(broken.step, f"the {what} at step {broken.step} is not a finite number")
        return rows[kept:]

    def _log(self, rows: list[Row]) -> None:
        if self.writer:
            self.writer.write(rows)
            if self.progress:
                for row in rows:
                    self.progress(row)

    def _save(self) -> None:
        """Write a checkpoint, after the rows before it, and drop those no longer needed."""
        session = self.session
        if distributed.same_for_all(not weights_finite(session), session.ranks):
            raise self._diverged(
                session.step, f"weights are not finite numbers any more after update {session.step}"
            )
        state = take_state(session)
        if self.writer:
            self.writer.sync()
            checkpoint.save_checkpoint(self.out, state)
            checkpoint.prune(self.out, self.training.keep)

    def _diverged(self, step: int, what: str) -> Diverged:
        """Say what happened, where it began and what is left; trains again from the last checkpoint to see."""
        saved = checkpoint.saved_steps(self.out)
        good = f"the last good checkpoint is {checkpoint.checkpoint_path(self.out, saved[-1])}" if saved else (
            "there is no checkpoint yet"
        )  # fmt: skip
        place = (self.out, saved[-1]) if saved else self.start.checkpoint
        return Diverged(
            f"run {self.session.config.name!r} diverged: {what}. {explain(self.session, place, step)} "
            f"The log ends before it, and {good}: lower the peak LR, lengthen the warm-up, or clip the gradient."
        )


def _result(config: TrainConfig, out: Path, start: Start, remarks: tuple[str, ...]) -> Result:
    log = read_log(out)
    measured = [row.val_loss for row in log.rows if row.val_loss is not None]
    last = log.rows[-1] if log.rows else None
    return Result(
        config.name, out, log.last, log.header["steps"], last.train_loss if last else None,
        measured[-1] if measured else None, last.seconds if last else 0.0, (log.last - log.first) * config.batch_tokens,
        start.step if start.resumed else None, remarks,
    )  # fmt: skip
