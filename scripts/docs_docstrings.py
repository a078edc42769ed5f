"""For mkdocstrings: docstrings that say `name : what it is` and leave types to the annotations, as lehr's do.

numpydoc's own form has a type behind the colon, and griffe would take the words for one. Here they become the
description, so that types come from the signature.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

SECTION = re.compile(
    r"^(?P<name>Parameters|Attributes|Returns)\n-+\n(?P<body>.*?)(?=^\w[\w ]*\n-{3,}\n|\Z)", re.S | re.M
)
ITEM = re.compile(r"^(?P<names>[*\w]+(?:, [*\w]+)*) : (?P<text>.+\n?(?:[ \t]+\S.*\n?)*)", re.M)


class WordsForTypes(griffe.Extension):
    """Move the words behind the colon to the description."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Change the docstring of `obj`, if it has one, before it is parsed."""
        if obj.docstring is not None:
            returns = str(obj.returns) if isinstance(obj, griffe.Function) and obj.returns else ""
            obj.docstring.value = moved(obj.docstring.value, returns)


def moved(text: str, returns: str) -> str:
    """The docstring with descriptions where griffe looks for them; `returns` is the annotation."""

    def section(found: re.Match[str]) -> str:
        name, body = found["name"], found["body"]
        if name == "Returns" and returns:
            body = (
                "\n".join([returns, *(f"    {line}".rstrip() for line in body.rstrip().splitlines())])
                + "\n\n"
            )
        elif name != "Returns":
            body = ITEM.sub(_items, body)
        return f"{name}\n{'-' * len(name)}\n{body}"

    return SECTION.sub(section, text)


def _items(found: re.Match[str]) -> str:
    """One item a name: of several names in one item, griffe would give all the type of the first."""
    words = found["text"].rstrip("\n")
    return "".join(f"{name}\n    {words}\n" for name in found["names"].split(", "))
