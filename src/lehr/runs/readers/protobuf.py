"""The wire format of protocol buffers: the fields of a message, without a schema.

Only what logs need. Groups (obsolete since 2008) and lengths that reach beyond the message are refused, and
nothing is copied before its length is known to be there.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5


class Malformed(ValueError):
    """Bytes that are no message; the reader says which record they were in."""


def fields(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Yield the fields of a message in order: number, wire type, number of a varint, bytes of the others.

    Raises
    ------
    Malformed
        If the bytes are no message.
    """
    at, end = 0, len(data)
    while at < end:
        key, at = varint(data, at)
        kind = key & 7
        if key < 8:
            raise Malformed("a field has number 0")
        if kind == VARINT:
            value, at = varint(data, at)
            yield key >> 3, kind, value, b""
            continue
        if kind == BYTES:
            size, at = varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            raise Malformed(f"a field has wire type {kind}")
        if size > end - at:
            raise Malformed("a field reaches beyond its message")
        yield key >> 3, kind, 0, data[at : at + size]
        at += size


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return the unsigned varint at `at`, below 2^64, and where the next field begins.

    >>> varint(bytes([0b10101100, 0b10]), 0)
    (300, 2)
    """
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            break
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value & (1 << 64) - 1, at
    raise Malformed("a number does not end")


def signed(value: int) -> int:
    """Return the int64 that an unsigned varint carries."""
    return value - (1 << 64) if value >> 63 else value


def parts(data: bytes, number: int) -> list[bytes]:
    """Return the messages or strings that one field of a message holds, in order."""
    return [value for found, kind, _, value in fields(data) if found == number and kind == BYTES]


def text(data: bytes, number: int) -> str:
    """Return the string that one field of a message holds, the last if there are several, else ""."""
    found = parts(data, number)
    return found[-1].decode("utf-8", errors="replace") if found else ""
