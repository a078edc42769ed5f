"""torchtitan's console: `step: 10  loss:  7.1234  grad_norm:  1.2345  memory: ..  tps: ..` in colours.

What the numbers mean, in `MetricsProcessor.log` and `log_validation` (torchtitan/components/metrics.py) and in the loop
of torchtitan/train.py:

- `step: k` is printed after update k - 1 (`self.step += 1` comes first); its loss is that of this one batch, so of
  k - 1 updates done. Versions of 2024 printed the mean since the last line.
- `validate step: k` is measured after k updates.
- The LR is not printed. It follows from the settings: those of job.print_config (`Running with configs: {..}`) or the
  one *.toml beside the log. `build_lr_schedulers` (components/lr_scheduler.py): warm-up (k + 1) / warmup_steps,
  decay over the last round(decay_ratio * steps) updates or all after the warm-up, to min_lr_factor. Versions whose
  setting is `lr_min` divided both by one more: (k + 1) / (warmup_steps + 1).
- A loss printed by several ranks is the same for all: the lines of the lowest rank are kept.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lehr.errors import InputError
from lehr.runs.readers import printed
from lehr.runs.readers.averages import window_centre
from lehr.runs.readers.beside import number_in, parse_table, toml_beside
from lehr.runs.readers.raw import Log
from lehr.runs.readers.reading import ReadOptions
from lehr.runs.readers.settings import Scalar, flat
from lehr.schedule.schedule import Schedule, Segment
from lehr.schedule.shapes import SHAPES

_N, _RANK = printed.NUMBER, rb"(?:\[rank(?P<rank>\d{1,9})\]:[^\n]{0,300}?)?"
PATTERNS = {
    "train": printed.entry(
        b"step: ",
        _RANK + rb"(?<!validate )(?<![\w/])step: *(?P<step>\d{1,15}) +loss: *(?P<loss>" + _N + rb") +"
        rb"(?:grad_norm: *(?P<grad_norm>" + _N + rb") +)?[a-z_]+:",
    ),
    "validate": printed.entry(
        b"validate step: ",
        _RANK + rb"validate step: *(?P<step>\d{1,15}) +loss: *(?P<loss>" + _N + rb") +[a-z_]+:",
    ),
}
_TEXTS = {
    "config": re.compile(rb"Running with (?:configs|args): (\{(?s:.{0,1000000}))"),
    "size": re.compile(rb"size: ([\d,]{1,30}) total parameters"),
}
_SNIFF = printed.entry(
    b"step: ",
    rb"(?<![\w/])step: *\d{1,15} +loss: *(?:" + _N + rb") +(?:grad_norm: *(?:" + _N + rb") +)?memory: ",
)


def sniff(path: Path) -> bool:
    """Whether a file holds training lines of torchtitan."""
    return _SNIFF.within(printed.peek(path))


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the run that a log holds.

    Raises
    ------
    InputError
        If there is no training line.
    """
    report: list[str] = []
    found = printed.find(path, PATTERNS, report)
    train, validate = (_one_rank(found[name], report) for name in PATTERNS)
    if not len(train) and not len(validate):
        raise printed.nothing_found(
            path, "torchtitan", "step: 10  loss:  7.1234  grad_norm:  1.2345  memory: ..."
        )
    report.insert(0, f"{len(train)} training lines and {len(validate)} validation lines of torchtitan")
    step = train.values["step"]
    series = {"grad_norm": train.series("grad_norm", step)}
    series["loss"] = train.series("loss", window_centre(step, 1))
    series["validation_metrics/loss"] = validate.series("loss", validate.values["step"])
    series = {name: some for name, some in series.items() if some.step.size}
    texts = printed.texts(path, _TEXTS, most=1)
    config = _config(path, texts["config"], report)
    schedule = _schedule(config, report)
    length, batch = (
        number_in(config, "training.seq_len"),
        number_in(config, "training.global_batch_size", -1.0),
    )
    roles = {"train": "loss", "val": "validation_metrics/loss"}
    yield Log(
        source=str(path), name=printed.run_name(path), series=series, config=config, schedule=schedule,
        roles={role: name for role, name in roles.items() if name in series},
        batch_tokens=length * batch if length and batch and length > 0 and batch > 0 else None,
        params_total=printed.number_of(texts["size"][0]) if texts["size"] else None, report=tuple(report),
    )  # fmt: skip


def _one_rank(found: printed.Found, report: list[str]) -> printed.Found:
    """Keep the lines of the lowest rank, where each says its rank."""
    ranks = np.unique(found.values["rank"][found.present["rank"]])
    if ranks.size < 2 or not found.present["rank"].all():
        return found
    kept = found.values["rank"] == ranks[0]
    report.append(
        f"{int((~kept).sum())} lines of ranks above {ranks[0]:g} repeat its lines and were left out"
    )
    return replace(
        found, line=found.line[kept],
        values={name: column[kept] for name, column in found.values.items()},
        present={name: column[kept] for name, column in found.present.items()},
    )  # fmt: skip


def _config(path: Path, texts: list[str], report: list[str]) -> dict[str, Scalar]:
    table = parse_table(texts[0]) if texts else None
    if table is not None:
        report.append("settings as the log prints them")
    else:
        table = toml_beside(path, ("training",), report)
    return flat(table) if table is not None else {}


def _schedule(config: Mapping[str, Scalar], report: list[str]) -> Schedule | None:
    """Return the schedule of the settings, with a sentence about it."""
    steps, peak = number_in(config, "training.steps"), number_in(config, "optimizer.lr")
    if steps is None or peak is None or number_in(config, "training.warmup_steps") is not None:
        known = "settings of 2024 name no schedule known here" if config else "no settings were found"
        report.append(f"torchtitan prints no LR, and {known}: give the schedule with --schedule")
        return None
    old = "lr_scheduler.lr_min" in config
    try:
        schedule = _build(config, int(steps), peak, old)
    except InputError as refusal:
        report.append(f"the settings give no schedule ({str(refusal).rstrip('.')}): give it with --schedule")
        return None
    report.append("schedule by the settings" + (", as versions with lr_min made it" if old else ""))
    return schedule


def _build(config: Mapping[str, Scalar], steps: int, peak: float, old: bool) -> Schedule:
    warmup = int(number_in(config, "lr_scheduler.warmup_steps", 200.0) or 0)
    ratio = number_in(config, "lr_scheduler.decay_ratio")
    shape = str(config.get("lr_scheduler.decay_type", "linear"))
    final = number_in(config, "lr_scheduler.lr_min" if old else "lr_scheduler.min_lr_factor", 0.0) or 0.0
    if steps < 1 or not 0 <= warmup <= steps or shape not in SHAPES or not 0 <= final <= 1 or peak <= 0:
        raise InputError(f"steps {steps}, warmup_steps {warmup}, decay_type {shape!r}, lr {peak:g}.")
    decay = steps - warmup if ratio is None else min(round(steps * ratio), steps - warmup)
    extra = 1 if old else 0
    parts = (
        Segment(warmup, 0.0, peak, "linear", 1.0, warmup + extra) if warmup else None,
        Segment(steps - warmup - decay, peak, peak) if steps - warmup > decay else None,
        Segment(decay, peak, final * peak, shape, float(extra), decay + extra) if decay > 0 else None,
    )
    return Schedule(tuple(part for part in parts if part is not None))
