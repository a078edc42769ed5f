"""The errors lehr raises, and the one way their messages are put together.

LehrError
├── InputError    what was given is wrong: the command line exits with 2
└── ResultError   the input is sound but the result could not be reached: exit 1
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST_LISTED = 24  # names in a message


class LehrError(Exception):
    """Base of every error that lehr raises on purpose."""


class InputError(LehrError, ValueError):
    """Something that was given is malformed, missing or scientifically unusable."""


class ResultError(LehrError, RuntimeError):
    """A sound question whose answer could not be reached (no convergence, a full disk)."""


def bad(subject: str, rule: str, value: object, remedy: str) -> InputError:
    """Build the message of a refused argument: subject, rule, value, remedy.

    >>> print(bad("warmup", "must be at least 0", -3, "give the number of warm-up updates"))
    warmup must be at least 0, got -3: give the number of warm-up updates.
    """
    return InputError(f"{subject} {rule}, got {value!r}: {remedy}.")


def unknown(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Build the message of an unknown name, with the nearest known one.

    >>> print(unknown("law", "tisue", ["tissue", "chinchilla"]))
    unknown law 'tisue': did you mean 'tissue'? Known: chinchilla, tissue.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    if len(names) > MOST_LISTED:
        close = sorted(difflib.get_close_matches(name, names, n=MOST_LISTED // 2, cutoff=0.0))
        return InputError(f"unknown {kind} {name!r}: {hint}The nearest of {len(names)}: {', '.join(close)}.")
    return InputError(f"unknown {kind} {name!r}: {hint}Known: {', '.join(names)}.")
