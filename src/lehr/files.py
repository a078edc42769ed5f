"""Writing files so that a reader never sees half of one."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from lehr.errors import InputError, ResultError


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write `content` to `path` by way of a temporary file in the same folder, then rename.

    Raises
    ------
    InputError
        If the folder does not exist.
    ResultError
        If the content could not be written; what was at `path` before is untouched.
    """
    if not path.parent.is_dir():
        raise InputError(f"the folder of {path} does not exist: create it first.")
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        Path(name).unlink(missing_ok=True)
        raise ResultError(
            f"could not write {path}: {error.strerror or error}; what was there is untouched."
        ) from error


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
