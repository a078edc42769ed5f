"""Segments: files of many records, written once.

::

    {"schema_version": 2, "generation": 7, "records": [
    {"name": ..., "parquet": ..., "row": ..., "sha256": ..., ...},
    ...
    ]}

Each record is one of `lehr.runs.registry`, and the run's points are those of its Parquet file from row
`row` on, or all of them where it has no `row`. Versions of lehr that know only files of one record refuse a
segment by its `schema_version`, so they never take a part of a store for the whole. A segment is never
changed: its name holds a hash of its content, and a later generation takes its place.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import Any

from lehr.errors import InputError
from lehr.runs.registry import check_record, check_version

SEGMENT_VERSION = 2
SEGMENT = re.compile(r"segment\.(\d{12})\.([0-9a-f]{16})\.json\Z")  # no run's id holds a dot
PART = re.compile(r"shared\.[0-9a-f]{16}\.parquet\Z")


@dataclass(frozen=True)
class Segment:
    """Records that were written together, and their generation: of two records of a run the later counts."""

    generation: int
    records: tuple[dict[str, Any], ...]


def encode_segment(segment: Segment) -> tuple[str, bytes]:
    """Return the file name of a segment and its bytes."""
    lines = ",\n".join(json.dumps(record, allow_nan=False) for record in segment.records)
    head = f'{{"schema_version": {SEGMENT_VERSION}, "generation": {segment.generation}, "records": ['
    data = f"{head}\n{lines}\n]}}\n".encode("ascii")
    return f"segment.{segment.generation:012d}.{_digest(data)}.json", data


def decode_segment(name: str, data: bytes, place: str) -> Segment:
    """Read a segment, checking every record.

    Parameters
    ----------
    name : its file name.
    data : its bytes.
    place : the file, as messages name it.

    Raises
    ------
    InputError
        If it is damaged or of a version not known here.
    """
    told = SEGMENT.match(name)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise _damaged(place, f"not JSON ({error})") from None
    if not isinstance(content, dict) or not isinstance(content.get("schema_version"), int):
        raise _damaged(place, "no schema_version")
    check_version(content["schema_version"], SEGMENT_VERSION, place)
    if not told or told[2] != _digest(data):
        raise _damaged(place, "its content is not what its name says")
    generation, records = content.get("generation"), content.get("records")
    if not isinstance(generation, int) or not isinstance(records, list):
        raise _damaged(place, "no generation or no records")
    for record in records:
        if not isinstance(record, dict):
            raise _damaged(place, "a record is no JSON object")
        check_record(record, place)
    return Segment(generation, tuple(records))


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _damaged(place: str, what: str) -> InputError:
    return InputError(
        f"{place} is damaged: {what}. It describes many runs: bring it back from a copy of the store, "
        "or delete it and import its runs again."
    )
