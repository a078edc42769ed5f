"""A report as a value: the answer, what it rests on, and how to make it again. Renderers know nothing of laws.

`lehr.report.gather` makes one from fits and runs; `page` writes it as HTML, `markdown` as Markdown, `document` as JSON.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from lehr.report.chart import Chart

Cell = str | float | int | bool | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    key : its name in JSON.
    title : its name for readers, with the unit.
    form : how numbers are written, a format specification such as ".4f" or ".2%".
    """

    key: str
    title: str
    form: str = ""


@dataclass(frozen=True)
class Table:
    """Numbers and words in rows; the first column names the row. A cell of None stands for what is not known.

    Parameters
    ----------
    key : its name in JSON.
    caption : what it holds, for readers.
    columns, rows : a row has a cell a column.
    """

    key: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Part:
    """A titled part: paragraphs, figures, tables, and what is left out of it, with the reason."""

    key: str
    title: str
    text: tuple[str, ...] = ()
    charts: tuple[Chart, ...] = ()
    tables: tuple[Table, ...] = ()
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class Command:
    """A command line and what it does."""

    what: str
    line: str


@dataclass(frozen=True)
class Attachment:
    """A file that goes with the report.

    Parameters
    ----------
    name : of the file.
    what : is in it.
    media : type, such as text/csv.
    text : its content.
    """

    name: str
    what: str
    media: str
    text: str


@dataclass(frozen=True)
class Report:
    """Everything that a team is told.

    Parameters
    ----------
    title : of the report.
    date : on which it was made, ISO 8601; "" leaves it out.
    question : what was asked, by name; `assumed` says which of it the reader did not ask for.
    answer : in a sentence or two, with the interval.
    recommendation : its numbers by name; empty where none could be given, which `answer` then says.
    warnings : what the answer rests on beyond the data.
    parts : the evidence, in order.
    commands : that reproduce it and go on from it.
    facts : versions, fingerprint and the like, by name.
    attachments : schedule, data and fit as files.
    """

    title: str
    date: str
    answer: str
    question: Mapping[str, Cell] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()
    recommendation: Mapping[str, Cell] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()
    commands: tuple[Command, ...] = ()
    facts: Mapping[str, Cell] = field(default_factory=dict)
    attachments: tuple[Attachment, ...] = ()


def cell_text(value: Cell, form: str = "") -> str:
    """A cell as readers see it: numbers by `form`, what is unknown or not finite as a dash.

    >>> cell_text(0.12345, ".1%"), cell_text(None), cell_text(float("nan")), cell_text(True)
    ('12.3%', '-', '-', 'yes')
    """
    if value is None or isinstance(value, float) and value - value != 0:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    text = format(value, form or "g") if isinstance(value, float) or form else str(value)
    return text.lstrip("+-") if not text.strip("+-0.%") else text  # no minus before a nought


def words_of(name: str) -> str:
    """The name of a number as words.

    >>> words_of("peak_lr")
    'peak LR'
    """
    return name.replace("_", " ").replace(" lr", " LR")


def shown_text(text: Any) -> str:
    """`text` without what turns or hides the text around it, or cannot be written."""
    return "".join(c if c.isprintable() or c in "\n\t" else "?" for c in str(text))
