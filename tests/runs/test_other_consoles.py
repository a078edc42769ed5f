"""Consoles of LitGPT and OLMo-core, and the rows of the HF Trainer, which are refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.printed_logs import check_any_bytes, check_any_cut

from lehr.errors import InputError
from lehr.runs.readers import hf_console, litgpt_console, olmo_console
from lehr.runs.readers.reading import ReadOptions

LITGPT = """\
Total parameters: 1,100,048,384
Epoch 1 | iter 4 step 1 | loss train: 10.123, val: n/a | iter time: 12.34 ms (step) remaining time: 1:00:00
Epoch 1 | iter 6 step 1 | loss train: nan, val: n/a | iter time: 12.34 ms remaining time: 1:00:00
Epoch 1 | iter 8 step 2 | loss train: 9.125, val: n/a | iter time: 12.34 ms (step) remaining time: 1:00:00
iter 8: val loss 9.0625, val time: 1234.56 ms
Epoch 1 | iter 12 step 3 | loss train: 8.5, val: 9.062 | iter time: 12.34 ms (step) remaining time: 1:00:00
"""
OLMO = """\
2026-03-01 12:00:00 INFO [olmo_core.train.trainer:734] train/CE loss=99.0 \n
2026-03-01 12:01:00 INFO [olmo_core.train.callbacks.console_logger:68] [step=1/2000,epoch=1,eta=5h11m]
    optim/LR (group 0)=1.50E-06
    throughput/total tokens=4,194,304
    train/CE loss=11.23
    train/PPL=75,357
2026-03-01 12:01:30 INFO [olmo_core.train.callbacks.console_logger:68] [step=5/2000,epoch=1]
2026-03-01 12:02:00 INFO [olmo_core.train.callbacks.console_logger:68] [step=10/2000,epoch=1,eta=5h]
    optim/total grad norm=1.234
    eval/lm/c4/CE loss=9.0
    train/CE loss=nan
    throughput/total tokens=41.9M
"""
HF = """\
  1%|          | 10/1000 [00:05<08:20,  1.98it/s]
{'loss': 2.345, 'grad_norm': 1.25, 'learning_rate': 4.95e-05, 'epoch': 0.1}
{'eval_loss': 2.25, 'eval_runtime': 1.5, 'epoch': 0.1}
"""


@pytest.fixture
def load(tmp_path):
    def read(reader, text):
        path = tmp_path / "train.txt"
        path.write_text(text)
        assert reader.sniff(path)
        others = {litgpt_console, olmo_console, hf_console} - {reader}
        assert not any(other.sniff(path) for other in others)
        (log,) = reader.logs(path, ReadOptions())
        return log

    return read


def test_litgpt(load):
    log = load(litgpt_console, LITGPT)
    assert log.series["loss"].step.tolist() == [0, 0, 1, 2]
    assert log.series["loss"].value.tolist() == pytest.approx([10.123, np.nan, 9.125, 8.5], nan_ok=True)
    assert (log.series["val_loss"].step.tolist(), log.series["val_loss"].value.tolist()) == ([2], [9.0625])
    assert log.series["val_loss"].line.tolist() == [5]
    assert log.roles == {"train": "loss", "val": "val_loss"}
    assert log.params_total == 1100048384
    assert log.report == (
        "4 training lines and 1 validations of LitGPT",
        "LitGPT prints no LR: import its metrics.csv instead, or give the schedule with --schedule",
    )
    early = "Epoch 1 | iter 1 step 0 | loss train: 9.1, val: n/a | iter time: 1 ms\niter 1: val loss 3.1, val time: 1\n"
    log = load(litgpt_console, early)
    assert "1 validations were left out: no line tells how many iterations make an update" in log.report
    assert log.roles == {"train": "loss"}


def test_olmo_core(load):
    log = load(olmo_console, OLMO)
    assert log.series["train/CE loss"].step.tolist() == [0, 9]
    assert log.series["train/CE loss"].value.tolist() == pytest.approx([11.23, np.nan], nan_ok=True)
    assert log.series["train/CE loss"].line.tolist() == [6, 12]
    assert log.series["optim/LR (group 0)"].step.tolist() == [0]
    assert log.series["optim/LR (group 0)"].value.tolist() == [1.5e-6]
    assert log.series["throughput/total tokens"].step.tolist() == [1, 10]
    assert log.series["throughput/total tokens"].value.tolist() == [4194304, 41.9e6]
    assert log.config == {"max_steps": 2000}
    assert log.roles == {
        "train": "train/CE loss",
        "lr": "optim/LR (group 0)",
        "tokens": "throughput/total tokens",
    }
    coarse = load(olmo_console, OLMO.replace("1.50E-06", "0.0004").replace("/2000", "/???"))
    assert "lr" not in coarse.roles
    assert coarse.config == {}
    assert coarse.report[-1] == (
        "optim/LR (group 0) has four decimals, too coarse for a schedule: it was left out; give --schedule"
    )


def test_rows_of_the_hf_trainer_are_refused(load, tmp_path):
    with pytest.raises(
        InputError, match=r"train\.txt, line 2, holds what the Trainer .* give trainer_state\.json"
    ):
        load(hf_console, HF)
    strings = "{'loss': '2.345', 'grad_norm': '1.25', 'learning_rate': '4.95e-05', 'epoch': '0.1'}\n"
    with pytest.raises(InputError, match=r"line 1, holds"):
        load(hf_console, strings)
    path = tmp_path / "empty.txt"
    path.write_text("nothing\n")
    with pytest.raises(InputError, match=r"empty\.txt holds what the Trainer"):
        list(hf_console.logs(path))


@pytest.mark.parametrize(
    ("reader", "text"),
    [
        (litgpt_console, r"x\.log holds no training line of LitGPT, such as 'Epoch 1 \| iter 8 step 2"),
        (olmo_console, r"x\.log holds no training line of OLMo-core, such as '\[step=10/100"),
    ],
)
def test_logs_without_lines(tmp_path, reader, text):
    path = tmp_path / "x.log"
    path.write_text("train/CE loss=2.5 \niter 8 step 2 | loss\n")
    assert not reader.sniff(path)
    with pytest.raises(InputError, match=text):
        list(reader.logs(path))


@pytest.mark.parametrize(("reader", "whole"), [(litgpt_console, LITGPT), (olmo_console, OLMO)])
def test_any_cut(tmp_path, reader, whole):
    check_any_cut(reader, tmp_path / "cut.log", whole.encode())


@pytest.mark.parametrize(
    ("reader", "whole"), [(litgpt_console, LITGPT), (olmo_console, OLMO), (hf_console, HF)]
)
@given(st.one_of(st.binary(max_size=300), st.integers(0, 2**32)))
@settings(max_examples=40, deadline=None)
def test_any_bytes(tmp_path_factory, reader, whole, content):
    check_any_bytes(reader, tmp_path_factory.mktemp("any") / "a.log", content, whole.encode())
