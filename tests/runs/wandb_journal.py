"""Records and files of W&B, written byte by byte."""

import json
import struct
import zlib

from tests.runs.protobuf_writer import part, varint

from lehr.runs.readers import leveldb_log, wandb_offline

HEADER = b":W&B\xe1\xbe\x00"


def item(key, text, nested=True):
    keys = key if isinstance(key, tuple) else (key,)
    names = b"".join(part(2, name.encode()) for name in keys) if nested else part(1, keys[0].encode())
    return names + part(16, text.encode())


def history(number=1, nested=True, row=None, **values):
    items = b"".join(part(1, item(key, value, nested)) for key, value in values.items())
    return (
        b"\x08"
        + varint(number)
        + part(2, items + (part(2, b"\x08" + varint(row)) if row is not None else b""))
    )


def run(name="a run", ident="abc123", extra=b"", **config):
    update = b"".join(part(1, item(key, json.dumps(value), nested=False)) for key, value in config.items())
    return b"\x08\x01" + part(17, part(1, ident.encode()) + part(4, update) + part(8, name.encode()) + extra)


def journal(*records):
    """Write records as W&B does."""
    out = bytearray(HEADER)
    for record in records:
        first, rest = True, record
        while first or rest:
            left = leveldb_log.BLOCK - len(out) % leveldb_log.BLOCK
            if left < 7:
                out += bytes(left)
                continue
            data, rest = rest[: left - 7], rest[left - 7 :]
            kind = (1 if not rest else 2) if first else (4 if not rest else 3)
            out += struct.pack("<IHB", zlib.crc32(bytes([kind]) + data), len(data), kind) + data
            first = False
    return bytes(out)


def rows(count, **more):
    return [
        history(n, _step=str(n), loss=str(3 + 1 / (n + 1)), _timestamp=str(1e9 + n), **more)
        for n in range(count)
    ]


def read_one(path, content):
    """Write a file of W&B and read it."""
    path.write_bytes(content)
    assert wandb_offline.sniff(path)
    (log,) = wandb_offline.logs(path)
    return log
