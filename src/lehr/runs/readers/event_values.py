"""Events of any layout, one at a time, and what their plugins say.

The messages are those of `tensorboard/compat/proto`: Event {1 wall_time, 2 step, 3 file_version, 5 summary},
Summary {1 value}, Value {1 tag, 2 simple_value, 8 tensor, 9 metadata}, SummaryMetadata {1 plugin_data
{1 plugin_name, 2 content}}, TensorProto {1 dtype, 2 tensor_shape, 4 tensor_content, 5 float_val,
6 double_val, 7 int_val, 8 string_val, 10 int64_val, 13 half_val} and, in the hparams plugin's `plugin_data.proto`,
HParamsPluginData {3 session_start_info {1 hparams}}.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from lehr.runs.readers.protobuf import BYTES, FIXED32, FIXED64, VARINT, fields, parts, signed, text, varint
from lehr.runs.readers.settings import Scalar

_STRING = 7
# of TensorProto.dtype: how a number lies in tensor_content
_KINDS = {
    1: "<f4",
    2: "<f8",
    3: "<i4",
    4: "u1",
    5: "<i2",
    6: "i1",
    9: "<i8",
    17: "<u2",
    19: "<f2",
    22: "<u4",
    23: "<u8",
}
_BFLOAT16 = 14


@dataclass(frozen=True)
class Value:
    """A value of a summary: a number, a text, or the hparams of a session."""

    tag: bytes
    number: float | None = None
    string: bytes | None = None
    plugin: str = ""
    hparams: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True)
class Event:
    """What one record holds: `skipped` values are of neither kind (images, histograms, graphs)."""

    time: float
    step: int
    values: tuple[Value, ...]
    skipped: int = 0


def parse_event(data: bytes) -> Event:
    """Parse one record.

    Raises
    ------
    Malformed
        If it is no event.
    """
    time, step, skipped, summaries = 0.0, 0, 0, []
    for number, kind, value, inner in fields(data):
        if number == 1 and kind == FIXED64:
            time = struct.unpack("<d", inner)[0]
        elif number == 2 and kind == VARINT:
            step = signed(value)
        elif number == 5 and kind == BYTES:
            summaries += parts(inner, 1)
        elif number in (4, 6, 7, 8, 9):
            skipped += 1
    values = [_value(summary) for summary in summaries]
    kept = tuple(value for value in values if value is not None)
    return Event(time, step, kept, skipped + len(values) - len(kept))


def plugin_of(metadata: bytes) -> str:
    """Return the plugin that SummaryMetadata names, "" if none."""
    data = parts(metadata, 1)
    return text(data[-1], 1) if data else ""


def _value(data: bytes) -> Value | None:
    tag, plugin, number, string = b"", "", None, None
    hparams: tuple[tuple[str, Scalar], ...] = ()
    for field, kind, _, inner in fields(data):
        if field == 1 and kind == BYTES:
            tag = inner
        elif field == 2 and kind == FIXED32:
            number = struct.unpack("<f", inner)[0]
        elif field == 8 and kind == BYTES:
            number, string = _tensor(inner)
        elif field == 9 and kind == BYTES:
            plugin = plugin_of(inner)
            if plugin == "hparams":
                hparams = tuple(_hparams(inner))
    if number is None and string is None and not hparams:
        return None
    return Value(tag, number, string, plugin, hparams)


def _tensor(data: bytes) -> tuple[float | None, bytes | None]:
    """Return the number or the string of a tensor of one element; neither for any other."""
    dtype, content, strings = 0, b"", []
    numbers: list[float] = []
    for field, kind, value, inner in fields(data):
        if field == 1 and kind == VARINT:
            dtype = value
        elif field == 4 and kind == BYTES:
            content = inner
        elif field == 8 and kind == BYTES:
            strings.append(inner)
        elif field in (5, 6, 7, 10, 13) and len(numbers) < 2:
            numbers += _listed(field, kind, value, inner, dtype)
    if dtype == _STRING:
        return None, strings[0] if len(strings) == 1 else None
    if content:
        numbers = _content(dtype, content)
    return (numbers[0], None) if len(numbers) == 1 else (None, None)


def _listed(field: int, kind: int, value: int, inner: bytes, dtype: int) -> list[float]:
    """Return the first two numbers of a *_val field, packed or not."""
    if field in (5, 6):
        fixed = "<f4" if field == 5 else "<f8"
        width = np.dtype(fixed).itemsize
        return np.frombuffer(inner[: 2 * width][: len(inner) // width * width], dtype=fixed).tolist()
    found = [value] if kind == VARINT else []
    at = 0
    while kind == BYTES and at < len(inner) and len(found) < 2:
        number, at = varint(inner, at)
        found.append(number)
    if field == 13:  # half_val: the bits of a float16 or a bfloat16
        return _content(dtype, struct.pack(f"<{len(found)}H", *(number & 0xFFFF for number in found)))
    return [float(signed(number)) for number in found]


def _content(dtype: int, content: bytes) -> list[float]:
    """Return the first two numbers of tensor_content."""
    if dtype == _BFLOAT16:
        halves = np.frombuffer(content[: len(content) // 2 * 2][:4], dtype="<u2").astype(np.uint32)
        return (halves << np.uint32(16)).view(np.float32).tolist()
    kind = _KINDS.get(dtype)
    if kind is None:
        return []
    width = np.dtype(kind).itemsize
    return (
        np.frombuffer(content[: len(content) // width * width][: 2 * width], dtype=kind)
        .astype(float)
        .tolist()
    )


def _hparams(metadata: bytes) -> Iterator[tuple[str, Scalar]]:
    """Yield the hyperparameters of SummaryMetadata of the hparams plugin."""
    for data in parts(metadata, 1):
        for content in parts(data, 2):
            for session in parts(content, 3):
                for entry in parts(session, 1):
                    for value in parts(entry, 2)[-1:]:
                        yield text(entry, 1), _scalar(value)


def _scalar(data: bytes) -> Scalar:
    """Return the number, string or bool of a google.protobuf.Value; None for others."""
    for field, kind, value, inner in fields(data):
        if field == 2 and kind == FIXED64:
            return struct.unpack("<d", inner)[0]
        if field == 3 and kind == BYTES:
            return inner.decode("utf-8", errors="replace")
        if field == 4 and kind == VARINT:
            return bool(value)
    return None
