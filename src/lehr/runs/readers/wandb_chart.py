"""Charts of W&B as CSV, which hold several runs.

The x axis is in the first column ("Step" is W&B's `_step`), and for each run and metric there are the columns
`RUN - METRIC`, `RUN - METRIC__MIN`, `RUN - METRIC__MAX`; where another x axis was chosen, also `RUN - _step`. A chart
holds the points that were drawn, which are sampled or averaged; where MIN and MAX differ, a value is a mean over rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from lehr.errors import InputError
from lehr.runs.readers import conventions
from lehr.runs.readers.frame import Column, Frame, fetch
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.wandb_rows import COUNTERS, OWN_STEP

BATCH = 256  # columns read at a time
_SEPARATOR = " - "
_BOUNDS = ("__MIN", "__MAX")


def is_chart(names: tuple[str, ...]) -> bool:
    """Whether a header is that of a chart: `RUN - METRIC` in all columns but the first."""
    rest = [name for name in names[1:] if name]
    if not rest or _SEPARATOR in names[0] or not all(_SEPARATOR in name for name in rest[:-1] or rest):
        return False
    return names[0] == "Step" or any(name.endswith(_BOUNDS) for name in rest)


def charts(frame: Frame) -> Iterator[Log]:
    """Yield the runs of a chart."""
    axis, names = frame.names[0], [name for name in frame.names[1:] if name]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(
            f"{frame.path}: two columns are called {twice[0]!r}: two runs have one name; rename one in W&B, "
            "and export the chart again."
        )
    runs = _runs(names)
    x = _read(frame, [axis])[axis]
    if "" in runs or not x.present.any():
        raise InputError(f"{frame.path} holds no rows, or its header is cut off: export the chart again.")
    for run, metrics in runs.items():
        wanted = [part for name in metrics.values() for part in (name, *(name + bound for bound in _BOUNDS))]
        cells = _read(frame, [name for name in wanted if name in names])
        yield _drawn(frame, axis, x, run, metrics, cells)


def _runs(names: list[str]) -> dict[str, dict[str, str]]:
    """Return the columns of each run by metric.

    Names of runs may hold the separator; where there are columns `RUN - _step` they tell the names exactly.
    """
    stems = [name for name in names if not name.endswith(_BOUNDS)]
    step = _SEPARATOR + "_step"
    known = sorted((name.removesuffix(step) for name in stems if name.endswith(step)), key=len, reverse=True)
    runs: dict[str, dict[str, str]] = {}
    for name in stems:
        run = next((run for run in known if name.startswith(run + _SEPARATOR)), None)
        if run is None:
            run = name.rpartition(_SEPARATOR)[0]
        runs.setdefault(run, {})[name[len(run) + len(_SEPARATOR) :]] = name
    return runs


def _drawn(
    frame: Frame, axis: str, x: Column, run: str, metrics: Mapping[str, str], cells: Mapping[str, Column]
) -> Log:
    """Return one run of a chart."""
    report = [
        "a chart of W&B: points are those that were drawn, sampled from the run's history",
        *unended(frame),
    ]
    steps, counts, told = _axis_of(frame, axis, x, cells.get(metrics.get("_step", "")))
    report.append(told)
    series = {}
    averaged = []
    for metric, name in metrics.items():
        if metric.startswith("_"):
            continue
        rows = np.flatnonzero(cells[name].present & steps.present)
        left = int(cells[name].present.sum()) - rows.size
        if left:
            report.append(f"{left} values of {metric} stand in rows without a step and were left out")
        line = None if frame.kind != "csv" else rows + 2
        series[metric] = Series(steps.values[rows], cells[name].values[rows], None, line)
        low, high = (cells.get(name + bound) for bound in _BOUNDS)
        if low is not None and high is not None:
            both = low.present & high.present
            if (low.values[both] != high.values[both]).any():
                averaged.append(metric)
    if averaged:
        report.append(
            f"{', '.join(averaged)}: means over several rows, as __MIN and __MAX differ; "
            "export the run's history instead"
        )
    if counts == "tokens":
        return Log(source=str(frame.path), name=run, series=series, axis=counts, report=tuple(report))
    meaning = conventions.interpret(series, {}, (axis,))
    return Log(
        source=str(frame.path), name=run, series=meaning.series, roles=meaning.roles, bits=meaning.bits,
        report=(*report, *meaning.report),
    )  # fmt: skip


def _axis_of(frame: Frame, axis: str, x: Column, own: Column | None) -> tuple[Column, str, str]:
    """Return the steps of a run in a chart, what they count, and what to say of it."""
    name, counts = axis.lower(), _whole(x)
    if axis in ("Step", "_step", *COUNTERS) and not counts:
        raise InputError(f"{frame.path}: column {axis!r} must count updates, from 0: export the chart again.")
    if axis in ("Step", "_step"):
        return x, "updates", OWN_STEP
    if counts and "token" in name:
        return x, "tokens", f"the x axis is {axis!r}: losses are placed by tokens"
    if counts and "epoch" not in name and "time" not in name:
        return x, "updates", f"steps are those of {axis!r}, the chart's x axis"
    if own is not None and _whole(own):
        return own, "updates", f"the x axis {axis!r} counts no updates: steps are W&B's own _step"
    raise InputError(
        f"{frame.path}: the x axis {axis!r} counts no updates: choose Step, or the run's own counter, as x axis "
        "of the chart and export it again."
    )


def _whole(cells: Column) -> bool:
    value = cells.values[cells.present]
    return bool(np.isfinite(value).all() and (value >= 0).all() and (value == np.floor(value)).all())


def _read(frame: Frame, names: list[str]) -> dict[str, Column]:
    """Read columns of numbers, a batch at a time."""
    out: dict[str, Column] = {}
    for first in range(0, len(names), BATCH):
        out |= fetch(frame, names[first : first + BATCH])
    return out


def unended(frame: Frame) -> list[str]:
    """Say that a text does not end as a line does: were it cut off in a number, nothing else would tell."""
    ended = frame.kind != "csv" or last(frame.path, 1) in b"\r\n"
    return (
        []
        if ended
        else ["the last line has no end: if the file was cut off, the numbers in it are not whole"]
    )


def last(path: Path, size: int) -> bytes:
    """Return the last bytes of a file."""
    with path.open("rb") as file:
        file.seek(max(file.seek(0, 2) - size, 0))
        return file.read(size)
