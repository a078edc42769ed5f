"""PyTorch: one picklable callable in `LambdaLR`.

`LambdaLR` uses factor(0) for the first update and factor(k) after k calls of step(), which is our own
convention; it multiplies each group's `initial_lr`, so multipliers of groups survive. A callable object's
`__dict__` goes into the checkpoint and would override a changed schedule on resuming: ours is empty.
Read in PyTorch 2.13.
"""

from __future__ import annotations

from lehr.schedule.export._code import FACTOR, module, replay, segments
from lehr.schedule.export.export import Export, deviation, target
from lehr.schedule.schedule import Schedule

IMPORTS = "from torch.optim.lr_scheduler import LambdaLR\n"
MAKE = f'''\
{FACTOR}

def make_scheduler(optimizer):
    """Scheduler for an optimiser made with lr=PEAK; call step() once after every optimizer.step()."""
    return LambdaLR(optimizer, LehrSchedule())
'''
NOTES = (
    "create the optimiser with lr=PEAK (a group with a multiple of it keeps the multiple), and call "
    "scheduler.step() once after every optimizer.step().",
    "to resume, load the states of the optimiser and of the scheduler; the peak LR then comes from the "
    "checkpoint, the schedule from this file.",
)


def code(schedule: Schedule) -> Export:
    """Return a module with make_scheduler(optimizer), exact for every schedule."""
    lr, parts = target(schedule), segments(schedule)
    used = replay(parts)
    text = module(schedule, parts, IMPORTS, MAKE)
    return Export("torch", "code", "python", text, used, deviation(lr, used), NOTES)
