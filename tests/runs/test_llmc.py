import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.printed_logs import check_any_bytes, check_any_cut

from lehr.errors import InputError
from lehr.runs.readers import llmc
from lehr.runs.readers.reading import ReadOptions

MAIN_LOG = """\
s:0 tel:11.0156
s:0 trl:11.0142 lr:0.000001 norm:15.52
s:1 trl:10.9000 lr:0.000002 norm:14.25
s:2 trl:nan lr:0.000003 norm:-nan
s:2 eval:0.2500
s:250 tel:6.5000
"""


def table(kind="cosine", steps=20, warmup=4, share=0.1):
    rows = [
        ("Parameter", "Value"), ("total batch size", 524288), ("LR scheduler", kind),
        ("learning rate (LR)", f"{6e-4:e}"), ("warmup iterations", warmup), ("final LR fraction", f"{share:e}"),
        ("num_parameters", 124475904), ("train_num_batches", steps), ("use_master_weights", "enabled"),
    ]  # fmt: skip
    rule = "+-----------------------+----------------------------------------------------+"
    return "\n".join([rule, *(f"| {name:<21} | {value!s:<50} |" for name, value in rows), rule]) + "\n"


CONSOLE = """\
val loss 11.015600
step    1/20 | loss 11.014210 (+nanz)| norm 15.5210 (+nanz)| lr 1.50e-04 | 1500.12 ms | -100.0% bf16 MFU | 349525 tok/s
step    2/20 | loss 10.900000 (-0.12z)| norm 14.2500 (+0.01z)| lr 3.00e-04 | 1500.12 ms | 50.0% bf16 MFU | 349525 tok/s
skipping update due to loss z-score of 5.000000
val loss 10.5
step    3/20 | loss 10.800000 (-0.12z)| norm 14.2500 (+0.01z)| lr 4.50e-04 | 1500.12 ms | 50.0% bf16 MFU | 349525 tok/s
val loss 10.25
total average iteration time: 1500.000000 ms
"""


@pytest.fixture
def load(tmp_path):
    def read(text, name="main.log"):
        path = tmp_path / "log124M" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        assert llmc.sniff(path)
        (log,) = llmc.logs(path, ReadOptions())
        return log

    return read


def test_main_log(load):
    log = load(MAIN_LOG)
    assert log.name == "log124M"
    assert log.roles == {"train": "train loss", "val": "val loss", "lr": "lr"}
    assert log.series["train loss"].step.tolist() == [0, 1, 2]
    assert log.series["train loss"].value.tolist() == pytest.approx([11.0142, 10.9, np.nan], nan_ok=True)
    assert log.series["lr"].step.tolist() == [0, 1, 2]
    assert log.series["norm"].value.tolist() == pytest.approx([15.52, 14.25, np.nan], nan_ok=True)
    assert (log.series["val loss"].step.tolist(), log.series["val loss"].value.tolist()) == (
        [0, 250],
        [11.0156, 6.5],
    )
    assert log.series["HellaSwag"].value.tolist() == [0.25]
    assert log.series["val loss"].line.tolist() == [1, 6]
    assert log.report == (
        "6 lines of llm.c's main.log", "the LR has six decimals only: a small one is rounded much",
        "main.log and a console without its table of settings tell no schedule",
    )  # fmt: skip
    assert load("s:3 trl:4.5\n").roles == {"train": "train loss"}


def test_console(load):
    log = load(table() + CONSOLE, "stdout.txt")
    assert log.series["train loss"].step.tolist() == [0, 1, 2]
    assert log.series["lr"].value.tolist() == [1.5e-4, 3e-4, 4.5e-4]
    assert log.series["lr"].value == pytest.approx(log.schedule.lr(np.array([0, 1, 2])))
    # before updates 0 and 2, and after the last
    assert log.series["val loss"].step.tolist() == [0, 2, 3]
    assert log.series["val loss"].value.tolist() == [11.0156, 10.5, 10.25]
    assert (log.batch_tokens, log.params_total) == (524288, 124475904)
    assert log.config["use_master_weights"] == "enabled"
    assert "Parameter" not in log.config
    assert log.report == (
        "3 training lines and 3 validation losses of llm.c", "schedule by the printed settings: cosine"
    )  # fmt: skip


def get_lr(step, kind, steps, warmup, share, peak=6e-4):
    """Write llmc/schedulers.h anew."""
    if kind == "constant":
        return peak
    if step < warmup:
        return peak * (step + 1) / warmup
    low = share * peak
    if kind == "wsd":
        point = int(0.8 * steps)
        return (
            peak if step < point else low + (1 - math.sqrt((step - point) / (steps - point))) * (peak - low)
        )
    x = (step - warmup) / (steps - warmup)
    return low + (0.5 * (1 + math.cos(math.pi * x)) if kind == "cosine" else 1 - x) * (peak - low)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant", "wsd"])
@pytest.mark.parametrize(("steps", "warmup", "share"), [(20, 4, 0.1), (13, 0, 0.0), (1003, 7, 1.0)])
def test_schedules(load, kind, steps, warmup, share):
    log = load(table(kind, steps, warmup, share) + CONSOLE)
    expected = [get_lr(k, kind, steps, warmup, share) for k in range(steps)]
    assert log.schedule.to_array() == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (table("polynomial"), "LR scheduler 'polynomial'"),
        (table(steps=-1), "train_num_batches -1.0"),
        (table(warmup=40), "warmup must be a whole number of updates, 0 .. 20"),
    ],
)
def test_settings_without_a_schedule(load, text, why):
    log = load(text + CONSOLE)
    assert log.schedule is None
    assert why in log.report[-1]


def test_a_log_without_lines(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("val loss 3.25\n")
    assert not llmc.sniff(path)
    with pytest.raises(InputError, match=r"x\.log holds no training line of llm\.c, such as 's:12 trl:7"):
        list(llmc.logs(path))


@pytest.mark.parametrize("whole", [MAIN_LOG, CONSOLE])
def test_any_cut(tmp_path, whole):
    check_any_cut(llmc, tmp_path / "cut.log", whole.encode())


@given(st.one_of(st.binary(max_size=300), st.integers(0, 2**32)))
@settings(max_examples=60, deadline=None)
def test_any_bytes(tmp_path_factory, content):
    check_any_bytes(
        llmc, tmp_path_factory.mktemp("any") / "a.log", content, (table() + CONSOLE + MAIN_LOG).encode()
    )
