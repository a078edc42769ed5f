"""DeepSpeed: the "scheduler" of its config, or a LambdaLR given to `deepspeed.initialize`.

The engine steps its own schedulers after every update and they begin at iteration -1: update 0 uses the
start of the warm-up (0 for WarmupCosineLR), and update k >= 1 what the formula says for iteration k - 1, so
the start is used twice. The default warm-up is logarithmic, `warmup_num_steps` is at least 2, and
WarmupDecayLR begins its warm-up at the LR that its decay ends at. Read in DeepSpeed 0.19.8,
`runtime/lr_schedules.py` and `runtime/engine.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from lehr.schedule.export._code import module, replay, segments
from lehr.schedule.export._plan import aim, choose, held, nearest
from lehr.schedule.export.export import Export, deviation, target
from lehr.schedule.export.torch import IMPORTS, MAKE
from lehr.schedule.schedule import Schedule

Config = dict[str, Any]
RISE = "Its schedulers use the start of the warm-up for updates 0 and 1, and the next values one update late."
FALL = "Its decays are linear or cosine, right after the warm-up and down to one final LR."


def settings(schedule: Schedule) -> Export:
    """Return the "scheduler" entry of the config that comes nearest to the schedule."""
    lr = target(schedule)
    config, used = choose(lr, ((c, _replay(c, len(lr), float(lr.max()))) for c in _candidates(schedule, lr)))
    text = json.dumps({"scheduler": config}, indent=2) + "\n"
    notes = [f"train for {schedule.steps} updates."]
    if config["type"] == "WarmupCosineLR":
        notes.append(f"give the optimiser the peak LR {lr.max():.12g}: this scheduler multiplies it.")
    else:
        notes.append("every group of the optimiser gets this LR, whatever its own.")
    return Export("deepspeed", "settings", "json", text, used, deviation(lr, used, RISE, FALL), tuple(notes))


def code(schedule: Schedule) -> Export:
    """Return a module whose make_scheduler is for deepspeed.initialize, exact for every schedule."""
    lr, parts = target(schedule), segments(schedule)
    used = replay(parts)
    comment = (
        "engine, *_ = deepspeed.initialize(..., lr_scheduler=make_scheduler); no scheduler in the config"
    )
    text = module(schedule, parts, IMPORTS, MAKE, comment)
    notes = (
        "pass lr_scheduler=make_scheduler to deepspeed.initialize, with the optimiser's lr=PEAK and no "
        '"scheduler" in the config.',
    )
    return Export("deepspeed", "code", "python", text, used, deviation(lr, used), notes)


def _candidates(schedule: Schedule, lr: np.ndarray) -> Iterator[Config]:
    """Entries that may do; all decay, if at all, from the warm-up to the end."""
    flat, final = held(lr), aim(schedule, lr)
    steps, peak = flat.steps, flat.peak
    second = flat.first + (peak - flat.first) / max(flat.top, 1)  # LR of update 1 on the way up
    warmup = max(2, flat.top - 1)
    rise = {"warmup_max_lr": peak, "warmup_num_steps": warmup, "warmup_type": "linear"}
    if final >= peak:
        yield {"type": "WarmupLR", "params": {"warmup_min_lr": second, **rise}}
        return
    own = {"total_num_steps": max(steps - 1, warmup), "warmup_min_lr": final, **rise}
    yield {"type": "WarmupDecayLR", "params": own}
    cosine = nearest(lr, "cosine", final, begin=flat.top)
    for length in (warmup, warmup + 1):
        own = {"warmup_num_steps": length, "warmup_type": "linear", "warmup_min_ratio": second / peak}
        yield {
            "type": "WarmupCosineLR",
            "params": {"total_num_steps": steps, "cos_min_ratio": cosine.ratio, **own},
        }


def _replay(config: Config, steps: int, peak: float) -> np.ndarray:
    """LR of every update, shape (T,); WarmupCosineLR multiplies the optimiser's LR `peak`."""
    own = config["params"]
    i, warmup = np.arange(steps) - 1, own["warmup_num_steps"]
    total = own.get("total_num_steps", 0)
    rise = np.maximum(i, 0) / warmup
    if config["type"] == "WarmupCosineLR":
        rise = own["warmup_min_ratio"] + rise * (1 - own["warmup_min_ratio"])
        progress = np.clip((i - warmup + 1) / max(1, total - warmup), 0.0, 1.0)
        fall = own["cos_min_ratio"] + (1 - own["cos_min_ratio"]) * (1 + np.cos(np.pi * progress)) / 2
        return np.where(i < 0, 0.0, peak * np.where(i < warmup, rise, fall))
    fall = np.ones(steps)
    if config["type"] == "WarmupDecayLR":
        fall = np.maximum(0.0, (total - i) / max(1.0, total - warmup))
    low, high = own["warmup_min_lr"], own["warmup_max_lr"]
    return low + (high - low) * np.where(i < warmup, rise, fall)
