"""From a log as its tool wrote it to a run: which loss, joined, in nats, where it belongs, under which schedule."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from lehr.errors import InputError, bad, unknown
from lehr.runs.clean import Cleaned, drop_broken, only, stitch
from lehr.runs.readers import names
from lehr.runs.readers.averages import ema_centre, window_centre
from lehr.runs.readers.batches import batch_of_tokens
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import Reading, ReadOptions
from lehr.runs.readers.scheduling import LoggedLR, find_schedule
from lehr.runs.run import Run
from lehr.schedule.long_logs import blocks

ROLES = ("step", "loss", "lr", "tokens")
SAME_LR = 1e-6  # relative: parameter groups whose LRs differ by less have one LR


def assemble(log: Log, options: ReadOptions | None = None) -> Reading:
    """Make a run of a log.

    Parameters
    ----------
    log : the log.
    options : how to read it.

    Raises
    ------
    InputError
        Naming the log, and the metric or place, where something is missing, ambiguous or contradictory.
    """
    options = options or ReadOptions()
    for role in options.columns:
        if role not in ROLES:
            raise unknown("column role", role, ROLES)
    report = list(log.report)
    batch = _batch(log, options, report)
    split, metric = _loss_metric(log, options, report)
    at = _on_updates(log, metric, batch, report)
    points = _points(log, metric, at, options, report)
    logged = _logged_lr(log, batch, options, report)
    told = log.schedule
    if told is not None and options.peak_lr is not None:
        told = told.scaled(options.peak_lr / told.peak)
    if options.total_steps is None and log.total_steps is not None and log.total_steps >= points.step[-1]:
        options = replace(options, total_steps=log.total_steps)
    schedule = find_schedule(log.source, logged, float(points.step[-1]), options, report, told)
    own = points.step > log.branch_step if log.branch_step is not None else np.ones(points.step.shape, bool)
    if not own.all():
        report.append(f"{int((~own).sum())} of {own.size} points are not after the branch and were left out")
    try:
        run = Run(
            name=options.name or log.name, schedule=schedule, step=only(points.step, own), loss=only(points.loss, own),
            parent=log.parent, branch_step=log.branch_step, params=options.params or log.params,
            params_total=options.params_total or log.params_total, batch_tokens=batch,
            meta=_meta(log, split, metric),
        )  # fmt: skip
    except InputError as error:
        raise InputError(f"{log.source}: {error}") from error
    return Reading(run, tuple(report))


def _loss_metric(log: Log, options: ReadOptions, report: list[str]) -> tuple[str | None, str]:
    """Split and name of the loss to read."""
    asked = options.columns.get("loss")
    if asked is not None:
        if asked not in log.series:
            raise unknown(f"metric of {log.source}", asked, log.series)
        return options.split, asked
    if options.split is not None and options.split not in names.SPLITS:
        raise unknown("split", options.split, names.SPLITS)
    empty: list[str] = []
    for split in (options.split,) if options.split else names.SPLITS:
        usual = names.losses(log.series, log.roles, split)
        found = [name for name in usual if _has_numbers(log.series[name])]
        empty += [name for name in usual if name not in found]
        if len(found) > 1:
            raise InputError(
                f"{log.source}: {', '.join(map(repr, found))} could each be the {split} loss of {log.name!r}: "
                "choose one with --column loss=NAME."
            )
        if found:
            told = "" if options.split or split == "val" else "; it has no validation loss"
            report.append(f"loss: {found[0]} ({split}{told})")
            return split, found[0]
    if empty:
        raise InputError(
            f"{log.source}: no row has a number as its {empty[0]}: name another column with --column loss=NAME."
        )
    kind = f"{options.split} loss" if options.split else "loss"
    listed = ", ".join(sorted(log.series)[:20]) or "nothing"
    raise InputError(
        f"{log.source}: no {kind} of {log.name!r} among its metrics ({listed}): name it with --column loss=NAME"
        f"{', or choose the other --split' if options.split else ''}."
    )


def _has_numbers(series: Series) -> bool:
    return bool(np.isfinite(series.value).any())


def _batch(log: Log, options: ReadOptions, report: list[str]) -> float | None:
    """Tokens of one update: as given, as counted, or as the settings say."""
    if log.axis == "tokens":
        return options.batch_tokens or log.batch_tokens
    asked = options.columns.get("tokens")
    if asked is not None and asked not in log.series:
        raise unknown(f"metric of {log.source}", asked, log.series)
    fixed = log.roles.get("tokens")
    found = [asked] if asked else [fixed] if fixed in log.series else names.among(log.series, names.TOKENS)
    if len(found) > 1:
        report.append(
            f"no tokens column was read: {', '.join(map(str, found))} compete; choose with --column tokens=NAME"
        )
    if len(found) != 1 or found[0] is None:
        return options.batch_tokens or log.batch_tokens
    counts = log.series[found[0]]
    good = np.isfinite(counts.step) & np.isfinite(counts.value)
    lines: list[str] = []
    counted = batch_of_tokens(
        counts.step[good], counts.value[good], options.batch_tokens, log.source, lines
    )  # a count kept through restarts is no line; the settings may still tell
    report += lines if counted or not log.batch_tokens else []
    return counted or log.batch_tokens


def _on_updates(log: Log, metric: str, batch: float | None, report: list[str]) -> np.ndarray:
    """Steps of a series in updates, shape (n,)."""
    step = log.series[metric].step
    if log.axis == "tokens":
        if batch is None:
            raise InputError(
                f"{log.source} counts tokens, not updates: give the tokens of one update with --batch-tokens."
            )
        step = step / batch
        near = np.round(step)
        step = np.where(np.abs(step - near) <= 1e-4 * np.maximum(near, 1), near, step)
        line = f"steps are tokens / {batch:g}"
        if line not in report:
            report.append(line)
    for part in blocks(step.size):  # a long log is not copied
        some = step[part]
        wrong = np.flatnonzero(~(np.isfinite(some) & (some >= 0) & (some == np.floor(some))))
        if wrong.size:
            what, remedy = "step", "mend the log"
            if log.axis == "tokens":
                what, remedy = "tokens / batch_tokens", "mend the log, or give the right --batch-tokens"
            raise bad(
                f"{log.place(metric, part.start + int(wrong[0]))}: {what}",
                "must be a whole number of updates, 0 or more", float(some[wrong[0]]), remedy,
            )  # fmt: skip
    return step


def _points(log: Log, metric: str, step: np.ndarray, options: ReadOptions, report: list[str]) -> Cleaned:
    """Losses in nats at the updates where they belong, on the path to the end of training."""
    joined = _joined(log, metric, step, options)
    report += [f"loss: {line}" for line in joined.report]
    loss = joined.loss
    if metric in log.bits or names.among([metric], (*names.BITS["train"], *names.BITS["val"])):
        if options.bytes_per_token is None:
            raise InputError(
                f"{log.source}: {metric} of {log.name!r} is in bits per byte, laws need nats per token: "
                "give --bytes-per-token (bytes of the validation text / its tokens), or read the other --split."
            )
        loss = loss * math.log(2) * options.bytes_per_token
        report.append(f"bits per byte x ln 2 x {options.bytes_per_token:g} bytes a token")
    at = joined.step
    if options.window is not None:
        at = window_centre(at, options.window)
        report.append(f"means over {options.window} updates, put at their middle")
    if options.ema is not None:
        at = ema_centre(at, options.ema)
        report.append(f"exponential averages of decay {options.ema:g}, put at their mean age")
    last = np.append(at[1:] > at[:-1], True)  # the first of them may all belong to step 0
    points = drop_broken(only(at, last), only(loss, last))
    report += points.report
    if not points.step.size:
        raise InputError(
            f"{log.source}: no {metric} of {log.name!r} is a finite number above 0: give the loss in nats per token."
        )
    return points


def _joined(log: Log, metric: str, step: np.ndarray, options: ReadOptions) -> Cleaned:
    """Put the entries of a series on one path; refuse steps that go back where it may be a mistake."""
    series = log.series[metric]
    order = options.order if options.order != "auto" else log.order
    if order == "ask":
        back = np.flatnonzero(step[1:] <= step[:-1])
        if back.size and not options.segments:
            row, before = int(back[0]) + 1, int(back[0])
            raise InputError(
                f"{log.place(metric, row)}: steps must increase, got {step[row]:g} after {step[before]:g}: "
                "if this is a resumed run, join its segments with --segments."
            )
        order = "auto"
    # averages moved to their middle, and a value written anew, may share a step with the next: no restart
    again = np.flatnonzero(step[1:] == step[:-1])
    time = series.time if series.time is not None and np.isfinite(series.time).all() else None
    try:
        if not again.size:
            return stitch(step, series.value, order=order, time=time)
        rows = np.delete(np.arange(step.size), again)
        when = None if time is None else time[rows]
        joined = stitch(step[rows], series.value[rows], order=order, time=when)
    except InputError as error:
        raise InputError(f"{log.source}: {error}") from None
    line = f"{again.size} entries have the step of the next and were left out"
    return Cleaned(joined.step, joined.loss, rows[joined.kept], (line, *joined.report))


def _logged_lr(log: Log, batch: float | None, options: ReadOptions, report: list[str]) -> LoggedLR | None:
    """The LR of the reference parameter group."""
    name = _lr_metric(log, options, report)
    if name is None:
        return None
    series = log.series[name]
    step = _on_updates(log, name, batch, report)
    value = series.value
    if options.peak_lr is not None and np.isfinite(value).any():
        value = value * options.peak_lr / np.nanmax(value)
        report.append(f"{name} was scaled to the peak {options.peak_lr:g}")

    def in_order() -> np.ndarray | slice:
        joined = _joined(log, name, step, options)
        report.extend(f"LR: {line}" for line in joined.report)
        return slice(None) if joined.chosen is None else joined.chosen

    return LoggedLR(step, value, lambda row: log.place(name, row), in_order)


def _lr_metric(log: Log, options: ReadOptions, report: list[str]) -> str | None:
    """Name of the LR; of several parameter groups the first, if all follow one schedule."""
    asked = options.columns.get("lr")
    if asked is not None:
        if asked not in log.series:
            raise unknown(f"metric of {log.source}", asked, log.series)
        return asked
    found = [n for n in names.learning_rates(log.series, log.roles) if _has_numbers(log.series[n])]
    if len(found) < 2:
        return found[0] if found else None
    first = log.series[found[0]].value
    for other in found[1:]:
        value = log.series[other].value
        ratio = _ratio(first, value)
        if ratio is None:
            if options.schedule is not None:
                report.append(f"no LR was read: {', '.join(found)} differ; choose with --column lr=NAME")
                return None
            raise InputError(
                f"{log.source}: {', '.join(map(repr, found))} of {log.name!r} follow different schedules: "
                "choose the reference group with --column lr=NAME."
            )
        if abs(ratio - 1) > SAME_LR:
            report.append(f"{other} is {ratio:.4g} times {found[0]}, whose schedule was taken")
    return found[0]


def _ratio(first: np.ndarray, other: np.ndarray) -> float | None:
    """Other / first if it is one number throughout."""
    if first.shape != other.shape:
        return None
    used = np.isfinite(first) & np.isfinite(other) & (first > 0)
    if not used.any():
        return None
    ratios = other[used] / first[used]
    middle = float(np.median(ratios))
    return middle if middle > 0 and np.abs(ratios - middle).max() <= 1e-3 * middle else None


def _meta(log: Log, split: str | None, metric: str) -> dict[str, str | float | int | bool | None]:
    """What else is worth keeping of the settings; never a path of the machine that trained."""
    meta: dict[str, str | float | int | bool | None] = {"source": Path(log.source).name, "metric": metric}
    if split is not None:
        meta["split"] = split
    wanted: Mapping[str, tuple[str, ...]] = {
        "seed": ("seed",),
        "weight_decay": ("weight_decay", "weight-decay", "optimizer.weight_decay", "optim.weight_decay"),
        "dataset": ("dataset", "data.dataset", "training.dataset"),
    }
    for key, places in wanted.items():
        for place in places:
            value = log.config.get(place)
            if isinstance(value, str | int | float) and not isinstance(value, bool) and "/" not in str(value):
                meta.setdefault(key, value)
    return meta
