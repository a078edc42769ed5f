"""Blocks of whole lines of a file of any size, with the number of the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from lehr.errors import bad

BLOCK = 1 << 22  # bytes
LINE_LIMIT = 1 << 26  # bytes; a longer line is no line of a log


def blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """Yield (number of the first line, whole lines); only the last block may lack the newline at its end.

    Raises
    ------
    InputError
        If a line is longer than `LINE_LIMIT`.
    """
    number = 1
    with path.open("rb") as file:
        rest = file.read(3).removeprefix(b"\xef\xbb\xbf")
        while chunk := file.read(max(BLOCK, len(rest))):
            end = chunk.rfind(b"\n") + 1
            if not end:
                rest += chunk
                if len(rest) > LINE_LIMIT:
                    raise bad(
                        f"{path}, line {number}", f"must not exceed {LINE_LIMIT} bytes", len(rest),
                        "give a log with a line a row",
                    )  # fmt: skip
                continue
            block, rest = rest + chunk[:end], chunk[end:]
            yield number, block
            number += block.count(b"\n")
    if rest:
        yield number, rest
