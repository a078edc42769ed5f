import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.printed_logs import check_any_bytes, check_any_cut

from lehr.errors import InputError
from lehr.runs.readers import modded_nanogpt
from lehr.runs.readers.reading import ReadOptions

CODE = """\
import os
@dataclass
class Hyperparameters:
    # data
    train_files = "data/fineweb10B/fineweb_train_*.bin" # input .bin to train on
    val_tokens = 10485760 # how many tokens
    train_seq_len: int = 48*1024
    num_iterations: int = 1770
    cooldown_frac : float = 0.4
    run_id = f"{uuid.uuid4()}"

    val_loss_every = 125
args = Hyperparameters()
    not_a_setting = 5
print0(f"step:{step}/{args.num_iterations} val_loss:{val_loss:.4f} train_time:{training_time_ms:.0f}ms")
====================================================================================================
Running Python 3.12.7
"""
LINES = """\
step:0/1770 val_loss:10.8258 train_time:0ms step_avg:0.02ms
step:1/1770 train_time:85ms step_avg:85.12ms
step:125/1770 train_loss:4.5 train_time:11000ms step_avg:88.00ms
step:125/1770 val_loss:4.3678 train_time:11003ms step_avg:88.02ms
step:1770/1770 val_loss:3.2784 train_time:160000ms step_avg:90.40ms
peak memory allocated: 39118 MiB reserved: 44936 MiB
"""


@pytest.fixture
def load(tmp_path):
    def read(text):
        path = tmp_path / "3e0b3a5c.txt"
        path.write_text(text)
        assert modded_nanogpt.sniff(path)
        (log,) = modded_nanogpt.logs(path, ReadOptions())
        return log

    return read


def test_everything_of_a_log(load):
    log = load(CODE + LINES)
    assert log.name == "3e0b3a5c"
    assert log.series["val_loss"].step.tolist() == [0, 125, 1770]
    assert log.series["val_loss"].value.tolist() == [10.8258, 4.3678, 3.2784]
    assert log.series["train_loss"].step.tolist() == [124]  # of the batch of update 124, before it
    assert log.series["val_loss"].line.tolist() == [18, 21, 22]
    assert log.roles == {"train": "train_loss", "val": "val_loss"}
    assert log.config == {
        "train_files": "data/fineweb10B/fineweb_train_*.bin", "val_tokens": 10485760, "train_seq_len": 49152,
        "num_iterations": 1770, "cooldown_frac": 0.4, "val_loss_every": 125, "updates": 1770,
    }  # fmt: skip
    assert log.schedule is None
    assert log.report == (
        "1 training losses and 3 validation losses of modded-nanogpt",
        "the LR is not printed, it is part of the program: give the schedule with --schedule",
    )


def test_training_losses_alone(load):
    log = load("\x1b[1mstep:1/5 train_loss:nan train_time:1ms\x1b[0m\n")
    assert log.roles == {"train": "train_loss"}
    assert log.config == {"updates": 5}


def test_the_code_alone_is_no_log(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text(CODE)
    assert not modded_nanogpt.sniff(path)
    with pytest.raises(
        InputError, match=r"x\.txt holds no training line of modded-nanogpt, such as 'step:125/1270"
    ):
        list(modded_nanogpt.logs(path))


def test_any_cut(tmp_path):
    check_any_cut(modded_nanogpt, tmp_path / "cut.log", LINES.encode())


@given(st.one_of(st.binary(max_size=300), st.integers(0, 2**32)))
@settings(max_examples=60, deadline=None)
def test_any_bytes(tmp_path_factory, content):
    check_any_bytes(
        modded_nanogpt, tmp_path_factory.mktemp("any") / "a.log", content, (CODE + LINES).encode()
    )
