"""Where the files of a store are: a local folder, or an address that fsspec opens.

Only reading is asked of it: nothing but a local folder can be written so that a killed writer leaves no half.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr.errors import InputError

_ADDRESS = re.compile(
    r"([a-z][a-z0-9+.-]+):/{1,2}(?=[^/])", re.IGNORECASE
)  # one letter is a drive of Windows


@dataclass(frozen=True)
class Location:
    """The folder of a store's files.

    Parameters
    ----------
    address : the folder, as messages name it.
    filesystem : of fsspec; None for a local folder.
    """

    address: str
    filesystem: Any = None

    def names(self) -> list[str]:
        """Names of the files in it."""
        if self.filesystem is None:
            return os.listdir(self.address)
        self.filesystem.invalidate_cache()
        return [
            str(path).rstrip("/").rsplit("/", 1)[-1]
            for path in self.filesystem.ls(self.address, detail=False)
        ]

    def read(self, name: str) -> bytes:
        """Content of a file."""
        if self.filesystem is None:
            return (Path(self.address) / name).read_bytes()
        return bytes(self.filesystem.cat_file(f"{self.address}/{name}"))

    def place(self, name: str) -> str:
        """Name of a file in messages."""
        return str(Path(self.address) / name) if self.filesystem is None else f"{self.address}/{name}"

    def exists(self) -> bool:
        """Whether the folder is there."""
        if self.filesystem is None:
            return Path(self.address).is_dir()
        return bool(self.filesystem.isdir(self.address))


def is_remote(store: Path | str) -> bool:
    """Whether a store is named by an address instead of a folder, also one that `Path` has shortened.

    >>> is_remote("s3://bucket/store"), is_remote(Path("s3:/bucket/store")), is_remote("runs/store")
    (True, True, False)
    """
    return bool(_ADDRESS.match(str(store))) and not Path(store).exists()


def locate(store: Path | str, folder: str) -> Location:
    """Find the folder of files of a store.

    Raises
    ------
    InputError
        If it is an address, and fsspec or what it needs for such addresses is not installed.
    """
    if not is_remote(store):
        return Location(str(Path(store) / folder))
    address = _ADDRESS.sub(r"\1://", str(store), count=1).rstrip("/")
    try:
        import fsspec
    except ImportError:
        raise InputError(
            f"{address} is read through fsspec, which is not installed: pip install fsspec, or copy the store here."
        ) from None
    try:
        filesystem, _ = fsspec.core.url_to_fs(address)
    except (ImportError, ValueError, OSError) as error:
        raise InputError(
            f"{address} cannot be opened ({str(error).rstrip('.')}): copy the store here."
        ) from None
    return Location(f"{address}/{folder}", filesystem)
