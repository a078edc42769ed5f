"""nanochat as printed: `step 00010/05000 (0.20%) | loss: 5.1 | lrm: 1.00 | ..`, `Step 00250 | Validation bpb: 0.81`.

What the numbers mean, in nanochat's scripts/base_train.py:

- `step s` is printed after update s (from 0). Its loss is a debiased exponential average with decay .9 of the losses of
  the last micro-batch of each update on rank 0, in nats per token: it is moved to the middle of what it averages.
- `lrm` is the LR of update s as a multiple of each parameter group's own LR, rounded to two digits: it is taken for the
  LR with a peak of 1. nanochat has no single peak: embedding, unembedding, matrices and scalars have their own.
- Where the command line stands in the log, `get_lr_multiplier` gives the schedule: warm-up (s + 1) / warmup-steps, the
  peak, then a straight line to final-lr-frac over the last round(warmdown-ratio * N) of N updates. It is taken if every
  logged `lrm` agrees with it.
- `Validation bpb` is in bits per byte, of s updates done.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from lehr.errors import InputError
from lehr.runs.readers import printed
from lehr.runs.readers.averages import ema_centre
from lehr.runs.readers.beside import number_in
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions
from lehr.runs.readers.settings import Scalar
from lehr.schedule.families import wsd
from lehr.schedule.schedule import Schedule

DECAY = 0.9  # ema_beta
DEFAULTS = {"warmup-steps": 40.0, "warmdown-ratio": 0.65, "final-lr-frac": 0.05}
_ROUNDED = 0.005 + 1e-9  # of a multiplier of two digits
_N = printed.NUMBER
PATTERNS = {
    "train": printed.entry(
        b" | loss: ",
        rb"(?<![A-Za-z_])step (?P<step>\d{1,15})(?:/(?P<total>\d{1,15}))? \([^)\r\n]{1,20}\) \|"
        rb" loss: (?P<loss>" + _N + rb") \|(?: grad norm: (?P<norm>" + _N + rb") \|)? lrm: (?P<lrm>" + _N + rb") \|"
    ),
    "bpb": printed.entry(
        b" | Validation bpb: ",
        rb"(?<!\w)Step (?P<step>\d{1,15}) \| Validation bpb: (?P<bpb>" + _N + rb")(?=\s)"
    ),
    "core": printed.entry(
        b" | CORE metric: ",
        rb"(?<!\w)Step (?P<step>\d{1,15}) \| CORE metric: (?P<core>" + _N + rb")(?=\s)"
    ),
}  # fmt: skip
_TEXTS = {
    "batch": re.compile(rb"Total batch size ([\d,]{1,30}) => gradient accumulation steps"),
    "params": re.compile(rb"(?m)(?:Number of parameters: |^total +: )([\d,]{1,30})(?=\s)"),
    "command": re.compile(
        rb"base_train[^\r\n]{0,20}?((?: --[a-z][a-z0-9-]{1,40}(?:[= ](?!--)[\w./-]{1,200})?){1,60})"
    ),
    "iterations": re.compile(rb"number of iterations[^\r\n]{0,60}: ([\d,]{1,30})(?=\s)"),
}


def sniff(path: Path) -> bool:
    """Whether a file holds training lines or validations of nanochat."""
    head = printed.peek(path)
    return any(PATTERNS[name].within(head) for name in ("train", "bpb"))


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the run that a log holds.

    Raises
    ------
    InputError
        If there is no line of nanochat.
    """
    report: list[str] = []
    found = printed.find(path, PATTERNS, report)
    train, bpb, core = (found[name] for name in PATTERNS)
    if not len(train) and not len(bpb):
        raise printed.nothing_found(
            path, "nanochat", "step 00010/05000 (0.20%) | loss: 5.123456 | lrm: 1.00 |"
        )
    report.insert(0, f"{len(train)} training lines and {len(bpb)} validations of nanochat")
    step = train.values["step"]
    series = {
        "loss": train.series("loss", ema_centre(step + 1, DECAY)),
        "lrm": train.series("lrm", step),
        "grad norm": train.series("norm", step),
        "Validation bpb": bpb.series("bpb", bpb.values["step"]),
        "CORE metric": core.series("core", core.values["step"]),
    }
    series = {name: some for name, some in series.items() if some.step.size}
    if "loss" in series:
        report.append(f"the training loss is an average with decay {DECAY}: it was moved to its middle")
        report.append(
            "lrm, a multiple of each group's LR rounded to two digits, is taken for an LR with a peak of 1"
        )
    found_texts = printed.texts(path, _TEXTS, 1)
    config = _flags(found_texts.pop("command"))
    texts = {name: printed.number_of(some[0]) for name, some in found_texts.items() if some}
    total = train.values["total"][train.present["total"]]
    steps = int(total[-1]) if total.size else 0
    schedule = (
        _schedule(config, steps, series["lrm"], report) if config and steps and "lrm" in series else None
    )
    roles = {"train": "loss", "val": "Validation bpb", "lr": "lrm"}
    yield Log(
        source=str(path), name=printed.run_name(path), series=series,
        config=config | {name: value for name, value in texts.items() if value is not None}, schedule=schedule,
        roles={role: name for role, name in roles.items() if name in series}, bits=frozenset({"Validation bpb"}),
        batch_tokens=texts.get("batch"), params_total=texts.get("params"), report=tuple(report),
    )  # fmt: skip


def _flags(command: list[str]) -> dict[str, Scalar]:
    """Return the options of a command line, `--name value` or `--name=value`."""
    pairs = re.findall(r"--([a-z][a-z0-9-]*)(?:[= ](?!--)(\S+))?", command[0]) if command else []
    return {name: printed.scalar(value) if value else True for name, value in pairs}


def _schedule(config: Mapping[str, Scalar], steps: int, lrm: Series, report: list[str]) -> Schedule | None:
    """Return the schedule of the options, if the logged multipliers agree with it."""
    told = {name: number_in(config, name, value) or 0.0 for name, value in DEFAULTS.items()}
    try:
        schedule = wsd(
            steps=steps, peak=1.0, warmup=told["warmup-steps"], decay=round(told["warmdown-ratio"] * steps),
            final=told["final-lr-frac"],
        )  # fmt: skip
    except InputError as refusal:
        report.append(f"the command line gives no schedule ({str(refusal).rstrip('.')})")
        return None
    inside = (lrm.step < steps) & np.isfinite(lrm.value)
    error = np.abs(schedule.lr(lrm.step[inside].astype(int)) - lrm.value[inside])
    if np.any(error > _ROUNDED):
        first = lrm.step[inside][np.argmax(error > _ROUNDED)]
        report.append(f"the schedule of the command line contradicts lrm at step {first:g} and was left out")
        return None
    report.append("schedule by the command line and nanochat's defaults, which agrees with every lrm")
    return schedule
