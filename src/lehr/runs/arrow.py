"""Columns of numbers out of DuckDB, block by block, through the Arrow C stream interface.

DuckDB's own way to NumPy holds a whole result twice. This one copies each block of a stream into arrays that grow
in place, so that a table needs the memory of its columns. The layout of the two structures is fixed by the
Arrow C data interface and the Arrow C stream interface (arrow.apache.org); no other package is needed.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np

_STEP, _SHARE = 1 << 18, 64  # an array that is full grows by so many entries, or by this share of its own


class _Array(ctypes.Structure):
    """`struct ArrowArray`."""


_Array._fields_ = [
    ("length", ctypes.c_int64), ("null_count", ctypes.c_int64), ("offset", ctypes.c_int64),
    ("n_buffers", ctypes.c_int64), ("n_children", ctypes.c_int64), ("buffers", ctypes.POINTER(ctypes.c_void_p)),
    ("children", ctypes.POINTER(ctypes.POINTER(_Array))), ("dictionary", ctypes.c_void_p),
    ("release", ctypes.CFUNCTYPE(None, ctypes.POINTER(_Array))), ("private_data", ctypes.c_void_p),
]  # fmt: skip


class _Stream(ctypes.Structure):
    """`struct ArrowArrayStream`."""


_Stream._fields_ = [
    ("get_schema", ctypes.c_void_p),
    ("get_next", ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_Stream), ctypes.POINTER(_Array))),
    ("get_last_error", ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.POINTER(_Stream))),
    ("release", ctypes.c_void_p), ("private_data", ctypes.c_void_p),
]  # fmt: skip

_pointer = ctypes.pythonapi.PyCapsule_GetPointer
_pointer.restype = ctypes.c_void_p
_pointer.argtypes = [ctypes.py_object, ctypes.c_char_p]


class StreamError(Exception):
    """What the engine said when it could not go on."""


@dataclass(frozen=True, eq=False)
class Numbers:
    """A column of n numbers: `values` (NaN where there is none) and which are `present`, shape (n,), both read-only.

    Where all are present that array takes no memory.
    """

    values: np.ndarray
    present: np.ndarray


def read_numbers(relation: Any) -> tuple[Numbers, ...]:
    """Read a relation whose columns are all DOUBLE.

    Raises
    ------
    StreamError, duckdb.Error
        If the rows cannot be made, as of a broken file.
    """
    capsule = relation.__arrow_c_stream__()  # frees the stream when it is dropped
    stream = ctypes.cast(_pointer(capsule, b"arrow_array_stream"), ctypes.POINTER(_Stream))
    columns = [_Growing() for _ in relation.columns]
    while True:
        block = _Array()
        if stream.contents.get_next(stream, ctypes.byref(block)):
            raise StreamError(
                (stream.contents.get_last_error(stream) or b"no reason given").decode("utf-8", "replace")
            )
        if not block.release:
            return tuple(column.done() for column in columns)
        try:
            for index, column in enumerate(columns):
                column.take(block.children[index].contents, block.offset, block.length)
        finally:
            block.release(ctypes.byref(block))


class _Growing:
    """One column while it is read."""

    def __init__(self) -> None:
        self.values = np.empty(0)
        self.present: np.ndarray | None = None
        self.size = 0

    def take(self, part: Any, skipped: int, length: int) -> None:
        """Copy the values of a block."""
        if not length:
            return
        first, end = part.offset + skipped, self.size + length
        if end > self.values.size:
            # nothing else refers to the array
            grown = self.values.size + max(_STEP, self.values.size // _SHARE)
            self.values.resize(max(end, grown), refcheck=False)
        place = part.buffers[1] + 8 * first
        self.values[self.size : end] = _memory(place, 8 * length).view(np.float64)
        if part.null_count and part.buffers[0]:
            self._mark(_bits(part.buffers[0], first, length), end)
        elif self.present is not None:
            self._mark(np.ones(length, dtype=bool), end)
        self.size = end

    def _mark(self, valid: np.ndarray, end: int) -> None:
        if self.present is None:
            self.present = np.ones(self.values.size, dtype=bool)
        if self.present.size < end:
            self.present.resize(self.values.size, refcheck=False)
        self.present[self.size : end] = valid
        self.values[self.size : end][~valid] = np.nan

    def done(self) -> Numbers:
        """Give back what is not used."""
        self.values.resize(self.size, refcheck=False)
        self.values.setflags(write=False)
        if self.present is None:
            return Numbers(self.values, np.broadcast_to(np.True_, self.values.shape))
        self.present.resize(self.size, refcheck=False)
        self.present.setflags(write=False)
        return Numbers(self.values, self.present)


def _bits(address: int, first: int, length: int) -> np.ndarray:
    """Bits `first` .. `first + length` of a bitmap, lowest bit of each byte first."""
    begin, end = first // 8, (first + length + 7) // 8
    packed = _memory(address + begin, end - begin)
    return np.unpackbits(packed, bitorder="little")[first - 8 * begin :][:length].astype(bool)


def _memory(address: int, count: int) -> np.ndarray:
    """The bytes at an address."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * count).from_address(address))
