"""History of a W&B run as series: which column counts the updates, and what the metrics mean by it.

W&B numbers the rows of a history by `_step`: the number given to `log(step=...)`, or else a count of the calls of
`log`, which is no count of updates. Most training codes therefore log their own counter as a metric; it is told by
its name, or by `define_metric(..., step_metric=...)`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from lehr.runs.readers import conventions
from lehr.runs.readers.conventions import Meaning
from lehr.runs.readers.raw import Series
from lehr.runs.readers.settings import Scalar

# counters of updates by the names that Lightning, transformers, lingua, Levanter, nanoGPT and others give them
COUNTERS = (
    "trainer/global_step", "train/global_step", "global_step", "iter", "iteration", "step", "train/step", "train/iter",
    "update", "updates", "num_updates",
)  # fmt: skip
OWN_STEP = "steps are W&B's own _step: the number given to log(step=...), else a count of calls of log"


@dataclass(frozen=True, eq=False)
class Column:
    """The n values of a key: the `row` of the history of each (ascending, from 0), and `value`; shape (n,)."""

    row: np.ndarray
    value: np.ndarray


def meaning_of(
    columns: Mapping[str, Column], rows: int, config: Mapping[str, Scalar], declared: Iterable[str] = ()
) -> Meaning:
    """Return the metrics of a history as series on the run's count of updates.

    Parameters
    ----------
    columns : by key.
    rows : of the history.
    config : settings of the run.
    declared : keys that `define_metric` names as step metrics.
    """
    name = counter(columns, declared)
    report = []
    if name is None:
        # rows that do not even have W&B's own number keep their place
        axis, told = np.arange(rows, dtype=float), "steps are the places of the rows, which hold no counter"
    elif name == "_step":
        told = OWN_STEP
        axis = _filled(columns[name], rows)
    else:
        told = f"steps are those of {name!r}, not W&B's own _step"
        axis = _filled(columns[name], rows)
    report.append(told)
    time = columns.get("_timestamp")
    when = None
    if time is not None:
        when = np.full(rows, np.nan)
        when[time.row] = time.value
    counted = np.ones(rows, dtype=bool)
    if name is not None:
        counted[:] = False
        counted[columns[name].row] = True
    series = {}
    without = []
    for key, column in columns.items():
        if key == name or key.startswith("_") or not column.row.size:
            continue
        series[key] = Series(axis[column.row], column.value, None if when is None else when[column.row])
        if not counted[column.row].all():
            without.append(key)
    if without:
        listed = ", ".join(sorted(without)[:4]) + (" and others" if len(without) > 4 else "")
        report.append(f"rows of {listed} carry no {name}: the last one logged before them was taken")
    found = conventions.interpret(series, config, () if name is None else (name,))
    return Meaning(found.series, found.roles, found.bits, (*report, *found.report), found.batch_tokens)


def counter(columns: Mapping[str, Column], declared: Iterable[str] = ()) -> str | None:
    """Name the key that counts the updates, "_step" if there is no better one, None if there is none."""
    # litgpt's other counters count micro-batches
    names = ("step", *COUNTERS) if all(name in columns for name in conventions.LITGPT) else COUNTERS
    for name in (*names, *declared, "_step"):
        if name in columns and _counts(columns[name].value):
            return name
    return None


def _counts(value: np.ndarray) -> bool:
    """Whether values are whole numbers of at least 0 that go on."""
    if not value.size or not np.isfinite(value).all():
        return False
    return bool(
        (value >= 0).all() and (value == np.floor(value)).all() and (value.size == 1 or np.ptp(value) > 0)
    )


def _filled(column: Column, rows: int) -> np.ndarray:
    """Return the counter in every row: the last one before it, in the first rows the first."""
    place = np.searchsorted(column.row, np.arange(rows), side="right") - 1
    return column.value[np.maximum(place, 0)]
