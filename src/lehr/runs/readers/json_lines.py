"""JSON-lines files of metrics as lingua, OLMo-core and Levanter name them: sparse rows, nested or flat.

What is known by the names is in `json_dialects`. Lines of Levanter's JsonLoggerTracker (tracker/json_logger.py:
{"tracker": "json_logger", "event": "log", ...}) are found within lines of Python's logging. A file may hold
many runs, told by `run_id`, `run` or `run_name`. Other JSON lines are tables.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import numpy as np

from lehr.errors import InputError
from lehr.runs.readers import flat_yaml, sparse
from lehr.runs.readers.databases import groups, unique_names
from lehr.runs.readers.flat_yaml import Scalar
from lehr.runs.readers.json_dialects import METRICS, dialect, dialect_of, moved
from lehr.runs.readers.lingua_schedule import lingua_schedule
from lehr.runs.readers.raw import Log
from lehr.runs.readers.reading import ReadOptions, check_file
from lehr.runs.readers.text_lines import blocks

HEAD = 1 << 17  # bytes looked at to tell a dialect
LOOKED_AT = 200  # lines
RUNS = ("run_id", "run", "run_name")
TRACKER = b'{"tracker": "json_logger"'
_PLAIN_STEMS = re.compile(r"(metrics?|log|logs|history|train|training|data|scalars?)(\.validation|\.eval)?\Z")


def sniff(path: Path) -> bool:
    """Whether the first lines of a file are JSON objects with names of one of the dialects, and no `_step` of W&B."""
    with path.open("rb") as file:
        head = file.read(HEAD)
    lines = head.removeprefix(b"\xef\xbb\xbf").split(b"\n")
    whole = lines[:-1] if len(head) == HEAD else lines
    rows: list[sparse.Row] = []
    logger = TRACKER in head
    told = [line[line.find(TRACKER) :] for line in whole if TRACKER in line] if logger else whole
    for line in [line for line in told if line.strip()][:LOOKED_AT]:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            if logger or (rows and line is whole[-1]):
                continue
            return False
        if not isinstance(row, dict):
            return False
        rows.append(row)
    if logger:
        return any(row.get("event") == "log" and "metrics" in row for row in rows)
    return dialect(rows) is not None and not any("_step" in row for row in rows)


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the runs of a file.

    Raises
    ------
    InputError
        Naming the file, and the line that is no JSON object or whose step is no whole number.
    """
    del options
    where = str(check_file(path, streamed=True))
    found = _Found()
    with path.open("rb") as file:
        found.of_tracker = TRACKER in file.read(HEAD)
    for first, block in blocks(path):
        _take(first, block, found, where)
    if not found.runs:
        raise InputError(f"{where} has no row of metrics yet: wait for the first log of the training.")
    beside, skipped = flat_yaml.load(path.parent / "config.yaml")
    if beside:
        found.report.append(
            f"{len(beside)} settings from config.yaml, {skipped} that are no scalars left out"
        )
    named = {run: found.names.get(run) or run or _name(path, beside) for run in found.runs}
    called = unique_names(named) if len(named) > 1 else named
    for run, columns in found.runs.items():
        yield _log(
            where, called[run], columns, found.times.get(run, []), {**beside, **found.config}, found.report
        )


@dataclass
class _Found:
    """What was read so far: columns, times and names by run, settings, and lines to report."""

    runs: dict[str, sparse.Columns] = field(default_factory=dict)
    times: dict[str, list[tuple[np.ndarray, np.ndarray]]] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    config: dict[str, Scalar] = field(default_factory=dict)
    report: list[str] = field(default_factory=list)
    of_tracker: bool = False  # lines of Levanter's tracker among others
    label: str | None = None  # what tells runs apart


def _take(first: int, block: bytes, found: _Found, where: str) -> None:
    """Add the rows of a block of lines."""
    lines = block.split(b"\n")
    number = first + np.array([at for at, line in enumerate(lines) if line.strip()], dtype=np.int64)
    lines = [line.strip() for line in lines if line.strip()]
    if found.of_tracker:
        rows, number = _of_tracker(lines, number, found)
    else:
        last_is_whole = block.endswith(b"\n")
        rows, number = _rows(lines, number, last_is_whole, found, where)
    if not rows:
        return
    if not found.runs:
        found.label = next((name for name in RUNS if name in rows[0]), None)
    label = found.label
    runs = [""] * len(rows) if label is None else [str(row.get(label, "")) for row in rows]
    for run, places in groups(runs):
        chosen = [rows[place] for place in places]
        name = str(run)
        if label == "run_id" and name not in found.names:
            found.names[name] = str(
                next((chosen[0][key] for key in ("run_name", "run") if key in chosen[0]), "")
            )
        found.runs.setdefault(name, sparse.Columns()).add(chosen, number[places])
        clock = _clock(chosen)
        if clock is not None:
            found.times.setdefault(name, []).append((number[places], clock))


