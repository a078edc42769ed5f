"""A report as one self-contained HTML page: no network, no script; every name in it is escaped."""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import Any

import jinja2
from markupsafe import Markup

from lehr.report.chart import Chart
from lehr.report.draw_svg import draw, legend, style_sheet
from lehr.report.report import Attachment, Report, cell_text, shown_text, words_of
from lehr.report.saving import to_csv


def to_html(report: Report) -> str:
    """Return `report` as a page.

    Its figures are drawn in the page itself, in colours that follow the reader's choice of light or dark; files are
    links that hold them. A security policy forbids all that is loaded or run.
    """
    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_shown,
    )
    environment.filters |= {
        "cell": cell_text, "words": words_of, "data_link": _data_link, "size": _size, "drawn": draw, "legend": legend,
        "chart_link": _chart_link,
    }  # fmt: skip
    folder = files("lehr.report").joinpath("templates")
    template = environment.from_string(folder.joinpath("report.html").read_text("utf-8"))
    css = [folder.joinpath(name).read_text("utf-8") for name in ("figures.css", "report.css")]
    return template.render(report=report, css="\n".join((style_sheet(), *css)))


def _shown(value: Any) -> Any:
    """Return a text without what turns or hides the text around it; figures stay as drawn."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else shown_text(value)


def _data_link(file: Attachment) -> str:
    return _link(file.media, file.text)


def _chart_link(chart: Chart) -> str:
    return _link("text/csv", to_csv(chart))


def _link(media: str, text: str) -> str:
    coded = base64.b64encode(text.encode("utf-8", "replace")).decode()
    return f"data:{media};charset=utf-8;base64,{coded}"


def _size(file: Attachment) -> str:
    size = len(file.text)
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB"
