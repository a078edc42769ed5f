"""SQLite databases of other programs, read without leaving a trace and without trusting them.

A database that another program has open, or that it left behind when it was killed, must not be changed. So
one with a write-ahead log is read through it, together with the program's own shared memory; if that is gone
(a copy was made), both are copied to a temporary folder first, as SQLite would create a new one beside them.
One in that mode without such a log is at rest and is opened as immutable. All others are opened read-only,
which waits for a writer's lock.
"""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from lehr.errors import InputError

MAGIC = b"SQLite format 3\0"
CELL_LIMIT = 1 << 26  # bytes of one text
WAIT = 10.0  # seconds for a writer to finish
FETCH = 50_000  # rows at once
STEPS, MOST_STEPS = (
    100_000,
    100_000_000,
)  # of SQLite's machine: between two looks at the budget, and of a small file


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Open a database for reading.

    Raises
    ------
    InputError
        If it is none, is damaged or cut off, or is locked by a writer; also for what is read while it is open.
    """
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}): check its permissions.") from None
    if head[:16] != MAGIC or len(head) < 100:
        raise InputError(f"{path} is not an SQLite database: give the file that the tracker wrote.")
    beside = [path.with_name(path.name + ending) for ending in ("-wal", "-shm", "-journal")]
    for other in beside:  # SQLite would open a pipe and wait for its writer
        if other.exists() and not other.is_file():
            raise InputError(f"{other} is no regular file: remove it, or copy {path.name} alone elsewhere.")
    logged, shared = beside[:2]
    in_log_mode = head[18:20] == b"\2\2"
    with tempfile.TemporaryDirectory(prefix="lehr-") as folder:
        how = "mode=ro"
        if in_log_mode and not logged.exists():
            how += "&immutable=1"
        elif in_log_mode and not shared.exists():
            shutil.copyfile(path, Path(folder) / path.name)
            shutil.copyfile(logged, Path(folder) / logged.name)
        place = Path(folder) / path.name
        place = place if place.exists() else path.absolute()
        try:
            with _connected(place, how) as connection:
                _check_pages(connection, path)
                yield connection
        except (sqlite3.Error, OverflowError, UnicodeDecodeError, MemoryError) as error:
            raise _refusal(path, error) from None


def _check_pages(connection: sqlite3.Connection, path: Path) -> None:
    """Refuse a database in which a page stands in two places: a small one could hold rows without end."""
    found = connection.execute("PRAGMA quick_check(10)").fetchall()
    if any("2nd reference" in str(line) for (line,) in found):
        raise InputError(f"{path} is damaged (a page of it is used twice): copy it again.")


@contextmanager
def _connected(place: Path, how: str) -> Iterator[sqlite3.Connection]:
    connection = sqlite3.connect(f"{place.as_uri()}?{how}", uri=True, timeout=WAIT)
    try:
        connection.text_factory = lambda text: text.decode("utf-8", errors="replace")
        connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, CELL_LIMIT)
        connection.set_progress_handler(_budget(place), STEPS)
        connection.execute("PRAGMA query_only = ON")
        connection.execute("PRAGMA trusted_schema = OFF")  # its expressions may call nothing with effects
        connection.execute("BEGIN")  # one state of the database for all that is read
        yield connection
    finally:
        connection.close()


def _budget(place: Path) -> Callable[[], bool]:
    """Return what tells SQLite to stop, once its work exceeds by far what a sound database of that size can ask."""
    left = iter(range(MOST_STEPS // STEPS + place.stat().st_size // 1000))

    def spent() -> bool:
        return next(left, None) is None

    return spent


def _refusal(path: Path, error: Exception) -> InputError:
    text = str(error) or "it asks for more memory than there is"
    if "locked" in text or "busy" in text:
        return InputError(f"{path} is being written ({text}): import it again when the writer is done.")
    if "readonly" in text:
        return InputError(
            f"{path} has a transaction that was never finished ({path.name}-journal beside it): open it once with "
            "the program that wrote it, then import it again."
        )
    return InputError(
        f"{path} is damaged or cut off ({text}): copy it again while nothing writes it, with its -wal file."
    )


def tables(connection: sqlite3.Connection) -> dict[str, set[str]]:
    """Plain columns of plain tables; views, virtual tables and computed columns are not listed."""
    names = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage > 0"
    ).fetchall()
    out: dict[str, set[str]] = {}
    for (name,) in names:
        rows = connection.execute("SELECT name, hidden FROM pragma_table_xinfo(?)", (name,)).fetchall()
        out[str(name)] = {str(column) for column, hidden in rows if not hidden}
    return out


def has_tables(path: Path, wanted: Mapping[str, set[str]]) -> bool:
    """Whether a file is a database with tables of these columns; never raises."""
    try:
        with path.open("rb") as file:
            if file.read(16) != MAGIC:
                return False
        with _connected(path.absolute(), "mode=ro&immutable=1") as connection:
            if _has(tables(connection), wanted):
                return True
    except (OSError, ValueError, MemoryError, sqlite3.Error):
        pass
    try:  # the tables may be in the write-ahead log still
        if not path.with_name(path.name + "-wal").exists():
            return False
        with opened(path) as connection:
            return _has(tables(connection), wanted)
    except (OSError, InputError):
        return False


def _has(found: Mapping[str, set[str]], wanted: Mapping[str, set[str]]) -> bool:
    return all(columns <= found.get(name, set()) for name, columns in wanted.items())


def fetched(connection: sqlite3.Connection, query: str) -> Iterator[list[tuple[object, ...]]]:
    """Rows of a query, many at once."""
    cursor = connection.execute(query)
    while rows := cursor.fetchmany(FETCH):
        yield rows


def groups(labels: Sequence[object]) -> Iterator[tuple[object, np.ndarray]]:
    """Each label with the places where it stands, in order, shape (n,)."""
    known: dict[object, int] = {}
    codes = np.array([known.setdefault(label, len(known)) for label in labels], dtype=np.int64)
    order = np.argsort(codes, kind="stable")
    ends = np.cumsum(np.bincount(codes, minlength=len(known)))[:-1]
    yield from zip(known, np.split(order, ends), strict=True)


def unique_names(names: Mapping[str, str]) -> dict[str, str]:
    """Names of runs by their ids; runs of one name are told apart by the start of their ids."""
    counts: dict[str, int] = {}
    for name in names.values():
        counts[name] = counts.get(name, 0) + 1
    return {
        run: name if name and counts[name] == 1 else f"{name}-{run[:8]}".lstrip("-")
        for run, name in names.items()
    }
