"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from lehr.errors import InputError, ResultError


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Give a file to write that takes the place of `path` once the block has ended well.

    It has a temporary name in the same folder until then; a killed writer leaves at most that.

    Raises
    ------
    InputError
        If the folder does not exist.
    ResultError
        If it could not be written; what was at `path` before is untouched.
    """
    if not path.parent.is_dir():
        raise InputError(f"the folder of {path} does not exist: create it first.")
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        finally:
            Path(name).unlink(missing_ok=True)
    except OSError as error:
        raise ResultError(
            f"could not write {path}: {error.strerror or error}; what was there is untouched."
        ) from error


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` to `path`, whole or not at all; raises as `replacing` does."""
    with replacing(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)


def read_text(path: Path, what: str) -> str:
    """Return the text of `path`, which should be `what`.

    Raises
    ------
    InputError
        If it is missing or no text.
    """
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: give {what}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read as {what}: {error}.") from None


def make_folder(path: Path) -> None:
    """Make the folder `path` unless it exists.

    Raises
    ------
    InputError
        If a file is in its place.
    ResultError
        If it cannot be made.
    """
    if path.exists() and not path.is_dir():
        raise InputError(f"{path} is a file: name a folder.")
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ResultError(f"could not make the folder {path}: {error.strerror or error}.") from error
