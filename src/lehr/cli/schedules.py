"""A schedule given on the command line: its text, or a file that holds it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from lehr.errors import InputError, bad

if TYPE_CHECKING:
    from lehr.schedule.schedule import Schedule

SUFFIXES = (".json", ".csv")


def read_schedule(text: str) -> Schedule:
    """Return the schedule of a text such as "cosine(steps=1000, peak=1e-3)", or of a .json or .csv file.

    A JSON file holds what `lehr.schedule.spec.to_dict` writes, or has it (or a text) as "schedule"; a CSV file
    holds `update,lr` rows as `lehr export --to csv` writes them.

    Raises
    ------
    InputError
        If the file is missing or of another kind, or the schedule in it is wrong.
    """
    from lehr.schedule.spec import parse

    suffix = Path(text).suffix.lower()
    if "(" in text and suffix not in SUFFIXES:
        return parse(text)
    if suffix not in SUFFIXES:
        rule = 'must be a text such as "cosine(steps=1000, peak=1e-3)" or a .json or .csv file'
        raise bad("the schedule", rule, text, "see docs/export.md")
    return _from_file(Path(text), suffix)


def _from_file(path: Path, suffix: str) -> Schedule:
    from lehr.files import read_text
    from lehr.schedule.export import csv
    from lehr.schedule.spec import from_dict, parse

    content = read_text(path, "a schedule")
    if suffix == ".csv":
        return csv.read(content, str(path))
    try:
        data = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is not JSON: {error}.") from None
    found = data.get("schedule", data) if isinstance(data, dict) else data
    try:
        return parse(found) if isinstance(found, str) else from_dict(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
