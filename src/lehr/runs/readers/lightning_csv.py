"""metrics.csv of Lightning's CSVLogger: one header of sorted names, a sparse row a call of `log_metrics`.

Read in Lightning 2.6 (fabric/loggers/csv_logs.py, pytorch/loops/training_epoch_loop.py,
trainer/connectors/logger_connector, callbacks/lr_monitor.py). `step` is the index of the update that the batch
at hand makes, from 0, and rises only after the batch's validation:

- what `training_step` logs was measured before that update: the row's step is the number of updates done;
- `LearningRateMonitor` (`lr-AdamW`, `lr-AdamW/pg1`) logs the LR that the update is to use;
- validation in or after the batch is of the weights after it: `val...` stands one update later;
- a name that ends in `_epoch` is the mean over an epoch and stands at the middle of it. A validation metric
  that ends in `_step` counts batches of the validation, not updates, and is left out.

Lightning is told by the names being sorted and a `step` among them, and by an LR of its monitor, or an `epoch`,
cells left empty and rows that end as Python's csv module ends them. LitGPT logs through it: see `litgpt`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from lehr.errors import InputError, bad
from lehr.runs.readers import flat_yaml, litgpt, sparse
from lehr.runs.readers.averages import since_last, window_centre
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions, check_file
from lehr.runs.readers.text_lines import blocks

HEADER_LIMIT = 1 << 20  # bytes
CELL_LIMIT = 64  # bytes of a number
_MONITOR = re.compile(r"(.*-)?lr-[A-Z]\w*(-\d+)?(/.+)?\Z")
_EVALUATION = re.compile(r"(?i)(^|[-/_. ])(val|valid|validation|eval)([-/_. ]|$)")

Parts = dict[str, list[tuple[np.ndarray, np.ndarray]]]


def sniff(path: Path) -> bool:
    """Whether a file is surely Lightning's."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    line, _, rest = head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
    names = _header(line)
    if names is None or "step" not in names or b"\0" in head:
        return False
    if litgpt.is_header(names) or any(_MONITOR.match(name) for name in names):
        return True
    rows = rest.split(b"\r\n")[:-1]
    empty = any(b"" in row.split(b",") for row in rows)
    return "epoch" in names and line.endswith(b"\r") and empty


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the run of a metrics.csv, and the settings of hparams.yaml beside it.

    Raises
    ------
    InputError
        Naming the file, and the line with a wrong number of cells or a cell that is no number.
    """
    options = options or ReadOptions()
    where = str(check_file(path, streamed=True))
    names, columns, report = _columns(path, where)
    series, lost = sparse.series(columns, "step", where)
    if lost:
        report.append(f"{lost} values are in rows without a step and were left out")
    config, skipped = flat_yaml.load(path.parent / "hparams.yaml")
    if config or skipped:
        report.append(f"{len(config)} settings from hparams.yaml, {skipped} that are no scalars left out")
    if litgpt.is_header(names):
        yield litgpt.log(path, series, config, options, report)
        return
    yield Log(
        source=where, name=_name(path), series=_moved(series, report), config=config, report=tuple(report)
    )  # fmt: skip


def _header(line: bytes) -> list[str] | None:
    """Names of a header as the CSVLogger writes it, sorted and each once; None if it is none."""
    try:
        text = line.removesuffix(b"\r").decode("utf-8")
        names = next(csv.reader([text], strict=True), [])
    except (UnicodeDecodeError, csv.Error):
        return None
    return names if names and names == sorted(set(names)) and len(line) <= HEADER_LIMIT else None


def _columns(path: Path, where: str) -> tuple[list[str], dict[str, tuple[np.ndarray, np.ndarray]], list[str]]:
    """Names, then lines and values of the cells of each column of numbers, and what is to be reported."""
    names: list[str] = []
    parts: Parts = {}
    text: dict[str, int] = {}  # columns with cells that are no numbers -> line of the first
    report: list[str] = []
    for first, block in blocks(path):
        if not block.endswith(b"\n"):
            block, _, rest = block.rpartition(b"\n")
            report.append(f"the last line is cut off and was left out ({len(rest)} bytes)")
        block = block.replace(b"\r\n", b"\n")
        if first == 1:
            line, _, block = block.partition(b"\n")
            names = _header(line) or []
            first += 1
            if "step" not in names:
                raise InputError(
                    f"{where}, line 1 is no header of Lightning's CSVLogger (sorted names, `step` among them): "
                    "give metrics.csv as it was written, or name its columns and give --format table."
                )
        _take(block.removesuffix(b"\n"), first, names, parts, text, where)
    both = sorted(set(text) & set(parts))
    if both:
        raise bad(
            f"{where}, line {text[both[0]]}: column {both[0]!r}", "must hold numbers", "some other text",
            "mend the cell or leave it empty",
        )  # fmt: skip
    if text:
        report.append(f"left out, as they are no numbers: {', '.join(sorted(text))}")
    if "step" not in parts:
        raise InputError(f"{where} has no row yet: wait for the first flush of the logger.")
    columns = {
        name: (np.concatenate([at for at, _ in told]), np.concatenate([value for _, value in told]))
        for name, told in parts.items()
    }
    return names, columns, report


def _take(
    block: bytes, first: int, names: Sequence[str], parts: Parts, text: dict[str, int], where: str
) -> None:
    """Add the cells of a block of lines to the columns."""
    if not block.strip(b"\n"):
        return
    cells, number = _cells(block, first, len(names), where)
    for place, name in enumerate(names):
        column = cells[place :: len(names)]
        value, present = _numbers(column)
        if value is None:
            alone = [_numbers([cell])[0] if cell else None for cell in column]
            wrong = next(at for at, cell in enumerate(column) if cell and alone[at] is None)
            text.setdefault(name, int(number[wrong]))
            present = np.array([each is not None for each in alone])
            value = np.array([np.nan if each is None else each[0] for each in alone])
        if present.any():
            parts.setdefault(name, []).append((number[present], value[present]))


def _cells(block: bytes, first: int, width: int, where: str) -> tuple[list[bytes], np.ndarray]:
    """Cells of a block's lines, one after the other, and the lines' numbers, shape (lines,); blank lines are none."""
    if b'"' in block or b"\n\n" in block or block[:1] == b"\n" or block[-1:] == b"\n":
        lines = block.split(b"\n")
        number = np.array([at for at, line in enumerate(lines) if line], dtype=np.int64) + first
        rows = [_quoted(lines[at - first], at, where) for at in number.tolist()]
        counts = np.array([len(row) for row in rows])
        cells = [cell for row in rows for cell in row]
    else:
        letters = np.frombuffer(block, dtype=np.uint8)
        ends = np.r_[np.flatnonzero(letters == ord("\n")), letters.size]
        commas = np.searchsorted(np.flatnonzero(letters == ord(",")), ends)
        counts = np.diff(commas, prepend=0) + 1
        number = np.arange(first, first + ends.size)
        cells = block.replace(b"\n", b",").split(b",")
    wrong = np.flatnonzero(counts != width)
    if wrong.size:
        raise bad(
            f"{where}, line {number[wrong[0]]}", f"must have {width} cells as the header",
            int(counts[wrong[0]]), "mend or remove the line",
        )  # fmt: skip
    return cells, number


def _quoted(line: bytes, number: int, where: str) -> list[bytes]:
    if b'"' not in line:
        return line.split(b",")
    try:
        (row,) = csv.reader([line.decode("utf-8", errors="replace")], strict=True)
    except (csv.Error, ValueError) as error:
        raise InputError(f"{where}, line {number} is no row of a CSV ({error}): mend or remove it.") from None
    return [cell.encode() for cell in row]


def _numbers(cells: Sequence[bytes]) -> tuple[np.ndarray | None, np.ndarray]:
    """Cells as numbers, None if one is none, and which are not empty, shape (n,)."""
    if max(map(len, cells)) > CELL_LIMIT:
        return None, np.array(list(map(bool, cells)))
    held = np.array(cells, dtype="S")
    filled = held != b""
    value = np.full(held.shape, np.nan)
    try:
        value[filled] = held[filled].astype(float)
    except ValueError:
        return None, filled
    return value, filled


def _moved(series: dict[str, Series], report: list[str]) -> dict[str, Series]:
    """Series at lehr's steps."""
    out, later, epochs, dropped, repeated = {}, [], [], [], 0
    for name, told in series.items():
        if _EVALUATION.search(name):
            if name.endswith("_step"):
                dropped.append(name)
                continue
            told = replace(told, step=told.step + 1)
            later.append(name)
        elif _MONITOR.match(name):
            new = np.r_[True, (told.step[1:] != told.step[:-1]) | (told.value[1:] != told.value[:-1])]
            repeated += int((~new).sum())
            told = Series(told.step[new], told.value[new], line=None if told.line is None else told.line[new])
        elif name.endswith("_epoch"):
            done = told.step + 1
            told = replace(told, step=window_centre(done, since_last(done)))
            epochs.append(name)
        out[name] = told
    if later:
        report.append(f"one update later, as measured after the row's update: {', '.join(later)}")
    if repeated:
        report.append(f"{repeated} LRs that the monitor repeats for the batches of one update left out")
    if epochs:
        report.append(f"means over an epoch, at its middle: {', '.join(epochs)}")
    if dropped:
        report.append(f"left out, as their steps count batches of the validation: {', '.join(dropped)}")
    return out


def _name(path: Path) -> str:
    """NAME/version_k, as the folders above the file are called."""
    folder = path.absolute().parent
    return "/".join(part for part in (folder.parent.name, folder.name) if part) or path.stem
