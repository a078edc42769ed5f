import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.printed_logs import check_any_bytes, check_any_cut

from lehr.errors import InputError
from lehr.runs.readers import nanogpt
from lehr.runs.readers.reading import ReadOptions

CONFIG = """\
Overriding config with config/train_small.py:
# a small run
wandb_log = False # no
out_dir = 'out-small'
gradient_accumulation_steps = 5 * 8
max_iters = 50
lr_decay_iters = 40
warmup_iters = 10
learning_rate = 6e-4
beta2 = max(0.9, 0.95)

Overriding: learning_rate = 0.001
Overriding: min_lr = 0.0001
tokens per iteration will be: 491,520
number of parameters: 123.59M
"""


def iteration(i, loss):
    return f"iter {i}: loss {loss:.4f}, time {123.456:.2f}ms, mfu {-100.0 if i < 5 else 12.34:.2f}%"


def evaluation(i, train, val):
    return f"step {i}: train loss {train:.4f}, val loss {val:.4f}"


LINES = [
    evaluation(0, 10.98, 10.97),
    iteration(0, 10.985),
    iteration(10, 9.5),
    evaluation(20, 8.75, 8.8),
    iteration(20, 8.5),
]


@pytest.fixture
def load(tmp_path):
    def read(text, beside=None):
        path = tmp_path / "small-run" / "log.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        for name, content in (beside or {}).items():
            (path.parent / name).write_text(content)
        assert nanogpt.sniff(path)
        (log,) = nanogpt.logs(path, ReadOptions())
        return log

    return read


def get_lr(it, rate, warmup, end, low):
    """Write nanoGPT's get_lr anew."""
    if it < warmup:
        return rate * (it + 1) / (warmup + 1)
    if it > end:
        return low
    x = (it - warmup) / (end - warmup)
    return low + 0.5 * (1 + math.cos(math.pi * x)) * (rate - low)


def test_everything_of_a_log(load):
    log = load(CONFIG + "\n".join(LINES) + "\n")
    assert log.name == "small-run"
    assert log.series["loss"].step.tolist() == [0, 10, 20]
    assert log.series["loss"].value.tolist() == [10.985, 9.5, 8.5]
    assert log.series["loss"].line.tolist() == [17, 18, 20]
    assert log.series["val loss"].step.tolist() == [0, 20]
    assert log.series["val loss"].value.tolist() == [10.97, 8.8]
    assert log.series["train loss"].value.tolist() == [10.98, 8.75]
    assert log.roles == {"train": "loss", "val": "val loss"}
    assert log.batch_tokens == 491520
    assert log.config == {
        "wandb_log": False, "out_dir": "out-small", "gradient_accumulation_steps": 40, "max_iters": 50,
        "lr_decay_iters": 40, "warmup_iters": 10, "learning_rate": 0.001, "min_lr": 0.0001,
    }  # fmt: skip
    expected = [get_lr(k, 1e-3, 10, 40, 1e-4) for k in range(51)]
    assert log.schedule.to_array() == pytest.approx(expected, rel=1e-12)
    assert log.report == (
        "3 training lines and 2 evaluations of nanoGPT",
        "schedule by the settings and train.py of December 2024 or later",
    )


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("warmup_iters = 0\nlr_decay_iters = 100", (6e-4, 0, 100, 6e-5)),
        ("lr_decay_iters = 5000", (6e-4, 2000, 5000, 6e-5)),
        ("warmup_iters = 60\nlr_decay_iters = 61\nmin_lr = 0.0", (6e-4, 60, 61, 0.0)),
    ],
)
def test_schedules_that_are_cut_by_the_end(load, text, numbers):
    log = load(f"Overriding config with c.py:\nmax_iters = 50\n{text}\n{iteration(0, 9.0)}\n")
    assert log.schedule.to_array() == pytest.approx([get_lr(k, *numbers) for k in range(51)], rel=1e-12)
    assert "with its defaults for learning_rate" in log.report[-1]


def test_a_constant_lr_and_settings_that_give_none(load):
    log = load(f"decay_lr = False\nmax_iters = 9\n{iteration(0, 9.0)}\n")
    assert log.schedule.to_array().tolist() == [6e-4] * 10
    log = load(f"warmup_iters = 600000\n{iteration(0, 9.0)}\n")
    assert log.schedule is None
    assert log.report[-1] == (
        "the settings give no schedule (lr_decay_iters 600000 is not after warmup_iters 600000): "
        "give it with --schedule"
    )
    assert load(f"learning_rate = 'high'\n{iteration(0, 9.0)}\n").schedule is None


def test_settings_beside_the_log(load):
    content = "import os\nos.system('false')\nmax_iters = 3\nlearning_rate = 1e-3\nwarmup_iters = 1\n"
    log = load(iteration(0, 9.0) + "\n", {"train_a.py": content, "other.py": "x = 1\n"})
    assert log.config == {"max_iters": 3, "learning_rate": 1e-3, "warmup_iters": 1}
    assert log.report[1] == "settings of train_a.py, which lies beside the log"
    log = load(iteration(0, 9.0) + "\n", {"train_b.py": content})
    assert log.report[1:] == (
        "no settings were read: train_a.py, train_b.py lie beside the log",
        "nanoGPT prints no LR, and no settings were found: give the schedule with --schedule",
    )


def test_evaluations_alone_prefixes_and_nan(load):
    log = load(
        "[rank0]: step 0: train loss nan, val loss 10.5\n  3%|# |\rstep 5: train loss 9.5, val loss 9.25\n"
    )
    assert log.roles == {"train": "train loss", "val": "val loss"}
    assert np.isnan(log.series["train loss"].value[0])
    assert log.series["val loss"].step.tolist() == [0, 5]


def test_a_log_without_lines(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("iter 5: loss 3.1\n")
    assert not nanogpt.sniff(path)
    with pytest.raises(
        InputError, match=r"x\.log holds no training line of nanoGPT, such as 'iter 100: loss"
    ):
        list(nanogpt.logs(path))


WHOLE = (CONFIG + "\n".join(LINES) + "\n").encode()


def test_any_cut(tmp_path):
    check_any_cut(nanogpt, tmp_path / "cut.log", WHOLE[-300:])


@given(st.one_of(st.binary(max_size=300), st.integers(0, 2**32)))
@settings(max_examples=60, deadline=None)
def test_any_bytes(tmp_path_factory, content):
    check_any_bytes(nanogpt, tmp_path_factory.mktemp("any") / "a.log", content, WHOLE)
