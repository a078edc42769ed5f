"""The LR schedule that Megatron-LM's arguments mean.

`get_optimizer_param_scheduler` (megatron/training/training.py) turns them into counts of samples, and
`OptimizerParamScheduler.get_lr` (megatron/core/optimizer_param_scheduler.py) gives the LR of n samples seen: update
k uses n = the samples of updates 0 .. k - 1, so the first uses the LR of n = 0. Warm-up is lr-warmup-init + (lr -
lr-warmup-init) n / W up to and with n = W, decay runs from W (of WSD: over the last lr-wsd-decay samples) to the end of
the decay, and past that the LR is min-lr. "exponential" is 2 * 0.5^x - 1. Where the batch grows (--rampup-batch-size,
megatron/core/num_microbatches_calculator.py) whole updates are counted all the same, by the samples of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError
from lehr.schedule.schedule import Schedule, Segment, Table

Value = str | float | int | bool | None
MOST_LISTED = 20_000_000  # updates of a schedule that is listed LR by LR
MOST_LEVELS = 100_000  # of a growing batch
SHAPES = {"linear": "linear", "cosine": "cosine", "minus_sqrt": "sqrt"}


@dataclass(frozen=True)
class Plan:
    """A schedule in samples; `fall` is where the decay begins, `shape` None for a constant LR."""

    lr: float
    low: float
    first: float
    warmup: float
    fall: float
    end: float
    shape: str | None


def schedule_of(config: Mapping[str, Value], steps: int | None) -> tuple[Schedule | None, str]:
    """Return the schedule of a run's arguments and a sentence about it.

    Parameters
    ----------
    config : the arguments that the log prints, with underscores.
    steps : updates of the whole run, as its lines tell; None if there are none.

    Returns
    -------
    The schedule, or None and the reason why the arguments give none.
    """
    if config.get("lr") is None:
        return None, "the log prints no arguments: the schedule is left to the logged LR"
    try:
        updates = _count(config, "train_iters", steps)
        if updates is None:
            return None, "the number of updates is not known: the schedule is left to the logged LR"
        batches = _batches(config, updates)
        plan = _plan(config, batches)
        return _build(plan, batches, updates), f"schedule by the printed arguments: {_words(config)}"
    except InputError as refusal:
        return None, f"the printed arguments give no schedule ({str(refusal).rstrip('.')})"


def _words(config: Mapping[str, Value]) -> str:
    style = str(config.get("lr_decay_style", "linear"))
    if style == "WSD":
        style = f"WSD with {config.get('lr_wsd_decay_style', 'exponential')} decay"
    held = " (batch ramp-up counted)" if config.get("rampup_batch_size") is not None else ""
    return f"{style}, peak {config['lr']}{held}"


def _number(config: Mapping[str, Value], name: str, default: float | None = None) -> float | None:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool | str) or not np.isfinite(value) or value < 0:
        raise InputError(f"{name} is {value!r}.")
    return float(value)


def _count(config: Mapping[str, Value], name: str, default: float | None = None) -> int | None:
    value = _number(config, name, default)
    if value is not None and value % 1 != 0:
        raise InputError(f"{name} is {value!r}.")
    return None if value is None else int(value)


def _batches(config: Mapping[str, Value], updates: int) -> int | np.ndarray:
    """Samples of every update: one number, or shape (updates,) where the batch grows."""
    batch = _count(config, "global_batch_size")
    if not batch or updates < 1:
        raise InputError(f"global_batch_size is {batch}, train_iters {updates}.")
    ramp = config.get("rampup_batch_size")
    if ramp is None:
        return batch
    parts = [part for part in str(ramp).replace("'", "").strip("[]").split(",") if part.strip()]
    if len(parts) != 3 or not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"rampup_batch_size is {ramp!r}.")
    start, rise, over = (int(part) for part in parts)
    if not (0 < start <= batch and rise > 0 and (batch - start) % rise == 0):
        raise InputError(f"rampup_batch_size is {ramp!r} for a global batch of {batch}.")
    if updates > MOST_LISTED or (batch - start) // rise > MOST_LEVELS:
        raise InputError(f"{updates} updates with a growing batch are too many to list.")
    return _growing(start, rise, over, batch, updates)


def _growing(start: int, rise: int, over: int, batch: int, updates: int) -> np.ndarray:
    """Samples of every update, shape (updates,), of RampupBatchsizeNumMicroBatchesCalculator."""
    sizes = np.full(updates, batch)
    levels = (batch - start) // rise
    if not levels or not over:
        return sizes
    each = over / levels
    done = seen = 0
    while done < updates and seen <= over:
        level = int(seen / each)
        size = start + level * rise
        # updates until the samples seen reach the next level: the batch is chosen before each update
        here = max(int(-((seen - (level + 1) * each) // size)), 1)
        sizes[done : done + here] = size
        done, seen = done + here, seen + here * size
    return sizes


def _plan(config: Mapping[str, Value], batches: int | np.ndarray) -> Plan:
    lr = _number(config, "lr") or 0.0
    by_samples = config.get("train_iters") is None and config.get("train_samples") is not None
    batch = float(batches if isinstance(batches, int) else batches[-1])
    full = _number(config, "global_batch_size") or batch
    unit, suffix = (1.0, "samples") if by_samples else (full, "iters")
    total = _number(config, f"train_{suffix}") or 0.0
    end = (_number(config, f"lr_decay_{suffix}") or total) * unit
    fraction = _number(config, "lr_warmup_fraction")
    warmup = (_number(config, f"lr_warmup_{suffix}") or 0.0) * unit if fraction is None else fraction * end
    style = str(config.get("lr_decay_style", "linear"))
    low, first = _number(config, "min_lr") or 0.0, _number(config, "lr_warmup_init") or 0.0
    if not (lr > 0 and low <= lr and first <= lr and warmup < end):
        raise InputError(f"lr {lr:g}, min_lr {low:g}, warm-up of {warmup:g} and decay to {end:g} samples.")
    if style == "constant":
        return Plan(lr, low, first, warmup, end, end, None)
    if style != "WSD":
        if style not in ("linear", "cosine", "inverse-square-root"):
            raise InputError(f"lr_decay_style is {style!r}.")
        return Plan(lr, low, first, warmup, warmup, end, style)
    falling = _number(config, f"lr_wsd_decay_{suffix}")
    style = str(config.get("lr_wsd_decay_style") or "exponential")
    if not falling or style not in (*SHAPES, "exponential"):
        raise InputError(f"lr_wsd_decay_{suffix} is {falling}, lr_wsd_decay_style {style!r}.")
    return Plan(lr, low, first, warmup, end - falling * unit, end, style)


def _build(plan: Plan, batches: int | np.ndarray, updates: int) -> Schedule:
    """Return few segments where the batch is constant and the shape one of lehr's, else a list of LRs."""
    if isinstance(batches, int):
        edges = [place / batches for place in (plan.warmup, plan.fall, plan.end)]
        whole = all(edge % 1 == 0 for edge in edges)
        if whole and edges[0] <= edges[1] and (plan.shape is None or plan.shape in SHAPES):
            return _segments(plan, [int(edge) for edge in edges], updates)
        if updates > MOST_LISTED:
            raise InputError(f"{updates} updates are too many to list.")
        seen = np.arange(updates) * float(batches)
    else:
        seen = np.cumsum(batches, dtype=float) - batches
    return Schedule((Table(lr_after(plan, seen)),))


