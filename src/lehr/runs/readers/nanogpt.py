"""nanoGPT as printed: `iter 100: loss 3.1234, time 123.45ms, mfu 12.34%` and `step 1000: train loss .., val loss ..`.

What the numbers mean, in nanoGPT's train.py:

- `iter i: loss` is the loss of the last micro-batch of update i (from 0), so of i updates done.
- `step i: train loss, val loss` are means over eval_iters batches of each split, of i updates done. The first is called
  `train loss` here and is no substitute for `loss`: it is measured on the training set without dropout.
- The LR is not printed. `get_lr(it)`: learning_rate (it + 1) / (warmup_iters + 1) before warmup_iters, then a cosine
  that reaches min_lr at lr_decay_iters, and min_lr past it; before December 2024 the warm-up was learning_rate it /
  warmup_iters. Training ends once iter_num exceeds max_iters: max_iters + 1 updates.
- Settings are printed: those of the command line (`Overriding: learning_rate = 0.001`) and the file of settings as a
  whole (`Overriding config with config/train_gpt2.py:`). configurator.py lets later ones win. The others have the
  defaults of train.py. Nothing is executed: only lines `name = plain value` (or products such as `5 * 8`) are read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from lehr.errors import InputError
from lehr.runs.readers import printed
from lehr.runs.readers.beside import number_in
from lehr.runs.readers.raw import Log
from lehr.runs.readers.reading import ReadOptions
from lehr.runs.readers.settings import LONGEST, Scalar
from lehr.schedule.schedule import Schedule, Segment

_N = printed.NUMBER
PATTERNS = {
    "train": printed.entry(
        b": loss ",
        rb"(?<!\w)iter (?P<step>\d{1,15}): loss (?P<loss>" + _N + rb"), time " + _N + rb"ms"
        rb"(?:, mfu (?:" + _N + rb")%)?(?=\s)",
    ),
    "eval": printed.entry(
        b": train loss ",
        rb"(?<!\w)step (?P<step>\d{1,15}): train loss (?P<train>"
        + _N
        + rb"), val loss (?P<val>"
        + _N
        + rb")(?=\s)",
    ),
}
_TEXTS = {
    "settings": re.compile(rb"(?m)^(?:.{0,60}Overriding: )?([A-Za-z_]\w{0,60} = [^\r\n]{1,300})"),
    "tokens": re.compile(rb"tokens per iteration will be: ([\d,]{1,30})(?=\s)"),
}
_PRODUCT = re.compile(r"(\d{1,9})((?: *\* *\d{1,9}){1,5})")
DEFAULTS: Mapping[str, Scalar] = {
    "learning_rate": 6e-4, "max_iters": 600000, "decay_lr": True, "warmup_iters": 2000, "lr_decay_iters": 600000,
    "min_lr": 6e-5, "batch_size": 12, "block_size": 1024, "gradient_accumulation_steps": 40,
}  # fmt: skip


def sniff(path: Path) -> bool:
    """Whether a file holds lines of nanoGPT."""
    head = printed.peek(path)
    return any(entry.within(head) for entry in PATTERNS.values())


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the run that a log holds.

    Raises
    ------
    InputError
        If there is no line of nanoGPT.
    """
    report: list[str] = []
    found = printed.find(path, PATTERNS, report)
    train, evaluated = found["train"], found["eval"]
    if not len(train) and not len(evaluated):
        raise printed.nothing_found(path, "nanoGPT", "iter 100: loss 3.1234, time 123.45ms, mfu 12.34%")
    report.insert(0, f"{len(train)} training lines and {len(evaluated)} evaluations of nanoGPT")
    series = {
        "loss": train.series("loss", train.values["step"]),
        "train loss": evaluated.series("train", evaluated.values["step"]),
        "val loss": evaluated.series("val", evaluated.values["step"]),
    }
    series = {name: some for name, some in series.items() if some.step.size}
    texts = printed.texts(path, _TEXTS)
    config = assignments(texts["settings"])
    if not config:
        config = _beside(path, report)
    tokens = printed.number_of(texts["tokens"][0]) if texts["tokens"] else None
    roles = {"train": "loss" if "loss" in series else "train loss", "val": "val loss"}
    yield Log(
        source=str(path), name=printed.run_name(path), series=series, config=config,
        schedule=_schedule(config, report), batch_tokens=tokens,
        roles={role: name for role, name in roles.items() if name in series}, report=tuple(report),
    )  # fmt: skip


