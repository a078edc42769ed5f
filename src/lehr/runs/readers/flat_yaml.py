"""Plain settings in YAML: `key: value` lines with blocks by indentation, and nothing else of YAML.

Enough for what tools write with PyYAML's `dump` of plain settings (hparams.yaml, meta.yaml,
hyperparameters.yaml). Tags, anchors, lists, flow collections and texts over several lines are skipped
and counted: nothing is ever constructed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

Scalar = str | float | int | bool | None

SIZE_LIMIT = 1 << 20  # bytes of settings; what is longer is no file of settings
_KEY = re.compile(
    r"""( *)('(?:[^']|'')*'|"(?:[^"\\]|\\.)*"|[^\s#'"\[\]{}&*!|>%@`,-][^#:]*|-[^\s:#][^#:]*)"""
    r"""\s*:(?:\s+(.*))?$"""
)
_INT = re.compile(r"[-+]?[0-9]{1,18}\Z")
_FLOAT = re.compile(r"[-+]?([0-9]+\.[0-9]*|\.[0-9]+|[0-9]+)([eE][-+]?[0-9]{1,3})?\Z")
_WORDS: dict[str, Scalar] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None, "true": True, "True": True, "TRUE": True,
    "false": False, "False": False, "FALSE": False, ".nan": float("nan"), ".NaN": float("nan"),
    ".inf": float("inf"), "-.inf": float("-inf"),
}  # fmt: skip


def load(path: Path) -> tuple[dict[str, Scalar], int]:
    """Read the scalars of a file; no regular file, or one that is too large, has none.

    Returns
    -------
    The scalars by key, those of nested blocks joined by ".", and how many entries were skipped.
    """
    try:
        if not path.is_file():  # to open a pipe would wait for its writer
            return {}, 0
        with path.open("rb") as file:
            head = file.read(SIZE_LIMIT + 1)
    except OSError:
        return {}, 0
    if len(head) > SIZE_LIMIT:
        return {}, 1
    return parse(head.decode("utf-8-sig", errors="replace"))


def parse(text: str) -> tuple[dict[str, Scalar], int]:
    r"""Read the scalars of a text, as `load`.

    >>> parse("a: 1\nb:\n  c: 'x y'\n  d: [1, 2]\ne: !!python/object:os.system\n  f: 2\n")
    ({'a': 1, 'b.c': 'x y'}, 2)
    """
    out: dict[str, Scalar] = {}
    blocks: list[tuple[int, str]] = []  # indentation and key of the blocks that are open
    skipped = 0
    below: int | None = None  # what is indented deeper than this belongs to a skipped entry
    last: tuple[int, str, bool] | None = None  # the entry before: indentation, name, whether it has a value
    for line in text.splitlines():
        bare = line.strip()
        indent = len(line) - len(line.lstrip(" "))
        item = bare == "-" or bare.startswith("- ")
        if not bare or bare.startswith(("#", "---", "...", "%")):
            continue
        if below is not None and (indent > below or (indent == below and item)):
            continue
        below = None
        if last and ((indent > last[0] and (last[2] or item)) or (indent == last[0] and item)):
            out.pop(last[1], None)  # a text of several lines, or a list
            skipped, below, last = skipped + 1, last[0], None
            continue
        if last and indent > last[0]:
            out.pop(last[1], None)  # it opened a block
        while blocks and blocks[-1][0] >= indent:
            blocks.pop()
        found = None if item else _KEY.match(line)
        value = _scalar(_without_comment(found[3] or "")) if found else _NOTHING
        if found is None or value is _NOTHING:
            skipped, below, last = skipped + 1, indent, None
            continue
        key = _unquoted(found[2].strip())
        name = ".".join([*(outer for _, outer in blocks), key])
        blocks.append((indent, key))
        last = (indent, name, bool(_without_comment(found[3] or "")))
        out[name] = value  # type: ignore[assignment]
    return out, skipped


_NOTHING = object()


def typed(text: str) -> Scalar:
    """Read a text as the scalar it looks like, as settings are that were stored as texts.

    >>> [typed(text) for text in ("3", "1e-4", "True", "None", "[1, 2]")]
    [3, 0.0001, True, None, '[1, 2]']
    """
    if text == "None":
        return None
    value = _scalar(text.strip()) if text[:1] not in ("'", '"') else text
    return text if value is _NOTHING else value  # type: ignore[return-value]


def _scalar(value: str) -> object:
    """Value of a plain or quoted scalar on one line, `_NOTHING` if it is anything else."""
    if value in _WORDS:
        return _WORDS[value]
    if value[0] == '"':
        try:
            return json.loads(value)
        except ValueError:  # not closed, or escapes of YAML's own
            return _NOTHING
    if value[0] == "'":
        return _unquoted(value) if len(value) > 1 and value[-1] == "'" else _NOTHING
    if value[0] in "[{&*!|>@`%,":
        return _NOTHING
    if _INT.match(value):
        return int(value)
    return float(value) if _FLOAT.match(value) else value


def _unquoted(key: str) -> str:
    if len(key) > 1 and key[0] == key[-1] == "'":
        return key[1:-1].replace("''", "'")
    return key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key


def _without_comment(value: str) -> str:
    value = value.strip()
    if value[:1] in ("'", '"'):
        end = value.rfind(value[0])
        rest = value[end + 1 :].strip()
        return value[: end + 1] if end > 0 and (not rest or rest.startswith("#")) else value
    return "" if value.startswith("#") else re.split(r"\s+#", value, maxsplit=1)[0]
