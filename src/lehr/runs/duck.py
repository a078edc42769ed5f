"""The few things asked of DuckDB, in one place: open it, name a file to it, read and write points."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lehr.runs.arrow import StreamError, read_numbers

_GLOB = re.compile(r"([*?\[])")


def connect() -> Any:
    """Open an in-memory DuckDB that loads nothing from the network."""
    # here, not above: listing a store needs no DuckDB and should not wait for it
    import duckdb

    return duckdb.connect(
        config={"autoinstall_known_extensions": "false", "autoload_known_extensions": "false"}
    )


def error_type() -> type[Exception]:
    """Return the base class of DuckDB's errors."""
    import duckdb

    return duckdb.Error


def one_line(error: Exception) -> str:
    """Return what an error of DuckDB says, without its kind and the SQL it quotes."""
    return str(error).strip().split("\n", 1)[0].split("Error: ", 1)[-1]


def literal_path(path: Path) -> str:
    """Name exactly one local file to DuckDB, which would read *, ? and [ as patterns.

    >>> literal_path(Path("/logs/run[1].csv"))
    '/logs/run[[]1].csv'
    """
    return _GLOB.sub(r"[\1]", os.path.abspath(path))


def quoted(name: str) -> str:
    """Quote a column name for SQL.

    >>> print(quoted('a "b" c'))
    "a ""b"" c"
    """
    return '"' + name.replace('"', '""') + '"'


def write_points(connection: Any, path: Path, step: np.ndarray, loss: np.ndarray) -> None:
    """Write a Parquet file with the columns step (BIGINT) and loss (DOUBLE)."""
    connection.register("points", {"step": step, "loss": loss})
    try:
        query = "SELECT step::BIGINT AS step, loss::DOUBLE AS loss FROM points"
        connection.sql(query).write_parquet(os.path.abspath(path))
    finally:
        connection.unregister("points")


def write_shared(
    connection: Any, path: Path, names: Sequence[str], counts: Sequence[int], step: np.ndarray, loss: np.ndarray
) -> None:  # fmt: skip
    """Write a Parquet file of several runs, one after another: columns run (VARCHAR), step and loss.

    Parameters
    ----------
    names, counts : of each run, in order, and how many of the rows are its own.
    step, loss : shape (sum of counts,).
    """
    place = np.repeat(np.arange(1, len(names) + 1, dtype=np.int32), counts)
    connection.register("points", {"place": place, "step": step, "loss": loss})
    try:
        # a lone surrogate cannot be written as UTF-8; the records hold the exact names
        listed = [name.encode("utf-8", "replace").decode() for name in names]
        query = (
            "SELECT list_extract($names::VARCHAR[], place) AS run, step::BIGINT AS step, loss::DOUBLE AS loss "
            "FROM points"
        )
        connection.sql(query, params={"names": listed}).write_parquet(os.path.abspath(path))
    finally:
        connection.unregister("points")


def read_points(connection: Any, *paths: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read back what `write_points` or `write_shared` wrote: steps and losses, shape (n,), file after file."""
    query = "SELECT step::BIGINT::DOUBLE AS step, loss::DOUBLE AS loss FROM read_parquet(?)"
    relation = connection.sql(query, params=[[literal_path(path) for path in paths]])
    try:
        step, loss = read_numbers(relation)
    except StreamError as error:
        raise error_type()(str(error)) from None
    return step.values, loss.values


def row_count(connection: Any, path: Path) -> int:
    """Number of rows of a Parquet file, from its footer."""
    query = "SELECT num_rows FROM parquet_file_metadata(?)"
    return int(connection.execute(query, [literal_path(path)]).fetchall()[0][0])
