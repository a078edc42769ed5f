"""A report as JSON: the contract of `lehr report --format json`; its keys are in docs/report.md."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np

from lehr.report.chart import Chart
from lehr.report.report import Part, Report, Table

SCHEMA = 1


def to_json(report: Report) -> str:
    """The report as JSON text; a number that is not finite becomes null."""
    return json.dumps(to_data(report), indent=1, allow_nan=False) + "\n"


def to_data(report: Report) -> dict[str, Any]:
    """The report in JSON's terms."""
    data: dict[str, Any] = _finite({
        "lehr_report": SCHEMA,
        "title": report.title,
        "date": report.date or None,
        "question": dict(report.question),
        "assumed": list(report.assumed),
        "answer": report.answer,
        "recommendation": dict(report.recommendation) or None,
        "warnings": list(report.warnings),
        "parts": [_part(part) for part in report.parts],
        "commands": [{"what": each.what, "line": each.line} for each in report.commands],
        "facts": dict(report.facts),
    })  # fmt: skip
    return data


def _part(part: Part) -> dict[str, Any]:
    return {
        "key": part.key,
        "title": part.title,
        "text": list(part.text),
        "left_out": list(part.left_out),
        "tables": {table.key: _rows(table) for table in part.tables},
        "figures": [_figure(chart) for chart in part.charts],
    }


def _rows(table: Table) -> list[dict[str, Any]]:
    keys = [column.key for column in table.columns]
    return [dict(zip(keys, row, strict=True)) for row in table.rows]


def _figure(chart: Chart) -> dict[str, Any]:
    """What is drawn, as numbers."""
    return {
        "kind": chart.kind,
        "title": chart.title,
        "alt": chart.alt,
        "panels": [
            {
                "x": panel.x.title, "y": panel.y.title,
                "series": [
                    {"name": one.name, "kind": one.kind, "role": one.role,
                     **{key: _numbers(getattr(one, key)) for key in ("x", "y", "low", "high")}}
                    for one in panel.series
                ],
            }
            for panel in chart.panels
        ],
    }  # fmt: skip


def _numbers(values: np.ndarray | None) -> list[float] | None:
    return None if values is None else values.tolist()


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, list):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data
