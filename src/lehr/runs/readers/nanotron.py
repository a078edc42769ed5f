"""nanotron as printed: `iteration: 10 / 100 | consumed_tokens: 1.31M | ... | lm_loss: 7.12 | lr: 3e-05 | ...`.

What the numbers mean, in `train_step_logs` of nanotron's src/nanotron/trainer.py:

- `iteration: k` is printed after update k - 1; `lm_loss` is the mean over the data-parallel ranks of this one batch, so
  of k - 1 updates done.
- `lr` is read after `lr_scheduler.step()`: it is the LR of update k, the next one.
- Every number has three significant digits (`human_format`, src/nanotron/logging/base.py): a loss of 2.87 may be
  anything from 2.865 to 2.875. nanotron's other logs (W&B, TensorBoard) hold the full numbers.
- The settings are printed when the job begins. `lr_scheduler_builder` (src/nanotron/helpers.py): update k uses
  learning_rate k / lr_warmup_steps up to k = lr_warmup_steps (the first update is wasted at 0), the peak until
  lr_decay_starting_step, then the decay over lr_decay_steps to min_decay_lr.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from lehr.errors import InputError
from lehr.runs.readers import printed
from lehr.runs.readers.averages import window_centre
from lehr.runs.readers.beside import number_in
from lehr.runs.readers.raw import Log
from lehr.runs.readers.reading import ReadOptions
from lehr.runs.readers.settings import Scalar
from lehr.schedule.schedule import Schedule, Segment

_H = rb"[-+]?(?:\d{1,9}(?:\.\d{1,9})?(?:e[-+]?\d{1,3})?|nan|inf)[KMBTPE]?"  # human_format


def _field(name: str, group: str) -> bytes:
    """Return a pattern that looks for a field ahead, wherever it stands in the line, and needs none."""
    return (
        rb"(?:(?=[^\r\n]{0,1000}? "
        + name.encode()
        + rb": (?P<"
        + group.encode()
        + rb">"
        + _H
        + rb")(?: \||\s)))?"
    )


PATTERNS = {
    "train": printed.entry(
        b"iteration: ",
        rb"(?<!\w)iteration: (?P<step>\d{1,15}) / (?P<total>\d{1,15}) \|"
        + _field("consumed_tokens", "tokens")
        + _field("global_batch_size", "batch")
        + _field("grad_norm", "norm")
        + _field("lr", "lr")
        + rb"[^\r\n]{0,1000}? lm_loss: (?P<loss>" + _H + rb")(?= \||\s)"
    ),
}  # fmt: skip
_SETTINGS = (
    "run", "sequence_length", "train_steps", "micro_batch_size", "batch_accumulation_per_replica", "dp",
    "learning_rate", "lr_warmup_steps", "lr_warmup_style", "lr_decay_style", "lr_decay_steps", "lr_decay_starting_step",
    "min_decay_lr",
)  # fmt: skip
_SETTING = {
    "setting": re.compile(rb"(?<![\w.])((?:" + "|".join(_SETTINGS).encode() + rb")=[^\s,()]{1,100}(?=[,)]))")
}
_SHAPES = {"linear": "linear", "cosine": "cosine", "1-sqrt": "sqrt"}


def sniff(path: Path) -> bool:
    """Whether a file holds training lines of nanotron."""
    return PATTERNS["train"].within(printed.peek(path))


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the run that a log holds.

    Raises
    ------
    InputError
        If there is no training line.
    """
    report: list[str] = []
    found = printed.find(path, PATTERNS, report)["train"]
    if not len(found):
        raise printed.nothing_found(
            path, "nanotron", "iteration: 10 / 100 | ... | lm_loss: 7.12 | lr: 3e-05 | ..."
        )
    report.insert(0, f"{len(found)} training lines of nanotron")
    report.append("nanotron prints three significant digits: losses and LRs are rounded")
    step = found.values["step"]
    series = {
        "lm_loss": found.series("loss", window_centre(step, 1)),
        "lr": found.series("lr", step),
        "grad_norm": found.series("norm", step),
        "consumed_tokens": found.series("tokens", step),
        "global_batch_size": found.series("batch", step),
    }
    series = {name: some for name, some in series.items() if some.step.size}
    settings = (text.partition("=")[::2] for text in printed.texts(path, _SETTING)["setting"])
    config: dict[str, Scalar] = {name: printed.scalar(value) for name, value in settings}
    config.setdefault("train_steps", int(found.values["total"][-1]))
    parts = [number_in(config, name) for name in _SETTINGS[1:2] + _SETTINGS[3:6]]
    roles = {"train": "lm_loss", "lr": "lr", "tokens": "consumed_tokens"}
    yield Log(
        source=str(path), name=str(config.get("run") or printed.run_name(path)), series=series, config=config,
        schedule=_schedule(config, report),
        roles={role: name for role, name in roles.items() if name in series},
        batch_tokens=float(np.prod([part for part in parts if part])) if all(parts) else None, report=tuple(report),
    )  # fmt: skip


def _schedule(config: Mapping[str, Scalar], report: list[str]) -> Schedule | None:
    if "learning_rate" not in config:
        report.append("the log prints no settings: the schedule is left to the rounded LR")
        return None
    try:
        schedule = _build(config)
    except InputError as refusal:
        report.append(f"the settings give no schedule ({str(refusal).rstrip('.')})")
        return None
    report.append("schedule by the printed settings")
    return schedule


def _build(config: Mapping[str, Scalar]) -> Schedule:
    steps, peak = number_in(config, "train_steps", 0.0) or 0.0, number_in(config, "learning_rate", 0.0) or 0.0
    warmup, low = (
        number_in(config, "lr_warmup_steps", 0.0) or 0.0,
        number_in(config, "min_decay_lr", 0.0) or 0.0,
    )
    begin = number_in(config, "lr_decay_starting_step")
    length = number_in(config, "lr_decay_steps")
    if length is None:
        length = steps - warmup - (begin or 0.0)
    begin = warmup if begin is None else begin
    shape = _SHAPES.get(str(config.get("lr_decay_style", "linear")))
    if shape is None or config.get("lr_warmup_style", "linear") != "linear":
        raise InputError("its styles are not linear, cosine or 1-sqrt after a linear warm-up.")
    counts = (steps, warmup, begin, length)
    if any(n % 1 or n < 0 for n in counts) or not (
        0 <= low <= peak and peak > 0 and steps >= 1 and begin >= warmup
    ):
        raise InputError(
            f"train_steps {steps:g}, warm-up {warmup:g}, decay of {length:g} from {begin:g}, LR {peak:g}."
        )
    parts: list[Segment] = []

    def add(count: float, start: float, end: float, shape: str = "linear") -> None:
        here = min(count, steps - sum(part.steps for part in parts))
        if here > 0:
            parts.append(Segment(int(here), start, end, shape, 0.0, count))

    rise = max(warmup, 1.0)  # without warm-up the first update uses 0 all the same
    add(rise, 0.0, peak if warmup else 0.0)
    add(max(begin - rise, 0.0), peak, peak)
    if not warmup and begin == 0 and length > 0:
        cut = min(length, steps) - 1
        if cut > 0:
            parts.append(Segment(int(cut), peak, low, shape, 1.0, length))
    else:
        add(length, peak, low, shape)
    add(steps, low, low)
    return Schedule(tuple(parts))
