import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.printed_logs import check_any_bytes, check_any_cut

from lehr.errors import InputError
from lehr.runs.readers import nanochat
from lehr.runs.readers.reading import ReadOptions
from lehr.schedule.spec import parse

DOCS = Path(__file__).resolve().parents[2] / "docs" / "logs"
HEAD = """\
Parameter counts:
wte                     : 33,554,432
total                   : 123,456,789
Calculated number of iterations from target data:param ratio: 5,000
Total batch size 524,288 => gradient accumulation steps: 32
"""


def line(s, loss, lrm):
    return (
        f"step {s:05d}/05000 ({s / 50:.2f}%) | loss: {loss:.6f} | lrm: {lrm:.2f} | dt: 100.00ms | tok/sec: 5,242,880 | "
        "bf16_mfu: 40.00 | epoch: 1 pq: 0 rg: 1 | total time: 0.10m | eta: 8.2m"
    )


def validation(s, bpb):
    return f"Step {s:05d} | Validation bpb: {bpb:.6f}"


LINES = [
    validation(0, 3.25),
    *(line(s, 10 - s / 100, min(1, (s + 1) / 40)) for s in range(60)),
    validation(60, 1.5),
]
WHOLE = (HEAD + "\n".join(LINES) + "\nStep 00060 | CORE metric: 0.1250\n").encode()


@pytest.fixture
def load(tmp_path):
    def read(data, name="speedrun.log"):
        path = tmp_path / name
        path.write_bytes(data)
        assert nanochat.sniff(path)
        (log,) = nanochat.logs(path, ReadOptions())
        return log

    return read


def test_everything_of_a_log(load):
    log = load(WHOLE)
    assert log.name == "speedrun"
    assert log.roles == {"train": "loss", "val": "Validation bpb", "lr": "lrm"}
    assert log.bits == {"Validation bpb"}
    assert (log.batch_tokens, log.params_total, log.config["iterations"]) == (524288, 123456789, 5000)
    assert log.series["lrm"].step.tolist() == list(range(60))  # the LR of the update that was just done
    assert log.series["lrm"].value[:2].tolist() == [0.03, 0.05]
    assert log.series["Validation bpb"].step.tolist() == [0, 60]
    assert log.series["Validation bpb"].value.tolist() == [3.25, 1.5]
    assert log.series["CORE metric"].value.tolist() == [0.125]
    assert "grad norm" not in log.series
    assert log.series["loss"].line[0] == 7
    assert log.report == (
        "60 training lines and 2 validations of nanochat",
        "the training loss is an average with decay 0.9: it was moved to its middle",
        "lrm, a multiple of each group's LR rounded to two digits, is taken for an LR with a peak of 1",
    )


def test_the_average_is_moved_to_where_it_belongs(load):
    """Averaging as the loop does, losses on a straight line: the average is the loss at the step it is moved to."""
    losses, smooth, lines = 10 - 0.01 * np.arange(200), 0.0, []
    for s, loss in enumerate(losses):
        smooth = 0.9 * smooth + 0.1 * loss
        lines.append(line(s, smooth / (1 - 0.9 ** (s + 1)), 1.0))
    series = load(("\n".join(lines) + "\n").encode()).series["loss"]
    assert series.step[0] == 0
    assert series.step[-1] == 199 - 9
    assert series.value == pytest.approx(losses[series.step.astype(int)], abs=0.0051)


def test_the_schedule_that_the_docs_name_is_nanochats():
    text = re.search(r'--schedule "(wsd[^"]+)"', (DOCS / "nanochat.md").read_text())[1]
    assert parse(text).to_array() == pytest.approx(
        [multiplier(k, 5000, 40, 0.65, 0.05) for k in range(5000)], rel=1e-12
    )


def multiplier(k, steps, warmup, ratio, final):
    """Write get_lr_multiplier anew."""
    down = round(ratio * steps)
    if k < warmup:
        return (k + 1) / warmup
    if k <= steps - down:
        return 1.0
    return (steps - k) / down + (1 - (steps - k) / down) * final


COMMAND = (
    "+ python -m scripts.base_train --depth=16 --warmup-steps 10 --run dummy --fp8 --warmdown-ratio=0.5\n"
)


def test_a_command_line_in_the_log_gives_the_schedule(load):
    lrs = [multiplier(k, 100, 10, 0.5, 0.05) for k in range(100)]
    rows = "".join(line(k, 5.0, lr).replace("/05000", "/00100") + "\n" for k, lr in enumerate(lrs))
    log = load((COMMAND + rows).encode())
    assert log.schedule.to_array() == pytest.approx(lrs, rel=1e-12)
    assert log.config == {"depth": 16, "warmup-steps": 10, "run": "dummy", "fp8": True, "warmdown-ratio": 0.5}
    assert (
        log.report[-1] == "schedule by the command line and nanochat's defaults, which agrees with every lrm"
    )
    log = load((COMMAND.replace("0.5", "0.4") + rows).encode())
    assert log.schedule is None
    assert log.report[-1] == "the schedule of the command line contradicts lrm at step 51 and was left out"
    log = load((COMMAND.replace("0.5", "1.5") + rows).encode())
    assert log.schedule is None
    assert "the command line gives no schedule (decay must be a whole number of updates" in log.report[-1]


def test_lines_that_a_terminal_glued_together(load):
    cut = line(850, 4.5, 0.43).partition(" pq:")[0]
    log = load((cut + line(900, 4.25, 0.45) + "\n").encode())
    assert log.series["loss"].value.tolist() == [4.5, 4.25]


def test_older_lines(load):
    old = b"step 00003/21400 (0.01%) | loss: 10.5 | grad norm: 0.75 | lrm: 1.00 | dt: 1ms | tok/sec: 1 | mfu: 1\n"
    log = load(b"0: Number of parameters: 560,988,160\n" + old)
    assert log.series["grad norm"].value.tolist() == [0.75]
    assert log.params_total == 560988160


def test_a_log_without_lines(tmp_path):
    path = tmp_path / "x.log"
    path.write_text("step 00010 | loss\n")
    assert not nanochat.sniff(path)
    with pytest.raises(
        InputError, match=r"x\.log holds no training line of nanochat, such as 'step 00010/05000"
    ):
        list(nanochat.logs(path))


def test_any_cut(tmp_path):
    check_any_cut(nanochat, tmp_path / "cut.log", b"\n".join(WHOLE.splitlines()[2:9]) + b"\n")


@given(st.one_of(st.binary(max_size=300), st.integers(0, 2**32)))
@settings(max_examples=60, deadline=None)
def test_any_bytes(tmp_path_factory, content):
    check_any_bytes(nanochat, tmp_path_factory.mktemp("any") / "a.log", content, WHOLE[:2000])
