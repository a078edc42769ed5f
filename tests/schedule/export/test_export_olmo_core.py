"""The exports to OLMo-core replayed by its own schedulers."""

import types

import pytest
from hypothesis import given, settings
from tests.export_cases import CASES, load, require, run, same, schedules

from lehr.schedule.export import export

require("olmo_core", "torch")
pytestmark = pytest.mark.filterwarnings("ignore")
each_case = pytest.mark.parametrize("case", CASES)


def check(schedule, form):
    """Trainer._fit_epoch adds 1 to global_step before the train module calls set_lr and steps."""
    load("olmo_core.optim.scheduler")
    made = export(schedule, "olmo-core", form)
    snippet = run(made.text)
    scheduler = snippet.scheduler if form == "settings" else snippet.LehrScheduler()
    trainer = types.SimpleNamespace(global_step=0, max_steps=snippet.STEPS)
    group, used = {"lr": snippet.PEAK, "params": []}, []
    for _ in range(snippet.STEPS):
        trainer.global_step += 1
        scheduler.set_lr(group, trainer)
        used.append(group["lr"])
    same(made.lr, used)


@each_case
@pytest.mark.parametrize("form", ["settings", "code"])
def test_olmo_core(case, form):
    check(CASES[case], form)


@settings(max_examples=60, deadline=None)
@given(schedules)
def test_every_schedule(schedule):
    check(schedule, "settings")


def test_olmo_core_refuses_a_training_that_outlasts_the_schedule():
    load("olmo_core.optim.scheduler")
    scheduler = run(export(CASES["wsd"], "olmo-core", "code").text).LehrScheduler()
    with pytest.raises(ValueError, match="the schedule has 40 updates, the training 41"):
        scheduler.get_lr(3e-4, 1, 41)
