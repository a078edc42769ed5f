"""W&B runs exported as JSON: {"summary", "config", "name", "history": {"train", "val", "final-val"}}.

This is the form of the public logs of Schaipp, Haegele et al. (arXiv 2501.18965), written by the
training code of Haegele et al. (arXiv 2405.18392). What its fields mean:

- "iter s" stands for s updates done; the LR logged there is that of the next update, lr[s]. (The
  training loss logged at s belongs to the batch of update s - 1: it is late by one update.)
- `scheduler` "wsd": LR factor s/W + (1 - s/W)/100 during `warmup_steps` W, then 1, then a decay
  over int(`wsd_fract_decay` x `iterations`) updates; "cos": torch's OneCycleLR from a hundredth
  of the peak, down to `cos_final_lr` (-1 or absent: a tenth of the peak) at the last update.
  The schedule is built from these and must agree with the logged LR.
- `resume_from` .../RUN/ckpts/STEP: the run branched from RUN after STEP updates.
- `batch_size` x `acc_steps` x `world_size` sequences of `sequence_length` tokens make an update:
  the training code stores the first two after dividing them among the workers.
- "final-val" is measured on a larger set than "val" and is kept apart, as `final_val_loss`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from lehr.errors import InputError, unknown
from lehr.runs.clean import drop_broken
from lehr.runs.readers.fields import mapping, number, pair, parse_json
from lehr.runs.readers.reading import Reading, ReadOptions, check_file, deviation, split_of, stitched
from lehr.runs.run import Run
from lehr.schedule.families import constant, one_cycle, wsd
from lehr.schedule.schedule import Schedule

LR_TOLERANCE = 1e-3  # of the peak: how far the logged LR may be from the schedule
SPLITS = ("val", "train")
DECAYS = {
    "linear": "linear", "sqrt": "sqrt", "square": "square", "cosine": "cosine",
    "miror_cosine": "mirror_cosine", "exp": "exponential",
}  # fmt: skip
_START = 0.01  # both warm-ups start at this share of the peak


def sniff(path: Path) -> bool:
    """Whether a file looks like such an export: one JSON object with a config and a history."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        head = file.read(1 << 16)
    if not head.lstrip().startswith("{"):
        return False
    return '"config"' in head and re.search(r'"(history|summary)"\s*:\s*\{', head) is not None


def read(path: Path, options: ReadOptions | None = None) -> tuple[Reading, ...]:
    """Read an export as one run, with the losses of `options.split`.

    Raises
    ------
    InputError
        Naming the file and the field that is missing, malformed or contradicted by the logged LR.
    """
    options = options or ReadOptions()
    split = split_of(options, SPLITS)
    text = check_file(path).read_text(encoding="utf-8-sig", errors="replace")
    export = mapping(parse_json(text, str(path)), str(path))
    config = mapping(export.get("config"), f"{path}: config")
    history = mapping(export.get("history"), f"{path}: history")
    report: list[str] = []
    where = str(path)

    schedule = _schedule(config, history, options, where, report)
    step, loss = _points(history, split, options, where, report)
    parent, branch_step = _parent(config, step, where, report)
    if branch_step is not None:
        own = step > branch_step
        if not own.all():
            report.append(
                f"{int((~own).sum())} of {step.size} points are not after the branch and were left out"
            )
        step, loss = step[own], loss[own]
    params, total = _sizes(export, config, options, report)
    try:
        run = Run(
            name=options.name or str(export.get("name") or path.stem), schedule=schedule, step=step, loss=loss,
            parent=parent, branch_step=branch_step, params=params, params_total=total,
            batch_tokens=_batch_tokens(config, options, where), meta=_meta(path, config, history, split),
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"{path}: {error}") from error
    return (Reading(run, tuple(report)),)


