"""The registry of a store: the records of its runs, which make them visible.

A record says everything about a run but its points: those are in the Parquet file it names, whose
SHA-256 it holds. It stands in a small JSON file of its own, or with many others in a segment
(`lehr.runs.segments`). File names come from the run's name by a slug and a hash, so that no name can
leave the folder, collide, or be too long; the Parquet's also holds a hash of its content, so that
a new version never overwrites the file an old record points to.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lehr.errors import InputError, bad
from lehr.runs.run import Run
from lehr.schedule.spec import parse, to_text

SCHEMA_VERSION = 1
ASIDE = ("schema_version", "generation", "parquet", "row", "sha256")  # of a record: where it is, not what
_PARQUET = re.compile(r"[a-z0-9][a-z0-9._-]*\.parquet\Z")
_OPTIONAL = (int, float, type(None))
_FIELDS: dict[str, tuple[type, ...]] = {
    "name": (str,), "schedule": (str,), "steps": (int,), "points": (int,), "peak_lr": (int, float),
    "first_step": (int,), "last_step": (int,), "final_loss": (int, float), "parent": (str, type(None)),
    "branch_step": (int, type(None)), "params": _OPTIONAL, "params_total": _OPTIONAL,
    "batch_tokens": _OPTIONAL, "meta": (dict,), "report": (list,), "fingerprint": (str,),
    "parquet": (str,), "sha256": (str,),
}  # fmt: skip


def safe_id(name: str) -> str:
    """File name for a run's name: readable, safe on any file system, and its own.

    >>> safe_id("../124M lr=1e-3")
    '124m-lr-1e-3-72b17a440b6e31ff'
    """
    slug = re.sub(r"[^a-z0-9]+", "-", name.lower())[:60].strip("-") or "run"
    return f"{slug}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def describe(run: Run, report: Sequence[str]) -> dict[str, Any]:
    """Return the record of a run, but for its Parquet file.

    Raises
    ------
    InputError
        If its schedule or its meta cannot be written down exactly.
    """
    text = to_text(run.schedule)
    if parse(text) != run.schedule:
        raise InputError(
            f"run {run.name!r}: its schedule cannot be written as text: build it from its families."
        )
    for key, value in run.meta.items():
        if (
            not isinstance(key, str)
            or not isinstance(value, str | bool | int | float | None)
            or value != value
        ):
            raise bad(f"run {run.name!r}: meta {key!r}", "must be a JSON scalar", value, "convert or drop it")
    return {
        "schema_version": SCHEMA_VERSION,
        "name": run.name,
        "schedule": text,
        "steps": run.steps,
        "peak_lr": float(run.schedule.peak),
        "points": int(run.step.size),
        "first_step": int(run.step[0]),
        "last_step": int(run.step[-1]),
        "final_loss": run.final_loss,
        "parent": run.parent,
        "branch_step": None if run.branch_step is None else int(run.branch_step),
        "params": _count(run.params),
        "params_total": _count(run.params_total),
        "batch_tokens": _count(run.batch_tokens),
        "meta": dict(run.meta),
        "report": list(report),
        "fingerprint": run.fingerprint(),
    }


def same_run(record: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records describe the same run, however it was read, stored or its schedule written."""
    aside = {*ASIDE, "schedule", "report"}  # the fingerprint covers the schedule itself
    return {k: v for k, v in record.items() if k not in aside} == {
        k: v for k, v in other.items() if k not in aside
    }


def encode(record: Mapping[str, Any]) -> bytes:
    """Bytes of a record."""
    return (json.dumps(record, indent=1, allow_nan=False) + "\n").encode("ascii")


def decode(data: bytes, path: Path | str) -> dict[str, Any]:
    """Read a record, checking every field.

    Raises
    ------
    InputError
        Naming the file, if it is damaged or of a version not known here.
    """
    try:
        record = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"not JSON ({error})") from None
    if not isinstance(record, dict) or not isinstance(record.get("schema_version"), int):
        raise damaged(path, "no schema_version")
    check_version(record["schema_version"], SCHEMA_VERSION, path)
    check_record(record, path)
    if Path(path).name != f"{safe_id(record['name'])}.json":
        raise damaged(path, f"it holds the run {record['name']!r}, which belongs in another file")
    return record


def check_version(found: int, known: int, path: Path | str) -> None:
    """Refuse a file of another version of the layout."""
    if found != known:
        raise bad(
            f"{path}: schema_version", f"must be {known}", found,
            "read the store with the version of lehr that wrote it, or import the logs again",
        )  # fmt: skip


def check_record(record: Mapping[str, Any], path: Path | str) -> None:
    """Refuse a record with a field that is absent or of the wrong type."""
    for name, kinds in _FIELDS.items():
        value = record.get(name)
        if name not in record or not isinstance(value, kinds) or isinstance(value, bool):
            raise damaged(
                path, f"field {name!r} is {'absent' if name not in record else 'of the wrong type'}"
            )
    for name in ("generation", "row"):
        value = record.get(name, 0)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise damaged(path, f"field {name!r} is of the wrong type")
    if not _PARQUET.match(record["parquet"]):
        raise damaged(path, f"field 'parquet' is no file name: {record['parquet'][:80]!r}")


def to_run(record: Mapping[str, Any], step: np.ndarray, loss: np.ndarray, path: Path | str) -> Run:
    """Put a run together from its record and its points.

    Raises
    ------
    InputError
        Naming the record's file, if its content makes no run.
    """
    try:
        return Run(
            name=record["name"], schedule=parse(record["schedule"]), step=step, loss=loss,
            parent=record["parent"], branch_step=record["branch_step"], params=record["params"],
            params_total=record["params_total"], batch_tokens=record["batch_tokens"], meta=record["meta"],
        )  # fmt: skip
    except InputError as error:
        raise damaged(path, str(error)) from None


def damaged(path: Path | str, what: str) -> InputError:
    """Build the message of a damaged record."""
    return InputError(
        f"{path} is damaged: {what.rstrip('.')}. Delete it and import that run again; the other runs are whole."
    )


def _count(value: float | None) -> float | None:
    return None if value is None else float(value)
