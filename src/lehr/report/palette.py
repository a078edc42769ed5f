"""Colours, dashes and markers of all figures, by theme.

Colours of a theme have a contrast of at least 3 to 1 against its background and stay apart for readers who see two
colours less (simulated after Machado, Oliveira & Fernandes 2009; tests/report/test_palette.py). They are never told
apart by colour alone: the dash and the marker differ too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ThemeName = Literal["light", "dark"]


@dataclass(frozen=True)
class Theme:
    """Colours as "#rrggbb"; series take `colours` by index, modulo their number."""

    background: str
    ink: str
    quiet: str
    grid: str
    colours: tuple[str, ...]


LIGHT = Theme(
    "#ffffff", "#1b1f24", "#6a737d", "#d8dee4",
    ("#0077aa", "#dd5500", "#770044", "#9966ee", "#222299", "#555500"),
)  # fmt: skip
DARK = Theme(
    "#14181d", "#e8ecf0", "#8b949e", "#343b44",
    ("#55bbee", "#ee7733", "#ffdd00", "#9944bb", "#227766", "#22ffcc"),
)  # fmt: skip
THEMES: dict[str, Theme] = {"light": LIGHT, "dark": DARK}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")


def colour_of(theme: Theme, index: int) -> str:
    """Colour of a series; an index below 0 is what only serves as reference, in the quiet colour."""
    return theme.quiet if index < 0 else theme.colours[index % len(theme.colours)]
