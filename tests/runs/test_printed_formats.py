"""Each printed log is recognised by its reader alone, wherever its lines begin."""

import pytest

from lehr.runs.readers import (
    hf_console,
    lehr_log,
    litgpt_console,
    llmc,
    megatron,
    modded_nanogpt,
    nanochat,
    nanogpt,
    nanotron,
    olmo_console,
    torchtitan,
    wandb_json,
)  # fmt: skip
from lehr.runs.readers.printed import HEAD, TAIL

SAMPLES = {
    megatron: "iteration  10/100 | elapsed time per iteration (ms): 5.1 | learning rate: 1.0E-04 | lm loss: 9.1E+00 |",
    torchtitan: "step: 10  loss:  7.1234  grad_norm:  1.2345  memory:  0.99GiB(1.04%)  tps: 1,234  tflops: 0.09",
    nanogpt: "iter 100: loss 3.1234, time 123.45ms, mfu 12.34%\nstep 100: train loss 3.1000, val loss 3.2000",
    nanochat: "step 00010/05000 (0.20%) | loss: 5.123456 | lrm: 1.00 | dt: 100.00ms | tok/sec: 5,242,880 | mfu: 40.0",
    modded_nanogpt: "step:125/1770 val_loss:4.3678 train_time:11003ms step_avg:88.02ms",
    llmc: "step   13/19560 | loss 7.123456 (+nanz)| norm 1.2345 (+nanz)| lr 1.20e-05 | 1500.12 ms | 50.0% bf16 MFU",
    nanotron: "iteration: 10 / 100 | consumed_tokens: 1.31M | grad_norm: 1.2 | lm_loss: 7.12 | lr: 3e-05 | eta: 0:01",
    litgpt_console: "Epoch 1 | iter 8 step 2 | loss train: 9.125, val: n/a | iter time: 12.34 ms",
    olmo_console: "[step=10/2000,epoch=1,eta=5h]\n    train/CE loss=2.345\n    train/PPL=10.43",
    hf_console: "{'loss': 2.345, 'grad_norm': 1.25, 'learning_rate': 4.95e-05, 'epoch': 0.1}",
}
READERS = [*SAMPLES, lehr_log, wandb_json]


def names(path):
    return [reader.__name__.rpartition(".")[2] for reader in READERS if reader.sniff(path)]


@pytest.mark.parametrize("reader", SAMPLES, ids=lambda reader: reader.__name__.rpartition(".")[2])
@pytest.mark.parametrize(
    "before",
    [
        b"",
        b"warning: a line, of another | process\n",
        b"\x1b[2m2026-03-01 12:00:00 INFO\x1b[0m [rank0]: ",
        b"0: ",
        b"9%|#  \r",
    ],
)
def test_one_reader_takes_each(tmp_path, reader, before):
    path = tmp_path / "a.log"
    path.write_bytes(before + SAMPLES[reader].encode() + b"\n")
    assert names(path) == [reader.__name__.rpartition(".")[2]]


def test_main_log_of_llm_c(tmp_path):
    path = tmp_path / "main.log"
    path.write_text("s:0 tel:11.0156\n")
    assert names(path) == ["llmc"]


@pytest.mark.parametrize("reader", SAMPLES, ids=lambda reader: reader.__name__.rpartition(".")[2])
def test_a_log_that_begins_with_much_else(tmp_path, reader):
    path = tmp_path / "a.log"
    path.write_bytes(
        b"loading shard\n" * (2 * HEAD // 14) + SAMPLES[reader].encode() + b"\n" + b"done\n" * (TAIL // 100)
    )
    assert names(path) == [reader.__name__.rpartition(".")[2]]


@pytest.mark.parametrize(
    "text",
    [
        "step,loss,lr\n1,2.5,1e-3\n",
        '{"step": 1, "loss": 2.5}\n',
        "step 1 loss 2.5\n",
        "iteration 1/10\n",
        "\0\xff\n",
        "loss: 2.5\n",
    ],
)
def test_nobody_takes_what_is_none_of_them(tmp_path, text):
    path = tmp_path / "a.log"
    path.write_text(text, encoding="latin-1")
    assert names(path) == []
