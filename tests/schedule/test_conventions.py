"""The step convention at its edges, against figures measured on other code or worked out by hand."""

import numpy as np
import pytest

from lehr.schedule.families import FAMILIES, constant, cosine, from_array, one_cycle, ramp, wsd
from lehr.schedule.schedule import Schedule, Segment
from lehr.schedule.shapes import between, remaining

BASE = wsd(steps=10, peak=1, decay=4)

# Family, arguments, LR of every update. Peak 1 unless a family has none.
VALUES = [
    ("constant", {"steps": 5, "warmup": 2, "warmup_start": 0.5}, [0.75, 1, 1, 1, 1]),
    ("constant", {"steps": 4, "warmup": 2, "warmup_start": 0.5, "warmup_phase": 0}, [0.5, 0.75, 1, 1]),
    ("wsd", {"steps": 8, "warmup": 2, "decay": 4}, [0.5, 1, 1, 1, 1, 0.75, 0.5, 0.25]),
    ("wsd", {"steps": 4, "warmup": 2, "decay": 2, "final": 0.5}, [0.5, 1, 1, 0.75]),
    ("wsd", {"steps": 3, "decay": 2, "shape": "exponential", "final": 0.01}, [1, 1, 0.1]),
    ("cosine", {"steps": 6, "warmup": 2}, [0.5, 1, 1, 0.853553, 0.5, 0.146447]),
    ("cosine", {"steps": 6, "final": 0.2, "cycle": 4}, [1, 0.882843, 0.6, 0.317157, 0.2, 0.2]),
    (  # as torch 2.13 runs OneCycleLR(max_lr=1, total_steps=10, pct_start=.4, div_factor=25, final_div_factor=4)
        "one_cycle",
        {"steps": 10, "warmup": 4, "start": 0.04, "final": 0.01},
        [0.04, 0.28, 0.76, 1.0, 0.933683, 0.7525, 0.505, 0.2575, 0.076317, 0.01],
    ),
    ("wsd_s", {"periods": [4, 3], "warmup": 1, "decay": 2}, [1, 1, 1, 0.5, 1, 1, 0.5]),
    (
        "multistep",
        {"steps": 8, "milestones": [4, 6], "factors": [0.3, 0.1], "warmup": 2},
        [0.5, 1, 1, 1, 0.3, 0.3, 0.1, 0.1],
    ),
    (
        "cyclic",
        {"steps": 9, "low": 0.2, "period": 4, "warmup": 2, "shape": "linear"},
        [0.5, 1, 1, 0.8, 0.6, 0.4, 1, 0.8, 0.6],
    ),
    (  # 4 sequences times (16 tokens)^-0.5 is the peak at the fourth update
        "power_scheduler",
        {"steps": 10, "warmup": 2, "a": 1.0, "b": -0.5, "batch": 4, "batch_tokens": 4, "decay": 2},
        [0.5, 1, 1, 1, 4 / 20**0.5, 4 / 24**0.5, 4 / 28**0.5, 4 / 32**0.5, 4 / 32**0.5, 0.4 / 32**0.5],
    ),
    ("rewarm", {"base": BASE, "steps": 5, "peak": 0.5, "warmup": 2, "decay": 2},
     [1, 1, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25, 0.375, 0.5, 0.5, 0.5, 0.25]),
    ("branch", {"base": BASE, "at": 8, "then": constant(steps=2, peak=0.1)},
     [1, 1, 1, 1, 1, 1, 1, 0.75, 0.1, 0.1]),
    ("from_array", {"values": [0.1, 0, 0.3]}, [0.1, 0, 0.3]),
    ("ramp", {"steps": 2, "start": 1, "end": 0, "phase": 1, "span": 4}, [0.75, 0.5]),
    ("join", {"parts": [constant(steps=1, peak=2), constant(steps=2, peak=1)]}, [2, 1, 1]),
]  # fmt: skip
NO_PEAK = {"rewarm", "branch", "from_array", "ramp", "join"}


def test_every_family_has_its_values_checked():
    assert {family for family, *_ in VALUES} == set(FAMILIES)


@pytest.mark.parametrize(("family", "arguments", "expected"), VALUES)
def test_each_update_uses_its_lr(family, arguments, expected):
    peak = {} if family in NO_PEAK else {"peak": 1.0}
    schedule = FAMILIES[family](**(peak | arguments))
    assert schedule.steps == len(expected)
    np.testing.assert_allclose(schedule.to_array(), expected, atol=5e-7)
    np.testing.assert_array_equal(schedule.lr(np.arange(schedule.steps)), schedule.to_array())


