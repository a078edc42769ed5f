"""Readers: one file a format, found by content. Adding a format is one file and one line here."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lehr.errors import InputError, unknown
from lehr.runs.readers import lehr_log, table, wandb_json
from lehr.runs.readers.reading import Reading, ReadOptions, check_file


@dataclass(frozen=True)
class Format:
    """A log format: `sniff` tells it by content, `read` reads a file of it."""

    sniff: Callable[[Path], bool]
    read: Callable[[Path, ReadOptions | None], tuple[Reading, ...]]


# asked in this order: the first that recognises a file reads it
FORMATS: dict[str, Format] = {
    "lehr": Format(lehr_log.sniff, lehr_log.read),
    "wandb-json": Format(wandb_json.sniff, wandb_json.read),
    "table": Format(table.sniff, table.read),
}


def detect(path: Path | str) -> str:
    """Name the format of a log from its content.

    >>> sorted(FORMATS)
    ['lehr', 'table', 'wandb-json']

    Raises
    ------
    InputError
        If the file is missing, empty, too large, or of no known format.
    """
    path = check_file(Path(path))
    for name, known in FORMATS.items():
        if known.sniff(path):
            return name
    raise InputError(
        f"{path} is not a log of a known format ({', '.join(FORMATS)}): "
        "give CSV or TSV with a header line, Parquet, JSON-lines or a W&B JSON export, uncompressed."
    )


def read(path: Path | str, options: ReadOptions | None = None, format: str = "auto") -> tuple[Reading, ...]:
    """Read every run in a log.

    Parameters
    ----------
    path : the file.
    options : how to read it.
    format : a name in `FORMATS`, or "auto".

    Raises
    ------
    InputError
        If the format is unknown, or the file cannot be read as that format.
    """
    path = Path(path)
    if format == "auto":
        format = detect(path)
    if format not in FORMATS:
        raise unknown("log format", format, ["auto", *FORMATS])
    return FORMATS[format].read(path, options)
