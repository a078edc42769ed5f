"""PyTorch files, read with `weights_only`: a pickle that wants to run anything is refused, never run."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

from lehr.checkpoints.checkpoint import NEEDS, Checkpoint, TensorInfo, some
from lehr.errors import InputError, bad

if TYPE_CHECKING:
    from torch import Tensor

SAFE_SINCE = (2, 6)  # before, weights_only could be got round (CVE-2025-32434)
# what torch.load raises on damaged files, by trial with thousands of them
BROKEN = (
    RuntimeError, OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, AssertionError,
    ArithmeticError, ImportError,
)  # fmt: skip


def open_pickled(path: Path, key: str | None = None) -> Checkpoint:
    """Open a PyTorch file; see `open_checkpoint`."""
    found, left_out = _weights(path, _load(path), key)
    size = path.stat().st_size
    tensors = {name: TensorInfo(_dtype(tensor), tuple(tensor.shape)) for name, tensor in found.items()}
    for name, tensor in found.items():
        if str(tensor.layout) != "torch.strided" or tensor.is_meta:
            raise InputError(
                f"{path}: {name} is a {tensor.layout} tensor on {tensor.device}: save plain values."
            )
        # a few bytes can claim to be any number of elements
        if tensor.numel() * tensor.element_size() > size:
            raise InputError(
                f"{path}: {name} claims more values than the file holds: save it again, unexpanded."
            )
    return Checkpoint(path, (path,), tensors, lambda name: found[name].detach(), left_out)


def _load(path: Path) -> Any:
    try:
        import torch
    except ImportError as error:
        raise InputError(NEEDS.format(error.name)) from None
    version = torch.__version__
    if tuple(int(part) for part in version.split(".")[:2]) < SAFE_SINCE:
        remedy = "upgrade torch, or save the checkpoints as safetensors"
        raise bad("torch", "must be 2.6 or later to read PyTorch files safely", version, remedy)
    try:
        return torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    except (UnpicklingError, *BROKEN) as error:
        raise _refused(path, str(error) or type(error).__name__) from None


def _refused(path: Path, told: str) -> InputError:
    """What to say of a file that torch did not load, from its message; its advice to load unsafely is left out."""
    asked = re.search(r"GLOBAL ([\w.]+)", told)
    if asked:
        return InputError(
            f"{path} holds more than tensors and was not loaded: it asks for {asked[1]}, and running what a file "
            "asks for is not safe. Save the state_dict alone, or as safetensors."
        )
    if "_use_new_zipfile_serialization" in told:
        return InputError(
            f"{path} is empty or of the format before torch 1.6: load and save it again with today's torch."
        )
    reason = told.split("WeightsUnpickler error:")[-1].strip().splitlines()[0].split(". ")[0].rstrip(".")
    return InputError(f"{path} is damaged or no PyTorch file ({reason[:200]}): copy or save it again.")


def _weights(path: Path, loaded: Any, key: str | None) -> tuple[Mapping[str, Tensor], tuple[str, ...]]:
    """The tensors by name, and what else the file holds."""
    if not isinstance(loaded, Mapping):
        raise InputError(f"{path} holds no state_dict but a {type(loaded).__name__}: save a state_dict.")
    if key is None and _is_state(loaded):
        return loaded, ()
    states = [str(name) for name, entry in loaded.items() if _is_state(entry)]
    if key is None and len(states) == 1:
        key = states[0]
    if key is None:
        held = f"several sets of weights ({some(states)})" if states else "no state_dict of tensors alone"
        raise InputError(f"{path} holds {held} among {some(list(map(str, loaded)), 8)}: name one with --key.")
    if key not in states:
        raise bad(f"{path}: key", f"must be one of {states}", key, "name the entry with the weights")
    others = tuple(str(name) for name in loaded if name != key)
    return next(entry for name, entry in loaded.items() if str(name) == key), others


def _is_state(entry: Any) -> bool:
    """Whether `entry` maps names to tensors, and to nothing else."""
    import torch

    return isinstance(entry, Mapping) and bool(entry) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in entry.items()
    )  # fmt: skip


def _dtype(tensor: Tensor) -> str:
    """Dtype as safetensors names it; torch's own name where that has none here."""
    import torch

    names = {
        torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
        torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8",
        torch.bool: "BOOL",
    }  # fmt: skip
    return names.get(tensor.dtype, str(tensor.dtype))
