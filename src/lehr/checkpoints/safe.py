"""Safetensors: reading through the safetensors library, and writing tensor by tensor.

The library writes a file from tensors that are all in memory; merging must not hold a whole model, so the
writer here lays out the same format (8 bytes of header length, a JSON header, the values) as a stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from lehr.checkpoints.checkpoint import ITEM_SIZES, NEEDS, Checkpoint, TensorInfo
from lehr.errors import InputError
from lehr.files import read_text

if TYPE_CHECKING:
    from torch import Tensor

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"


def open_safetensors(path: Path, stack: ExitStack) -> Checkpoint:
    """Open a .safetensors file; see `open_checkpoint`."""
    handle = _open(path, stack)
    tensors = {}
    for name in handle.keys():
        part = handle.get_slice(name)
        tensors[name] = TensorInfo(part.get_dtype(), tuple(part.get_shape()))
    return Checkpoint(path, (path,), tensors, handle.get_tensor)


def open_folder(folder: Path, stack: ExitStack) -> Checkpoint:
    """Open model.safetensors, or the shards that model.safetensors.index.json names, in `folder`."""
    if (folder / SINGLE).is_file():
        whole = open_safetensors(folder / SINGLE, stack)
        return Checkpoint(folder, whole.files, whole.tensors, whole.get)
    if not (folder / INDEX).is_file():
        hint = (
            "convert it with torch.distributed.checkpoint.format_utils.dcp_to_torch_save"
            if (folder / ".metadata").exists()
            else "name the file of the weights"
        )
        raise InputError(f"{folder} holds neither {SINGLE} nor {INDEX}: {hint}.")
    where = _shards(folder / INDEX)
    shards = {file: open_safetensors(folder / file, stack) for file in sorted(set(where.values()))}
    absent = sorted(name for name, file in where.items() if name not in shards[file].tensors)
    if absent:
        raise InputError(f"{folder / where[absent[0]]} lacks {absent[0]}, which {INDEX} places there.")

    def get(name: str) -> Tensor:
        return shards[where[name]].get(name)

    tensors = {name: shards[file].tensors[name] for name, file in where.items()}
    return Checkpoint(folder, tuple(folder / file for file in shards), tensors, get)


def write_stream(
    file: BinaryIO, tensors: Mapping[str, TensorInfo], values: Iterable[bytes | memoryview],
    metadata: Mapping[str, str],
) -> None:  # fmt: skip
    """Write a safetensors file of `tensors`, whose `values` come in the order of `layout`.

    Parameters
    ----------
    file : open for writing.
    tensors : by name, what is stored.
    values : the bytes of all tensors in the order of `layout(tensors)`, in any portions.
    metadata : texts for the header.
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    at = 0
    for name in layout(tensors):
        info = tensors[name]
        header[name] = {"dtype": info.dtype, "shape": info.shape, "data_offsets": [at, at + info.bytes]}
        at += info.bytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the values start aligned
    file.write(len(text).to_bytes(8, "little"))
    file.write(text)
    for portion in values:
        file.write(portion)


def layout(tensors: Mapping[str, TensorInfo]) -> list[str]:
    """Names in the order of the file: wide dtypes first, so that every tensor is aligned."""
    return sorted(tensors, key=lambda name: (-ITEM_SIZES[tensors[name].dtype], name))


def _open(path: Path, stack: ExitStack) -> Any:
    try:
        import torch  # noqa: F401  the library hands out torch tensors: numpy has no bfloat16
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise InputError(NEEDS.format(error.name)) from None
    try:
        return stack.enter_context(safe_open(str(path), framework="pt"))
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: give all shards of the checkpoint.") from None
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path} is damaged or no safetensors file ({error}): copy or save it again."
        ) from None


def _shards(index: Path) -> dict[str, str]:
    """Tensor names and the shard of each, which must be a plain file beside the index."""
    remedy = "save the checkpoint again"
    try:
        where = json.loads(read_text(index, "an index of shards"))["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError):
        raise InputError(f"{index} has no weight_map: {remedy}.") from None
    if not isinstance(where, dict) or not all(isinstance(file, str) for file in where.values()):
        raise InputError(f"{index}: weight_map must name a file for each tensor: {remedy}.")
    for file in where.values():
        if Path(file).name != file or "\\" in file or "\0" in file or not file.endswith(".safetensors"):
            raise InputError(f"{index} names {file!r}, which is no .safetensors file beside it: {remedy}.")
    return where
