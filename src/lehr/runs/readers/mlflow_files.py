"""MLflow's old file store, mlruns/EXPERIMENT/RUN: a format that is a folder, of a run or of many.

Read in MLflow 3.17 (store/tracking/file_store.py). In a run's folder `meta.yaml` has run_name and lifecycle_stage,
`params/KEY` and `tags/KEY` hold texts, `metrics/KEY` has a line for each value logged: "timestamp value step" and
perhaps a dataset's name and digest; before version 1.0 it had no step. Keys with a slash are folders. Names of
runs need not be unique: give the store's folder, so that they can be told apart.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from lehr.errors import InputError, bad
from lehr.runs.readers import flat_yaml, mlflow
from lehr.runs.readers.databases import unique_names
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions
from lehr.runs.readers.text_lines import blocks

TEXT_LIMIT = 1 << 16  # bytes of a param or a tag
MOST_FILES = 100_000  # of one kind in a run
FIELDS = (2, 3, 5)


def sniff_folder(folder: Path) -> bool:
    """Whether a folder is that of a run, of an experiment or of a whole store, with a run that is not deleted."""
    return next(_runs(folder), None) is not None


def logs(folder: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the runs below a folder; those that were deleted in MLflow are left out.

    Raises
    ------
    InputError
        If there is none; naming the folder of a run without a metric, or file and line where one is malformed.
    """
    del options
    runs = {str(path): _name(path, meta) for path, meta in _runs(folder)}
    if not runs:
        raise InputError(f"{folder} has no run of MLflow: give mlruns, or the folder of a run in it.")
    names = unique_names({f"{Path(path).name}{path}": name for path, name in runs.items()})
    report: list[str] = []
    some = False
    for path, name in zip(runs, names.values(), strict=True):
        series = {}
        for key, file in _files(Path(path) / "metrics"):
            told = _metric(file, key, report)
            if told is not None:
                series[key] = told
        if not series:
            report.append(f"run {name!r} has no metric and was left out")
            continue
        some = True
        params = {key: _text(file) for key, file in _files(Path(path) / "params")}
        yield mlflow.log(path, name, series, params, report)
        report = []
    if not some:
        raise InputError(f"{folder} has no run with a metric: log some first.")


def _runs(folder: Path) -> Iterator[tuple[Path, Mapping[str, flat_yaml.Scalar]]]:
    """Folders of runs that are not deleted, and their settings: the folder, or what is in it or one below."""
    for pattern in ("meta.yaml", "*/meta.yaml", "*/*/meta.yaml"):
        for file in sorted(folder.glob(pattern)):
            meta, _ = flat_yaml.load(file)
            if "run_id" in meta and "experiment_id" in meta and (file.parent / "metrics").is_dir():
                if meta.get("lifecycle_stage") != "deleted" and file.parent.parent.name != ".trash":
                    yield file.parent, meta


def _name(folder: Path, meta: Mapping[str, flat_yaml.Scalar]) -> str:
    tag = folder / "tags" / "mlflow.runName"
    return _text(tag) if tag.is_file() else str(meta.get("run_name") or "")


def _files(top: Path) -> Iterator[tuple[str, Path]]:
    """Keys and files below a folder; links are not followed."""
    seen = 0
    for place, folders, files in os.walk(top):
        folders.sort()
        for name in sorted(files):
            path = Path(place) / name
            if path.is_symlink() or not path.is_file():
                continue
            seen += 1
            if seen > MOST_FILES:
                raise bad(
                    f"files below {top}", f"must not exceed {MOST_FILES}", seen, "remove what is no metric"
                )
            yield path.relative_to(top).as_posix(), path


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(TEXT_LIMIT).decode("utf-8", errors="replace").rstrip("\n")


def _metric(path: Path, key: str, report: list[str]) -> Series | None:
    """Values of one file; None if it has none yet."""
    parts: list[np.ndarray] = []
    numbers: list[np.ndarray] = []
    for first, block in blocks(path):
        if not block.endswith(b"\n"):
            block, _, rest = block.rpartition(b"\n")
            report.append(f"{key}: the last line is cut off and was left out ({len(rest)} bytes)")
        lines = block.split(b"\n")
        kept = [at for at, line in enumerate(lines) if line.strip()]
        if kept:
            parts.append(_rows([lines[at] for at in kept], np.array(kept) + first, path))
            numbers.append(np.array(kept) + first)
    if not parts:
        return None
    time, value, step = np.concatenate(parts, axis=1)
    if np.isnan(step).any():
        report.append(
            f"{key}: {int(np.isnan(step).sum())} lines have no step: they were taken as at step 0, as MLflow does"
        )
        step = np.nan_to_num(step, nan=0.0)
    return Series(step, value, time / 1000, np.concatenate(numbers))


def _rows(lines: list[bytes], number: np.ndarray, path: Path) -> np.ndarray:
    """Time in ms, value and step (NaN where there is none) of lines, shape (3, lines)."""
    rows = [line.split() for line in lines]
    counts = np.array([len(row) for row in rows])
    wrong = np.flatnonzero(~np.isin(counts, FIELDS))
    if wrong.size:
        raise bad(
            f"{path}, line {number[wrong[0]]}", "must have 2, 3 or 5 fields, as timestamp value step",
            int(counts[wrong[0]]), "mend or remove the line",
        )  # fmt: skip
    out = np.empty((3, len(rows)))
    for place in range(3):
        cells = [row[place] if place < len(row) else b"nan" for row in rows]
        try:
            if max(map(len, cells)) > 64:
                raise ValueError
            out[place] = np.array(cells, dtype="S").astype(float)
        except ValueError:
            at = next(at for at, cell in enumerate(cells) if not _is_number(cell))
            raise bad(
                f"{path}, line {number[at]}: {('timestamp', 'value', 'step')[place]}", "must be a number",
                cells[at][:40].decode(errors="replace"), "mend or remove the line",
            ) from None  # fmt: skip
    named = counts > 2
    if not np.isfinite(out[2][named]).all():
        at = np.flatnonzero(named)[np.flatnonzero(~np.isfinite(out[2][named]))[0]]
        raise bad(
            f"{path}, line {number[at]}: step", "must be finite", float(out[2][at]), "mend or remove the line"
        )
    return out


def _is_number(cell: bytes) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return len(cell) <= 64
