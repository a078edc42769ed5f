"""Opening a checkpoint of any known kind."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from lehr.checkpoints.checkpoint import ITEM_SIZES, SAFETENSORS, Checkpoint, some
from lehr.checkpoints.pickled import open_pickled
from lehr.checkpoints.safe import open_folder, open_safetensors
from lehr.errors import InputError, bad

PICKLED = (".pt", ".pth", ".bin", ".ckpt")


def open_checkpoint(path: Path, stack: ExitStack, key: str | None = None) -> Checkpoint:
    """Open a checkpoint; the files stay open until `stack` closes.

    Parameters
    ----------
    path : a .safetensors file, a PyTorch file (.pt, .pth, .bin, .ckpt; read with `weights_only`, nothing
        in it is executed), or a folder with model.safetensors or its shards and index.
    stack : closes the files.
    key : entry of a PyTorch file that holds the weights, where that is not plain.

    Raises
    ------
    InputError
        If it is missing, damaged, of another kind, holds objects other than tensors, or torch or
        safetensors is not installed.
    """
    if key is not None and path.suffix not in PICKLED:
        raise bad("key", "is for PyTorch files", key, f"leave it out for {path}")
    if path.is_dir():
        opened = open_folder(path, stack)
    elif not path.exists():
        raise InputError(f"{path} does not exist: give a checkpoint.")
    elif path.suffix == SAFETENSORS:
        opened = open_safetensors(path, stack)
    elif path.suffix in PICKLED:
        opened = open_pickled(path, key)
    else:
        raise InputError(
            f"{path} is no known kind of checkpoint: give a {SAFETENSORS} file, a PyTorch file "
            f"({', '.join(PICKLED)}) or a folder with model{SAFETENSORS}."
        )
    odd = sorted(name for name, info in opened.tensors.items() if info.dtype not in ITEM_SIZES)
    if odd:
        raise InputError(
            f"{path}: {some(odd)} of dtype {opened.tensors[odd[0]].dtype} cannot be averaged: convert to one of "
            f"{', '.join(ITEM_SIZES)} first."
        )
    if not opened.tensors:
        raise InputError(f"{path} holds no tensors: give a checkpoint with weights.")
    return opened
