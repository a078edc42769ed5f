"""TFRecord files: a chunk of records at a time, each checked against its checksums.

A record is its length (uint64), the masked CRC-32C of those 8 bytes, the data, and that of the data (the
format of `tensorflow/core/lib/io/record_writer.cc`). Reading stops before the first record that is cut or
damaged, so what was read is what was written; the reason and the byte are told.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lehr.runs.readers.crc import masked_crc32c, masked_crc32c_of

CHUNK = 1 << 22  # bytes read at a time
LARGEST = 1 << 26  # bytes of a record that is looked into
_LENGTH, _HEAD = struct.Struct("<Q"), struct.Struct("<QI")


@dataclass(frozen=True, eq=False)
class Records:
    """Whole, checked records.

    Parameters
    ----------
    data : the bytes that they lie in.
    start, size : shape (n,), int64: where the data of each begins, and its bytes.
    begin : where `data` begins in the file.
    stopped : why reading stopped after them, "" if it did not.
    left : bytes of the file that were not read, if it stopped.
    large : records that were passed over, unread, for their size.
    """

    data: bytes
    start: np.ndarray
    size: np.ndarray
    begin: int
    stopped: str = ""
    left: int = 0
    large: int = 0


def is_record(head: bytes) -> bool:
    """Whether bytes begin with the length of a record and the right checksum of it."""
    return len(head) >= 12 and masked_crc32c(head[:8]) == _HEAD.unpack_from(head)[1]


def records(path: Path) -> Iterator[Records]:
    """Yield the records of a file, in order; the last of it tells why reading stopped."""
    with path.open("rb") as file:
        rest, begin, ended = b"", 0, False
        total = path.stat().st_size
        while not ended:
            read = file.read(CHUNK)
            data, ended = rest + read, len(read) < CHUNK
            starts, sizes, at = _frames(data)
            start, size = np.array(starts, dtype=np.int64), np.array(sizes, dtype=np.int64)
            good = _undamaged(data, start, size)
            if good < start.size:
                at = int(start[good]) - 12
                left = total - begin - at
                yield Records(data, start[:good], size[:good], begin, _damaged(begin + at), left)
                return
            rest = data[at:]
            stopped, large = "", 0
            if is_record(rest):
                length = _LENGTH.unpack_from(rest)[0] + 16
                if ended or begin + at + length > total:
                    stopped, ended = f"the record at byte {begin + at} is cut off", True
                elif length > LARGEST:
                    large, rest = 1, b""
                    at += length
                    file.seek(begin + at)
            elif len(rest) >= 12:
                stopped, ended = _damaged(begin + at), True
            elif ended and rest:
                stopped = f"the record at byte {begin + at} is cut off"
            left = total - begin - at if stopped else 0
            yield Records(data, start, size, begin, stopped, left, large)
            begin += at


def _damaged(offset: int) -> str:
    return f"the record at byte {offset} does not agree with its checksum"


def _frames(data: bytes) -> tuple[list[int], list[int], int]:
    """Return where the data of each whole record begins, its bytes, and where the rest begins."""
    starts, sizes, at, last = [], [], 0, len(data) - 16
    unpack = _LENGTH.unpack_from
    while at <= last:
        (size,) = unpack(data, at)
        if size > last - at:
            break
        starts.append(at + 12)
        sizes.append(size)
        at += size + 16
    return starts, sizes, at


def _undamaged(data: bytes, start: np.ndarray, size: np.ndarray) -> int:
    """Return how many of the records, from the first, agree with both of their checksums."""
    if not start.size:
        return 0
    letters = np.frombuffer(data, dtype=np.uint8)
    told = [letters[place[:, None] + np.arange(4)].view("<u4")[:, 0] for place in (start - 4, start + size)]
    right = masked_crc32c_of(letters, start - 12, np.full(start.size, 8)) == told[0]
    right &= masked_crc32c_of(letters, start, size) == told[1]
    return start.size if right.all() else int(np.argmin(right))