def _schedule(
    config: Mapping[str, Any], history: Mapping[str, Any], options: ReadOptions, where: str, report: list[str]
) -> Schedule:
    """Return the schedule that the config describes (or the one given), checked against the logged LR."""
    train = mapping(history.get("train", {}), f"{where}: history.train")
    step, lr = pair(train, "train_lr", f"{where}: history.train")
    if options.schedule is not None:
        candidates = {"the given schedule": options.schedule}
    else:
        try:
            candidates = _candidates(config, where)
        except InputError as refusal:
            prefix = "" if str(refusal).startswith(where) else f"{where}: config: "
            raise InputError(f"{prefix}{refusal}") from None
    if not lr.size:
        report.append("no LR was logged: the schedule of the config was not checked")
        return next(iter(candidates.values()))
    errors = {label: deviation(schedule, step, lr) for label, schedule in candidates.items()}
    label = min(errors, key=lambda name: float(errors[name].max()))
    schedule, error = candidates[label], errors[label]
    wrong = np.flatnonzero(~(error <= LR_TOLERANCE))
    if wrong.size:
        first = wrong[0]
        uses = float(schedule.lr(np.array([int(step[first])]))[0])
        raise InputError(
            f"{where}: the LR {lr[first]:.6g} logged at iter {step[first]:g} contradicts {label}, which uses "
            f"{uses:.6g} there (more than {LR_TOLERANCE:g} of the peak apart): "
            "give the schedule that was used with --schedule."
        )
    if len(candidates) > 1:
        report.append(f"config has no decay_type: {label} fits the logged LR best")
    report.append(f"{label} agrees with the {step.size} logged LRs within {error.max():.2g} of the peak")
    return schedule


def _candidates(config: Mapping[str, Any], where: str) -> dict[str, Schedule]:
    """Schedules that the config may mean, by what to call them: one, unless the decay shape is not named."""
    kind = config.get("scheduler")
    if kind not in ("wsd", "cos"):
        raise InputError(
            f"{where}: unknown scheduler {kind!r} in its config (known: cos, wsd): give the schedule with --schedule."
        )
    peak = number(config, "lr", where)
    steps, warmup = (int(number(config, name, where)) for name in ("iterations", "warmup_steps"))
    if kind == "cos":
        final = number(config, "cos_final_lr", where, -1)
        final = 0.1 * peak if final < 0 else final
        cosine = one_cycle(steps=steps, peak=peak, warmup=warmup, start=_START * peak, final=final)
        return {"the config's cosine schedule": cosine}
    rise = {"steps": steps, "peak": peak, "warmup": warmup, "warmup_start": _START * peak, "warmup_phase": 0}
    decay = int(number(config, "wsd_fract_decay", where, 0) * steps)
    if not decay:
        return {"the config's constant schedule": constant(**rise)}
    named = config.get("decay_type")
    if named is None and config.get("wsd_exponential_decay"):
        named = "exp"
    if named is not None and named not in DECAYS:
        raise unknown("decay_type", str(named), DECAYS)
    final = number(config, "wsd_final_lr_scale", where, 0) * peak
    shapes = (
        [DECAYS[named]]
        if named is not None
        else [s for s in DECAYS.values() if s != "exponential" or final > 0]
    )
    return {
        f"the config's WSD schedule ({shape} decay)": wsd(decay=decay, shape=shape, final=final, **rise)
        for shape in shapes
    }


