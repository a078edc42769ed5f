"""The weighted average of checkpoints, tensor by tensor, into one safetensors file."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from lehr.checkpoints.checkpoint import SAFETENSORS, Checkpoint, TensorInfo, some
from lehr.checkpoints.opening import open_checkpoint
from lehr.checkpoints.safe import layout, write_stream
from lehr.errors import InputError, ResultError, bad
from lehr.files import replacing

if TYPE_CHECKING:
    from torch import Tensor

AVERAGED = ("F64", "F32", "F16", "BF16")
PORTION = 1 << 22  # elements averaged at a time, in double precision


@dataclass(frozen=True)
class Merged:
    """What was written.

    Parameters
    ----------
    path : the file.
    averaged : number of tensors averaged.
    copied : names of integer and boolean tensors, taken from the last checkpoint.
    left_out : what the checkpoints hold beside the weights, such as optimiser state.
    bytes : size of all values.
    """

    path: Path
    averaged: int
    copied: tuple[str, ...]
    left_out: tuple[str, ...]
    bytes: int


def merge_checkpoints(
    paths: Sequence[Path], weights: Sequence[float], out: Path, *, key: str | None = None,
    metadata: Mapping[str, str] | None = None, step: Callable[[str], None] = lambda name: None,
) -> Merged:  # fmt: skip
    """Write the weighted average of checkpoints.

    Floating-point tensors are averaged in double precision, a portion at a time, and keep their dtype.
    Integer and boolean tensors are copied from the last checkpoint and must be equal in all, unless they
    hold one number (a counter). What lies beside the weights, such as optimiser state, is left out.

    Parameters
    ----------
    paths : two or more checkpoints of one model (`open_checkpoint`), in order.
    weights : one a checkpoint, at least 0, of sum 1 (`lehr.anneal.merging.decay_weights`).
    out : the .safetensors file to write; whole or not at all.
    key : entry of PyTorch files that holds the weights.
    metadata : texts for the header of `out`.
    step : called with the name of each tensor as its turn comes.

    Raises
    ------
    InputError
        If a checkpoint cannot be read, they differ in names, shapes or dtypes, a value is not finite,
        `out` is one of them, or paths and weights do not fit together.
    ResultError
        If the disk is too small or refuses.
    """
    shares = [float(weight) for weight in weights]
    if len(paths) < 2 or len(paths) != len(shares):
        raise bad(
            "weights", f"must be one for each of two or more checkpoints ({len(paths)})", shares, "pair them"
        )
    if min(shares) < 0 or not abs(sum(shares) - 1) < 1e-9:
        raise bad("weights", "must be at least 0 and sum to 1", shares, "divide them by their sum")
    if out.suffix != SAFETENSORS:
        raise bad("out", f"must end in {SAFETENSORS}", str(out), "merged weights are written as safetensors")
    if out.is_dir() or not out.parent.is_dir():
        raise InputError(f"{out} is a folder, or the folder it should be in does not exist: name a new file.")
    with ExitStack() as stack:
        opened = [open_checkpoint(Path(path), stack, key) for path in paths]
        _check_files(opened, out)
        _check_same(opened)
        tensors = opened[-1].tensors
        size = sum(info.bytes for info in tensors.values())
        free = shutil.disk_usage(out.parent).free
        if size > free:
            raise ResultError(f"{out} needs {size:,} bytes and its disk has {free:,}: make room.")
        with replacing(out) as file:
            texts = {"format": "pt", **(metadata or {})}
            write_stream(file, tensors, _values(opened, shares, step), texts)
    return Merged(
        path=out,
        averaged=sum(info.dtype in AVERAGED for info in tensors.values()),
        copied=tuple(sorted(name for name, info in tensors.items() if info.dtype not in AVERAGED)),
        left_out=tuple(sorted({name for checkpoint in opened for name in checkpoint.left_out})),
        bytes=size,
    )


def _check_files(opened: Sequence[Checkpoint], out: Path) -> None:
    """Refuse a checkpoint that is named twice, and to write over one."""
    seen: dict[frozenset[tuple[int, int]], Path] = {}
    for checkpoint in opened:
        files = frozenset(_identity(path) for path in checkpoint.files)
        if files in seen:
            raise InputError(f"{checkpoint.path} is the same as {seen[files]}: name each checkpoint once.")
        seen[files] = checkpoint.path
    if out.exists() and any(_identity(out) in files for files in seen):
        raise InputError(f"{out} is one of the checkpoints to merge: write to another file.")


def _identity(path: Path) -> tuple[int, int]:
    """What two names of one file have in common."""
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _check_same(opened: Sequence[Checkpoint]) -> None:
    """Refuse checkpoints whose tensors differ in name, dtype or shape from those of the first."""
    first = opened[0]
    for other in opened[1:]:
        lacks = sorted(first.tensors.keys() - other.tensors.keys())
        extra = sorted(other.tensors.keys() - first.tensors.keys())
        if lacks or extra:
            told = [f"{word} {some(names)}" for word, names in (("lacks", lacks), ("adds", extra)) if names]
            raise InputError(
                f"{other.path} {' and '.join(told)}, against {first.path}: merge checkpoints of one model."
            )
        for name, info in first.tensors.items():
            if other.tensors[name] != info:
                raise InputError(
                    f"{other.path}: {name} is {other.tensors[name]}, in {first.path} it is {info}: merge "
                    "checkpoints of one model and precision."
                )
    if "__metadata__" in first.tensors:
        raise InputError(
            f"{first.path}: a tensor is named __metadata__, which safetensors reserves: rename it."
        )


def _values(
    opened: Sequence[Checkpoint], weights: Sequence[float], step: Callable[[str], None]
) -> Iterator[memoryview]:
    """Bytes of the merged tensors in the order of the file."""
    tensors = opened[-1].tensors
    for name in layout(tensors):
        step(name)
        rows = [checkpoint.get(name).reshape(-1) for checkpoint in opened]
        if tensors[name].dtype in AVERAGED:
            yield from _average(opened, name, tensors[name], rows, weights)
        else:
            yield _same(opened, name, rows)


def _average(
    opened: Sequence[Checkpoint], name: str, info: TensorInfo, rows: Sequence[Tensor],
    weights: Sequence[float],
) -> Iterator[memoryview]:  # fmt: skip
    import torch

    for begin in range(0, info.elements, PORTION):
        portions = [row[begin : begin + PORTION] for row in rows]
        total = torch.zeros(len(portions[0]), dtype=torch.float64)
        for portion, weight in zip(portions, weights, strict=True):
            total.add_(portion.to(torch.float64), alpha=weight)
        if not bool(torch.isfinite(total).all()):
            broken = [c.path for c, p in zip(opened, portions, strict=True) if not torch.isfinite(p).all()]
            raise InputError(
                f"{name} is not finite in {some(list(map(str, broken)))}: merge checkpoints from before the run broke."
            )
        yield _bytes(total.to(portions[0].dtype))


def _same(opened: Sequence[Checkpoint], name: str, rows: Sequence[Tensor]) -> memoryview:
    import torch

    last = rows[-1]
    for checkpoint, row in zip(opened, rows, strict=True):
        if last.numel() > 1 and not torch.equal(row, last):
            raise InputError(
                f"{checkpoint.path}: {name} is {opened[-1].tensors[name]} and differs from {opened[-1].path}: "
                "integers cannot be averaged; if they are quantised weights, merge the originals."
            )
    return _bytes(last)


def _bytes(row: Tensor) -> memoryview:
    """The raw bytes of a row of values."""
    import torch

    return row.contiguous().view(torch.uint8).numpy().data
