"""llm.c: its `main.log`, and what it prints.

What the numbers mean, in llm.c's train_gpt2.cu, llmc/logger.h and llmc/schedulers.h:

- main.log, `s:12 trl:7.1234 lr:0.000012 norm:1.23`: s counts updates from 0, so the loss is of s updates done and the
  LR that of update s. It is printed with six decimals only. `s:250 tel:3.28` is the validation loss of s updates done,
  `s:250 eval:0.2950` the accuracy on HellaSwag.
- console, `step   13/19560 | loss 7.123456 (+nanz)| norm 1.2345 (+nanz)| lr 1.20e-05 | ...`: printed with s + 1, so the
  loss is of one update less. `val loss 3.28` has no step: it is measured before the update of the next line, or after
  the last one.
- Updates that are skipped as outliers (`skipping update due to ..`) count as steps.
- The table of settings that begins the console gives the schedule: warm-up (s + 1) / warmup, then from update warmup to
  the end `cosine` or `linear` to the final fraction, or `wsd` with 1 - sqrt over the last fifth; `constant` has no
  warm-up.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from lehr.errors import InputError
from lehr.runs.readers import printed
from lehr.runs.readers.beside import number_in
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions
from lehr.runs.readers.settings import Scalar
from lehr.schedule.families import constant, cosine, wsd
from lehr.schedule.schedule import Schedule

_N = printed.NUMBER
PATTERNS = {
    "log": printed.entry(
        b"s:",
        rb"(?<!\w)s:(?P<step>\d{1,15}) (?:trl:(?P<train>" + _N + rb")(?: lr:(?P<lr>" + _N + rb") norm:(?P<norm>" + _N
        + rb"))?|tel:(?P<val>" + _N + rb")|eval:(?P<eval>" + _N + rb"))(?=\s)"
    ),
    "console": printed.entry(
        b" | loss ",
        rb"(?<!\w)step +(?P<step>\d{1,15})/(?P<total>\d{1,15}) \| loss (?P<train>" + _N + rb")(?: \([^)\r\n]{1,20}\))?"
        rb" ?\| norm (?P<norm>" + _N + rb")(?: \([^)\r\n]{1,20}\))? ?\| lr (?P<lr>" + _N + rb") \|"
    ),
    "val": printed.entry(b"val loss ", rb"(?<!\w)val loss (?P<val>" + _N + rb")(?=\s)"),
}  # fmt: skip
_ROW = {"row": re.compile(rb"(?m)^[^\n|]{0,60}\| ([^|\n]{1,40} +\| [^|\n]{1,100}?) *\|\r?$")}
_NAMES = {"train": "train loss", "val": "val loss", "lr": "lr", "norm": "norm", "eval": "HellaSwag"}


def sniff(path: Path) -> bool:
    """Whether a file holds lines of llm.c."""
    head = printed.peek(path)
    return any(PATTERNS[name].within(head) for name in ("log", "console"))


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the run that a log holds.

    Raises
    ------
    InputError
        If there is no line of llm.c.
    """
    report: list[str] = []
    found = printed.find(path, PATTERNS, report)
    log, console, val = (found[name] for name in PATTERNS)
    if not len(log) and not len(console):
        raise printed.nothing_found(path, "llm.c", "s:12 trl:7.1234 lr:0.000012 norm:1.23")
    if len(log):
        series = {_NAMES[group]: log.series(group, log.values["step"]) for group in _NAMES}
        report.insert(0, f"{len(log)} lines of llm.c's main.log")
        if "lr" in series and series["lr"].step.size:
            report.append("the LR has six decimals only: a small one is rounded much")
    else:
        step = console.values["step"] - 1
        series = {_NAMES[group]: console.series(group, step) for group in ("train", "lr", "norm")}
        series["val loss"] = Series(_val_steps(console, val), val.values["val"], line=val.line)
        report.insert(0, f"{len(console)} training lines and {len(val)} validation losses of llm.c")
    series = {name: some for name, some in series.items() if some.step.size}
    config = _settings(printed.texts(path, _ROW, 200)["row"])
    roles = {role: name for role, name in _NAMES.items() if role in ("train", "val", "lr") and name in series}
    yield Log(
        source=str(path), name=printed.run_name(path), series=series, config=config,
        schedule=_schedule(config, report), roles=roles,
        batch_tokens=number_in(config, "total batch size"), params_total=number_in(config, "num_parameters"),
        report=tuple(report),
    )  # fmt: skip


def _val_steps(console: printed.Found, val: printed.Found) -> np.ndarray:
    """Updates done when each validation loss was measured, shape (n,): of the next training line, else the last."""
    after = np.searchsorted(console.line, val.line)
    step = console.values["step"]
    return np.where(after < len(step), step[np.minimum(after, len(step) - 1)] - 1, step[-1])


def _settings(rows: list[str]) -> dict[str, Scalar]:
    pairs = (row.partition("|")[::2] for row in rows)
    return {
        name.strip(): printed.scalar(value.strip()) for name, value in pairs if name.strip() != "Parameter"
    }


def _schedule(config: Mapping[str, Scalar], report: list[str]) -> Schedule | None:
    if "learning rate (LR)" not in config:
        report.append("main.log and a console without its table of settings tell no schedule")
        return None
    try:
        schedule = _build(config)
    except InputError as refusal:
        report.append(f"the settings give no schedule ({str(refusal).rstrip('.')}): give it with --schedule")
        return None
    report.append(f"schedule by the printed settings: {config.get('LR scheduler')}")
    return schedule


def _build(config: Mapping[str, Scalar]) -> Schedule:
    kind = str(config.get("LR scheduler", "cosine"))
    peak, share = number_in(config, "learning rate (LR)", -1.0), number_in(config, "final LR fraction", 1.0)
    steps, warmup = (number_in(config, name, -1.0) for name in ("train_num_batches", "warmup iterations"))
    if peak is None or share is None or steps is None or warmup is None or steps < 1 or peak <= 0:
        raise InputError(f"learning rate {peak}, train_num_batches {steps}.")
    if kind == "constant":
        return constant(steps=steps, peak=peak)
    if kind == "cosine":
        return cosine(steps=steps, peak=peak, warmup=warmup, final=share * peak)
    if kind not in ("linear", "wsd"):
        raise InputError(f"LR scheduler {kind!r}.")
    # llm.c computes the 0.8 in single precision
    decay = steps - warmup if kind == "linear" else steps - int(np.float32(0.8) * np.float32(steps))
    shape = "linear" if kind == "linear" else "sqrt"
    return wsd(steps=steps, peak=peak, warmup=warmup, decay=decay, shape=shape, final=share * peak)