@pytest.mark.parametrize(("phase", "first", "last"), [(1, 0.01, 1.0), (0, 0.0, 0.99)])
def test_edges_of_a_long_wsd(phase, first, last):
    schedule = wsd(steps=1000, peak=1, warmup=100, decay=200, warmup_phase=phase)
    found = schedule.lr(np.array([0, 99, 100, 799, 800, 801, 999]))
    np.testing.assert_allclose(found, [first, last, 1, 1, 1, 0.995, 0.005], rtol=1e-12)


# Ten updates (warm-up 4, stable 2, decay 4) as other frameworks' own schedulers were seen to use them.
RISE_0, RISE_1 = [0, 0.25, 0.5, 0.75], [0.25, 0.5, 0.75, 1]


@pytest.mark.parametrize(
    ("phase", "shape", "expected"),
    [
        pytest.param(0, "linear", [*RISE_0, 1, 1, 1, 0.75, 0.5, 0.25], id="HF and Megatron linear"),
        pytest.param(0, "sqrt", [*RISE_0, 1, 1, 1, 0.5, 0.2929, 0.134], id="HF and Megatron 1-sqrt"),
        pytest.param(1, "linear", [*RISE_1, 1, 1, 1, 0.75, 0.5, 0.25], id="torchtitan linear"),
    ],
)
def test_other_frameworks(phase, shape, expected):
    schedule = wsd(steps=10, peak=1, warmup=4, decay=4, shape=shape, warmup_phase=phase)
    np.testing.assert_allclose(schedule.to_array(), expected, atol=5e-5)


@pytest.mark.parametrize(
    ("start", "phase", "total"),
    [
        pytest.param(0, 1, 851.0, id="nanochat and torchtitan"),
        pytest.param(0.01, 0, 850.505, id="epfml"),
        pytest.param(0, 0, 850.0, id="OLMo-core"),
    ],
)
def test_area_of_other_frameworks(start, phase, total):
    schedule = wsd(steps=1000, peak=1, warmup=100, decay=200, warmup_start=start, warmup_phase=phase)
    assert schedule.to_array().sum() == pytest.approx(total, abs=1e-9)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ("linear", [1, 0.75, 0.5, 0]),
        ("sqrt", [1, 0.5, 0.29289322, 0]),
        ("square", [1, 0.9375, 0.75, 0]),
        ("cosine", [1, 0.85355339, 0.5, 0]),
        ("mirror_cosine", [1, 0.64644661, 0.5, 0]),
        ("power(2)", [1, 0.5625, 0.25, 0]),
    ],
)
def test_shapes_of_haegele(shape, expected):
    np.testing.assert_allclose(remaining(shape, np.array([0, 0.25, 0.5, 1])), expected, atol=5e-9)


def test_exponential_is_geometric():
    found = between("exponential", np.array([0, 0.25, 0.5, 1]), 1.0, 0.01)
    np.testing.assert_allclose(found, [1, 0.31622777, 0.1, 0.01], rtol=1e-7)


@pytest.mark.parametrize("at", [1, 3, 4, 5, 9, 10])
def test_the_first_updates_do_not_change_when_cut(at):
    schedule = wsd(steps=10, peak=1, warmup=4, decay=5, shape="sqrt")
    np.testing.assert_array_equal(schedule.first(at).to_array(), schedule.to_array()[:at])


def test_then_and_first_give_the_whole_back():
    schedule, more = cosine(steps=7, peak=1, warmup=2), from_array(values=[0.5, 0.25])
    both = schedule.then(more)
    assert both.first(7) == schedule
    assert both.to_array()[7:].tolist() == [0.5, 0.25]
    assert both.starts.tolist() == [0, 2, 7, 9]


def test_peak_is_the_highest_lr_used_not_the_one_aimed_at():
    assert constant(steps=4, peak=1, warmup=4, warmup_phase=0).peak == 0.75
    assert one_cycle(steps=6, peak=1, warmup=3, start=0.1).peak == 1
    assert from_array(values=[0.1, 0.4, 0.2]).peak == 0.4


def test_equality_is_of_values_not_of_the_call():
    assert wsd(steps=5, peak=1, decay=0) == constant(steps=5, peak=1)
    assert hash(from_array(values=[1, 2])) == hash(from_array(values=(1.0, 2.0)))
    assert wsd(steps=5, peak=1, decay=2) != wsd(steps=5, peak=1, decay=3)
    assert ramp(steps=5, start=1, end=1).segments == Schedule((Segment(5, 1, 1),)).segments
