"""Checkpoints of a training: written whole, checked before they are opened, and safe to load.

A checkpoint is a PyTorch file (a zip archive) whose comment holds the SHA-256 of all before it. So damage is found
before anything is unpickled, and `torch.load(..., weights_only=True)` and `lehr merge` read it like any other.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lehr.errors import InputError, ResultError
from lehr.files import make_folder, replacing

VERSION = 1
LATEST = 2  # checkpoints kept beside those asked for: if the last is damaged, there is another
_NAME = re.compile(r"step-(\d+)\.pt\Z")
_DIGEST = 64  # hexadecimal digits of SHA-256


@dataclass(frozen=True)
class Checkpoint:
    """State after `step` updates.

    Parameters
    ----------
    step : updates done since the start of the run's whole life.
    model : parameters and buffers by name, whole and on the CPU.
    optimizer : by name of the parameter, the optimiser's tensors by name.
    fingerprint : of the data.
    """

    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Mapping[str, Tensor]]
    fingerprint: str


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where a run keeps its checkpoint of `step`."""
    return folder / "checkpoints" / f"step-{step:07d}.pt"


def saved_steps(folder: Path) -> list[int]:
    """Steps of the checkpoints that a run has, rising."""
    names = (_NAME.match(path.name) for path in (folder / "checkpoints").glob("step-*.pt"))
    return sorted(int(found[1]) for found in names if found)


def save_checkpoint(folder: Path, state: Checkpoint) -> Path:
    """Write a checkpoint, whole or not at all.

    Raises
    ------
    ResultError
        If the disk refuses; the checkpoints before are untouched.
    """
    path = checkpoint_path(folder, state.step)
    make_folder(path.parent)
    archive = io.BytesIO()
    values = {"lehr_checkpoint": VERSION, **vars(state)}
    torch.save({key: dict(v) if isinstance(v, Mapping) else v for key, v in values.items()}, archive)
    body = memoryview(archive.getbuffer())[:-2]  # a zip archive ends with the length of its comment, here 0
    digest = hashlib.sha256(body).hexdigest().encode()
    with replacing(path) as file:
        file.write(body)
        file.write(_DIGEST.to_bytes(2, "little") + digest)
    return path


def load_checkpoint(folder: Path, step: int) -> Checkpoint:
    """Read the checkpoint of `step`.

    Raises
    ------
    InputError
        If it is missing or damaged.
    """
    path = checkpoint_path(folder, step)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    body, digest = data[: -_DIGEST - 2], data[-_DIGEST:]
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise InputError(f"{path} is damaged: its content is not that which was written.")
    values: dict[str, Any] = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    if values.pop("lehr_checkpoint", None) != VERSION:
        raise InputError(f"{path} is no checkpoint of version {VERSION}: train the run again.")
    if values["step"] != step:
        raise InputError(f"{path} is that of step {values['step']}: restore its name.")
    return Checkpoint(**values)


def prune(folder: Path, keep: Collection[int]) -> None:
    """Delete all checkpoints but the last two and those of the steps in `keep`, and what a killed writer left."""
    for step in saved_steps(folder)[:-LATEST]:
        if step not in keep:
            checkpoint_path(folder, step).unlink(missing_ok=True)
    for left in (folder / "checkpoints").glob(".step-*"):
        left.unlink(missing_ok=True)


def check_disk(folder: Path, size: int, count: int) -> None:
    """Refuse to begin what the disk cannot hold.

    Parameters
    ----------
    folder : an existing folder on it.
    size : bytes of one checkpoint.
    count : checkpoints there will be at once.

    Raises
    ------
    ResultError
        If they do not fit.
    """
    free = shutil.disk_usage(folder).free
    if size * count > free:
        raise ResultError(
            f"{folder} has {free / 2**30:.2f} GiB free, but {count} checkpoints of {size / 2**30:.2f} GiB need more: "
            "make room, name another folder, or keep fewer in training.keep."
        )


def drop_after(folder: Path, step: int) -> None:
    """Delete the checkpoints after `step`: those that were found damaged, or whose rows are lost."""
    for later in saved_steps(folder):
        if later > step:
            os.unlink(checkpoint_path(folder, later))
