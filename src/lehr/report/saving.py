"""A chart as a file, by the ending of its name: PNG, SVG and PDF for papers, JSON for plotly, CSV for its numbers."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from lehr.errors import unknown
from lehr.files import write_atomic
from lehr.report.chart import COLUMNS, Chart, chart_rows

ENDINGS = (".png", ".svg", ".pdf", ".json", ".csv")


def save_chart(chart: Chart, path: Path, theme: str = "light", width: str = "two") -> None:
    """Write `chart` to `path`, whole or not at all; the same chart gives the same bytes.

    Parameters
    ----------
    chart : what to draw.
    path : its ending says the format; .json is plotly's figure, .csv every number drawn.
    theme, width : as of `lehr.report.draw_matplotlib.draw`; data has neither.

    Raises
    ------
    InputError
        If the ending, theme or width is unknown, or the folder does not exist.
    """
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise unknown("ending of a figure's file", ending, ENDINGS)
    write_atomic(path, _content(chart, ending, theme, width))


def _content(chart: Chart, ending: str, theme: str, width: str) -> str | bytes:
    if ending == ".csv":
        return to_csv(chart)
    if ending == ".json":
        from lehr.report.draw_plotly import draw as draw_plotly

        return json.dumps(draw_plotly(chart, theme), indent=1, allow_nan=False)
    from lehr.report.draw_matplotlib import draw, to_pdf, to_png, to_svg

    figure = draw(chart, theme, width)
    if ending == ".svg":
        return to_svg(figure)
    return to_pdf(figure) if ending == ".pdf" else to_png(figure)


def to_csv(chart: Chart) -> str:
    """Every number of the chart, a row a point; a name that a spreadsheet would run as a formula gets a quote."""
    return csv_text(COLUMNS, [[row[name] for name in COLUMNS] for row in chart_rows(chart)])


def csv_text(header: Sequence[str], rows: Iterable[Sequence[str | float | None]]) -> str:
    """Rows as CSV; a text that a spreadsheet would run as a formula gets a quote."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return buffer.getvalue()


def _cell(value: str | float | None) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f"'{value}" if value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
    return repr(value)
