"""Tables of settings that stand beside a log or are printed in it."""

from __future__ import annotations

import ast
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lehr.runs.readers.settings import LONGEST, Scalar, finite_or_none


def parse_table(text: str) -> Mapping[str, Any] | None:
    """Return the table at the beginning of a text, JSON or a Python literal on one line; None if there is none."""
    text = text[:LONGEST]
    try:
        table = json.JSONDecoder().raw_decode(text)[0]
    except (ValueError, RecursionError):
        try:
            table = ast.literal_eval(text.partition("\n")[0].strip()[: LONGEST // 8])
        except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
            return None
    return table if isinstance(table, Mapping) else None


def toml_beside(path: Path, needs: tuple[str, ...], report: list[str]) -> Mapping[str, Any] | None:
    """Return the one TOML file in the folder of `path` that has all tables of `needs`; None if there is not one."""
    found = []
    for file in sorted(path.absolute().parent.glob("*.toml"))[:100]:
        try:
            if not file.is_file() or file.stat().st_size > LONGEST:
                continue
            table = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            continue
        if all(isinstance(table.get(name), dict) for name in needs):
            found.append((file.name, table))
    if len(found) == 1:
        report.append(f"settings of {found[0][0]}, which lies beside the log")
        return found[0][1]
    if found:
        names = ", ".join(name for name, _ in found[:5])
        report.append(f"no settings were read: {names} lie beside the log; leave the one that was used")
    return None


def number_in(config: Mapping[str, Scalar], name: str, default: float | None = None) -> float | None:
    """Return a setting that is a finite number, else the default."""
    number = finite_or_none(config.get(name))
    return default if number is None else number
