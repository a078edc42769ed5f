"""torchtitan: the config of its `LRSchedulersContainer`, or a subclass of that config.

Warm-up is (k + 1) / warmup_steps, so no update is wasted; the decay takes the last
round(decay_ratio * total_steps) updates and its first one still uses the peak: lehr's own convention.
Read in torchtitan 0.3, `components/optimizer/lr_scheduler.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from lehr.schedule.export._code import FACTOR, module, number, replay, segments, title
from lehr.schedule.export._plan import Plan, choose, plans
from lehr.schedule.export.export import Export, deviation, target
from lehr.schedule.schedule import Schedule
from lehr.schedule.shapes import SHAPES

DECAYS = ("linear", "cosine", "sqrt")  # its sqrt is ours: 1 - sqrt(x)
RISE = "Its warm-up is a straight line from 0 that gives update 0 an LR of peak / warmup_steps."
FALL = "Its decays are linear, cosine and 1-sqrt, once, down to one final LR at or after the end of training."
IMPORT = "from torchtitan.components.optimizer import LRSchedulersContainer\n"

BODY = f'''\
{FACTOR}

@dataclass(kw_only=True, slots=True)
class LehrConfig(LRSchedulersContainer.Config):
    """Use it as lr_scheduler=LehrConfig() in the Trainer.Config, with the optimiser's lr=PEAK."""

    def build(self, *, optimizers, training_steps):
        if training_steps > STEPS:
            raise ValueError(f"the schedule has {{STEPS}} updates, the training {{training_steps}}")
        return LRSchedulersContainer(optimizers, LehrSchedule())
'''


def settings(schedule: Schedule) -> Export:
    """Return the LRSchedulersContainer.Config that comes nearest to the schedule."""
    lr = target(schedule)
    plan, used = choose(lr, ((p, _replay(p)) for p in _candidates(schedule, lr)))
    arguments = "".join(f"    {name}={value},\n" for name, value in _arguments(plan).items())
    text = (
        f"# LR schedule {title(schedule)}, by lehr\n"
        f"{IMPORT}\nLR = {number(plan.peak)}  # the optimiser's lr\n"
        f"STEPS = {plan.steps}  # training.steps\n\n"
        f"lr_scheduler = LRSchedulersContainer.Config(\n{arguments})\n"
    )
    notes = ("put lr_scheduler in the Trainer.Config, LR in the optimiser's and STEPS in training.steps.",)
    return Export("torchtitan", "settings", "python", text, used, deviation(lr, used, RISE, FALL), notes)


def code(schedule: Schedule) -> Export:
    """Return a config class that follows the schedule exactly."""
    lr, parts = target(schedule), segments(schedule)
    used = replay(parts)
    text = module(schedule, parts, f"from dataclasses import dataclass\n\n{IMPORT}", BODY)
    notes = ("put lr_scheduler=LehrConfig() in the Trainer.Config, PEAK in the optimiser's lr.",)
    return Export("torchtitan", "code", "python", text, used, deviation(lr, used), notes)


def _candidates(schedule: Schedule, lr: np.ndarray) -> Iterator[Plan]:
    """Plans that its config can say, with a warm-up of `top` updates."""
    for plan in plans(schedule, lr, DECAYS):
        if plan.falls and (plan.shape not in DECAYS or plan.end < plan.steps):
            continue
        yield replace(plan, top=min(plan.top + 1, plan.begin) if plan.first < plan.peak else 0)
        yield plan


def _arguments(plan: Plan) -> dict[str, str]:
    """Arguments of the config, as code; the decay ends at total_steps."""
    ratio = (plan.end - plan.begin) / plan.end if plan.falls else 0.0
    arguments = {"warmup_steps": str(plan.top), "decay_ratio": number(ratio)}
    if plan.end != plan.steps:
        arguments["total_steps"] = str(plan.end)
    if plan.falls:
        arguments |= {"decay_type": f'"{plan.shape}"', "min_lr_factor": number(plan.ratio)}
    return arguments


def _replay(plan: Plan) -> np.ndarray:
    """LR of every update of a plan of `_candidates`, shape (T,)."""
    k = np.arange(plan.steps)
    factor = np.where(k < plan.top, (k + 1) / max(plan.top, 1), 1.0)
    if plan.falls:
        left = SHAPES[plan.shape](np.clip((k - plan.begin) / (plan.end - plan.begin), 0, 1))
        factor = np.where(k < max(plan.top, plan.begin), factor, plan.ratio + (1 - plan.ratio) * left)
    return plan.peak * factor
