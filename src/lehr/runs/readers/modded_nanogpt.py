"""modded-nanogpt as printed: `step:125/1270 val_loss:3.2800 train_time:..ms step_avg:..ms`.

What the numbers mean, in the training loop of modded-nanogpt's train_gpt.py:

- `val_loss` of `step:s` is measured after s updates (before the training section of the step).
- `train_loss` is printed with `step + 1` after that update: it is the loss of the one batch, so of s - 1 updates done.
  Most versions print no training loss.
- The LR is not printed. It is code (`get_lr`, with `cooldown_frac`), which differs between records and stands in the
  log itself, as each log begins with the program that wrote it. The plain settings of that code are kept; nothing is
  executed, so the schedule has to be given.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from lehr.runs.readers import printed
from lehr.runs.readers.averages import window_centre
from lehr.runs.readers.nanogpt import assignments
from lehr.runs.readers.raw import Log
from lehr.runs.readers.reading import ReadOptions
from lehr.runs.readers.settings import Scalar

_N = printed.NUMBER
PATTERNS = {
    "val": printed.entry(
        b" val_loss:",
        rb"(?<!\w)step:(?P<step>\d{1,15})/(?P<total>\d{1,15}) val_loss:(?P<loss>" + _N + rb")(?=\s)",
    ),
    "train": printed.entry(
        b" train_loss:",
        rb"(?<!\w)step:(?P<step>\d{1,15})/(?P<total>\d{1,15}) train_loss:(?P<loss>" + _N + rb")(?=\s)",
    ),
}
_CLASS = {"body": re.compile(rb"class Hyperparameters\b[^\n]*\n((?:(?: {4}[^\n]*)?\n){1,100})")}
_SETTING = re.compile(r"(?m)^ {4,8}([a-z]\w{0,60})(?: ?: ?[\w| ]{1,30}?)? = ([^\r\n]{1,300})")


def sniff(path: Path) -> bool:
    """Whether a file holds lines of modded-nanogpt."""
    head = printed.peek(path)
    return any(entry.within(head) for entry in PATTERNS.values())


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the run that a log holds.

    Raises
    ------
    InputError
        If there is no line of modded-nanogpt.
    """
    report: list[str] = []
    found = printed.find(path, PATTERNS, report)
    val, train = found["val"], found["train"]
    if not len(train) and not len(val):
        raise printed.nothing_found(
            path, "modded-nanogpt", "step:125/1270 val_loss:3.2800 train_time:... step_avg:..."
        )
    report.insert(0, f"{len(train)} training losses and {len(val)} validation losses of modded-nanogpt")
    report.append("the LR is not printed, it is part of the program: give the schedule with --schedule")
    series = {
        "train_loss": train.series("loss", window_centre(train.values["step"], 1)),
        "val_loss": val.series("loss", val.values["step"]),
    }
    series = {name: some for name, some in series.items() if some.step.size}
    body = "    " + "\n".join(
        printed.texts(path, _CLASS, 1)["body"]
    )  # the text comes without its first blanks
    config: dict[str, Scalar] = assignments([f"{name} = {value}" for name, value in _SETTING.findall(body)])
    config["updates"] = int((val if len(val) else train).values["total"][-1])
    roles = {"train": "train_loss", "val": "val_loss"}
    yield Log(
        source=str(path), name=printed.run_name(path), series=series, config=config,
        roles={role: name for role, name in roles.items() if name in series}, report=tuple(report),
    )  # fmt: skip
