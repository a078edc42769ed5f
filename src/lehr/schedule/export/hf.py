"""Hugging Face Transformers: `TrainingArguments` where they can say it, else `Trainer.create_scheduler`.

Its schedulers are LambdaLR: update k uses factor(k). Most warm-ups are k / warmup_steps, so update 0 has an
LR of 0; that of `warmup_stable_decay` starts at the final LR instead, that of `cosine_warmup_with_min_lr` at
peak / warmup_steps. `warmup_steps` below 1 would be a ratio. Read in Transformers 5.23, `optimization.py`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from lehr.schedule.export._code import FACTOR, module, number, replay, segments, title
from lehr.schedule.export._plan import Plan, aim, choose, held, nearest, plans, recognise
from lehr.schedule.export.export import Export, deviation, target
from lehr.schedule.schedule import Schedule
from lehr.schedule.shapes import SHAPES

Arguments = dict[str, Any]
DECAYS = {"linear": "linear", "cosine": "cosine", "sqrt": "1-sqrt"}
RISE = "Its warm-ups give update 0 an LR of 0 (warmup_stable_decay: the final LR)."
FALL = "Its decays are linear, cosine and 1-sqrt, or a power right after the warm-up, down to one final LR."
MULTIPLE = "groups with an LR of their own keep their multiple of learning_rate."

BODY = f'''\
{FACTOR}

class LehrTrainer(Trainer):
    """Trainer(args=TrainingArguments(learning_rate=PEAK, max_steps=STEPS, ...)) under this schedule."""

    def create_scheduler(self, num_training_steps, optimizer=None):
        if num_training_steps > STEPS:
            raise ValueError(f"the schedule has {{STEPS}} updates, the training {{num_training_steps}}")
        if self.lr_scheduler is None:
            self.lr_scheduler = LambdaLR(self.optimizer if optimizer is None else optimizer, LehrSchedule())
            self._created_lr_scheduler = True
        return self.lr_scheduler
'''


def settings(schedule: Schedule) -> Export:
    """Return the TrainingArguments that come nearest to the schedule."""
    lr = target(schedule)
    arguments, used = choose(lr, ((a, _replay(a)) for a in _candidates(schedule, lr)))
    lines = "".join(f"    {name}={_literal(value)},\n" for name, value in arguments.items())
    text = (
        f"# LR schedule {title(schedule)}, by lehr\n"
        f"# use it as TrainingArguments(output_dir, **LR_ARGUMENTS, ...)\nLR_ARGUMENTS = dict(\n{lines})\n"
    )
    return Export("hf", "settings", "python", text, used, deviation(lr, used, RISE, FALL), (MULTIPLE,))


def code(schedule: Schedule) -> Export:
    """Return a Trainer that follows the schedule exactly."""
    lr, parts = target(schedule), segments(schedule)
    used = replay(parts)
    imports = "from torch.optim.lr_scheduler import LambdaLR\nfrom transformers import Trainer\n"
    text = module(schedule, parts, imports, BODY)
    notes = ("use LehrTrainer with TrainingArguments(learning_rate=PEAK, max_steps=STEPS).", MULTIPLE)
    return Export("hf", "code", "python", text, used, deviation(lr, used), notes)


def _literal(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)}: {_literal(v)}" for k, v in value.items()) + "}"
    return json.dumps(value) if isinstance(value, str) else number(value)


def _candidates(schedule: Schedule, lr: np.ndarray) -> Iterator[Arguments]:
    """Arguments that may do, the plainest first."""
    flat, final = held(lr), aim(schedule, lr)
    if final >= flat.peak:
        yield _arguments(flat, "constant_with_warmup" if flat.top else "constant")
        return
    if final == 0:
        yield _arguments(flat, "linear")
    cosine = nearest(lr, "cosine", final, begin=flat.top)
    yield _arguments(cosine, "cosine_with_min_lr", min_lr_rate=cosine.ratio)
    for plan in plans(schedule, lr, DECAYS):
        if plan.falls and plan.shape in DECAYS:
            yield _warmup_stable_decay(plan)
    known = recognise(schedule)
    shape = known.shape if known and known.shape.startswith("power") else "linear"
    power = nearest(lr, shape, final, begin=flat.top)
    exponent = float(shape[6:-1]) if shape != "linear" else 1.0
    yield _arguments(power, "polynomial", lr_end=power.final, power=exponent)
    yield _arguments(replace(cosine, top=flat.top + 1), "cosine_warmup_with_min_lr", min_lr_rate=cosine.ratio)


def _warmup_stable_decay(plan: Plan) -> Arguments:
    own: Arguments = {"num_decay_steps": plan.end - plan.begin, "decay_type": DECAYS[plan.shape]}
    if plan.end != plan.steps:  # else the Trainer finds it
        own["num_stable_steps"] = plan.begin - plan.top
    return _arguments(plan, "warmup_stable_decay", **own, min_lr_ratio=plan.ratio)


def _arguments(plan: Plan, kind: str, **own: Any) -> Arguments:
    """Arguments of a scheduler type with arguments of its own."""
    arguments = {
        "learning_rate": plan.peak, "max_steps": plan.steps, "warmup_steps": plan.top, "lr_scheduler_type": kind
    }  # fmt: skip
    return arguments | ({"lr_scheduler_kwargs": own} if own else {})


def _replay(arguments: Arguments) -> np.ndarray:
    """LR of every update under the arguments, shape (T,)."""
    total, warmup = arguments["max_steps"], arguments["warmup_steps"]
    kind, own = arguments["lr_scheduler_type"], arguments.get("lr_scheduler_kwargs", {})
    peak, k = arguments["learning_rate"], np.arange(total)
    rise, after = k / max(1, warmup), (k - warmup) / max(1, total - warmup)
    if kind == "warmup_stable_decay":
        decay, low = own["num_decay_steps"], own["min_lr_ratio"]
        stable = own.get("num_stable_steps", total - warmup - decay)
        shape = next(shape for shape, name in DECAYS.items() if name == own["decay_type"])
        left = SHAPES[shape](np.clip((k - warmup - stable) / max(1, decay), 0, 1))
        factor = np.where(k < warmup, rise, left) * (1 - low) + low
    elif kind == "polynomial":
        left = (1 - np.clip(after, 0, 1)) ** own["power"]
        factor = np.where(k < warmup, rise, ((peak - own["lr_end"]) * left + own["lr_end"]) / peak)
    elif kind.startswith("cosine"):
        low = own["min_lr_rate"]
        if kind == "cosine_warmup_with_min_lr":
            rise, after = (k + 1) / max(1, warmup), (k - warmup + 1) / max(1, total - warmup)
        factor = np.where(k < warmup, rise, 0.5 * (1 + np.cos(np.pi * after)) * (1 - low) + low)
    else:
        factor = np.where(k < warmup, rise, 1 - after if kind == "linear" else 1.0)
    return peak * factor
