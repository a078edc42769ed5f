"""One training of a study, and the CSV file of many: one a row, columns those of `StudyRow`, `batch` if known."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lehr.errors import InputError
from lehr.files import read_text


@dataclass(frozen=True)
class StudyRow:
    """One training of a study.

    Parameters
    ----------
    study, axis, rule, target : names; the base has no axis.
    level : 0 for the base.
    params, tokens : active parameters without embeddings, and tokens trained on.
    lr : peak LR of the schedule, that is the base's.
    loss : final validation loss, nats per token; NaN if it diverged.
    seed : of the initial weights.
    batch : tokens an update; None if the table does not say.
    """

    study: str
    axis: str
    rule: str
    target: str
    level: int
    params: float
    tokens: float
    lr: float
    loss: float
    seed: int
    batch: float | None = None

    @property
    def cell(self) -> str:
        """Name of its cell among the runs of its study, as `lehr.proxy.study.Cell.name`."""
        return "base" if self.level == 0 else f"{self.rule}-{self.target}"


_TYPES = {"str": str, "int": int, "float": float}
COLUMNS = {field.name: _TYPES[str(field.type)] for field in fields(StudyRow) if field.name != "batch"}


def to_csv(rows: Iterable[StudyRow]) -> str:
    """Write rows, the header first."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [*COLUMNS, "batch"], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({**asdict(row), "loss": f"{row.loss:.6f}"})
    return out.getvalue()


def read_study(path: Path) -> list[StudyRow]:
    """Read rows.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing, or a value is not of its kind; with the line.
    """
    reader = csv.DictReader(io.StringIO(read_text(path, "a table of studies")))
    missing = [name for name in COLUMNS if name not in (reader.fieldnames or ())]
    if missing:
        raise InputError(
            f"{path}: no column {', '.join(missing)}: give the results.csv of `lehr peak-lr compare`."
        )
    rows = []
    for line in reader:
        try:
            batch = float(line["batch"]) if line.get("batch") else None
            row = StudyRow(**{name: kind(line[name]) for name, kind in COLUMNS.items()}, batch=batch)
        except (TypeError, ValueError) as error:
            raise InputError(f"{path}, line {reader.line_num}: {error}: mend or remove the line.") from None
        sizes = {"lr": row.lr, "params": row.params, "tokens": row.tokens, "batch": row.batch}
        if wrong := [name for name, value in sizes.items() if value is not None and not 0 < value < math.inf]:
            raise InputError(
                f"{path}, line {reader.line_num}: {wrong[0]} must be above 0 and finite, got {sizes[wrong[0]]:g}: "
                "mend or remove the line."
            )
        rows.append(row)
    if not rows:
        raise InputError(f"{path} has no training: give at least one row.")
    return rows
