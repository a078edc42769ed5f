"""The exports to torchtitan replayed by its own scheduler container."""

import pytest
from hypothesis import given, settings
from tests.export_cases import CASES, load, require, run, same, schedules

from lehr.schedule.export import export

require("torchtitan", "torch")
pytestmark = pytest.mark.filterwarnings("ignore")
each_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def torch():
    return load("torch")


def optimiser(torch, peak):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)


def check(schedule, form):
    load("torchtitan.components.optimizer")
    torch, made = load("torch"), export(schedule, "torchtitan", form)
    snippet = run(made.text)
    config, peak = (
        (snippet.lr_scheduler, snippet.LR) if form == "settings" else (snippet.LehrConfig(), snippet.PEAK)
    )
    optimizer = optimiser(torch, peak)
    schedulers = config.build(optimizers=[optimizer], training_steps=snippet.STEPS)
    used = []
    for _ in range(snippet.STEPS):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedulers.step()
    same(made.lr, used)


@each_case
@pytest.mark.parametrize("form", ["settings", "code"])
def test_torchtitan(case, form):
    check(CASES[case], form)


@settings(max_examples=60, deadline=None)
@given(schedules)
def test_every_schedule(schedule):
    check(schedule, "settings")


def test_torchtitan_refuses_a_training_that_outlasts_the_schedule(torch):
    load("torchtitan.components.optimizer")
    config = run(export(CASES["wsd"], "torchtitan", "code").text).LehrConfig()
    with pytest.raises(ValueError, match="the schedule has 40 updates, the training 41"):
        config.build(optimizers=[optimiser(torch, 1.0)], training_steps=41)
