"""Which of the files under the given paths are logs.

A folder stands for every log below it, a pattern for every path that matches it; what is in them and is no log is
counted, not refused. A file that is named itself must be a log.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lehr.errors import InputError, bad
from lehr.runs.readers import FORMATS, detect
from lehr.runs.readers.table import looks_like_a_run

MOST = 200_000  # files looked at below one path


@dataclass(frozen=True)
class Found:
    """Logs with the names of their formats, in the order of their paths, and files that are none."""

    logs: tuple[tuple[Path, str], ...]
    others: tuple[Path, ...]


def find_logs(paths: Iterable[Path | str], format: str = "auto") -> Found:
    """Find the logs under paths.

    Parameters
    ----------
    paths : files, folders, or patterns with *, ? or [...] (`**` for any depth).
    format : that all logs are to have, or "auto"; of the files of a folder, those that are of it are taken.

    Raises
    ------
    InputError
        If a path is missing, a pattern or folder has no log, a named file is none, or a folder has too many files.
    """
    logs: dict[Path, str] = {}
    others: dict[Path, None] = {}
    for given in paths:
        path = Path(given)
        if not path.exists() and glob.has_magic(str(given)):
            matched = sorted(_matching(str(given)))
            if not matched:
                raise InputError(f"nothing matches {given}: check the pattern.")
            hits = [hit for each in matched for hit in _under(Path(each), format)]
        elif path.is_dir():
            hits = list(_under(path, format))
        else:
            hits = [(path, detect(path) if format == "auto" else format)]
        if not any(name for _, name in hits):
            raise InputError(
                f"{given} holds no log of {'a known format' if format == 'auto' else format} "
                f"({len(hits)} files looked at): give the log files themselves, or their format with --format."
            )
        for hit, name in hits:
            if name:
                logs[hit] = name
            else:
                others[hit] = None
    return Found(tuple(logs.items()), tuple(path for path in others if path not in logs))


def _matching(pattern: str) -> set[str]:
    """Paths that match; `**` stands for folders of any depth reached without links, which may lead in circles."""
    top, *deep = re.split(r"(?:(?<=/)|\A)\*\*(?:/|\Z)", pattern, maxsplit=1)
    if not deep:
        return set(glob.glob(pattern))
    found: set[str] = set()
    places = glob.glob(top) if glob.has_magic(top) else [top]
    if not deep[0]:  # a folder stands for all below it
        return {place or "." for place in places}
    for place in places:
        for seen, (folder, folders, _) in enumerate(os.walk(place or ".")):
            if seen >= MOST:
                raise bad(
                    f"the folders below {place or '.'}", f"must not exceed {MOST}", f"more than {MOST}",
                    "give a narrower pattern",
                )  # fmt: skip
            folders[:] = [name for name in folders if not name.startswith(".")]
            inner = folder if place else folder.removeprefix(".").removeprefix("/")
            found.update(glob.glob(os.path.join(glob.escape(inner), deep[0])))
    return found


def _under(path: Path, format: str) -> Iterator[tuple[Path, str]]:
    """Files below a path, or the path itself, with their formats; "" for what is no log."""
    if path.is_file():
        yield path, _format(path, format)
        return
    seen = 0
    for folder, folders, files in os.walk(path):
        folders.sort()
        whole = next((n for n, known in FORMATS.items() if known.folder and known.sniff(Path(folder))), None)
        if whole and format in ("auto", whole):
            folders.clear()
            yield Path(folder), whole
            continue
        for file in sorted(files):
            seen += 1
            if seen > MOST:
                raise bad(
                    f"the files below {path}", f"must not exceed {MOST}", f"more than {MOST}",
                    "give smaller folders, one by one",
                )  # fmt: skip
            yield Path(folder) / file, _format(Path(folder) / file, format)


def _format(path: Path, format: str) -> str:
    """Name of a file's format, if it is the one asked for; "" for what is no log."""
    try:
        found = detect(path)
    except InputError:  # of no known format, empty, no regular file: not a log
        return ""
    if found == "table" and not looks_like_a_run(path):
        return ""
    return found if format in ("auto", found) else ""
