"""The journal of LevelDB, in which W&B keeps a run: records in blocks of 32 KiB, each piece with its checksum.

A piece is a checksum (uint32), a length (uint16), a type (1 all of a record, 2 the first, 3 a middle, 4 the last
piece of one) and the data; none crosses a block, and the few bytes at the end of a block that hold no header are
zeros. As `wandb/sdk/internal/datastore.py` and its successor in `wandb-core` write it, the checksum is the CRC-32
of zlib over the type and the data, not LevelDB's masked CRC-32C; the blocks count from the first byte of the file,
so the file's header of 7 bytes is in the first.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

BLOCK = 1 << 15
READ = 64 * BLOCK  # bytes read at a time
LARGEST = 1 << 26  # bytes of a record that is looked into
_HEADER = struct.Struct("<IHB")
_ALL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_START = {kind: zlib.crc32(bytes([kind])) for kind in (_ALL, _FIRST, _MIDDLE, _LAST)}


class Journal:
    """The whole, checked records of a file, in order.

    Reading stops before the first record that is cut or damaged; afterwards `stopped` says why ("" if it did not),
    `left` how many bytes of the file were not read, and `large` how many records were passed over for their size.
    """

    def __init__(self, path: Path, header: int) -> None:
        self.path, self.header = path, header
        self.stopped = ""
        self.left = self.large = self._at = 0

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        """Yield where each record begins in the file, and its data."""
        parts: list[bytes] = []
        begin = held = 0
        for offset, kind, data in self._pieces():
            if kind in (_ALL, _FIRST):
                if parts:
                    self._stop(begin, "has no last piece")
                    return
                begin, held = offset, 0
            elif not parts:
                self._stop(offset, "has no first piece")
                return
            held += len(data)
            parts.append(data if held <= LARGEST else b"")
            if kind in (_ALL, _LAST):
                if held <= LARGEST:
                    yield begin, parts[0] if len(parts) == 1 else b"".join(parts)
                else:
                    self.large += 1
                parts = []
        if parts or self.stopped:
            self._stop(begin if parts else self._at, self.stopped or "is cut off")

    def _stop(self, offset: int, reason: str) -> None:
        self.stopped = f"the record at byte {offset} {reason}"
        self.left = self.path.stat().st_size - offset

    def _pieces(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield where each piece begins, its type and its data, until one is not whole."""
        with self.path.open("rb") as file:
            begin, skip = 0, self.header
            while blocks := file.read(READ):
                for block in range(0, len(blocks), BLOCK):
                    end = min(block + BLOCK, len(blocks))
                    at, skip = block + skip, 0
                    while end - at >= _HEADER.size:
                        crc, size, kind = _HEADER.unpack_from(blocks, at)
                        data = blocks[at + 7 : at + 7 + size]
                        self._at = begin + at
                        if size > end - at - 7:
                            whole = end - block == BLOCK
                            self.stopped = "is longer than what its block has left" if whole else "is cut off"
                            return
                        if zlib.crc32(data, _START.get(kind, 0)) != crc or kind not in _START:
                            self.stopped = "does not agree with its checksum"
                            return
                        yield begin + at, kind, data
                        at += 7 + size
                    if end - block < BLOCK and at < end:
                        self._at, self.stopped = begin + at, "is cut off"
                        return
                begin += len(blocks)
