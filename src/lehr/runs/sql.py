"""SQL over a store: one SELECT over the views `runs` and `points`, which can neither write nor read anything else.

| view | a row for each | columns |
| --- | --- | --- |
| runs | run | name, schedule, steps, points, peak_lr, first_step, last_step, final_loss, parent, branch_step, params, params_total, batch_tokens, split, meta (JSON), report (a list of texts), fingerprint |
| points | point | run, step, loss |

DuckDB runs the query. Before it does, access to files is withdrawn but for the Parquet files of the store, and no
setting can be changed any more; extensions, attached databases and Python's variables are out of reach. Nothing
but a SELECT is run, which has no way to write. Memory and time are bounded. Damage to points is looked for by `load_runs`, not here.
"""  # noqa: E501

from __future__ import annotations

import contextlib
import json
import os
import re
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from lehr.errors import InputError, ResultError
from lehr.runs import duck
from lehr.runs.location import locate
from lehr.runs.store import FOLDER, records_of

SECONDS = 60.0
MEMORY = "1GB"
MOST_ROWS = 1_000_000
TRIES = 5  # while others write
_FIELDS = {
    "name": "VARCHAR", "schedule": "VARCHAR", "steps": "BIGINT", "points": "BIGINT", "peak_lr": "DOUBLE",
    "first_step": "BIGINT", "last_step": "BIGINT", "final_loss": "DOUBLE", "parent": "VARCHAR",
    "branch_step": "BIGINT", "params": "DOUBLE", "params_total": "DOUBLE", "batch_tokens": "DOUBLE",
    "split": "VARCHAR", "meta": "JSON", "report": ["VARCHAR"], "fingerprint": "VARCHAR",
}  # fmt: skip


