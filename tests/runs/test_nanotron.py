import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.printed_logs import check_any_bytes, check_any_cut

from lehr.errors import InputError
from lehr.runs.readers import nanotron
from lehr.runs.readers.reading import ReadOptions

PREFIX = "\x1b[2;3m03/01 14:37:22 [INFO|DP=0|PP=0|TP=0]\x1b[0m: "


def human(number):
    """Write human_format of nanotron anew."""
    if abs(number) < 1:
        return f"{number:.3g}"
    number, size = float(f"{number:.3g}"), 0
    while abs(number) >= 1000:
        number, size = number / 1000, size + 1
    return f"{number:f}".rstrip("0").rstrip(".") + ["", "K", "M", "B", "T"][size]


def line(k, loss, lr, norm=True, total=20):
    fields = [
        f"iteration: {k} / {total}", f"consumed_tokens: {human(k * 131072)}", f"time_per_iteration_ms: {human(26.1)}",
        f"tokens_per_sec: {human(5e6)}", "tokens_per_sec_per_gpu: 627K", f"global_batch_size: {human(131072)}",
        *(["grad_norm: 1.25"] if norm else []), f"lm_loss: {human(loss)}", f"lr: {human(lr)}",
        "model_tflops_per_gpu: 4.59", "eta: 0:00:10",
    ]  # fmt: skip
    return PREFIX + " | ".join(fields)


def config(**changes):
    told = {
        "learning_rate": 0.0003, "lr_warmup_steps": 4, "lr_warmup_style": "'linear'", "lr_decay_style": "'cosine'",
        "lr_decay_steps": 10, "lr_decay_starting_step": 6, "min_decay_lr": 1e-05, "train_steps": 20,
    } | changes  # fmt: skip
    head = "Config(general=GeneralArgs(project='debug',\n   run='tiny',\n   tokens=TokensArgs(sequence_length=256,\n"
    head += "       micro_batch_size=2,\n batch_accumulation_per_replica=32,\n parallelism=ParallelismArgs(dp=8,\n"
    return PREFIX + head + ",\n".join(f"{PREFIX}    {name}={value}" for name, value in told.items()) + ")\n"


@pytest.fixture
def load(tmp_path):
    def read(text):
        path = tmp_path / "job.out"
        path.write_text(text)
        assert nanotron.sniff(path)
        (log,) = nanotron.logs(path, ReadOptions())
        return log

    return read


def lr_at(k, peak, warmup, begin, length, low, style):
    """Write lr_lambda of nanotron anew."""
    if k <= warmup:
        return peak * k / max(warmup, 1)
    if k < begin:
        return peak
    if k < begin + length:
        x = (k - begin) / length
        return (
            low
            + (peak - low)
            * {"linear": 1 - x, "cosine": (1 + math.cos(math.pi * x)) / 2, "1-sqrt": 1 - x**0.5}[style]
        )
    return low


def test_everything_of_a_log(load):
    log = load(config() + "\n".join(line(k, 11 - k / 7, 1e-4 / 3) for k in (1, 2, 11)) + "\n")
    assert log.name == "tiny"
    assert log.series["lm_loss"].step.tolist() == [0, 1, 10]  # of the batch of the update that was just done
    assert log.series["lm_loss"].value.tolist() == [10.9, 10.7, 9.43]
    assert log.series["lr"].step.tolist() == [1, 2, 11]  # of the next update
    assert log.series["lr"].value.tolist() == [3.33e-5] * 3
    assert log.series["consumed_tokens"].value.tolist() == [131000, 262000, 1.44e6]
    assert log.series["grad_norm"].value.tolist() == [1.25] * 3
    assert log.roles == {"train": "lm_loss", "lr": "lr", "tokens": "consumed_tokens"}
    assert log.batch_tokens == 256 * 2 * 32 * 8
    assert log.config["lr_decay_style"] == "cosine"
    assert log.report == (
        "3 training lines of nanotron",
        "nanotron prints three significant digits: losses and LRs are rounded",
        "schedule by the printed settings",
    )


