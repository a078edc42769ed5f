"""What a store holds at one moment, read while others may write.

A run is described by a file of its own or in a segment; after a fold or a replacement that was cut short, by
several of them for a while: the one of the highest generation counts. Files of one run are listed before the
segments, and a writer puts records into a segment before it removes the files they came from, so that a run
that is moved at this moment is seen at one place at least. If the segments changed meanwhile, or a
listed file is gone, everything is read again.
"""

from __future__ import annotations

import time
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

from lehr.errors import InputError, ResultError
from lehr.runs.location import Location
from lehr.runs.registry import decode, safe_id
from lehr.runs.segments import SEGMENT, Segment, decode_segment

TRIES = 50


@dataclass(frozen=True)
class Entry:
    """A record, the file that holds it, and its generation."""

    record: dict[str, Any]
    file: str
    generation: int


@dataclass(frozen=True)
class Catalogue:
    """The records of a store.

    Parameters
    ----------
    runs : by name, the record that counts.
    loose : by file name, the records in files of their own that were read.
    segments : by file name.
    files : names of all files in the folder.
    """

    runs: dict[str, Entry] = field(default_factory=dict)
    loose: dict[str, dict[str, Any]] = field(default_factory=dict)
    segments: dict[str, Segment] = field(default_factory=dict)
    files: frozenset[str] = frozenset()

    @property
    def next_generation(self) -> int:
        """One above every generation present."""
        held = [segment.generation for segment in self.segments.values()]
        held += [record.get("generation", 0) for record in self.loose.values()]
        return 1 + max(held, default=0)

    @property
    def loose_files(self) -> list[str]:
        """Names of all files of one record, read or not."""
        return [name for name in self.files if is_loose(name)]


def read_catalogue(location: Location, names: Collection[str] | None = None) -> Catalogue:
    """Read the records of a store.

    Parameters
    ----------
    location : the folder of the files.
    names : the only runs whose files of their own are wanted; segments are read whole anyway.

    Raises
    ------
    InputError
        If a record is damaged, of another version, or cannot be read (its file is named).
    ResultError
        If the store changes faster than it can be read.
    """
    known: dict[str, Segment] = {}  # they never change: those read before a change need not be read again
    wanted = None if names is None else {f"{safe_id(name)}.json" for name in names}
    for attempt in range(TRIES):
        found = _read_once(location, wanted, known)
        if found is not None:
            return found
        time.sleep(0.002 * attempt)
    raise ResultError(f"{location.address} changes faster than it can be read: try again.")


def is_loose(name: str) -> bool:
    """Whether a file is a record of one run."""
    return name.endswith(".json") and not SEGMENT.match(name)


def _read_once(
    location: Location, wanted: Collection[str] | None, known: dict[str, Segment]
) -> Catalogue | None:
    """Read everything; None if it changed meanwhile."""
    first = location.names()
    files = location.names()
    names = {name for name in files if SEGMENT.match(name)}
    if names != {name for name in first if SEGMENT.match(name)}:
        return None
    loose = {}
    for name in first:
        if is_loose(name) and (wanted is None or name in wanted):
            data = _read(location, name)
            if data is None:
                return None
            loose[name] = decode(data, location.place(name))
    for name in names - known.keys():
        data = _read(location, name)
        if data is None:
            return None
        known[name] = decode_segment(name, data, location.place(name))
    segments = {name: known[name] for name in names}
    return Catalogue(_latest(loose, segments), loose, segments, frozenset(files))


def _latest(loose: dict[str, dict[str, Any]], segments: dict[str, Segment]) -> dict[str, Entry]:
    """The record of every run that counts; of equal generations that in a file of its own."""
    runs: dict[str, Entry] = {}
    for file, segment in sorted(segments.items(), key=lambda item: (item[1].generation, item[0])):
        for record in segment.records:
            runs[record["name"]] = Entry(record, file, segment.generation)
    for file, record in loose.items():
        entry = Entry(record, file, record.get("generation", 0))
        other = runs.get(record["name"])
        if other is None or other.generation <= entry.generation:
            runs[record["name"]] = entry
    return runs


def _read(location: Location, name: str) -> bytes | None:
    try:
        return location.read(name)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise InputError(
            f"{location.place(name)} cannot be read ({error.strerror or error}): check its permissions."
        ) from None