def assignments(lines: list[str]) -> dict[str, Scalar]:
    """Read lines `name = plain value`, comments dropped; the last of a name counts.

    >>> assignments(["max_iters = 5_000 # long", "gradient_accumulation_steps = 5 * 8", "out = f()", "dtype = 'bf16'"])
    {'max_iters': 5000, 'gradient_accumulation_steps': 40, 'dtype': 'bf16'}
    """
    found: dict[str, Scalar] = {}
    for line in lines:
        name, _, text = line.partition(" = ")
        text = text.partition("#")[0].strip()
        product = _PRODUCT.fullmatch(text)
        if product is not None:
            value = int(product[1])
            for factor in product[2].split("*")[1:]:
                value *= int(factor)
            found[name] = value
        elif re.fullmatch(r"[-+]?[\d_.]+(?:[eE][-+]?\d+)?|True|False|None|'[^'\\]*'|\"[^\"\\]*\"", text):
            digits = text.replace("_", "") if text[:1] not in "'\"" else text
            found[name] = printed.scalar(digits)
    return found


def _beside(path: Path, report: list[str]) -> dict[str, Scalar]:
    """Read the settings in the one file beside the log, `*.py`, that sets an LR or a number of updates."""
    files = []
    for file in sorted(path.absolute().parent.glob("*.py"))[:100]:
        try:
            if not file.is_file() or file.stat().st_size > LONGEST // 8:
                continue
            config = assignments(
                re.findall(r"(?m)^[A-Za-z_]\w{0,60} = .{1,300}$", file.read_text("utf-8", "replace"))
            )
        except OSError:
            continue
        if "learning_rate" in config or "max_iters" in config:
            files.append((file.name, config))
    if len(files) == 1:
        report.append(f"settings of {files[0][0]}, which lies beside the log")
        return files[0][1]
    if files:
        report.append(f"no settings were read: {', '.join(name for name, _ in files[:5])} lie beside the log")
    return {}


def _schedule(config: Mapping[str, Scalar], report: list[str]) -> Schedule | None:
    if not config:
        report.append("nanoGPT prints no LR, and no settings were found: give the schedule with --schedule")
        return None
    told = dict(DEFAULTS) | dict(config)
    try:
        schedule = _build(told)
    except InputError as refusal:
        report.append(f"the settings give no schedule ({str(refusal).rstrip('.')}): give it with --schedule")
        return None
    taken = [name for name in ("learning_rate", "max_iters", "warmup_iters", "lr_decay_iters", "min_lr")
             if name not in config]  # fmt: skip
    report.append(
        "schedule by the settings and train.py of December 2024 or later"
        + (f", with its defaults for {', '.join(taken)}" if taken else "")
    )
    return schedule


def _build(config: Mapping[str, Scalar]) -> Schedule:
    names = ("learning_rate", "max_iters", "warmup_iters", "lr_decay_iters", "min_lr")
    peak, last, warmup, end, low = (number_in(config, name, -1.0) or 0.0 for name in names)
    steps = int(last) + 1
    if not (peak > 0 and last >= 0 and warmup >= 0 and low >= 0) or any(n % 1 for n in (last, warmup, end)):
        raise InputError(", ".join(f"{name} {config.get(name)!r}" for name in names) + ".")
    if config.get("decay_lr") is False:
        return Schedule((Segment(steps, peak, peak),))
    if end <= warmup:
        raise InputError(f"lr_decay_iters {end:g} is not after warmup_iters {warmup:g}.")
    rise, fall = min(int(warmup), steps), int(end - warmup)
    here = min(fall, steps - rise)
    parts = (
        Segment(rise, 0.0, peak, "linear", 1.0, warmup + 1) if rise else None,
        Segment(here, peak, low, "cosine", 0.0, fall) if here else None,
        Segment(steps - rise - here, low, low) if steps > rise + here else None,
    )
    return Schedule(tuple(part for part in parts if part is not None))
