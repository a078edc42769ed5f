"""Many runs written at once: their points in shared Parquet files, their records in one segment.

The rename of the segment makes all of them visible at once.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lehr.runs import duck
from lehr.runs.registry import ASIDE
from lehr.runs.segments import Segment, encode_segment
from lehr.runs.writing import TEMPORARY, file_sha256, remove, remove_temporary, sync_file, sync_folder

PART_POINTS = 1 << 20  # points of a shared file: 16 MB in memory, and what the loading of one run has to read


@dataclass(frozen=True)
class Points:
    """The points of one run that are to be written, and its record."""

    record: Mapping[str, Any]
    step: np.ndarray
    loss: np.ndarray


def write_shared(
    folder: Path, points: Iterable[Points], generation: int, as_they_are: Sequence[Mapping[str, Any]] = ()
) -> Segment:
    """Write runs into shared files and a segment, all or none.

    Parameters
    ----------
    folder : where the files go.
    points : the runs; taken one by one, so that not all need be in memory.
    generation : of the segment, above those of all records of these runs.
    as_they_are : records whose Parquet files stay, to stand in the segment too.

    Raises
    ------
    OSError, duckdb.Error
        If the disk refuses; everything is as it was.
    """
    connection = duck.connect()
    written: list[Path] = []
    records: list[dict[str, Any]] = [
        _without(record, "schema_version", "generation") for record in as_they_are
    ]
    before = {path.name for path in folder.iterdir()}
    try:
        for group in _parts(points):
            path, digest = _write_part(connection, folder, group)
            written.append(path)
            row = 0
            for item in group:
                place = {"parquet": path.name, "sha256": digest, "row": row}
                records.append({**_without(item.record, *ASIDE), **place})
                row += item.step.size
        segment = Segment(generation, tuple(records))
        name, data = encode_segment(segment)
        temporary = folder / f"{name}{TEMPORARY}"
        temporary.write_bytes(data)
        sync_file(temporary)
        sync_folder(folder)  # the points first
        written.append(folder / name)  # before: an interrupt may fall between the two
        os.replace(temporary, folder / name)
        sync_folder(folder)
    except BaseException:
        for path in reversed(written):  # the segment first
            if path.name not in before:
                remove(path)
        raise
    finally:
        remove_temporary(folder)
    return segment


def _parts(points: Iterable[Points]) -> Iterator[list[Points]]:
    """Group runs into files of about `PART_POINTS` points."""
    group: list[Points] = []
    held = 0
    for item in points:
        if group and held + item.step.size > PART_POINTS:
            yield group
            group, held = [], 0
        group.append(item)
        held += item.step.size
    if group:
        yield group


def _write_part(connection: Any, folder: Path, group: Sequence[Points]) -> tuple[Path, str]:
    """Write a shared file under the name that its content gives it."""
    temporary = folder / f"shared.parquet{TEMPORARY}"
    duck.write_shared(
        connection, temporary, [item.record["name"] for item in group], [item.step.size for item in group],
        np.concatenate([item.step for item in group]), np.concatenate([item.loss for item in group]),
    )  # fmt: skip
    sync_file(temporary)
    digest = file_sha256(temporary)
    path = folder / f"shared.{digest[:16]}.parquet"
    os.replace(temporary, path)
    return path, digest


def _without(record: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    return {key: value for key, value in record.items() if key not in keys}
