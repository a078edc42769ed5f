import json
import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.runs.readers import torchtitan
from lehr.runs.readers.reading import ReadOptions

CONFIG = {
    "job": {"description": "debug"}, "optimizer": {"lr": 8e-4},
    "lr_scheduler": {"warmup_steps": 4, "decay_ratio": 0.4, "decay_type": "sqrt", "min_lr_factor": 0.1},
    "training": {"steps": 20, "seq_len": 2048, "global_batch_size": 16, "local_batch_size": 8},
}  # fmt: skip


def line(k, loss, norm=1.25, rank=0):
    """Print as `MetricsProcessor.log` does, in colours."""
    return (
        f"[rank{rank}]:[titan] 2026-03-01 10:00:00,000 - root - INFO - \x1b[31mstep: {k:2}  \x1b[32mloss: {loss:7.4f}  "
        f"\x1b[38;2;180;60;0mgrad_norm: {norm:7.4f}  \x1b[36mmemory:  0.99GiB(1.04%)  \x1b[34mtps: 1,234  "
        f"\x1b[36mtflops: 0.09  \x1b[35mmfu: 0.01%\x1b[39m"
    )


def validation(k, loss):
    return f"[titan] - INFO - \x1b[33mvalidate step: {k:2}  \x1b[32mloss: {loss:7.4f}  \x1b[36mmemory:  0.99GiB(1%)"


@pytest.fixture
def load(tmp_path):
    def read(lines, toml=None, name="train.log"):
        path = tmp_path / "llama" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("\n".join(lines) + "\n")
        if toml is not None:
            (path.parent / "job.toml").write_text(toml)
        assert torchtitan.sniff(path)
        (log,) = torchtitan.logs(path, ReadOptions())
        return log

    return read


def lr_factor(k, steps, warmup, decay, kind, low, old):
    """Write `linear_warmup_stable_decay` anew, new and old."""
    if old:
        stable, one = steps - warmup - decay, 1
    else:
        stable, one = steps + 1 - warmup - decay, 0
    if k < warmup:
        return (k + 1) / (warmup + one)
    if k < warmup + stable:
        return 1.0
    x = (k + 1 - warmup - stable) / (decay + one)
    left = {"linear": 1 - x, "sqrt": 1 - math.sqrt(x), "cosine": 0.5 * (1 + math.cos(math.pi * x))}[kind]
    return low + (1 - low) * left


@pytest.mark.parametrize("kind", ["linear", "sqrt", "cosine"])
@pytest.mark.parametrize("old", [False, True])
@pytest.mark.parametrize(("warmup", "ratio"), [(4, 0.4), (0, None), (5, None), (15, 0.9), (4, 0.0)])
def test_printed_settings_give_the_schedule(load, kind, old, warmup, ratio):
    low = {"lr_min" if old else "min_lr_factor": 0.1}
    config = CONFIG | {
        "lr_scheduler": {"warmup_steps": warmup, "decay_ratio": ratio, "decay_type": kind, **low}
    }
    text = "Running with configs: " + json.dumps(config, indent=2)
    log = load([text, line(1, 8.0)])
    decay = min(20 - warmup if ratio is None else round(20 * ratio), 20 - warmup)
    expected = [8e-4 * lr_factor(k, 20, warmup, decay, kind, 0.1, old) for k in range(20)]
    assert log.schedule.to_array() == pytest.approx(expected, rel=1e-12)
    assert "settings as the log prints them" in log.report
    assert ("schedule by the settings" + (", as versions with lr_min made it" if old else "")) in log.report


def test_everything_of_a_log(load):
    lines = [
        "Running with args: " + repr(CONFIG), "Model llama3 debugmodel size: 6,270,208 total parameters",
        line(1, 8.25), line(10, float("nan")), validation(10, 7.5), "\r 5%|#  " + line(20, 7.0),
    ]  # fmt: skip
    log = load(lines)
    assert log.name == "llama"
    assert log.series["loss"].step.tolist() == [
        0,
        9,
        19,
    ]  # of the batch of the step printed, before its update
    assert log.series["loss"].value.tolist() == pytest.approx([8.25, np.nan, 7.0], nan_ok=True)
    assert log.series["loss"].line.tolist() == [3, 4, 6]
    assert log.series["validation_metrics/loss"].step.tolist() == [10]
    assert log.series["grad_norm"].value.tolist() == [1.25] * 3
    assert log.roles == {"train": "loss", "val": "validation_metrics/loss"}
    assert (log.batch_tokens, log.params_total) == (2048 * 16, 6_270_208)
    assert log.config["lr_scheduler.decay_type"] == "sqrt"
    assert log.report[0] == "3 training lines and 1 validation lines of torchtitan"


