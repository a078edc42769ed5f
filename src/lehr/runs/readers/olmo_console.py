"""OLMo-core's console: a marker `[step=10/100,epoch=1,eta=..]` and, below it, `    train/CE loss=2.345` and others.

What the numbers mean, in `ConsoleLoggerCallback` (src/olmo_core/train/callbacks/console_logger.py) and the trainer:

- `step=k` counts from 1: the metrics are those of update k - 1, its loss that of its batch, so of k - 1 updates done.
- `format_float` (src/olmo_core/utils.py) keeps four digits of a loss; an LR of 1e-4 or more has four decimals, which is
  too coarse for a schedule: it is left out, and the report says so. The W&B log of the run holds the full numbers.
- `throughput/total tokens` are the tokens so far.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lehr.runs.readers import printed
from lehr.runs.readers.averages import window_centre
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions

_N = printed.NUMBER
_TOKENS = rb"\d{1,3}(?:,\d{3}){1,6}|(?:" + _N + rb")[KMBT]?"
LR, LOSS, TOKENS = "optim/LR (group 0)", "train/CE loss", "throughput/total tokens"
METRICS = {
    LOSS: _N, "train/Z loss": _N, "train/load balancing loss": _N, LR: _N, "optim/total grad norm": _N, TOKENS: _TOKENS
}  # fmt: skip
_MARKER = printed.entry(b"[step=", rb"\[step=(?P<step>\d{1,15})/(?:(?P<total>\d{1,15})|\?{3}),epoch=")
PATTERNS = {
    "\0marker": _MARKER,
    **{
        name: printed.entry(
            name.encode() + b"=",
            rb"(?<![\w/])" + re.escape(name).encode() + rb"=(?P<value>" + number + rb")(?=\s)",
        )
        for name, number in METRICS.items()
    },
}


def sniff(path: Path) -> bool:
    """Whether a file holds markers and losses of OLMo-core."""
    head = printed.peek(path)
    return _MARKER.within(head) and PATTERNS[LOSS].within(head)


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the run that a log holds.

    Raises
    ------
    InputError
        If there is no marker with a loss below it.
    """
    report: list[str] = []
    found = printed.find(path, PATTERNS, report)
    marker = found.pop("\0marker")
    series = {name: _below(marker, some, name == TOKENS) for name, some in found.items()}
    series = {name: some for name, some in series.items() if some.step.size}
    if LOSS not in series:
        raise printed.nothing_found(
            path, "OLMo-core", "[step=10/100,epoch=1,eta=5m] with train/CE loss=2.345 below it"
        )
    report.insert(0, f"{series[LOSS].step.size} losses of OLMo-core's console, of four digits each")
    if LR in series and np.any(series[LR].value >= 1e-4):
        del series[LR]
        report.append(f"{LR} has four decimals, too coarse for a schedule: it was left out; give --schedule")
    totals = marker.values["total"][marker.present["total"]]
    roles = {"train": LOSS, "lr": LR, "tokens": TOKENS}
    yield Log(
        source=str(path), name=printed.run_name(path), series=series,
        config={"max_steps": int(totals[-1])} if totals.size else {},
        total_steps=int(totals[-1]) if totals.size and totals[-1] > 0 else None,
        roles={role: name for role, name in roles.items() if name in series}, report=tuple(report),
    )  # fmt: skip


def _below(marker: printed.Found, found: printed.Found, after: bool) -> Series:
    """Numbers of a metric at the step of the marker above each; those above the first marker are left out."""
    place = np.searchsorted(marker.line, found.line, side="right") - 1
    kept = place >= 0
    step = marker.values["step"][place[kept]] if len(marker) else np.zeros(0)
    step = step if after else window_centre(step, 1)  # tokens are counted with those of the update
    return Series(step, found.values["value"][kept], line=found.line[kept])
