"""A report as Markdown (CommonMark with tables, as code hosts show it).

Figures are told by their sentence, and shown where they are files beside the report.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType
from urllib.parse import quote

from lehr.report.chart import words_of
from lehr.report.report import Cell, Part, Report, Table, cell_text, shown_text

_SPECIAL = re.compile(r"([\\`*_\[\]|~$#])")


def to_markdown(report: Report, pictures: Mapping[tuple[str, int], str] = MappingProxyType({})) -> str:
    """The report as Markdown; names are escaped, so that they are text.

    Parameters
    ----------
    report : the report.
    pictures : paths of its figures, seen from the report, by the key of their part and their number in it, from 0.
    """
    blocks = [f"# {_words(report.title)}", f"**{_words(report.answer)}**"]
    if report.warnings:
        blocks += ["## Warnings", _listed(report.warnings)]
    blocks += ["## What was asked", _facts(report.question)]
    if report.assumed:
        blocks += ["Taken from the fitted runs, as it was not asked for:", _listed(report.assumed)]
    for part in report.parts:
        blocks += _part(part, pictures)
    blocks.append("## How to make this again")
    for command in report.commands:
        blocks += [f"{_words(command.what[:1].upper() + command.what[1:])}:", _code(command.line)]
    named = {"date": report.date, **report.facts} if report.date else report.facts
    blocks.append(_facts(named))
    return "\n\n".join(blocks) + "\n"


def _part(part: Part, pictures: Mapping[tuple[str, int], str]) -> list[str]:
    blocks = [f"## {_words(part.title)}", *map(_words, part.text)]
    for number, chart in enumerate(part.charts):
        if path := pictures.get((part.key, number)):
            blocks.append(f"![{_words(chart.title or chart.kind)}]({quote(path)})")
        blocks.append(f"*Figure: {_words(chart.alt)}*")
    for table in part.tables:
        blocks += [f"**{_words(table.caption)}**", _table(table)]
    if part.left_out:
        blocks += ["Left out:", _listed(part.left_out)]
    return blocks


def _table(table: Table) -> str:
    head = [_words(column.title) for column in table.columns]
    rule = [":---", *["---:"] * (len(head) - 1)]
    body = [
        [_words(cell_text(cell, column.form)) for cell, column in zip(row, table.columns, strict=True)]
        for row in table.rows
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *body))


def _facts(named: Mapping[str, Cell]) -> str:
    return _listed([f"{words_of(name)}: {cell_text(value)}" for name, value in named.items()])


def _listed(lines: list[str] | tuple[str, ...]) -> str:
    return "\n".join(f"- {_words(line)}" for line in lines)


def _words(text: str) -> str:
    """Text on one line that no Markdown or HTML is read into."""
    plain = " ".join(shown_text(text).split())
    escaped = _SPECIAL.sub(r"\\\1", plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))
    for mark, entity in (("://", "&#58;//"), ("@", "&#64;"), ("www.", "www&#46;")):  # addresses are no links
        escaped = escaped.replace(mark, entity)
    return re.sub(r"^([-+=]|\d+[.)])", r"\\\1", escaped)


def _code(line: str) -> str:
    """A command in a fence that it cannot close."""
    plain = "".join(c if c.isprintable() else "?" for c in line)
    fence = "`" * (max((len(run) for run in re.findall("`+", plain)), default=2) + 1)
    fence = fence if len(fence) >= 3 else "```"
    return f"{fence}sh\n{plain}\n{fence}"
