"""What the verbs share: printing results, progress, patterns of run names."""

from __future__ import annotations

import fnmatch
import json
import math
import sys
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from lehr.errors import InputError, unknown


def print_json(data: Any, one_line: bool = False) -> None:
    """Print `data` as JSON on stdout; a number that is not finite becomes null."""
    print(json.dumps(_finite(data), indent=None if one_line else 1, allow_nan=False), flush=one_line)


def _finite(data: Any) -> Any:
    if isinstance(data, dict):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def say(text: str) -> None:
    """Print a remark on stderr, so that stdout holds the result alone."""
    print(clean(text), file=sys.stderr)


def show(text: str = "", flush: bool = False) -> None:
    """Print a result on stdout."""
    print(clean(text), flush=flush)


def clean(text: str) -> str:
    """Return `text` without control characters: names in logs must not steer the terminal."""
    if text.isprintable():  # the usual case, and fast: a store may list many runs
        return text
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else "?" for c in text)


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Lay out rows in columns; the first column to the left, the others to the right."""
    lines = [[clean(cell).replace("\n", "?") for cell in row] for row in (header, *rows)]
    width = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(line, width, strict=True))
        ).rstrip()
        for line in lines
    )


@contextmanager
def progress(total: int | None, what: str) -> Iterator[Any]:
    """Show a bar on stderr; the value is a function to call with the name of each step begun.

    A `total` of None stands for an unknown number of steps.
    """
    if not sys.stderr.isatty():
        yield lambda name: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=total)
        begun = False

        def step(name: str) -> None:
            nonlocal begun
            bar.update(task, description=f"{what}: {clean(name)}", advance=1 if begun else 0)
            begun = True

        yield step


def match_names(patterns: Sequence[str], names: Sequence[str]) -> list[str]:
    """Names that match any of the shell-like `patterns`, in the order of `names`.

    Raises
    ------
    InputError
        If a pattern matches nothing; the nearest name is suggested.
    """
    for pattern in patterns:
        if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise unknown("run", pattern, names)
    return [name for name in names if any(fnmatch.fnmatchcase(name, p) for p in patterns)]


def columns_of(pairs: Sequence[str]) -> dict[str, str]:
    """Read ROLE=NAME pairs.

    Raises
    ------
    InputError
        If one is not of that form.
    """
    columns = {}
    for pair in pairs:
        role, equals, name = pair.partition("=")
        if not (role and equals and name):
            raise InputError(f"--column {pair!r} must be ROLE=NAME, such as loss=val_loss.")
        columns[role] = name
    return columns
