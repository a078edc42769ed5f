"""The grammar of schedule texts: text -> a tree of calls, lists, names and numbers.

    call   = name "(" [ name "=" value { "," name "=" value } [ "," ] ] ")"
    value  = number | name | shape | list | call
    shape  = name "(" number ")"                              power(1.5)
    list   = "[" [ value { "," value } [ "," ] ] "]"
    number = 24000 | 24_000 | 24k | 1.5M | 3e-4               k and M must give a whole number

White space, line ends included, separates and is otherwise ignored. What the names mean is not
known here: see `lehr.schedule.spec`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal

from lehr.errors import InputError, bad

MAX_TEXT = 32_000_000  # characters: a table of a million LRs takes about 22 million
MAX_DEPTH = 32
MAX_NUMBER = 64
SHOWN = 60  # characters shown on each side of a mistake

_SPACE = re.compile(r"\s*")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_WORD = re.compile(r"[\w.+-]{1,40}")
_DIGITS = r"\d+(?:_\d+)*"
_NUMBER = re.compile(
    rf"(?P<number>[+-]?(?:{_DIGITS}(?:\.(?:{_DIGITS})?)?|\.{_DIGITS})(?P<exponent>[eE][+-]?\d+)?)"
    r"(?P<unit>[kM]?)(?![\w.])",
    re.ASCII,
)
_UNITS = {"k": 1000, "M": 1_000_000}


@dataclass(frozen=True)
class Number:
    """A number that starts at character `at`; `text` is how it was written."""

    at: int
    value: int | float
    text: str


@dataclass(frozen=True)
class Name:
    """A bare name, or a shape such as power(1.5)."""

    at: int
    text: str


@dataclass(frozen=True)
class Row:
    """A list of values."""

    at: int
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Call:
    """A family with its arguments: (name, position of the name, value)."""

    at: int
    name: str
    arguments: tuple[tuple[str, int, Node], ...]


Node = Number | Name | Row | Call


class LocatedError(InputError):
    """An `InputError` whose message already shows the place in the text."""


def located(text: str, at: int, message: str) -> LocatedError:
    """Return an error that shows the line of `text` around character `at`, a caret under it."""
    begin = text.rfind("\n", 0, at) + 1
    end = text.find("\n", at)
    end = len(text) if end < 0 else end
    first, last = max(begin, at - SHOWN), min(end, at + SHOWN)
    head, tail = "..." * (first > begin), "..." * (last < end)
    line = "".join(c if c.isprintable() else " " for c in text[first:last])
    caret = " " * (len(head) + at - first) + "^"
    return LocatedError(f"{message}\n  {head}{line}{tail}\n  {caret}")


@contextmanager
def locating(text: str, at: int) -> Iterator[None]:
    """Show the place `at` in any `InputError` of the block that shows none yet."""
    try:
        yield
    except LocatedError:
        raise
    except InputError as error:
        raise located(text, at, str(error)) from None


def read(text: str) -> Call:
    """Read one schedule text into its tree.

    Raises
    ------
    InputError
        If the text breaks the grammar (place, what was expected and what was found), is longer
        than `MAX_TEXT` or nests deeper than `MAX_DEPTH`.
    """
    if len(text) > MAX_TEXT:
        raise bad("a schedule text", f"must have at most {MAX_TEXT} characters", len(text), "use a file")
    reader = _Reader(text)
    reader.skip()
    tree = reader.call(1)
    if reader.at < len(text):
        raise reader.expected("the end of the text")
    return tree


class _Reader:
    """A cursor over the text; every method leaves it behind the white space that follows."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def skip(self) -> None:
        match = _SPACE.match(self.text, self.at)
        self.at = match.end() if match else self.at

    def expected(self, what: str) -> LocatedError:
        return located(self.text, self.at, f"schedule: expected {what}, found {self.found()}.")

    def found(self) -> str:
        if self.at >= len(self.text):
            return "the end of the text"
        word = _WORD.match(self.text, self.at)
        return repr(word[0] if word else self.text[self.at])

    def takes(self, mark: str) -> bool:
        if not self.text.startswith(mark, self.at):
            return False
        self.at += 1
        self.skip()
        return True

    def name(self, what: str) -> str:
        match = _NAME.match(self.text, self.at)
        if not match:
            raise self.expected(what)
        self.at = match.end()
        self.skip()
        return match[0]

    def number(self) -> Number:
        at, match = self.at, _NUMBER.match(self.text, self.at)
        if not match:
            raise self.expected("a number such as 24000, 24k, 1.5M or 3e-4")
        if len(match[0]) > MAX_NUMBER:
            raise self.expected(f"a number of at most {MAX_NUMBER} characters")
        if match["unit"]:
            value: int | float = self.scaled(match["number"], match["exponent"], match["unit"])
        elif match["exponent"] or "." in match[0]:
            value = float(match[0])
        else:
            value = int(match[0])
        self.at = match.end()
        self.skip()
        return Number(at, value, match[0])

    def scaled(self, number: str, exponent: str | None, unit: str) -> int:
        if exponent:
            raise self.expected(f"a number with an exponent or with {unit}, not both")
        value = Decimal(number) * _UNITS[unit]
        if value != value.to_integral_value():
            raise self.expected(f"a whole number once {unit} is multiplied out")
        return int(value)

    def call(self, depth: int) -> Call:
        at = self.at
        name = self.name("a schedule family such as wsd")
        if not self.takes("("):
            raise self.expected(f"'(' after {name}")
        return self.arguments(at, name, depth)

    def arguments(self, at: int, family: str, depth: int) -> Call:
        if depth > MAX_DEPTH:
            raise self.expected(f"at most {MAX_DEPTH} nested calls and lists")
        found: list[tuple[str, int, Node]] = []
        while not self.takes(")"):
            if found and not self.comma(")"):
                break
            begin = self.at
            name = self.name(f"an argument of {family} such as steps=1000, or ')'")
            if not self.takes("="):
                raise self.expected(f"'=' after the argument {name}")
            found.append((name, begin, self.value(depth)))
        return Call(at, family, tuple(found))

    def comma(self, end: str) -> bool:
        """Take the comma between two items; False if it was the last one."""
        if not self.takes(","):
            raise self.expected(f"',' or {end!r}")
        return not self.takes(end)

    def value(self, depth: int) -> Node:
        at = self.at
        if self.takes("["):
            return self.row(at, depth + 1)
        if not _NAME.match(self.text, at):
            what = self.text[at : at + 1]
            if what and what in "+-.0123456789":
                return self.number()
            raise self.expected("a number, a name, a list or a schedule")
        name = self.name("a name")
        if not self.takes("("):
            return Name(at, name)
        if self.text[self.at : self.at + 1] not in set("+-.0123456789"):
            return self.arguments(at, name, depth + 1)
        inner = self.number()
        if not self.takes(")"):
            raise self.expected(f"')' after {name}({inner.text}")
        return Name(at, f"{name}({inner.text})")

    def row(self, at: int, depth: int) -> Row:
        if depth > MAX_DEPTH:
            raise self.expected(f"at most {MAX_DEPTH} nested calls and lists")
        items: list[Node] = []
        while not self.takes("]"):
            if items and not self.comma("]"):
                break
            items.append(self.value(depth))
        return Row(at, tuple(items))