def test_settings_beside_the_log(load):
    toml = '[training]\nsteps = 10\n[optimizer]\nlr = 1e-3\n[lr_scheduler]\nwarmup_steps = 2\ndecay_type = "cosine"\n'
    log = load([line(1, 8.0)], toml)
    assert log.schedule.steps == 10
    assert log.schedule.to_array()[1] == 1e-3
    assert "settings of job.toml, which lies beside the log" in log.report
    again = load([line(1, 8.0)], toml="not [ toml")
    assert again.schedule is None
    assert again.report[-1] == (
        "torchtitan prints no LR, and no settings were found: give the schedule with --schedule"
    )


def test_two_settings_beside_the_log(load, tmp_path):
    (tmp_path / "llama").mkdir()
    (tmp_path / "llama" / "other.toml").write_text("[training]\nsteps = 1\n")
    log = load([line(1, 8.0)], toml="[training]\nsteps = 2\n")
    assert (
        "no settings were read: job.toml, other.toml lie beside the log; leave the one that was used"
        in log.report
    )


@pytest.mark.parametrize(
    ("toml", "why"),
    [
        (
            "[training]\nsteps = 10\nwarmup_steps = 3\n[optimizer]\nlr = 1e-3\n",
            "settings of 2024 name no schedule",
        ),
        (
            "[training]\nsteps = 10\n[optimizer]\nlr = 1e-3\n",
            "steps 10, warmup_steps 200, decay_type 'linear', lr 0.001",
        ),
    ],
)
def test_settings_without_a_schedule(load, toml, why):
    log = load([line(1, 8.0)], toml)
    assert log.schedule is None
    assert why in log.report[-1]


def test_lines_of_several_ranks_are_kept_once(load):
    lines = [line(k, 9.0 - k, rank=rank) for k in (1, 2, 3) for rank in (1, 0, 2)]
    log = load(lines)
    assert log.series["loss"].step.tolist() == [0, 1, 2]
    assert "6 lines of ranks above 0 repeat its lines and were left out" in log.report


def test_older_lines_without_a_norm(load):
    log = load(["[rank0]:2024-05-01 - root - INFO - step:  1  loss: 12.2721  memory: 10.00GiB(1%)  wps: 5"])
    assert log.series["loss"].value.tolist() == [12.2721]
    assert "grad_norm" not in log.series


def test_a_log_without_training_lines(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("step: 1 loss: 1.5\n")
    assert not torchtitan.sniff(path)
    with pytest.raises(InputError, match=r"x\.log holds no training line of torchtitan, such as 'step: 10"):
        list(torchtitan.logs(path))


def test_a_log_cut_anywhere_is_a_shorter_log_or_says_so(tmp_path):
    whole = ("\n".join([line(1, 8.25), validation(1, 8.0), line(2, 8.125)]) + "\n").encode()
    path = tmp_path / "cut.log"
    path.write_bytes(whole)
    (full,) = torchtitan.logs(path)
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        torchtitan.sniff(path)
        try:
            (log,) = torchtitan.logs(path)
        except InputError:
            continue
        for name, series in log.series.items():
            assert series.value.tolist() == full.series[name].value[: len(series.value)].tolist()
        assert whole[:size].endswith(b"\n") or any("has no line end" in sentence for sentence in log.report)


@given(st.one_of(st.binary(max_size=300), st.integers(0, 2**32)))
@settings(max_examples=60, deadline=None)
def test_nothing_but_input_errors_on_any_bytes(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "a.log"
    if isinstance(content, int):
        r = random.Random(content)
        data = bytearray(
            "\n".join(["Running with args: " + repr(CONFIG), *(line(k, 2.5) for k in (1, 2))]).encode()
        )
        for _ in range(r.randint(1, 40)):
            data[r.randrange(len(data))] = r.choice(b"019:. \n\r{}[]'eE-step\xff")
        content = bytes(data)
    path.write_bytes(content)
    torchtitan.sniff(path)
    try:
        list(torchtitan.logs(path))
    except InputError as error:
        assert "a.log" in str(error)
