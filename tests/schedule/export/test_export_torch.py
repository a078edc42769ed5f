"""The export to PyTorch replayed by PyTorch: every update's LR, groups, pickling, resuming."""

import copy
import io
import pickle

import pytest
from hypothesis import given, settings
from tests.export_cases import CASES, load, require, run, same, schedules

from lehr.schedule.export import export

require("torch")
pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def torch():
    return load("torch")


def optimiser(torch, peak, ratio=0.1):
    """An optimiser of two groups, the second at a multiple of the peak LR."""
    first, second = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    for parameter in (first, second):
        parameter.grad = torch.ones(1)
    return torch.optim.AdamW([{"params": [first]}, {"params": [second], "lr": ratio * peak}], lr=peak)


def train(optimizer, scheduler, updates):
    """LRs that the updates use, one column a group."""
    used = []
    for _ in range(updates):
        used.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        scheduler.step()
    return used


@pytest.mark.parametrize("case", CASES)
def test_every_update_uses_the_exported_lr(torch, case):
    made = export(CASES[case], "torch")
    snippet = run(made.text)
    optimizer = optimiser(torch, snippet.PEAK)
    used = train(optimizer, snippet.make_scheduler(optimizer), len(made.lr))
    same(made.lr, [row[0] for row in used])
    same(0.1 * made.lr, [row[1] for row in used])


@settings(max_examples=50, deadline=None)
@given(schedules)
def test_every_schedule_is_replayed(schedule):
    torch = load("torch")
    made = export(schedule, "torch")
    snippet = run(made.text)
    optimizer = optimiser(torch, snippet.PEAK)
    same(
        schedule.to_array(),
        [row[0] for row in train(optimizer, snippet.make_scheduler(optimizer), schedule.steps)],
    )


def test_the_scheduler_pickles_and_copies(torch, tmp_path):
    snippet = run(export(CASES["power"], "torch").text, tmp_path / "lehr_schedule.py")
    factor = snippet.LehrSchedule()
    for twin in (pickle.loads(pickle.dumps(factor)), copy.deepcopy(factor)):
        assert [twin(update) for update in range(40)] == [factor(update) for update in range(40)]
    assert vars(factor) == {}


@pytest.mark.parametrize("case", ["wsd", "rewarm", "table"])
def test_training_resumes_at_every_update(torch, case, tmp_path):
    """States go through a file that may hold no code; the LRs go on as if nothing had happened."""
    made = export(CASES[case], "torch")
    snippet = run(made.text, tmp_path / f"lehr_{case}.py")
    for stop in range(len(made.lr)):
        optimizer = optimiser(torch, snippet.PEAK)
        scheduler = snippet.make_scheduler(optimizer)
        train(optimizer, scheduler, stop)
        file = io.BytesIO()
        torch.save([optimizer.state_dict(), scheduler.state_dict()], file)
        file.seek(0)
        states = torch.load(file, weights_only=True)
        again = optimiser(torch, snippet.PEAK)
        resumed = snippet.make_scheduler(again)
        again.load_state_dict(states[0])
        resumed.load_state_dict(states[1])
        same(made.lr[stop:], [row[0] for row in train(again, resumed, len(made.lr) - stop)])


def test_on_resuming_the_new_schedule_counts_not_the_one_in_the_checkpoint(torch, tmp_path):
    """The trap of callables with state: LambdaLR would restore the old schedule from the checkpoint."""
    old = run(export(CASES["wsd"], "torch").text, tmp_path / "lehr_old.py")
    longer = export(CASES["1-sqrt"], "torch")
    new = run(longer.text, tmp_path / "lehr_new.py")
    optimizer = optimiser(torch, old.PEAK)
    scheduler = old.make_scheduler(optimizer)
    train(optimizer, scheduler, 20)
    again = optimiser(torch, new.PEAK)
    resumed = new.make_scheduler(again)
    again.load_state_dict(optimizer.state_dict())
    resumed.load_state_dict(scheduler.state_dict())
    same(longer.lr[21:], [row[0] for row in train(again, resumed, len(longer.lr) - 20)][1:])
