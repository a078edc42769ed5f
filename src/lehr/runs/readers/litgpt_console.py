"""LitGPT's console: `Epoch 1 | iter 8 step 2 | loss train: 3.123, val: n/a | iter time: 12.3 ms (step) ..`.

What the numbers mean, in `fit` of litgpt/pretrain.py:

- `iter` counts micro-batches, `step` updates, both done. The loss is the running mean over the micro-batches of one
  update, so of step - 1 updates done.
- `val:` repeats the last validation. `iter 8: val loss 3.1, val time: ..` is where it was measured: after iter / (iter
  per step) updates.
- The LR is not printed, and losses of training have three decimals. The CSV log of the same run holds both in full.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lehr.runs.readers import printed
from lehr.runs.readers.averages import window_centre
from lehr.runs.readers.raw import Log
from lehr.runs.readers.reading import ReadOptions

_N = printed.NUMBER
PATTERNS = {
    "train": printed.entry(
        b"loss train: ",
        rb"(?<!\w)iter +(?P<iter>\d{1,15}) step +(?P<step>\d{1,15}) +\| loss train: +(?P<loss>"
        + _N
        + rb"), val: [^|\r\n]{1,40}\|",
    ),
    "val": printed.entry(
        b": val loss ", rb"(?<!\w)iter (?P<iter>\d{1,15}): val loss (?P<loss>" + _N + rb"), val time: "
    ),
}
_TOTAL = {"params": re.compile(rb"Total parameters: ([\d,]{1,30})(?=\s)")}


def sniff(path: Path) -> bool:
    """Whether a file holds training lines of LitGPT."""
    return PATTERNS["train"].within(printed.peek(path))


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the run that a log holds.

    Raises
    ------
    InputError
        If there is no training line.
    """
    report: list[str] = []
    found = printed.find(path, PATTERNS, report)
    train, val = found["train"], found["val"]
    if not len(train):
        raise printed.nothing_found(
            path, "LitGPT", "Epoch 1 | iter 8 step 2 | loss train: 3.123, val: n/a | ..."
        )
    report.insert(0, f"{len(train)} training lines and {len(val)} validations of LitGPT")
    report.append("LitGPT prints no LR: import its metrics.csv instead, or give the schedule with --schedule")
    done = train.values["step"]
    series = {"loss": train.series("loss", window_centre(done, 1))}
    each = train.values["iter"][done > 0] / done[done > 0]
    if len(val) and each.size and np.min(each) > 0:
        # lines are printed after whole updates as well as within them, where the quotient is too large
        series["val_loss"] = val.series("loss", np.floor(val.values["iter"] / np.min(each)))
    elif len(val):
        report.append(
            f"{len(val)} validations were left out: no line tells how many iterations make an update"
        )
    total = printed.texts(path, _TOTAL, 1)["params"]
    roles = {"train": "loss", "val": "val_loss"}
    yield Log(
        source=str(path), name=printed.run_name(path), series=series,
        roles={role: name for role, name in roles.items() if name in series},
        params_total=printed.number_of(total[0]) if total else None, report=tuple(report),
    )  # fmt: skip
