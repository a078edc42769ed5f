"""Long logs: the schedule found from some of their rows is the one found from all."""

import numpy as np
import pytest

from lehr.schedule import _logged, long_logs
from lehr.schedule import infer as module
from lehr.schedule.families import constant, cosine, multistep, one_cycle, wsd
from lehr.schedule.infer import infer
from lehr.schedule.spec import to_text

UP = {"steps": 6000, "peak": 3e-4, "warmup": 431}
MADE = {
    "constant": constant(**UP),
    "no warm-up": constant(steps=6000, peak=1e-3),
    "linear": wsd(**UP, decay=1345),
    "sqrt to a tenth": wsd(**UP, decay=1345, shape="sqrt", final=3e-5),
    "power": wsd(**UP, decay=1345, shape="power(1.5)"),
    "exponential": wsd(**UP, decay=1345, shape="exponential", final=3e-6),
    "cosine": cosine(**UP, final=3e-5),
    "cosine cut short": cosine(**UP, cycle=7321),
    "one cycle": one_cycle(steps=6000, peak=3e-4, warmup=431, start=3e-6, final=3e-8),
    "stages": multistep(**UP, milestones=[4003, 5001, 5010], factors=[0.316, 0.5, 0.1]),
}


@pytest.fixture
def few(monkeypatch):
    """Keep few rows of logs of some thousand; gives a way to switch that off."""
    monkeypatch.setattr(long_logs, "SPREAD", 300)
    monkeypatch.setattr(long_logs, "BENDS", 20)
    monkeypatch.setattr(long_logs, "_BLOCK", 777)

    def on(many):
        monkeypatch.setattr(module, "MANY", many)

    return on


OTHERS = [
    (name, kind) for name in ("linear", "cosine", "stages") for kind in ("single", "printed", "cut", "known")
]


@pytest.mark.parametrize(
    ("name", "kind"), [*((name, "exact") for name in MADE), *OTHERS, ("exponential", "cut")]
)
def test_some_rows_tell_what_all_tell(few, name, kind):
    step = np.arange(0, 6000 if kind != "cut" else 5500, 1 if kind != "known" else 2)
    lr = MADE[name].lr(step)
    if kind == "single":
        lr = lr.astype(np.float32).astype(float)
    if kind == "printed":
        lr = np.array([float(f"{value:.5E}") for value in lr])
    total = 6000 if kind == "known" else None
    few(10**9)
    whole = infer(step, lr, total_steps=total)
    few(1000)
    assert len(long_logs.telling(lr)) < 2500
    found = infer(step, lr, total_steps=total)
    assert found.family == whole.family and found.offset == whole.offset
    if (name, kind) != ("exponential", "cut"):  # whose last LR is a number of sixteen digits
        assert to_text(found.schedule) == to_text(whole.schedule)
    assert np.allclose(found.schedule.to_array(), whole.schedule.to_array(), rtol=1e-9, atol=1e-18)
    assert found.max_relative_error == pytest.approx(whole.max_relative_error, rel=1e-6, abs=1e-12)
    assert found.note.split(";")[1:] == whole.note.split(";")[1:]


def test_rows_that_contradict_the_few_are_added(few):
    step = np.arange(6000)
    lr = MADE["linear"].lr(step)
    bent = lr * np.where(
        (step > 2000) & (step < 2100), 1 - 1e-5 * np.sin((step - 2000) * np.pi / 100) ** 2, 1
    )
    few(10**9)
    whole = infer(step, bent, offset=0)
    few(1000)
    found = infer(step, bent, offset=0)
    assert to_text(found.schedule) == to_text(whole.schedule)
    assert found.max_relative_error == pytest.approx(whole.max_relative_error, rel=1e-6)


def test_what_no_family_fits_keeps_every_row(few):
    few(1000)
    step = np.arange(3000)
    lr = 1e-3 * (1.5 + np.sin(step / 37.0) + 0.1 * np.sin(step / 3.0))
    found = infer(step, lr)
    assert found.family == "from_array"
    assert np.array_equal(found.schedule.lr(step), lr)


def test_a_last_row_of_0_is_left_out_of_long_logs_too(few):
    few(1000)
    lr = np.full(5001, 1e-3)
    lr[-1] = 0
    assert "the last row, of LR 0, is left out" in infer(np.arange(1, 5002), lr).note


def test_gaps():
    assert long_logs.median_gap(np.arange(0.0, 100.0, 7)) == 7
    assert long_logs.median_gap(np.array([0.0, 1.0, 11.0, 21.0, 31.0])) == 10
    assert _logged.extent_of(np.array([0.0, 5.0, 10.0]), None).gap == 5


def test_millions_of_rows_are_inferred_as_few_are():
    schedule = wsd(steps=3_000_000, peak=3e-4, warmup=2000, decay=567_890, shape="sqrt")
    step = np.arange(3_000_000.0)
    lr = schedule.lr(step.astype(int))
    assert to_text(infer(step, lr).schedule) == to_text(schedule)
