"""Megatron-LM: flags, or a subclass of its `OptimizerParamScheduler`.

`get_lr` counts samples, so update k sees k times the global batch. Warm-up is lr-warmup-init +
(lr - lr-warmup-init) k / lr-warmup-iters for k up to and with lr-warmup-iters: with the usual init of 0
update 0 is wasted at LR 0, and an init of peak / W with W - 1 iterations is a warm-up of W updates that
wastes none. The decay of WSD takes the last lr-wsd-decay-iters of lr-decay-iters and begins at the peak;
its "exponential" is 2 * 0.5^x - 1. Read in Megatron core 0.16.1, `optimizer_param_scheduler.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lehr.schedule.export._code import module, number, replay, segments, title
from lehr.schedule.export._plan import Plan, Share, aim, choose, nearest, plans
from lehr.schedule.export.export import Export, deviation, target
from lehr.schedule.schedule import Schedule
from lehr.schedule.shapes import SHAPES

Flags = dict[str, float | str]
HALVING = "halving"  # Megatron's own exponential, no shape of lehr
STYLES = {"linear": "linear", "cosine": "cosine", "sqrt": "minus_sqrt", HALVING: "exponential"}
SHARES: dict[str, Share] = {
    "linear": SHAPES["linear"],
    "cosine": SHAPES["cosine"],
    "minus_sqrt": SHAPES["sqrt"],
    "exponential": lambda x: 2 * 0.5**x - 1,
}
RISE = "Its warm-up is one straight line."
FALL = "Its decays are linear, cosine, 1-sqrt and 2 * 0.5^x - 1, once, down to one final LR."
NOTES = (
    "Megatron counts samples: the global batch must be constant (no --rampup-batch-size).",
    "on resuming a checkpoint made under other values add --override-opt-param-scheduler; with "
    "--use-checkpoint-opt-param-scheduler the checkpoint's LRs and lengths count instead.",
)

BODY = '''\
class LehrScheduler(OptimizerParamScheduler):
    """The LR of this file; groups with an LR of their own (max_lr) keep their multiple of --lr."""

    def get_lr(self, param_group):
        update = round(self.num_steps * STEPS / self.lr_decay_steps)
        return param_group.get("max_lr", self.max_lr) * (lr_at(update) / PEAK)


training.OptimizerParamScheduler = LehrScheduler
'''


def settings(schedule: Schedule) -> Export:
    """Return the flags that come nearest to the schedule."""
    lr = target(schedule)
    flags, used = choose(lr, ((f, _replay(f)) for f in _candidates(schedule, lr)))
    lines = "".join(f"    {n} {v if isinstance(v, str) else number(v)}\n" for n, v in flags.items())
    text = f"LR_ARGS=(  # {title(schedule)}, by lehr\n{lines})\n"
    return Export("megatron", "settings", "sh", text, used, deviation(lr, used, RISE, FALL), NOTES)


def code(schedule: Schedule) -> Export:
    """Return a module that replaces Megatron's scheduler by one that follows the schedule exactly."""
    lr, parts = target(schedule), segments(schedule)
    used = replay(parts)
    flags = (
        f"--train-iters {schedule.steps} --lr-decay-iters {schedule.steps} --lr {number(schedule.peak)} "
        "--lr-decay-style constant"
    )
    comment = f"import it before pretrain() is called, and train with\n{flags}"
    imports = (
        "from megatron.core.optimizer_param_scheduler import OptimizerParamScheduler\n"
        "from megatron.training import training\n"
    )
    text = module(schedule, parts, imports, BODY, comment)
    return Export(
        "megatron", "code", "python", text, used, deviation(lr, used), (f"train with {flags}.", *NOTES)
    )


def _candidates(schedule: Schedule, lr: np.ndarray) -> Iterator[Flags]:
    """Flags that may do, the plainest first."""
    for plan in plans(schedule, lr, ("linear", "cosine", "sqrt")):
        if plan.shape in STYLES or not plan.falls:
            yield _flags(plan)
    yield _flags(nearest(lr, HALVING, aim(schedule, lr), share=SHARES["exponential"]))


def _flags(plan: Plan) -> Flags:
    flags: Flags = {"--train-iters": plan.steps, "--lr": plan.peak}
    if plan.top:
        flags |= {"--lr-warmup-iters": plan.top, "--lr-warmup-init": plan.first}
    if not plan.falls:
        return flags | {"--lr-decay-style": "constant"}
    flags |= {"--min-lr": plan.final, "--lr-decay-iters": plan.end}
    style = STYLES[plan.shape]
    if plan.begin == plan.top and style in ("linear", "cosine"):
        return flags | {"--lr-decay-style": style}
    own: Flags = {"--lr-wsd-decay-style": style, "--lr-wsd-decay-iters": plan.end - plan.begin}
    return flags | {"--lr-decay-style": "WSD"} | own


def _replay(flags: Flags) -> np.ndarray:
    """LR of every update under the flags, shape (T,)."""
    n = {name: float(value) for name, value in flags.items() if not isinstance(value, str)}
    k, peak, warmup = np.arange(int(n["--train-iters"])), n["--lr"], n.get("--lr-warmup-iters", 0)
    used = np.full(len(k), peak)
    if flags["--lr-decay-style"] != "constant":
        end, low = n["--lr-decay-iters"], n["--min-lr"]
        length = n.get("--lr-wsd-decay-iters", end - warmup)
        style = str(flags.get("--lr-wsd-decay-style", flags["--lr-decay-style"]))
        used = low + (peak - low) * SHARES[style](np.clip((k - (end - length)) / length, 0.0, 1.0))
    if warmup:
        init = n["--lr-warmup-init"]
        used = np.where(k <= warmup, init + (peak - init) * k / warmup, used)
    return used
