"""The exports to Megatron, torchtitan, OLMo-core and DeepSpeed replayed by their own schedulers.

Each replay steps the scheduler where the framework's training loop does, read in its source.
"""

import json
import re
import sys
import types

import pytest
from tests.export_cases import CASES, framework, run, same

from lehr.schedule.export import export

pytestmark = pytest.mark.filterwarnings("ignore")
each_case = pytest.mark.parametrize("case", CASES)
BATCH = 192


@pytest.fixture(scope="module")
def torch():
    return framework("torch")


def optimiser(torch, peak):
    return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=peak)


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


@each_case
def test_megatron_flags(case):
    module = framework("megatron.core.optimizer_param_scheduler")
    made = export(CASES[case], "megatron", "settings")
    flags = dict(re.findall(r"^    (--\S+) (\S+)$", made.text, flags=re.M))
    group = {}
    optimizer = types.SimpleNamespace(param_groups=[group])
    scheduler = megatron_scheduler(module.OptimizerParamScheduler, optimizer, flags)
    same(made.lr, megatron_lrs(scheduler, group, len(made.lr)))


@each_case
def test_megatron_code(case, monkeypatch):
    module = framework("megatron.core.optimizer_param_scheduler")
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


@each_case
@pytest.mark.parametrize("form", ["settings", "code"])
def test_torchtitan(torch, case, form):
    framework("torchtitan.components.optimizer")
    made = export(CASES[case], "torchtitan", form)
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


def test_torchtitan_refuses_a_training_that_outlasts_the_schedule(torch):
    framework("torchtitan.components.optimizer")
    config = run(export(CASES["wsd"], "torchtitan", "code").text).LehrConfig()
    with pytest.raises(ValueError, match="the schedule has 40 updates, the training 41"):
        config.build(optimizers=[optimiser(torch, 1.0)], training_steps=41)


@each_case
@pytest.mark.parametrize("form", ["settings", "code"])
def test_olmo_core(case, form):
    """Trainer._fit_epoch adds 1 to global_step before the train module calls set_lr and steps."""
    framework("olmo_core.optim.scheduler")
    made = export(CASES[case], "olmo-core", form)
    snippet = run(made.text)
    scheduler = snippet.scheduler if form == "settings" else snippet.LehrScheduler()
    trainer = types.SimpleNamespace(global_step=0, max_steps=snippet.STEPS)
    group, used = {"lr": snippet.PEAK, "params": []}, []
    for _ in range(snippet.STEPS):
        trainer.global_step += 1
        scheduler.set_lr(group, trainer)
        used.append(group["lr"])
    same(made.lr, used)


def test_olmo_core_refuses_a_training_that_outlasts_the_schedule():
    framework("olmo_core.optim.scheduler")
    scheduler = run(export(CASES["wsd"], "olmo-core", "code").text).LehrScheduler()
    with pytest.raises(ValueError, match="the schedule has 40 updates, the training 41"):
        scheduler.get_lr(3e-4, 1, 41)


@each_case
def test_deepspeed_config(torch, case):
    """The engine steps the scheduler after every update that was not skipped."""
    module = framework("deepspeed.runtime.lr_schedules")
    made = export(CASES[case], "deepspeed", "settings")
    config = json.loads(made.text)["scheduler"]
    optimizer = optimiser(torch, CASES[case].peak)
    scheduler = getattr(module, config["type"])(optimizer, **config["params"])
    used = []
    for _ in range(len(made.lr)):
        used.append(optimizer.param_groups[0]["lr"])
        scheduler.step()
    same(made.lr, used)


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
