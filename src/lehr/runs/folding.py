"""Folding: many small files of a store become a few large ones, so that it stays fast to list.

Every function here is called by a writer that holds the store's lock. Nothing is lost if it is killed: the
segment is written first, what it stands for is removed afterwards, and until then the records of both say the
same (see `lehr.runs.catalogue`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from lehr.runs import duck
from lehr.runs.catalogue import Catalogue, read_catalogue
from lehr.runs.location import Location
from lehr.runs.registry import ASIDE, damaged
from lehr.runs.segments import PART
from lehr.runs.shared import Points, write_shared
from lehr.runs.writing import POINTS, file_sha256, remove

MOST_SMALL = 64  # files of one record, and small segments, that may lie there before they are folded
SMALL_SEGMENT = 1024  # records
SMALL_FILE = 1 << 18  # points: larger Parquet files stay as they are
_TOGETHER = 256  # files read at once


def due(catalogue: Catalogue, segments: int = 0, loose: int = 0) -> bool:
    """Whether a store has so many small files, with those written since, that they should be folded."""
    return (
        len(catalogue.loose_files) + loose > MOST_SMALL
        or len(_small_segments(catalogue)) + segments > MOST_SMALL
    )


def fold(folder: Path) -> None:
    """Put the runs of small files into shared ones, and remove what no record needs.

    Raises
    ------
    InputError
        If a file is damaged; everything is as it was.
    OSError, duckdb.Error
        If the disk refuses; likewise.
    """
    location = Location(str(folder))
    catalogue = read_catalogue(location)
    sources = {*catalogue.loose, *_small_segments(catalogue)}
    moved = [entry.record for entry in catalogue.runs.values() if entry.file in sources]
    sizes: dict[str, int] = {}
    for record in moved:
        sizes[record["parquet"]] = sizes.get(record["parquet"], 0) + record["points"]
    stay = [record for record in moved if sizes[record["parquet"]] > SMALL_FILE]
    small = [record for record in moved if sizes[record["parquet"]] <= SMALL_FILE]
    small.sort(key=lambda record: (record["parquet"], record.get("row", 0)))
    if moved:
        write_shared(folder, _points(folder, small), catalogue.next_generation, stay)
    for name in sources:
        remove(folder / name)
    collect(folder)


def collect(folder: Path) -> None:
    """Remove segments of which no record counts any more, and points that no record names.

    Raises
    ------
    InputError
        If a record is damaged: nothing is removed, since it may name any file.
    """
    catalogue = read_catalogue(Location(str(folder)))
    alive = {entry.file for entry in catalogue.runs.values()}
    for name in (catalogue.segments.keys() | catalogue.loose.keys()) - alive:
        remove(folder / name)
    named = {record["parquet"] for record in catalogue.loose.values()} | {
        record["parquet"]
        for file in alive & catalogue.segments.keys()
        for record in catalogue.segments[file].records
    }
    for name in catalogue.files - named:
        if PART.match(name) or POINTS.match(name):
            remove(folder / name)


def _small_segments(catalogue: Catalogue) -> list[str]:
    return [name for name, segment in catalogue.segments.items() if len(segment.records) < SMALL_SEGMENT]


def _points(folder: Path, records: Sequence[dict[str, Any]]) -> Iterator[Points]:
    """Read the points of records, which are in order of file and row."""
    connection = duck.connect()
    alone = [record for record in records if "row" not in record]
    for begin in range(0, len(alone), _TOGETHER):
        batch = alone[begin : begin + _TOGETHER]
        rows = itertools.accumulate((record["points"] for record in batch), initial=0)
        yield from _slices(
            connection, folder, [record["parquet"] for record in batch], zip(batch, rows, strict=False)
        )
    together = (record for record in records if "row" in record)
    for file, group in itertools.groupby(together, lambda record: str(record["parquet"])):
        yield from _slices(connection, folder, [file], [(record, record["row"]) for record in group])


def _slices(
    connection: Any, folder: Path, files: Sequence[str], rows: Iterable[tuple[dict[str, Any], int]]
) -> Iterator[Points]:
    """Cut the points of records, of which the first row is given, out of the rows of files."""
    step, loss = duck.read_points(connection, *(folder / file for file in files))
    checked: set[Path] = set()
    for record, first in rows:
        part = slice(first, first + record["points"])
        path = folder / record["parquet"]
        if path not in checked and file_sha256(path) != record["sha256"]:
            raise damaged(path, "its SHA-256 is not the recorded one")
        checked.add(path)
        if step[part].size != record["points"]:
            raise damaged(path, f"it holds fewer than the {record['points']} points of {record['name']!r}")
        yield Points(
            {key: value for key, value in record.items() if key not in ASIDE}, step[part], loss[part]
        )