@dataclass(frozen=True)
class Answer:
    """What a query returned: names of columns, and rows of numbers, texts, truth values, lists and None."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


def query(store: Path | str, text: str, *, seconds: float = SECONDS) -> Answer:
    """Run one SELECT over the views `runs` and `points` of a store.

    Parameters
    ----------
    store : folder of the store, or its address.
    text : the SELECT, in DuckDB's dialect.
    seconds : that it may take.

    Raises
    ------
    InputError
        If there is no store, the text is not one SELECT, DuckDB refuses it, or it takes too long or too much.
    ResultError
        If the store changes faster than it can be read, or a file of it is missing.
    """
    for _ in range(TRIES):
        with contextlib.suppress(_Moved):
            return _run(store, text, seconds)
    raise ResultError(
        f"{store} changes faster than it can be read, or lacks a file: try again, or load its runs to see."
    )


class _Moved(Exception):
    """Files of the store were folded or replaced meanwhile."""


def _run(store: Path | str, text: str, seconds: float) -> Answer:
    records = records_of(store)
    files: dict[str, str] = {}
    connection = duck.connect()
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        try:
            _check(connection, text)
            files = (
                stack.enter_context(_local(store, records))
                if re.search("points", text, re.IGNORECASE)
                else {}
            )
            _define(connection, records, files)
            _lock(connection, files.values())
            timer = threading.Timer(seconds, connection.interrupt)
            timer.start()
            stack.callback(timer.cancel)
            found = connection.execute(text)
            rows = found.fetchmany(MOST_ROWS + 1)
        except duck.error_type() as error:
            if not all(map(os.path.exists, files.values())):
                raise _Moved from None
            raise _refusal(error, seconds) from None
        except FileNotFoundError:
            raise _Moved from None
        columns = tuple(str(column[0]) for column in found.description)
    if len(rows) > MOST_ROWS:
        raise InputError(f"the query gives more than {MOST_ROWS} rows: aggregate, or add a LIMIT.")
    return Answer(columns, tuple(tuple(map(_plain, row)) for row in rows))


def _check(connection: Any, text: str) -> None:
    """Refuse everything but one SELECT."""
    statements = connection.extract_statements(text)
    kinds = [str(statement.type).rsplit(".", 1)[-1].split(":")[0].strip("<> ") for statement in statements]
    if kinds != ["SELECT"]:
        said = " and ".join(kinds) or "nothing"
        raise InputError(f"the query must be one SELECT, got {said}: only reading is possible here.")


@contextlib.contextmanager
def _local(store: Path | str, records: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, str]]:
    """Paths of the Parquet files, by name; copies for the time being where DuckDB cannot be given the files."""
    location, names = locate(store, FOLDER), sorted({str(record["parquet"]) for record in records})
    if location.filesystem is None:
        paths = {name: os.path.abspath(location.place(name)) for name in names}
        if all(duck.literal_path(Path(path)) == path for path in paths.values()):
            yield paths
            return
    # elsewhere, or under a path that DuckDB would read as a pattern, which it may not follow once locked
    with tempfile.TemporaryDirectory(prefix="lehr-") as folder:
        for name in names:
            (Path(folder) / name).write_bytes(location.read(name))
        yield {name: os.path.join(folder, name) for name in names}


def _define(connection: Any, records: Sequence[Mapping[str, Any]], files: Mapping[str, str]) -> None:
    """Make the views."""
    rows = [
        json.dumps({**record, "split": record["meta"].get("split")}, ensure_ascii=False) for record in records
    ]
    told = [row.encode("utf-8", "replace").decode() for row in rows]  # a lone surrogate is no text to DuckDB
    listed = ", ".join(f"r.{field}" for field in _FIELDS)
    connection.execute(
        f"CREATE TABLE runs AS SELECT {listed} FROM (SELECT from_json(unnest($rows::VARCHAR[]), $shape) AS r)",
        {"rows": told, "shape": json.dumps(_FIELDS)},
    )
    connection.execute("CREATE TABLE _places (filename VARCHAR, run VARCHAR)")
    if not files:
        connection.execute(
            "CREATE VIEW points AS SELECT ''::VARCHAR AS run, 0::BIGINT AS step, 0.0 AS loss WHERE false"
        )
        return
    places = [
        [files[record["parquet"]], record["name"].encode("utf-8", "replace").decode()] for record in records
    ]
    connection.execute("INSERT INTO _places SELECT unnest($f::VARCHAR[]), unnest($r::VARCHAR[])",
                       {"f": [place[0] for place in places], "r": [place[1] for place in places]})  # fmt: skip
    connection.execute(f"CREATE VIEW points AS {_points(connection, records, files)}")


def _points(connection: Any, records: Sequence[Mapping[str, Any]], files: Mapping[str, str]) -> str:
    """SQL of the points of all runs: files of one run, shared files, and shared files with runs replaced since."""
    live: dict[str, int] = {}
    for record in records:
        if "row" in record:
            live[record["parquet"]] = live.get(record["parquet"], 0) + record["points"]
    held = {name: duck.row_count(connection, Path(files[name])) for name in live}
    whole = [files[name] for name in live if held[name] == live[name]]
    partly = [files[name] for name in live if held[name] != live[name]]
    alone = [path for name, path in files.items() if name not in live]
    parts = []
    if whole:
        parts.append(f"SELECT run, step, loss FROM read_parquet({_listed(whole)})")
    if partly:
        parts.append(
            f"SELECT run, step, loss FROM read_parquet({_listed(partly)}, filename=true) "
            "SEMI JOIN _places USING (filename, run)"
        )
    if alone:
        parts.append(
            f"SELECT run, step, loss FROM read_parquet({_listed(alone)}, filename=true) JOIN _places USING (filename)"
        )
    return " UNION ALL ".join(parts)


def _listed(paths: Sequence[str]) -> str:
    return "[" + ", ".join(_text(duck.literal_path(Path(path))) for path in paths) + "]"


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _lock(connection: Any, paths: Any) -> None:
    """Withdraw all access but to `paths`, for good."""
    for setting in (
        f"allowed_paths = [{', '.join(map(_text, paths))}]",
        "python_enable_replacements = false",
        f"memory_limit = '{MEMORY}'",
        "temp_directory = ''",
        "enable_external_access = false",
        "lock_configuration = true",
    ):
        connection.execute(f"SET {setting}")


def _refusal(error: Exception, seconds: float) -> InputError:
    """Put what DuckDB says into one line."""
    kind = type(error).__name__
    if kind == "InterruptException":
        return InputError(f"the query took longer than {seconds:g} s: ask for fewer points.")
    if kind == "OutOfMemoryException":
        return InputError(
            f"the query needs more than {MEMORY} of memory: aggregate, or ask for fewer points."
        )
    said = " ".join(line.strip() for line in str(error).split("LINE ")[0].splitlines() if line.strip())
    return InputError(f"the query was refused: {said.split('Error: ', 1)[-1]}")


def _plain(value: Any) -> Any:
    """A value in JSON's terms."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    return value if value is None or isinstance(value, (bool, int, float, str)) else str(value)
