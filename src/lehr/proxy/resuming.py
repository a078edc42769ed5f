"""Where a training starts: anew, as a branch of its parent, or at the last sound checkpoint of its own."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from lehr.errors import InputError
from lehr.files import make_folder
from lehr.proxy import checkpoint
from lehr.proxy.branching import check_parent, differences
from lehr.proxy.config import TrainConfig, make_config
from lehr.proxy.data import Source
from lehr.proxy.runlog import LOG, RunLog, begin_log, code_version, cut_log, make_header, read_torn_log


@dataclass(frozen=True)
class Start:
    """Where to begin.

    Parameters
    ----------
    step : updates done.
    checkpoint : folder and step of the state to begin with; None for initial weights.
    seconds : spent on the rows that are kept.
    resumed : whether the run had begun before.
    finished : whether there is nothing left to do.
    remarks : what the reader should know.
    """

    step: int = 0
    checkpoint: tuple[Path, int] | None = None
    seconds: float = 0.0
    resumed: bool = False
    finished: bool = False
    remarks: tuple[str, ...] = ()


def find_start(config: TrainConfig, out: Path, source: Source, ranks: int, resume: bool) -> Start:
    """Find where to begin, and bring the folder to that state.

    Raises
    ------
    InputError
        As `lehr.proxy.train.train` does for its folder and its parent.
    """
    ended = [config.training.plan.steps]  # of a single update the checkpoint may be there, and no row yet
    begun = (out / LOG).exists()
    if begun:
        log, torn = read_torn_log(out)
        if log.rows:
            return _resumed(config, out, source, log, torn, resume)
    if (saved := checkpoint.saved_steps(out)) and not (begun and saved == ended):
        raise InputError(
            f"{out} holds checkpoints but no rows in a {LOG}: name another folder, or empty this one."
        )
    parent, place = None, None
    if config.branch:
        folder, past = check_parent(config, out)
        parent, place = past.header["name"], (folder, config.branch.step)
        _check_data(source, str(past.header["data_fingerprint"]), folder)
        _check_saved(folder, config.branch.step)
    make_folder(out)
    checkpoint.drop_after(out, 0)
    header = make_header(
        config, vocab_size=source.vocab_size, fingerprint=source.fingerprint,
        entropy=source.entropy, parent=parent, torch=torch.__version__, ranks=ranks,
    )  # fmt: skip
    begin_log(out, header)
    return Start(config.branch.step if config.branch else 0, place)


def _resumed(
    config: TrainConfig, out: Path, source: Source, log: RunLog, torn: str | None, resume: bool
) -> Start:
    """Go on with the run in the folder, if it is the one of the configuration."""
    # read anew, so that a setting which was added since then has its default
    there = make_config(dict(log.header["config"]), str(log.path))
    differ = differences(config.model_dump(mode="json"), there.model_dump(mode="json"))
    if differ:
        key, (mine, other) = next(iter(differ.items()))
        more = f" (and {', '.join(list(differ)[1:])} differ too)" if len(differ) > 1 else ""
        raise InputError(
            f"{out} holds another run: its {key} is {other!r}, not {mine!r}{more}. Name another folder, or delete it."
        )
    if not resume:
        raise InputError(
            f"{out} holds this run already, at step {log.last} of {log.header['steps']}: go on with --resume, "
            "or name another folder."
        )
    _check_data(source, str(log.header["data_fingerprint"]), out)
    if log.finished and not torn:
        return Start(log.last, resumed=True, finished=True)
    remarks = [torn] if torn else []
    if log.header["code"] != code_version():
        remarks.append("the run began with another version of the training code; see `code` in its log")
    step, place = _last_sound(out, log, remarks)
    if place is None and config.branch:
        folder, _ = check_parent(config, out)
        _check_saved(folder, config.branch.step)
        step, place = config.branch.step, (folder, config.branch.step)
    checkpoint.drop_after(
        out, step
    )  # first: rows without checkpoints can be gone on with, the reverse cannot
    log = cut_log(log, step)
    seconds = log.rows[-1].seconds if log.rows else 0.0
    return Start(step, place, seconds, resumed=True, remarks=tuple(remarks))


def _last_sound(out: Path, log: RunLog, remarks: list[str]) -> tuple[int, tuple[Path, int] | None]:
    """The last checkpoint that can be read and whose rows the log holds; adds to `remarks` those passed over."""
    for step in reversed(checkpoint.saved_steps(out)):
        if step > log.last:
            if step != log.header["steps"]:  # the last row is written after the last checkpoint
                remarks.append(
                    f"the log ends at step {log.last}: the checkpoint of step {step} is passed over"
                )
            continue
        try:
            checkpoint.load_checkpoint(out, step)
        except InputError as error:
            remarks.append(f"{error} Going on from the one before.")
            continue
        return step, (out, step)
    return log.first, None


def _check_saved(folder: Path, step: int) -> None:
    """Refuse a branch whose parent has no sound checkpoint there."""
    saved = checkpoint.saved_steps(folder)
    if step not in saved:
        raise InputError(
            f"{folder} has no checkpoint of step {step} (it has {', '.join(map(str, saved)) or 'none'}): "
            "branch from one of these, or train it again with the step in training.keep."
        )
    checkpoint.load_checkpoint(folder, step)


def _check_data(source: Source, fingerprint: str, folder: Path) -> None:
    if source.fingerprint != fingerprint:
        raise InputError(
            f"the data are not those that {folder} was trained on (fingerprint {source.fingerprint}, there "
            f"{fingerprint}): restore the files, or train from the start in another folder."
        )
