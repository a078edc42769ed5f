import math
import warnings

import numpy as np
import pytest

from lehr.runs.readers.lingua_schedule import lingua_schedule
from lehr.runs.readers.trainer_schedule import trainer_schedule

T, PEAK = 60, 0.5
WSD = {"num_decay_steps": 20}
CASES = [
    ("linear", 7, {}), ("linear", 0, {}), ("linear", 0.1, {}), ("linear", T, {}), ("cosine", 7, {}),
    ("constant", 7, {}), ("constant_with_warmup", 7, {}), ("cosine_with_min_lr", 7, {"min_lr": 0.05}),
    ("cosine_with_min_lr", 7, {"min_lr_rate": 0.2}), ("cosine_warmup_with_min_lr", 7, {"min_lr_rate": 0.2}),
    ("polynomial", 7, {"lr_end": 0.01, "power": 2.0}), ("polynomial", 0, {}), ("inverse_sqrt", 7, {}),
    ("inverse_sqrt", 7, {"timescale": 11}), ("inverse_sqrt", 0, {}), ("warmup_stable_decay", 7, WSD),
    ("warmup_stable_decay", 0, {**WSD, "decay_type": "linear", "min_lr_ratio": 0.1}),
    ("warmup_stable_decay", 7, {**WSD, "decay_type": "1-sqrt", "min_lr_ratio": 0.1, "num_stable_steps": T - 27}),
]  # fmt: skip


@pytest.mark.parametrize("as_text", [False, True])
@pytest.mark.parametrize(("kind", "warmup", "own"), CASES)
def test_the_trainers_own_schedules(kind, warmup, own, as_text):
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimization = pytest.importorskip("transformers.optimization")
        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=PEAK)
        count = int(warmup) if warmup >= 1 else math.ceil(warmup * T)
        scheduler = optimization.get_scheduler(kind, optimizer, count, T, scheduler_specific_kwargs=dict(own))
        used = []
        for _ in range(T):
            used.append(optimizer.param_groups[0]["lr"])
            optimizer.step()
            scheduler.step()
    config = {"learning_rate": PEAK, "max_steps": T, "warmup_steps": warmup, "lr_scheduler_type": kind}
    config |= (
        {"lr_scheduler_kwargs": str(own)}
        if as_text
        else {f"lr_scheduler_kwargs.{k}": v for k, v in own.items()}
    )
    np.testing.assert_allclose(trainer_schedule(config).to_array(), used, rtol=1e-12, atol=1e-15)


def test_warmup_as_a_ratio():
    config = {
        "learning_rate": 1.0,
        "max_steps": 10,
        "warmup_steps": 0,
        "warmup_ratio": 0.25,
        "lr_scheduler_type": "linear",
    }
    assert trainer_schedule(config).to_array()[:4] == pytest.approx([0, 1 / 3, 2 / 3, 1])


@pytest.mark.parametrize(
    "change",
    [
        {"max_steps": -1}, {"max_steps": None}, {"max_steps": 10**400}, {"learning_rate": 0}, {"learning_rate": "x"},
        {"lr_scheduler_type": "greedy"}, {"lr_scheduler_type": "cosine", "lr_scheduler_kwargs.num_cycles": 2},
        {"lr_scheduler_type": "warmup_stable_decay"}, {"warmup_steps": 100},
        {"lr_scheduler_type": "warmup_stable_decay", "lr_scheduler_kwargs": "{'num_decay_steps': 99}"},
    ],
)  # fmt: skip
def test_what_the_settings_do_not_tell(change):
    config = {
        "learning_rate": 0.1,
        "max_steps": 20,
        "warmup_steps": 2,
        "lr_scheduler_type": "linear",
        **change,
    }
    assert trainer_schedule(config) is None


def factor(kind, k, warmup, steps, low, fraction):
    """LR of lingua's update k by its functions' formulas, a case at a time."""
    if kind == "constant":
        return 1.0
    if k < warmup:
        return k / warmup
    s = (k - warmup) / (steps - warmup)
    if kind == "linear":
        return s * low + (1 - s)
    if kind == "cosine":
        return low + 0.5 * (1 - low) * (math.cos(math.pi * s) + 1)
    decay = int(steps * fraction)
    if k <= steps - decay:
        return 1.0
    progress = (k - (steps - decay)) / decay
    return 1 / (progress * (1 / low) + (1 - progress))


@pytest.mark.parametrize("kind", ["constant", "linear", "cosine", "wsd"])
def test_linguas_schedules(kind):
    config = {
        "steps": T,
        "optim.lr": PEAK,
        "optim.scheduler": kind,
        "optim.warmup": 7,
        "optim.lr_min_ratio": 0.02,
    }
    config["optim.decay_fraction"] = 0.3
    expected = [PEAK * factor(kind, k, 7, T, 0.02, 0.3) for k in range(T)]
    np.testing.assert_allclose(lingua_schedule(config).to_array(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    "change",
    [
        {"steps": None}, {"optim.lr": "x"}, {"optim.scheduler": "inv_sqrt"}, {"optim.cycle_length": 0.5},
        {"optim.warmup": 100}, {"optim.lr_min_ratio": None}, {"optim.lr": 0},
    ],
)  # fmt: skip
def test_what_linguas_settings_do_not_tell(change):
    config = {"steps": 50, "optim.lr": 0.1, "optim.scheduler": "cosine", "optim.warmup": 5, **change}
    assert lingua_schedule(config) is None
