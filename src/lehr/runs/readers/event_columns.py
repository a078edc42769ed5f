"""Records of an event file as columns: many events of the usual layout are taken apart at once.

Writers lay the fields of an event down in the order of their numbers: wall_time, step, summary. A summary of
one scalar is then a fixed sequence of bytes but for the numbers and the lengths, and numpy can walk all such
records in step. What differs is left to `event_values`, one at a time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.runs.readers.tfrecord import Records

_NEWEST = 10  # bytes of the longest varint
# TensorProto: dtype float32, no dimensions, then 4 bytes as tensor_content or float_val
_TENSORS = (bytes([0x42, 10, 8, 1, 18, 0, 0x22, 4]), bytes([0x42, 10, 8, 1, 18, 0, 0x2A, 4]))


@dataclass(frozen=True, eq=False)
class Columns:
    """Scalars of n records, each of one scalar.

    Parameters
    ----------
    record : shape (n,), the place of each among the records.
    tag : shape (n,), the numbers of their tags.
    metadata : of the records that have some: the number of the tag, and SummaryMetadata with its key.
    step, value, time : shape (n,).
    rest : shape (m,), the places of the records that are of another layout.
    """

    record: np.ndarray
    tag: np.ndarray
    metadata: list[tuple[int, bytes]]
    step: np.ndarray
    value: np.ndarray
    time: np.ndarray
    rest: np.ndarray


class Numbers(dict[bytes, int]):
    """The number of each tag; one that is asked for the first time gets the next."""

    def __missing__(self, tag: bytes) -> int:
        self[tag] = len(self)
        return self[tag]


def columns(found: Records, numbers: Numbers) -> Columns:
    """Take the records of the usual layout apart."""
    walk = _Walk(found)
    time = walk.numbers("<f8", 0x09)
    step = walk.varint(0x10, optional=True).view(np.int64)
    walk.message(0x2A)
    walk.message(0x0A)
    size = walk.varint(0x0A).astype(np.int64)
    tag = walk.at.copy()
    walk.advance(size)
    value = walk.scalar()
    metadata = walk.at.copy()
    walk.metadata()
    (good,) = np.nonzero(walk.good)
    data = found.data
    begin, end = tag[good].tolist(), (tag + size)[good].tolist()
    number = np.array([numbers[data[a:b]] for a, b in zip(begin, end, strict=True)], dtype=np.int64)
    (with_metadata,) = np.nonzero((metadata < walk.end)[good])
    return Columns(
        record=good,
        tag=number,
        metadata=[
            (int(number[row]), data[metadata[good[row]] : walk.end[good[row]]])
            for row in with_metadata.tolist()
        ],
        step=step[good],
        value=value[good],
        time=time[good],
        rest=np.flatnonzero(~walk.good),
    )


class _Walk:
    """A place in each of n records, and which of them have been of the usual layout so far."""

    def __init__(self, found: Records) -> None:
        self.letters = np.frombuffer(found.data, dtype=np.uint8)
        self.at = found.start.copy()
        self.end = found.start + found.size
        self.good = np.ones(found.start.size, dtype=bool)

    def next(self, ahead: int = 0) -> np.ndarray:
        """Return the byte at each place, shape (n,); any byte past the end of the data."""
        return self.letters[np.minimum(self.at + ahead, self.letters.size - 1)]

    def advance(self, size: np.ndarray | int) -> None:
        """Move on; a record that this would leave is not of the layout."""
        self.good &= (size >= 0) & (size <= self.end - self.at)
        self.at = np.where(self.good, self.at + size, self.at)

    def numbers(self, kind: str, key: int) -> np.ndarray:
        """Return the fixed numbers under a key, shape (n,)."""
        self.good &= self.next() == key
        width = np.dtype(kind).itemsize
        place = np.minimum(self.at[:, None] + 1 + np.arange(width), self.letters.size - 1)
        out = self.letters[place].view(kind)[:, 0]
        self.advance(1 + width)
        return out

    def varint(self, key: int, optional: bool = False) -> np.ndarray:
        """Return the varints under a key, shape (n,), uint64; 0 where it is absent and may be."""
        there = (self.next() == key) & (self.at < self.end)
        if not optional:
            self.good &= there
        more = there & self.good
        at = self.at + there
        out = np.zeros(at.size, dtype=np.uint64)
        for place in range(_NEWEST):
            byte = self.letters[np.minimum(at, self.letters.size - 1)]
            bits = (byte & np.uint8(127)).astype(np.uint64) << np.uint64(7 * place)
            out |= np.where(more, bits, np.uint64(0))
            at = at + more
            more = more & (byte > 127)
            if not more.any():
                break
        self.good &= ~more
        self.advance(at - self.at)
        return out

    def message(self, key: int) -> None:
        """Enter a message that reaches to the end of the record."""
        size = self.varint(key)
        self.good &= size == (self.end - self.at).astype(np.uint64)

    def scalar(self) -> np.ndarray:
        """Return the simple_value or the float32 of a tensor without dimensions, shape (n,)."""
        simple = self.next() == 0x15
        tensor = np.zeros(simple.shape, dtype=bool)
        if not simple[self.good].all():
            for layout in _TENSORS:
                alike = ~simple & self.good
                for ahead, byte in enumerate(layout):
                    alike &= self.next(ahead) == byte
                tensor |= alike
        self.good &= simple | tensor
        self.advance(np.where(simple, 1, len(_TENSORS[0])))
        place = np.minimum(self.at[:, None] + np.arange(4), self.letters.size - 1)
        out = self.letters[place].view("<f4")[:, 0]
        self.advance(4)
        with np.errstate(invalid="ignore"):  # a NaN may be of the signalling kind
            return out.astype(float)

    def metadata(self) -> None:
        """Pass over SummaryMetadata, if any, which must be the last."""
        if (self.at < self.end)[self.good].any():
            ends = self.at == self.end
            size = self.varint(0x4A, optional=True)
            self.good &= ends | (size == (self.end - self.at).astype(np.uint64))