def _segments(plan: Plan, edges: list[int], updates: int) -> Schedule:
    top, fall, end = edges
    parts: list[Segment] = []

    def add(steps: int, start: float, final: float, shape: str = "linear") -> None:
        here = min(steps, updates - sum(part.steps for part in parts))
        if here > 0:
            parts.append(Segment(here, start, final, shape, 0.0, steps))

    add(top, plan.first, plan.lr)
    if plan.shape is None:
        add(updates, plan.lr, plan.lr)
    else:
        add(fall - top, plan.lr, plan.lr)
        add(end - fall, plan.lr, plan.low, SHAPES[plan.shape])
        add(updates, plan.low, plan.low)
    return Schedule(tuple(parts))


def lr_after(plan: Plan, seen: np.ndarray) -> np.ndarray:
    """LR of the next update after `seen` samples, same shape: `OptimizerParamScheduler.get_lr`."""
    if plan.shape is None:
        used = np.full(seen.shape, plan.lr)
    elif plan.shape == "inverse-square-root":
        used = np.maximum(plan.low, plan.lr * np.sqrt(max(plan.warmup, 1.0) / np.maximum(seen, 1.0)))
        used[seen > plan.end] = plan.low
    else:
        x = np.clip((seen - plan.fall) / (plan.end - plan.fall), 0.0, 1.0)
        left = {
            "linear": 1 - x, "cosine": 0.5 * (1 + np.cos(np.pi * x)), "minus_sqrt": 1 - np.sqrt(x),
            "exponential": 2 * 0.5**x - 1,
        }[plan.shape]  # fmt: skip
        used = plan.low + (plan.lr - plan.low) * left
    if plan.warmup > 0:
        rising = plan.first + (plan.lr - plan.first) * seen / plan.warmup
        used = np.where(seen <= plan.warmup, rising, used)
    return used
