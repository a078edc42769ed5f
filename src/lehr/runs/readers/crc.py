"""CRC-32C of many records at once, as event files are checked with.

A CRC is taken byte after byte, and there is no faster way in plain Python; but the records of a log are
many and alike. So records of about one length are laid side by side and one table look-up serves two bytes of
each of them. They are laid flush right: zeros before a message leave a register that starts at 0 as it is,
and starting it at all ones, as the CRC does, is the same as flipping the first 32 bits of the message.
Long records are cut into rows that are laid side by side too, and joined by what a row of zeros does.
"""

from __future__ import annotations

from functools import cache

import numpy as np

_MASK = 0xA282EAD8  # TFRecord's: a CRC that is stored beside what it covers is rotated and offset
_POLYNOMIAL = np.uint32(0x82F63B78)  # Castagnoli's, reflected
_ROW = 512  # bytes of a row of a long record
_STEP = 32  # lengths that are laid side by side differ by less than this
_CELLS = 1 << 18  # bytes laid side by side in one pass: what a second-level cache holds


def _table() -> np.ndarray:
    """CRC register after one byte, from a register of 0..255, shape (256,)."""
    register = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        register = np.where(register & 1, (register >> 1) ^ _POLYNOMIAL, register >> 1)
    return register.astype(np.uint32)


_TABLE = _table()
# after two bytes: a pass is as long, and there are half as many
_TABLE16 = np.arange(1 << 16, dtype=np.uint32)
for _ in range(2):
    _TABLE16 = _TABLE[_TABLE16 & 255] ^ (_TABLE16 >> 8)
_LOW, _TWO = np.uint32(0xFFFF), np.uint32(16)
_BYTE = _TABLE.tolist()


@cache
def _past_a_row() -> list[list[int]]:
    """CRC register after a row of zeros, by each byte of the register before, shape (4, 256)."""
    register = (np.arange(256, dtype=np.uint32)[None, :] << np.array([[0], [8], [16], [24]])).astype(
        np.uint32
    )
    for _ in range(_ROW):
        register = _TABLE[register & 255] ^ (register >> 8)
    return register.tolist()


def masked_crc32c(data: bytes) -> int:
    """Masked CRC-32C of a few bytes.

    >>> hex(masked_crc32c(b"123456789"))  # of the CRC-32C 0xe3069283
    '0xc78ab0e5'
    """
    register = 0xFFFFFFFF
    for byte in data:
        register = _BYTE[(register ^ byte) & 255] ^ (register >> 8)
    crc = register ^ 0xFFFFFFFF
    return ((crc >> 15 | crc << 17) + _MASK) & 0xFFFFFFFF


def masked_crc32c_of(data: np.ndarray, start: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Masked CRC-32C of n parts of `data`, shape (n,), uint32.

    Parameters
    ----------
    data : shape (m,), uint8.
    start, size : shape (n,), int64: where each part begins, and its bytes; within `data`.
    """
    # the part of each that is laid down whole: all of it, or what is more than whole rows of a long one
    head = np.where(size < 2 * _ROW, size, _ROW + size % _ROW)
    register = _flush_right(data, start, head, flip=True)
    (long,) = np.nonzero(head < size)
    if long.size:
        rows = (size[long] - head[long]) // _ROW
        owner = np.repeat(np.arange(long.size), rows)
        place = np.arange(owner.size) - np.repeat(np.cumsum(rows) - rows, rows)
        begin = (start[long] + head[long])[owner] + _ROW * place
        row = _flush_right(data, begin, np.full(owner.size, _ROW), flip=False)
        register[long] = _joined(register[long], row, rows)
    out = (~register >> np.uint32(15) | ~register << np.uint32(17)) + np.uint32(_MASK)
    for index in np.flatnonzero(size < 4):  # these have no 32 bits to flip
        out[index] = masked_crc32c(data[start[index] : start[index] + size[index]].tobytes())
    return out


def _flush_right(data: np.ndarray, start: np.ndarray, size: np.ndarray, flip: bool) -> np.ndarray:
    """CRC registers of the parts, from all ones where `flip`, else from 0; shape (n,)."""
    register = np.zeros(start.size, dtype=np.uint32)
    width = -(-size // _STEP) * _STEP
    begin = start + size - width + _STEP  # a part flush right may begin before the data does
    data = np.concatenate([np.zeros(_STEP, dtype=np.uint8), data])
    for cells in np.unique(width[width > 0]).tolist():
        (alike,) = np.nonzero(width == cells)
        windows = np.lib.stride_tricks.sliding_window_view(data, cells)
        for part in np.array_split(alike, 1 + alike.size * cells // _CELLS):
            block, before = windows[begin[part]], cells - size[part]
            block[:, :_STEP][np.arange(_STEP) < before[:, None]] = 0
            if flip:
                for ahead in range(4):
                    at = np.minimum(before + ahead, cells - 1)
                    block[np.arange(part.size), at] ^= 255
            value = register[part]
            for pair in np.ascontiguousarray(block.view("<u2").T):
                value = _TABLE16.take((value ^ pair) & _LOW) ^ (value >> _TWO)
            register[part] = value
    return register


def _joined(head: np.ndarray, row: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """CRC registers of long records, from those of their heads (n,) and of all their rows in order."""
    first, second, third, fourth = _past_a_row()
    out, following = [], iter(row.tolist())
    for value, count in zip(head.tolist(), rows.tolist(), strict=True):
        for _ in range(count):
            value = (
                first[value & 255] ^ second[value >> 8 & 255] ^ third[value >> 16 & 255] ^ fourth[value >> 24]
            ) ^ next(following)
        out.append(value)
    return np.array(out, dtype=np.uint32)