def _points(
    history: Mapping[str, Any], split: str, options: ReadOptions, where: str, report: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Steps and losses of the split, unbroken and in one path; shape (n,)."""
    where = f"{where}: history.{split}"
    table = mapping(history.get(split), where)
    name = options.columns.get("loss", f"{split}_loss")
    if name not in table:
        raise unknown(f"column of {where}", name, table)
    points = drop_broken(*pair(table, name, where))
    if not points.step.size:
        raise InputError(f"{where} has no loss: choose the other split of {', '.join(SPLITS)}.")
    joined = stitched(points.step, points.loss, options.order, where)
    report += [*points.report, *joined.report]
    return joined.step, joined.loss


def _parent(
    config: Mapping[str, Any], step: np.ndarray, where: str, report: list[str]
) -> tuple[str | None, int | None]:
    """Name of the run it branched from and the step of the branch, if its points start there."""
    source = config.get("resume_from")
    parts = [part for part in re.split(r"[\\/]+", str(source or "")) if part]
    told = len(parts) >= 3 and parts[-2] == "ckpts" and parts[-1].isdecimal()
    if not told:
        if source:
            report.append("resume_from names no numbered checkpoint: taken as a resumed run, not as a branch")
        if step[0] > 1.5 * float(np.median(np.diff(step))) if step.size > 1 else step[0] > 1:
            report.append(f"its first loss is at step {step[0]:g} and no earlier run is named")
        return None, None
    parent, branch_step = parts[-3], int(parts[-1])
    if branch_step == 0:
        report.append(f"it started from step 0 of {parent!r}: no past is shared, so it has no parent")
        return None, None
    if step[0] < branch_step:
        report.append(f"it was resumed at step {branch_step} but has earlier points of its own: not a branch")
        return None, None
    report.append(f"branched from {parent!r} after {branch_step} updates")
    return parent, branch_step


def _sizes(
    export: Mapping[str, Any], config: Mapping[str, Any], options: ReadOptions, report: list[str]
) -> tuple[float | None, float | None]:
    """Non-embedding and total parameters; the first as total minus the vocabulary's matrices.

    Whether there is one such matrix (tied to the head) or two is told by which of the two counts
    a Llama-style stack of the config's depth and width has.
    """
    summary = export.get("summary")
    total = options.params_total or (summary.get("parameters") if isinstance(summary, Mapping) else None)
    if options.params is not None or not isinstance(total, int | float):
        return options.params, total if isinstance(total, int | float) else None
    shape = [config.get(name) for name in ("n_layer", "n_embd", "vocab_size", "multiple_of")]
    if not all(isinstance(value, int) and value > 0 for value in shape):
        report.append("non-embedding parameters unknown: the config lacks the model's shape; give --params")
        return None, total
    layers, width, vocabulary, multiple = (int(value) for value in shape if value)
    hidden = -(-(8 * width // 3) // multiple) * multiple
    stack = layers * (4 * width**2 + 3 * width * hidden + 2 * width) + width
    for matrices, head in ((1, "head tied to the embedding"), (2, "head apart from the embedding")):
        params = total - matrices * vocabulary * width
        if abs(params - stack) <= 0.01 * stack:
            report.append(f"{params:.0f} non-embedding of {total:.0f} parameters ({head})")
            return float(params), float(total)
    report.append(f"non-embedding parameters unknown: {total:.0f} fits no Llama of this shape; give --params")
    return None, float(total)


def _batch_tokens(config: Mapping[str, Any], options: ReadOptions, where: str) -> float | None:
    """Tokens of one update, None if the config does not tell."""
    names = ("batch_size", "acc_steps", "world_size", "sequence_length")
    if options.batch_tokens is not None or any(config.get(name) is None for name in names):
        return options.batch_tokens
    return float(np.prod([number(config, name, where) for name in names]))


def _meta(
    path: Path, config: Mapping[str, Any], history: Mapping[str, Any], split: str
) -> dict[str, str | float | int | bool | None]:
    """Return what else is worth keeping; never a path of the machine that trained."""
    meta: dict[str, str | float | int | bool | None] = {"source": path.name, "split": split}
    kept = {
        "dataset": "dataset", "model": "model", "lr": "peak_lr", "iterations": "iterations", "seed": "seed",
        "weight_decay": "weight_decay", "scheduler": "scheduler",
    }  # fmt: skip
    for name, as_name in kept.items():
        if isinstance(config.get(name), str | int | float):
            meta[as_name] = config[name]
    final = history.get("final-val")
    if isinstance(final, Mapping) and "final_val_loss" in final:
        step, loss = pair(final, "final_val_loss", f"{path}: history.final-val")
        if step.size:
            last = int(np.argmax(step))
            meta |= {"final_val_loss": float(loss[last]), "final_val_step": int(step[last])}
    return meta
