"""OLMo-core: stages of its `ComposableScheduler`, or a `Scheduler` of one's own.

The trainer counts an update before it asks for its LR: update k = 0 .. T-1 sees `current` = k + 1. A stage
goes from start to end as a straight line or a half cosine while `current` is within its duration; what comes
after the stages keeps the last end. Read in OLMo-core 3.0, `optim/scheduler.py` and `train/trainer.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lehr.schedule.export._code import lines, module, number, replay, segments, title
from lehr.schedule.export.export import Export, deviation, target
from lehr.schedule.schedule import Schedule, Segment

NEAR = 1e-3  # of the peak: how far straight stages may lie from a decay of another shape
FALL = f"Its stages are straight lines and half cosines: other shapes are lines within {NEAR:g} of the peak."
NOTES = (
    "create the optimiser with lr=PEAK; a group's own LR keeps its multiple of it.",
    "the schedule is counted in steps: leave units at its default, steps.",
)
BODY = '''\
@dataclass
class LehrScheduler(Scheduler):
    """The LR of this file for optimisers with lr=PEAK; groups with another LR keep their multiple."""

    def get_lr(self, initial_lr, current, t_max):
        if t_max > STEPS:
            raise ValueError(f"the schedule has {STEPS} updates, the training {t_max}")
        return initial_lr * (lr_at(current - 1) / PEAK)  # the trainer calls the first update 1
'''


@dataclass(frozen=True)
class Stage:
    """`duration` values of `current`, from LR `start` towards `end`."""

    duration: int
    start: float
    end: float
    shape: str = "linear"


def settings(schedule: Schedule) -> Export:
    """Return the stages that come nearest to the schedule."""
    lr = target(schedule)
    stages = _stages(schedule, NEAR * schedule.peak)
    used = _replay(stages, schedule.steps)
    peak = schedule.peak
    rows = "".join(
        f"        Stage(duration={s.duration}, shape=Shape.{s.shape}, "
        f"start_lr_fraction={number(s.start / peak)}, end_lr_fraction={number(s.end / peak)}),\n"
        for s in stages
    )
    text = (
        f"# LR schedule {title(schedule)}, by lehr\n"
        "from olmo_core.optim.scheduler import ComposableScheduler\n"
        "from olmo_core.optim.scheduler import ComposableSchedulerStage as Stage\n"
        "from olmo_core.optim.scheduler import ComposableSchedulerStageType as Shape\n\n"
        f"PEAK = {number(peak)}  # the optimiser's lr\nSTEPS = {schedule.steps}  # updates\n\n"
        f"scheduler = ComposableScheduler(\n    stages=[\n{rows}    ]\n)\n"
    )
    return Export("olmo-core", "settings", "python", text, used, deviation(lr, used, FALL, FALL), NOTES)


def code(schedule: Schedule) -> Export:
    """Return a Scheduler that follows the schedule exactly."""
    lr, parts = target(schedule), segments(schedule)
    used = replay(parts)
    imports = "from dataclasses import dataclass\n\nfrom olmo_core.optim.scheduler import Scheduler\n"
    text = module(schedule, parts, imports, BODY)
    return Export("olmo-core", "code", "python", text, used, deviation(lr, used), NOTES)


def _stages(schedule: Schedule, tolerance: float) -> list[Stage]:
    """Stages over `current` = 0 .. T, of which 0 is never used."""
    stages: list[Stage] = []
    for part in schedule.segments:
        if isinstance(part, Segment) and (
            part.flat or part.shape == "linear" or _whole_cosine(part, schedule)
        ):
            stages += _of_segment(part, first=not stages)
        else:
            values = part.lr(np.arange(part.steps))
            for line in lines(values, np.full(part.steps, tolerance)):
                stages += _of_segment(line, first=not stages)
    return _merged(stages)


def _whole_cosine(part: Segment, schedule: Schedule) -> bool:
    """Whether stages can be this cosine: whole, or cut off by the end of training alone."""
    cut = part is schedule.segments[-1] and part.span % 1 == 0
    whole = part.span in (part.steps, part.steps - 1)  # the end is after its last update, or used by it
    return part.shape == "cosine" and part.phase == 0 and (whole or cut)


def _of_segment(part: Segment, first: bool) -> list[Stage]:
    """Stages of one straight or half-cosine segment; the first one also covers `current` = 0."""
    value = float(part.lr(np.array(0)))
    if part.flat:
        return [Stage(part.steps + first, value, value)]
    if part.phase == 0 and part.span >= part.steps:
        aim = part.steps if part.shape == "linear" else int(part.span)
        stage = Stage(aim, part.start, float(part.lr(np.array(aim))), part.shape)
        return [Stage(1, value, value), stage] if first else [stage]
    end = float(part.lr(np.array(part.steps - 1)))
    if first and part.phase == 1:  # a warm-up whose update 0 is one step up the line
        rise = [Stage(part.steps, part.start, end)]
    else:
        whole = [Stage(part.steps - 1, value, end, part.shape)] * (part.steps > 1)
        rise = [Stage(1, value, value)] * first + whole
    return [*rise, Stage(1, end, end)]  # the last update is on the end itself


def _merged(stages: list[Stage]) -> list[Stage]:
    """Join neighbours that hold the same LR."""
    merged: list[Stage] = []
    for stage in stages:
        before = merged[-1] if merged else None
        if before and before.start == before.end == stage.start == stage.end:
            merged[-1] = replace(before, duration=before.duration + stage.duration)
        else:
            merged.append(stage)
    return merged


def _replay(stages: list[Stage], steps: int) -> np.ndarray:
    """LR of every update under the stages, shape (T,)."""
    parts = [
        Segment(stage.duration, stage.start, stage.end, stage.shape).lr(np.arange(stage.duration))
        for stage in stages
    ]
    return np.concatenate(parts)[1 : steps + 1]