def test_the_lr_that_a_run_printed_is_that_of_the_next_update(load):
    """LRs as nanotron's own tiny example printed them in 2024, when grad_norm stood behind lr."""
    lrs = [0.00015, 0.0003, 0.000296, 0.000283, 0.000264, 0.000237, 0.000206, 0.000172, 0.000138, 0.000104, 7.26e-05,
           4.65e-05, 2.66e-05, 1.42e-05, 1e-05]  # fmt: skip
    told = config(lr_warmup_steps=2, lr_decay_starting_step=2, lr_decay_steps=13, train_steps=16)
    rows = [
        f"{PREFIX}iteration: {k} / 15 | consumed_tokens: 512 | lm_loss: 5.32 | lr: {lr} | grad_norm: 2.96 | x: 1\n"
        for k, lr in enumerate(lrs, start=1)
    ]
    log = load(told + "".join(rows))
    series = log.series["lr"]
    assert series.step.tolist() == list(range(1, 16))
    assert series.value == pytest.approx(log.schedule.lr(series.step.astype(int)), rel=0.005)  # three digits
    assert log.series["grad_norm"].value.tolist() == [2.96] * 15


@pytest.mark.parametrize("style", ["linear", "cosine", "1-sqrt"])
@pytest.mark.parametrize(
    ("warmup", "begin", "length", "steps"),
    [
        (4, 6, 10, 20),
        (4, 4, 16, 20),
        (0, 0, 20, 20),
        (0, 5, 10, 20),
        (3, 10, 40, 20),
        (30, 30, 10, 20),
        (0, 0, 5, 4),
    ],
)
def test_schedules(load, style, warmup, begin, length, steps):
    told = config(
        lr_warmup_steps=warmup, lr_decay_starting_step=begin, lr_decay_steps=length, train_steps=steps,
        lr_decay_style=repr(style),
    )  # fmt: skip
    log = load(told + line(1, 9.0, 0.0) + "\n")
    expected = [lr_at(k, 3e-4, warmup, begin, length, 1e-5, style) for k in range(steps)]
    assert log.schedule.to_array() == pytest.approx(expected, rel=1e-12)


def test_lengths_that_are_left_to_nanotron(load):
    log = load(config(lr_decay_steps=None, lr_decay_starting_step=None) + line(1, 9.0, 0.0) + "\n")
    expected = [lr_at(k, 3e-4, 4, 4, 16, 1e-5, "cosine") for k in range(20)]
    assert log.schedule.to_array() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"lr_decay_style": "'poly'"}, "its styles are not linear, cosine or 1-sqrt"),
        ({"lr_warmup_style": "'constant'"}, "after a linear warm-up"),
        ({"lr_decay_starting_step": 2}, "train_steps 20, warm-up 4, decay of 10 from 2, LR 0.0003"),
        ({"learning_rate": "high"}, "LR 0"),
    ],
)
def test_settings_without_a_schedule(load, changes, why):
    log = load(config(**changes) + line(1, 9.0, 0.0) + "\n")
    assert log.schedule is None
    assert why in log.report[-1]


def test_no_settings_no_norm_and_broken_losses(load):
    log = load(
        line(1, math.nan, 0.0, norm=False) + "\n" + PREFIX + "iteration: 2 / 20 | lm_loss: infE | lr: 1e-05\n"
    )
    assert log.name == "job"
    assert log.series["lm_loss"].value.tolist() == pytest.approx([np.nan, np.inf], nan_ok=True)
    assert log.series["lr"].value.tolist() == [0, 1e-5]
    assert "grad_norm" not in log.series
    assert log.report[-1] == "the log prints no settings: the schedule is left to the rounded LR"
    assert log.config == {"train_steps": 20}


def test_a_log_without_training_lines(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("iteration: 2 / 20 | lm_loss 5\n")
    assert not nanotron.sniff(path)
    with pytest.raises(
        InputError, match=r"x\.log holds no training line of nanotron, such as 'iteration: 10 / 100"
    ):
        list(nanotron.logs(path))


WHOLE = (config() + "\n".join(line(k, 9.5 - k, 1e-4) for k in (1, 2)) + "\n").encode()


def test_any_cut(tmp_path):
    check_any_cut(nanotron, tmp_path / "cut.log", b"\n".join(WHOLE.splitlines()[-2:]) + b"\n")


@given(st.one_of(st.binary(max_size=300), st.integers(0, 2**32)))
@settings(max_examples=60, deadline=None)
def test_any_bytes(tmp_path_factory, content):
    check_any_bytes(nanotron, tmp_path_factory.mktemp("any") / "a.log", content, WHOLE)
