"""A checkpoint opened for reading: names, shapes and dtypes at once, values tensor by tensor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

# bytes of one element, by the name that safetensors gives a dtype; what is not here is refused
ITEM_SIZES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1, "BOOL": 1,
}  # fmt: skip
SAFETENSORS = ".safetensors"
NEEDS = "merging checkpoints needs {}: install it with `pip install 'lehr[train]'`."


@dataclass(frozen=True)
class TensorInfo:
    """Dtype (as safetensors names it) and shape of a tensor."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Size of the values in bytes."""
        return self.elements * ITEM_SIZES[self.dtype]

    def __str__(self) -> str:
        """Such as `F32 2x3`."""
        return f"{self.dtype} {'x'.join(map(str, self.shape)) or 'scalar'}"


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint.

    Parameters
    ----------
    path : file or folder that was named.
    files : every file it is read from.
    tensors : by name, what is stored.
    get : returns the values of a named tensor, on the CPU, without loading the others.
    left_out : what else the file holds, such as optimiser state.
    """

    path: Path
    files: tuple[Path, ...]
    tensors: Mapping[str, TensorInfo]
    get: Callable[[str], Tensor]
    left_out: tuple[str, ...] = ()


def some(names: Sequence[str], most: int = 3) -> str:
    """The first few of some names.

    >>> some(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    """
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown
