"""Settings of a run that stand beside its log or in it: nested tables as flat scalars."""

from __future__ import annotations

import ast
import json
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

Scalar = str | float | int | bool | None
MOST = 5000  # settings kept
LONGEST = 1 << 20  # bytes of a file or text of settings


def flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Scalar]:
    """Join the keys of nested tables by "."; what is no scalar is left out, and so is all beyond `MOST`.

    >>> flat({"training": {"steps": 10, "files": []}, "name": "a"})
    {'training.steps': 10, 'name': 'a'}
    """
    found: dict[str, Scalar] = {}
    left: list[tuple[str, Any]] = [(prefix, table)]
    while left and len(found) < MOST:
        place, value = left.pop()
        if isinstance(value, Mapping):
            inner = [(f"{place}.{key}" if place else str(key), item) for key, item in value.items()]
            left += inner[::-1]
        elif value is None or isinstance(value, str | bool | int | float):
            if not isinstance(value, float) or np.isfinite(value):
                found[place] = value[:1000] if isinstance(value, str) else value
    return found


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
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    try:
        number = float(value)
    except OverflowError:
        return default
    return number if np.isfinite(number) else default
