"""Checked access to the fields of a JSON log: each error names the file and the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

from lehr.errors import InputError, bad


def parse_json(text: str, where: str) -> object:
    """Parse JSON text; `where` names it in the error.

    Raises
    ------
    InputError
        If it is not JSON or nested too deep to be a log.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where} is not valid JSON (line {error.lineno}, column {error.colno}: {error.msg}): "
            "export the log again; the file may have been cut off."
        ) from None
    except (RecursionError, ValueError) as error:
        kind = "nested too deep" if isinstance(error, RecursionError) else f"not readable ({error})"
        raise InputError(f"{where} is {kind}: give a plain log.") from None


def mapping(value: object, where: str) -> Mapping[str, Any]:
    """Return `value` if it is a JSON object."""
    if not isinstance(value, Mapping):
        raise InputError(f"{where} must be a JSON object, got {type(value).__name__}: export the run again.")
    return value


def pair(table: Mapping[str, Any], name: str, where: str) -> tuple[np.ndarray, np.ndarray]:
    """Columns "iter" and `name` without the rows that lack a value, shape (n,); empty if `name` is absent."""
    values, step = table.get(name, []), table.get("iter", [])
    if not (isinstance(values, list) and isinstance(step, list)) or len(values) != len(step):
        raise InputError(f"{where}: iter and {name} must be lists of one length: export the run again.")
    rows = [row for row, value in enumerate(values) if value is not None]
    columns = []
    for column, cells in (("iter", step), (name, values)):
        try:
            columns.append(np.array([float(cells[row]) for row in rows]))
        except (TypeError, ValueError, OverflowError):
            row = next(row for row in rows if not _is_number(cells[row]))
            raise bad(
                f"{where}: {column}[{row}]", "must be a number", cells[row], "mend the export"
            ) from None
    wrong = np.flatnonzero(~((columns[0] >= 0) & (columns[0] == np.floor(columns[0]))))
    if wrong.size:
        value = float(columns[0][wrong[0]])
        raise bad(
            f"{where}: iter[{rows[wrong[0]]}]", "must be a whole number, 0 or more", value, "mend the export"
        )
    return columns[0], columns[1]


def number(config: Mapping[str, Any], name: str, where: str, default: float | None = None) -> float:
    """Return a number of the config, or the default where it is absent."""
    value = config.get(name)
    if value is None and default is not None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not -(2**63) < value < 2**63:
        raise bad(f"{where}: config.{name}", "must be a number", value, "export the run with its config")
    return value


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
    return True
