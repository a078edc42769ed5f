"""The exports to DeepSpeed replayed by its own schedulers, stepped as its engine does."""

import json

import pytest
from hypothesis import given, settings
from tests.export_cases import CASES, load, require, run, same, schedules

from lehr.schedule.export import export

require("deepspeed", "torch")
pytestmark = pytest.mark.filterwarnings("ignore")
each_case = pytest.mark.parametrize("case", CASES)


@pytest.fixture(scope="module")
def torch():
    return load("torch")


def optimiser(torch, peak):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)


def check(schedule):
    """The engine steps the scheduler after every update that was not skipped."""
    torch, module = load("torch"), load("deepspeed.runtime.lr_schedules")
    made = export(schedule, "deepspeed", "settings")
    config = json.loads(made.text)["scheduler"]
    optimizer = optimiser(torch, schedule.peak)
    scheduler = getattr(module, config["type"])(optimizer, **config["params"])
    used = []
    for _ in range(len(made.lr)):
        used.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    same(made.lr, used)


@each_case
def test_deepspeed_config(case):
    check(CASES[case])


@settings(max_examples=60, deadline=None)
@given(schedules)
def test_every_schedule(schedule):
    check(schedule)


@each_case
def test_deepspeed_code(torch, case):
    """The engine calls what initialize got as lr_scheduler with the optimiser; see also the contract test."""
    made = export(CASES[case], "deepspeed", "code")
    snippet = run(made.text)
    optimizer = optimiser(torch, snippet.PEAK)
    scheduler, used = snippet.make_scheduler(optimizer), []
    for _ in range(len(made.lr)):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    same(made.lr, used)
