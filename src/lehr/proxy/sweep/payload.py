"""What a worker does with a run: lehr's own training, or the user's command. Torch is imported by the former alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from lehr.errors import LehrError
from lehr.proxy.sweep.beat import Beat, Stopped
from lehr.proxy.sweep.command import run_command
from lehr.proxy.sweep.fitting import run_fit
from lehr.proxy.sweep.jobs import Job
from lehr.proxy.sweep.outcome import Outcome, disk_refused, require_space


def run_training(job: Job, folder: Path, beat: Beat, attempt: int) -> Outcome:
    """Train, going on where the folder stands.

    Raises
    ------
    Stopped
        If the run should stop; it has been saved, unless it is lost.
    """
    from lehr.proxy.config import make_config
    from lehr.proxy.diverged import Diverged
    from lehr.proxy.runlog import LOG, code_version, read_log
    from lehr.proxy.train import train

    config = make_config(dict(job.payload), job.name)
    if (folder / LOG).exists():  # begun under another name, perhaps: a name decides nothing
        begun = read_name(folder / LOG)
        config = config.model_copy(update={"name": begun or config.name})

    def stop() -> bool:
        if beat.reason == "lost":
            raise Stopped("lost")
        return beat.reason is not None

    remarks: list[str] = []
    try:
        result = train(config, folder, resume=True, stop=stop, remark=remarks.append)
    except Diverged as error:
        log = read_log(folder)
        return Outcome("diverged", None, log.last, reason=str(error), log=LOG, code=code_version())
    if not result.finished:
        raise Stopped(beat.reason or "stopped")
    header = read_log(folder).header
    return Outcome(
        "done", result.val_loss, result.step, result.seconds, " ".join(remarks), LOG, code_version(),
        header["params"], header["params_total"], header["batch_tokens"],
    )  # fmt: skip


def read_name(log: Path) -> str | None:
    """Name that the header of a run log gives."""
    try:
        with log.open("rb") as file:
            name = json.loads(file.readline(1 << 20))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(name)


PAYLOADS: dict[str, Callable[[Job, Path, Beat, int], Outcome]] = {
    "train": run_training,
    "command": run_command,
    "fit": run_fit,
}


def run_job(job: Job, folder: Path, beat: Beat, attempt: int) -> Outcome:
    """Do what a run asks for; what it is refused for becomes its outcome.

    Raises
    ------
    Stopped
        If the run should stop.
    LehrError, OSError
        If the disk takes no more.
    """
    try:
        outcome = PAYLOADS[job.kind](job, folder, beat, attempt)
    except LehrError as error:
        if disk_refused(error):
            raise
        outcome = Outcome("failed", reason=str(error))
    if outcome.state == "failed":
        require_space(folder)
    return outcome
