"""One self-contained HTML page: no network, no script; every name in it is escaped."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from lehr import __version__


@dataclass(frozen=True)
class Section:
    """A titled part of the page: text, then a table, then a figure (SVG made by lehr itself)."""

    title: str
    text: str = ""
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    svg: str = ""
    alt: str = ""


def render(title: str, lead: str, sections: Sequence[Section], facts: Mapping[str, Any]) -> str:
    """Render the page.

    Parameters
    ----------
    title, lead : heading, and the answer in a sentence.
    sections : parts in order.
    facts : what reproduces the page (commands, versions), shown at its end.
    """
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, finalize=_shown
    )
    template = environment.from_string(
        files("lehr.report").joinpath("templates/report.html").read_text("utf-8")
    )
    return template.render(title=title, lead=lead, sections=sections, facts=facts, version=__version__)


def _shown(value: Any) -> Any:
    """Return a text without what turns or hides the text around it, or cannot be written; figures stay as drawn."""
    if not isinstance(value, str) or isinstance(value, Markup):
        return value
    return "".join(c if c in "\n\t" or unicodedata.category(c)[0] != "C" else "?" for c in value)
