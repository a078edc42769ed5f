"""Runs on a W&B server, `wandb:ENTITY/PROJECT` or `wandb:ENTITY/PROJECT/RUN`, read with the user's own package.

The package `wandb` asks for the key and talks to the server; lehr stores neither. Histories are read with
`scan_history` (`wandb/apis/public/runs.py`), which gives every row; `history` samples. RUN is the run's id, the last
part of its address; its name is the one that is shown.
"""

from __future__ import annotations

import importlib
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np

from lehr.errors import InputError
from lehr.runs.readers import settings
from lehr.runs.readers.raw import Log
from lehr.runs.readers.wandb_rows import Column, meaning_of

PREFIX = "wandb:"
PAGE = 1000  # rows asked for at a time
_ADDRESS = re.compile(r"([^/\s]+)/([^/\s]+)(?:/(?:runs/)?([^/\s]+))?\Z")
_WORDS = ("NaN", "Infinity", "-Infinity")  # numbers that JSON has no form of, as the server sends them


def sniff(source: str) -> bool:
    """Whether a source names runs on a server.

    >>> sniff("wandb:team/pretraining"), sniff("wandb/run-1.wandb")
    (True, False)
    """
    return source.startswith(PREFIX)


def logs_of(source: str, package: Any = None) -> Iterator[Log]:
    """Yield the runs at an address, one after the other.

    Parameters
    ----------
    source : "wandb:ENTITY/PROJECT[/RUN]".
    package : what to use as the module `wandb`; the installed one if None.

    Raises
    ------
    InputError
        If the address has another form, the package is not installed, or the server refuses.
    """
    found = _ADDRESS.match(source.removeprefix(PREFIX)) if sniff(source) else None
    if found is None:
        raise InputError(
            f"{source!r} is no address of W&B: give wandb:ENTITY/PROJECT for all runs of a project, "
            "or wandb:ENTITY/PROJECT/RUN for one."
        )
    entity, project, run = found.groups()
    package = package if package is not None else _installed(source)
    path = f"{entity}/{project}"
    # its own, those of requests (which are OSErrors), and ValueError for a run that is not there
    refusals = (OSError, ValueError, RuntimeError, LookupError, getattr(package, "Error", OSError))
    try:
        api = package.Api()
        runs: Iterable[Any] = [api.run(f"{path}/{run}")] if run else api.runs(path)
        for one in runs:
            yield _log(f"{PREFIX}{path}/{one.id}", one)
    except InputError:
        raise
    except refusals as error:
        told = str(error).strip().split("\n", 1)[0][:200] or type(error).__name__
        raise InputError(
            f"{source} cannot be read ({told}): check the address, that you are logged in (wandb login), "
            "and the network."
        ) from error


def _installed(source: str) -> Any:
    try:
        return importlib.import_module("wandb")
    except ImportError:
        raise InputError(
            f"{source} needs the package wandb, which is not installed: pip install wandb, "
            "or export the run as CSV or Parquet."
        ) from None


def _log(source: str, run: Any) -> Log:
    """Return one run, all rows of it."""
    rows: dict[str, array[int]] = {}
    values: dict[str, array[float]] = {}
    count = other = 0
    for count, row in enumerate(run.scan_history(page_size=PAGE), start=1):
        for key, value in _flat(row):
            number = _number(value)
            if number is None:
                other += value is not None
                continue
            if key not in rows:
                rows[key], values[key] = array("q"), array("d")
            rows[key].append(count - 1)
            values[key].append(number)
    columns = {
        key: Column(np.array(rows[key], dtype=np.int64), np.array(values[key], dtype=float)) for key in rows
    }
    own = {key: value for key, value in dict(run.config).items() if not str(key).startswith("_wandb")}
    config = settings.flat(own)
    report = [f"the run {run.id} of W&B, {count} rows"]
    if other:
        report.append(f"{other} values of the history are no numbers and were left out")
    meaning = meaning_of(columns, count, config)
    return Log(
        source=source, name=run.name or run.id, origin=run.id, series=meaning.series, config=config,
        roles=meaning.roles, bits=meaning.bits, batch_tokens=meaning.batch_tokens, report=(*report, *meaning.report),
    )  # fmt: skip


def _flat(row: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a row, those of nested objects under joined keys; media keep their one entry."""
    for key, value in row.items():
        if isinstance(value, Mapping) and "_type" not in value:
            yield from settings.flat(value, key).items()
        else:
            yield key, value


def _number(value: object) -> float | None:
    if isinstance(value, str):
        return float(value) if value in _WORDS else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
