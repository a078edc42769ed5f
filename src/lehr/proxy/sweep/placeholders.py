"""{placeholders} of a schedule or a command."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from lehr.errors import InputError, unknown

_PLACE = re.compile(r"\{\{|\}\}|\{(\w+)\}")


def fill(text: str, values: Mapping[str, Any], where: str) -> str:
    """Put values in the place of {names}; {{ and }} stand for braces.

    >>> fill("--lr {peak_lr} {{x}}", {"peak_lr": 0.001}, "command")
    '--lr 0.001 {x}'

    Raises
    ------
    InputError
        If a name has no value.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        if match[1] not in values:
            raise InputError(f"{where}: {unknown('placeholder', match[1], values)}")
        return str(values[match[1]])

    return _PLACE.sub(value, text)


def names_in(text: str) -> set[str]:
    """Names of the placeholders of a text."""
    return {match[1] for match in _PLACE.finditer(text) if match[1]}
