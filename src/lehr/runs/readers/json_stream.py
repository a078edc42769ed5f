"""One JSON object in a file of any size, its one long list read element by element."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lehr.errors import InputError

CHUNK = 1 << 20  # characters
VALUE_LIMIT = 1 << 24  # characters of one value outside the list, or of one of its elements
_SPACE = " \t\r\n"
_DECODER = json.JSONDecoder()


def entries(path: Path, listed: str) -> Iterator[tuple[str, object, int]]:
    """Yield (key, value, line) of a file's one object; for the list `listed`, its elements one by one.

    Raises
    ------
    InputError
        Naming the line where the file stops being JSON, or a value that is too long.
    """
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        text = _Text(file, str(path))
        text.need("{")
        if text.peek() == "}":
            text.need("}")
        else:
            while True:
                key = text.value()
                text.need(":")
                if key == listed and text.peek() == "[":
                    yield from ((listed, value, line) for value, line in text.elements())
                else:
                    yield str(key), text.value(), text.line()
                if text.peek() != ",":
                    break
                text.need(",")
            text.need("}")
        if text.peek():
            raise text.broken("there is more after its end")


class _Text:
    """A file's characters, read as they are needed."""

    def __init__(self, file: IO[str], where: str):
        self.file, self.where = file, where
        self.buffer, self.at, self.over = "", 0, False
        self.lines, self.counted = 1, 0  # line of the character at `counted`

    def line(self) -> int:
        self.lines += self.buffer.count("\n", self.counted, self.at)
        self.counted = self.at
        return self.lines

    def more(self) -> bool:
        """Read on, at least as much again as is waiting; False at the end of the file."""
        self.line()
        rest = self.buffer[self.at :]
        new = self.file.read(max(CHUNK, len(rest)))
        self.buffer, self.at, self.counted, self.over = rest + new, 0, 0, not new
        return bool(new)

    def peek(self) -> str:
        """Next character that is no space, "" at the end."""
        while True:
            while self.at < len(self.buffer) and self.buffer[self.at] in _SPACE:
                self.at += 1
            if self.at < len(self.buffer):
                return self.buffer[self.at]
            if not self.more():
                return ""

    def need(self, character: str) -> None:
        found = self.peek()
        if found != character:
            raise self.broken(f"{character!r} expected")
        self.at += 1

    def value(self) -> object:
        """Decode the next value."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self.buffer, self.at)
            except json.JSONDecodeError as error:
                if len(self.buffer) - self.at > VALUE_LIMIT or self.over or not self.more():
                    raise self.broken(error.msg) from None
                continue
            except RecursionError:
                raise InputError(f"{self.where} is nested too deep: give a plain log.") from None
            except ValueError:
                raise self.broken("a number has thousands of digits") from None
            if end <= len(self.buffer) - 3 or self.over:
                self.at = end
                return value
            self.more()  # a number may go on: of "1.5e-7", "1.5e-" would be read as 1.5

    def elements(self) -> Iterator[tuple[object, int]]:
        """Decode the elements of the list that begins here, each with its line."""
        self.need("[")
        if self.peek() == "]":
            self.need("]")
            return
        while True:
            yield from self.plain_objects()
            self.peek()
            line = self.line()
            yield self.value(), line
            if self.peek() != ",":
                break
            self.need(",")
        self.need("]")

    def plain_objects(self) -> Iterator[tuple[object, int]]:
        """Decode the elements that are whole in what was read and hold no list or object, but the last, at once."""
        stop = self.buffer.find("]", self.at)
        cut = self.buffer.rfind("},", self.at, len(self.buffer) if stop < 0 else stop) + 1
        text = self.buffer[self.at : cut]
        pieces = text.split("{")
        try:
            values = json.loads(f"[{text}]") if cut > self.at else []
        except (ValueError, RecursionError):  # the slow way finds where
            return
        if len(values) != len(pieces) - 1 or not all(type(value) is dict for value in values):
            return
        line = self.line()
        for value, piece in zip(values, pieces, strict=False):
            line += piece.count("\n")
            yield value, line
        if values:
            self.at = cut
            self.need(",")

    def broken(self, what: str) -> InputError:
        what = what[:1].lower() + what[1:]
        ends_early = self.over and not self.buffer.rstrip().endswith("}")
        cut = "; the file ends early and may have been cut off" if ends_early else ""
        return InputError(
            f"{self.where}, line {self.line()} is not valid JSON ({what}{cut}): give a whole file."
        )