def _rows(
    lines: Sequence[bytes], number: np.ndarray, last_is_whole: bool, found: _Found, where: str
) -> tuple[list[sparse.Row], np.ndarray]:
    """Rows of lines, all at once where they are sound."""
    if all(line[:1] == b"{" and line[-1:] == b"}" for line in lines):
        try:
            told = json.loads(b"[" + b",".join(lines) + b"]")
            if len(told) == len(lines):
                return told, number
        except (ValueError, RecursionError):
            pass
    rows: list[sparse.Row] = []
    for at, line in enumerate(lines):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            if at == len(lines) - 1 and not last_is_whole:
                found.report.append(f"the last line is cut off and was left out ({len(line)} bytes)")
                return rows, number[:at]
            what = "nested too deep" if isinstance(error, RecursionError) else "not valid JSON"
            raise InputError(f"{where}, line {number[at]} is {what}: mend or remove the line.") from None
        if not isinstance(row, dict):
            raise InputError(
                f"{where}, line {number[at]} must be a JSON object, got {type(row).__name__}: mend or remove the line."
            )
        rows.append(row)
    return rows, number


def _of_tracker(
    lines: Sequence[bytes], number: np.ndarray, found: _Found
) -> tuple[list[sparse.Row], np.ndarray]:
    """Rows of Levanter's JsonLoggerTracker among other lines of a log."""
    rows: list[sparse.Row] = []
    kept = []
    broken = 0
    for line, at in zip(lines, number, strict=True):
        begin = line.find(TRACKER)
        if begin < 0:
            continue
        try:
            record = json.loads(line[begin:])
        except (ValueError, RecursionError):
            broken += 1
            continue
        metrics, settings = record.get("metrics"), record.get("hparams")
        if record.get("event") == "log" and isinstance(metrics, dict):
            rows.append({**metrics, "step": record.get("step")})
            kept.append(int(at))
        elif record.get("event") == "hparams" and isinstance(settings, dict):
            flat = sparse.flat(settings, ".")
            found.config |= {k: v for k, v in flat.items() if v is None or isinstance(v, str | int | float)}
    if broken:
        found.report.append(f"{broken} lines of the tracker are cut or garbled and were left out")
    return rows, np.array(kept, dtype=np.int64)


def _clock(rows: Sequence[sparse.Row]) -> np.ndarray | None:
    """Seconds at which rows were written, shape (rows,); None if they do not say."""
    if "created_at" not in rows[0]:
        return None
    out = np.full(len(rows), np.nan)
    for at, row in enumerate(rows):
        try:
            out[at] = datetime.fromisoformat(str(row.get("created_at"))).timestamp()
        except (ValueError, OverflowError):
            continue
    return out


def _name(path: Path, config: Mapping[str, Scalar]) -> str:
    """Name of a run that the rows do not tell: the config's, else the file's, or its folder's if that says nothing."""
    told = config.get("name")
    if isinstance(told, str) and told:
        return told
    return path.absolute().parent.name or path.stem if _PLAIN_STEMS.match(path.stem.lower()) else path.stem


def _log(
    where: str, name: str, collected: sparse.Columns, times: list[tuple[np.ndarray, np.ndarray]],
    config: Mapping[str, Scalar], report: Sequence[str],
) -> Log:  # fmt: skip
    columns = collected.columns()
    known = dialect_of(columns) or METRICS[-1]
    counters = [counter for counter in known.counters if counter in columns]
    # rows of some metrics may have but one of the counters
    counter = max(counters, key=lambda each: columns[each][0].size, default=None)
    if counter is None:
        raise InputError(f"{where}: run {name!r} has no {known.counters[0]}: give rows with a step.")
    time = None
    if times:
        place, clock = (np.concatenate(part) for part in zip(*times, strict=True))
        time = place, clock
    report = [*report, *collected.told((*RUNS, "created_at"))]
    unfinished = columns.get("acc_step") if known.tool == "lingua" else None
    series, lost = sparse.series(columns, counter, where, time=time)
    if lost:
        report.append(f"{lost} values are in rows without {counter} and were left out")
    if known.tool:
        report.insert(0, f"names of {known.tool}: steps by {counter}")
    series = {key: moved(key, one, known, unfinished) for key, one in series.items()}
    roles = {role: key for role, key in known.roles.items() if key in series}
    evaluated = [
        key for key in series if known.tool and re.fullmatch(r"eval/.+/CE loss|.+/nll_per_token", key)
    ]
    if "val" not in roles and len(evaluated) == 1:
        roles["val"] = evaluated[0]
    return Log(
        source=where, name=name, series=series, config=config, roles=roles, report=tuple(report),
        schedule=lingua_schedule(config) if known.tool == "lingua" else None,
    )  # fmt: skip
