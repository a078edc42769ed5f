"""Settings of a run as flat scalars, from the nested values and the texts that trackers keep."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

Scalar = str | float | int | bool | None

MOST = 10_000  # settings kept of a run
LONGEST = 1 << 20  # characters of a text that is looked into
_WORDS: dict[str, Scalar] = {
    "None": None,
    "null": None,
    "True": True,
    "true": True,
    "False": False,
    "false": False,
}


def flat(value: object, prefix: str = "", most: int = MOST) -> dict[str, Scalar]:
    """Return the scalars of a nested value, their keys joined by "."; places in a list are keys from 0.

    >>> flat({"lr": 1e-3, "optimizer": {"name": "adamw", "betas": [0.9, 0.95]}})
    {'lr': 0.001, 'optimizer.name': 'adamw', 'optimizer.betas.0': 0.9, 'optimizer.betas.1': 0.95}
    """
    out: dict[str, Scalar] = {}
    # a stack, not a recursion: a text may be nested as deep as it likes
    stack: list[tuple[str, object]] = [(prefix, value)]
    while stack and len(out) < most:
        key, item = stack.pop()
        if isinstance(item, Mapping):
            inner = [(str(name), part) for name, part in item.items()]
        elif isinstance(item, list | tuple):
            inner = [(str(place), part) for place, part in enumerate(item)]
        else:
            if key and (item is None or isinstance(item, str | bool | int | float)):
                out[key] = item
            continue
        stack += [(f"{key}.{name}" if key else name, part) for name, part in reversed(inner)]
    return out


def of_text(name: str, text: str) -> dict[str, Scalar]:
    """Return the settings that a text under a name tells: those of a JSON object, else the text itself.

    >>> of_text("train_iters", "1000") | of_text("lr", "6e-4") | of_text("fp16", "False")
    {'train_iters': 1000, 'lr': 0.0006, 'fp16': False}
    """
    value = from_json(text)
    if isinstance(value, dict | list):
        return flat(value, name)
    return {name: value if isinstance(value, str | int | float) else plain(text)}


def plain(text: str) -> Scalar:
    """Return a printed scalar as what it was: a number, True, False, None, or the text."""
    word = text.strip()
    if word in _WORDS:
        return _WORDS[word]
    try:
        number = float(word)
    except ValueError:
        return text
    return int(word) if word.lstrip("+-").isdecimal() and len(word) < 20 else number


def from_json(text: str) -> object:
    """Return the value of a JSON text; None if it is none, or nested too deep."""
    if len(text) > LONGEST:
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def finite_or_none(value: object) -> float | None:
    """Return a number as a float if it is a finite one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:  # a whole number that no float holds
        return None


def of_json(name: str, text: str) -> dict[str, Scalar]:
    """Return the settings that a JSON text under a name tells; what is no JSON is left out."""
    value = from_json(text)
    return {name: value} if value is None or isinstance(value, str | int | float) else flat(value, name)
