"""The exports to Hugging Face replayed by its schedulers, and by a Trainer that trains."""

import pytest
from hypothesis import given, settings
from tests.export_cases import CASES, load, require, run, same, schedules

from lehr.schedule.export import export

require("transformers", "accelerate", "torch")
pytestmark = pytest.mark.filterwarnings("ignore")
TRAINED = ["wsd", "wsd, HF warm-up", "wsd, from the final LR", "cosine, HF warm-up", "power, HF", "multistep"]


@pytest.fixture(scope="module")
def torch():
    return load("torch")


@pytest.fixture(scope="module")
def transformers():
    load("transformers.trainer")
    return load("transformers")


def check(schedule):
    """As Trainer.create_scheduler passes the arguments on, which the trainers below call themselves."""
    torch, transformers = load("torch"), load("transformers")
    made = export(schedule, "hf", "settings")
    arguments = run(made.text).LR_ARGUMENTS
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=arguments["learning_rate"])
    scheduler = transformers.get_scheduler(
        arguments["lr_scheduler_type"], optimizer, arguments["warmup_steps"], arguments["max_steps"],
        arguments.get("lr_scheduler_kwargs"),
    )  # fmt: skip
    used = []
    for _ in range(arguments["max_steps"]):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    same(made.lr, used)


@pytest.mark.parametrize("case", CASES)
def test_the_arguments_give_the_stated_lrs(case):
    check(CASES[case])


@settings(max_examples=60, deadline=None)
@given(schedules)
def test_every_schedule(schedule):
    check(schedule)


@pytest.mark.parametrize("case", TRAINED)
@pytest.mark.parametrize("form", ["settings", "code"])
def test_a_trainer_uses_the_stated_lr_at_every_update(torch, transformers, case, form, tmp_path):
    made = export(CASES[case], "hf", form)
    snippet = run(made.text)
    if form == "settings":
        trainer_class, own = transformers.Trainer, snippet.LR_ARGUMENTS
    else:
        trainer_class, own = snippet.LehrTrainer, {"learning_rate": snippet.PEAK, "max_steps": snippet.STEPS}
    used = []

    class Watch(transformers.TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, optimizer=None, **_):
            used.append(optimizer.param_groups[0]["lr"])

    class Line(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x, labels=None):
            return {"loss": (self.weight * x - labels).square().mean()}

    data = [{"x": torch.ones(1), "labels": torch.zeros(1)}] * 8
    arguments = transformers.TrainingArguments(
        str(tmp_path), report_to=[], disable_tqdm=True, save_strategy="no", logging_strategy="no", use_cpu=True,
        per_device_train_batch_size=2, gradient_accumulation_steps=2, **own,
    )  # fmt: skip
    trainer_class(Line(), arguments, train_dataset=data, callbacks=[Watch()]).train()
    same(made.lr, used)


def test_a_trainer_that_outlasts_the_schedule_is_refused(transformers, tmp_path):
    snippet = run(export(CASES["wsd"], "hf", "code").text)
    trainer = object.__new__(snippet.LehrTrainer)
    with pytest.raises(ValueError, match="the schedule has 40 updates, the training 41"):
        trainer.create_scheduler(41)
