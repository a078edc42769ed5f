"""The exports to Megatron-LM replayed by Megatron core's own scheduler, stepped as its training loop does."""

import re
import sys
import types

import pytest
from hypothesis import given, settings
from tests.export_cases import CASES, load, require, run, same, schedules

from lehr.schedule.export import export

require("megatron", "torch")
pytestmark = pytest.mark.filterwarnings("ignore")
each_case = pytest.mark.parametrize("case", CASES)
BATCH = 192


def megatron_scheduler(make, optimizer, flags):
    """As `get_optimizer_param_scheduler` of megatron/training/training.py makes it from its arguments."""
    decay = int(flags.get("--lr-decay-iters", flags["--train-iters"])) * BATCH
    wsd = flags.get("--lr-wsd-decay-iters")
    return make(
        optimizer, init_lr=float(flags.get("--lr-warmup-init", 0)), max_lr=float(flags["--lr"]),
        min_lr=float(flags.get("--min-lr", 0)), lr_warmup_steps=int(flags.get("--lr-warmup-iters", 0)) * BATCH,
        lr_decay_steps=decay, lr_decay_style=flags["--lr-decay-style"], start_wd=0.1, end_wd=0.1,
        wd_incr_steps=int(flags["--train-iters"]) * BATCH, wd_incr_style="constant",
        wsd_decay_steps=int(wsd) * BATCH if wsd else None,
        lr_wsd_decay_style=flags.get("--lr-wsd-decay-style", "exponential"),
    )  # fmt: skip


def megatron_lrs(scheduler, group, updates):
    """train_step: optimizer.step(), then opt_param_scheduler.step(increment=samples of the update)."""
    used = []
    for _ in range(updates):
        used.append(group["lr"])
        scheduler.step(increment=BATCH)
    return used


def check(schedule):
    module = load("megatron.core.optimizer_param_scheduler")
    made = export(schedule, "megatron", "settings")
    flags = dict(re.findall(r"^    (--\S+) (\S+)$", made.text, flags=re.M))
    group = {}
    optimizer = types.SimpleNamespace(param_groups=[group])
    scheduler = megatron_scheduler(module.OptimizerParamScheduler, optimizer, flags)
    same(made.lr, megatron_lrs(scheduler, group, len(made.lr)))


@each_case
def test_megatron_flags(case):
    check(CASES[case])


@settings(max_examples=60, deadline=None)
@given(schedules)
def test_every_schedule(schedule):
    check(schedule)


@each_case
def test_megatron_code(case, monkeypatch):
    module = load("megatron.core.optimizer_param_scheduler")
    made = export(CASES[case], "megatron", "code")
    training = types.ModuleType("megatron.training.training")  # the training package is not on PyPI
    package = types.ModuleType("megatron.training")
    package.training = training
    monkeypatch.setitem(sys.modules, "megatron.training", package)
    monkeypatch.setitem(sys.modules, "megatron.training.training", training)
    flags = dict(re.findall(r"(--\S+) (\S+)", re.search(r"^# (--train-iters .*)$", made.text, flags=re.M)[1]))
    run(made.text)
    assert issubclass(training.OptimizerParamScheduler, module.OptimizerParamScheduler)
    plain, scaled = {}, {"max_lr": 0.25 * float(flags["--lr"])}
    optimizer = types.SimpleNamespace(param_groups=[plain, scaled])
    scheduler = megatron_scheduler(training.OptimizerParamScheduler, optimizer, flags)
    half = len(made.lr) // 2
    used = megatron_lrs(scheduler, plain, half)
    assert scaled["lr"] == pytest.approx(0.25 * plain["lr"])
    resumed = megatron_scheduler(training.OptimizerParamScheduler, optimizer, flags)
    resumed.load_state_dict(scheduler.state_dict())
    same(made.lr, used + megatron_lrs(resumed, plain, len(made.lr) - half))
