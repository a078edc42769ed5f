"""Every refusal of the families, with its text."""

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.schedule.families import FAMILIES, constant, wsd
from lehr.schedule.schedule import Schedule, Segment, Table

WSD = {"steps": 100, "peak": 1e-3, "warmup": 10, "decay": 20}
ONE = {"steps": 100, "peak": 1e-3, "warmup": 10, "start": 1e-5}
STEP = {"steps": 100, "peak": 1e-3, "milestones": [50], "factors": [0.1]}
CYCLE = {"steps": 100, "peak": 1e-3, "low": 1e-4, "period": 10}
POWER = {"steps": 100, "peak": 1e-3, "a": 4.6, "batch": 8, "batch_tokens": 8192}
WARM = {"base": constant(steps=5, peak=1), "steps": 10, "peak": 1, "warmup": 2, "decay": 4}
FORK = {"base": constant(steps=5, peak=1), "at": 3, "then": constant(steps=5, peak=1)}
RAMP = {"steps": 5, "start": 1.0, "end": 0.0}

REFUSED = [
    ("constant", {"steps": 0, "peak": 1}, r"steps must be .* 1 or more, got 0: give the length of training"),
    ("constant", {"steps": 2.5, "peak": 1}, r"steps must be a whole number, got 2\.5: lengths .* in updates"),
    ("constant", {"steps": float("nan"), "peak": 1}, "steps must be a finite number, got nan"),
    ("constant", {"steps": True, "peak": 1}, "steps must be a number, got True"),
    ("constant", {"steps": 5, "peak": "high"}, "peak must be a number, got 'high'"),
    ("constant", {"steps": 5, "peak": 0}, r"peak must be above 0, got 0\.0: give the peak LR"),
    ("constant", {"steps": 5, "peak": -1}, r"peak must be a finite number of at least 0, got -1\.0"),
    ("constant", {"steps": 5, "peak": 1, "warmup": 6}, r"warmup must be .* 0 \.\. 5, got 6: warm-up is part"),
    ("constant", {"steps": 5, "peak": 1, "warmup": -1}, r"warmup must be .* 0 \.\. 5, got -1"),
    (
        "constant",
        {"steps": 5, "peak": 1, "warmup_start": 2},
        r"warmup_start must not exceed the peak 1, got 2\.0",
    ),
    (
        "constant",
        {"steps": 5, "peak": 1, "warmup_phase": 0.5},
        r"warmup_phase must be 0 or 1, got 0\.5: use 1",
    ),
    ("wsd", WSD | {"decay": 91}, r"decay must be .* 0 \.\. 90, got 91: warm-up and decay must fit"),
    ("wsd", WSD | {"final": 0.01}, r"final must not exceed the peak 0\.001, got 0\.01: it is an LR"),
    ("wsd", WSD | {"shape": "lineer"}, "unknown decay shape 'lineer': did you mean 'linear'"),
    ("wsd", WSD | {"shape": "power(0)"}, r"k of shape power\(k\) must be a number above 0, got '0'"),
    ("wsd", WSD | {"shape": "power(1-1)"}, "must be a number above 0, got '1-1'"),
    ("wsd", WSD | {"shape": 3}, "shape must be a name, got 3"),
    ("wsd", WSD | {"shape": "exponential"}, r"final must be above 0 for an exponential decay, got 0\.0"),
    (
        "cosine",
        {"steps": 9, "peak": 1, "warmup": 3, "cycle": 3},
        "cycle must be .* 4 or more, got 3: it counts",
    ),
    ("cosine", {"steps": 9, "peak": 1, "final": 2}, r"final must not exceed the peak 1, got 2\.0"),
    ("one_cycle", ONE | {"warmup": 1}, r"warmup must be .* 2 \.\. 98, got 1: both halves need at least two"),
    ("one_cycle", ONE | {"warmup": 99}, r"warmup must be .* 2 \.\. 98, got 99"),
    ("one_cycle", ONE | {"start": -1}, r"start must be a finite number of at least 0, got -1\.0"),
    ("one_cycle", ONE | {"final": 1}, r"final must not exceed the peak 0\.001, got 1\.0"),
    ("wsd_s", {"periods": [50, 5], "peak": 1, "decay": 20}, r"decay must be .* 0 \.\. 5, got 20"),
    ("wsd_s", {"periods": [], "peak": 1, "decay": 20}, "a schedule must have at least one update, got 0"),
    (
        "wsd_s",
        {"periods": 50, "peak": 1, "decay": 20},
        r"periods must be a list, got 50: write it as \[first",
    ),
    ("wsd_s", {"periods": "50", "peak": 1, "decay": 20}, "periods must be a list, got '50'"),
    ("multistep", STEP | {"factors": [0.1, 0.2]}, "factors must be as many as the 1 milestones, got 2: pair"),
    (
        "multistep",
        STEP | {"milestones": [60, 50], "factors": [1, 1]},
        "milestones must increase between warm-up",
    ),
    ("multistep", STEP | {"milestones": [100]}, "milestones must increase between warm-up and steps"),
    ("multistep", STEP | {"warmup": 60}, "milestones must increase between warm-up and steps"),
    ("multistep", STEP | {"milestones": [0.5]}, r"milestones must be a whole number, got 0\.5"),
    ("multistep", STEP | {"factors": [-1]}, r"factor must be a finite number of at least 0, got -1\.0"),
    ("cyclic", CYCLE | {"period": 0}, "period must be .* 1 or more, got 0: give the length of a cycle"),
    ("cyclic", CYCLE | {"steps": 10**12, "period": 1}, "period must leave at most 10000 cycles, got 1"),
    ("power_scheduler", POWER | {"steps": 10**12}, "steps must not exceed 50000000 for a listed LR"),
    ("cyclic", CYCLE | {"low": 1}, r"final must not exceed the peak 0\.001, got 1\.0"),
    ("cyclic", CYCLE | {"shape": "wave"}, "unknown decay shape 'wave'"),
    ("power_scheduler", POWER | {"decay": 100}, r"decay must be .* 0 \.\. 99, got 100: leave at least one"),
    ("rewarm", WARM | {"decay": 9}, r"decay must be .* 0 \.\. 8, got 9"),
    ("rewarm", WARM | {"base": "constant"}, "base must be a schedule, got 'constant'"),
    ("branch", FORK | {"at": 0}, r"at must be .* 1 \.\. 5, got 0: branch within the base"),
    ("branch", FORK | {"at": 6}, r"at must be .* 1 \.\. 5, got 6"),
    ("from_array", {"values": []}, "LR values must be a non-empty row of numbers"),
    ("from_array", {"values": [0.1, -0.2]}, r"LR value 1 must be a finite number of at least 0, got -0\.2"),
    ("from_array", {"values": [0.1, "x"]}, "values must be a number, got 'x'"),
    ("ramp", RAMP | {"steps": 0}, "segment steps must be a whole number of at least 1, got 0: drop it"),
    ("ramp", RAMP | {"end": -1}, "segment end must be a finite number of at least 0"),
    ("ramp", RAMP | {"phase": 2}, r"segment phase must keep progress within \[0, 1\], got 2\.0: use 0 or 1"),
    ("ramp", RAMP | {"phase": -1}, "segment phase must keep progress"),
    ("ramp", RAMP | {"span": 3}, "segment phase must keep progress"),
    ("ramp", RAMP | {"span": -5}, "segment phase must keep progress"),
    ("join", {"parts": []}, "a schedule must have at least one update"),
    ("join", {"parts": [1]}, "parts must be a schedule, got 1"),
]


def test_every_family_refuses_something():
    assert {family for family, *_ in REFUSED} == set(FAMILIES)


@pytest.mark.parametrize(("family", "arguments", "text"), REFUSED)
def test_refusals(family, arguments, text):
    with pytest.raises(InputError, match=text):
        FAMILIES[family](**arguments)


def test_updates_outside_the_schedule_are_refused():
    schedule = constant(steps=5, peak=1)
    with pytest.raises(InputError, match=r"update must lie in 0 \.\. 4, got 5: ask for an update of the run"):
        schedule.lr(np.array([0, 5]))
    with pytest.raises(InputError, match="got -1"):
        schedule.lr(np.array([-1, 3]))
    with pytest.raises(InputError, match=r"steps must lie in 1 \.\. 5, got 6: cut within the schedule"):
        schedule.first(6)


def test_a_segment_of_nan_progress_is_refused():
    with pytest.raises(InputError, match="segment phase must keep progress"):
        Segment(5, 1.0, 0.0, phase=float("nan"))


def test_calls_hold_plain_numbers_of_the_kind_that_the_argument_asks():
    schedule = wsd(steps=np.int64(100), peak=1, decay=20.0, warmup=np.float32(10))
    assert schedule.call == ("wsd", (("steps", 100), ("peak", 1.0), ("warmup", 10), ("decay", 20)))
    kinds = {name: type(value) for name, value in schedule.call[1]}
    assert kinds == {"steps": int, "peak": float, "warmup": int, "decay": int}


def test_an_argument_equal_to_its_default_is_not_part_of_the_call():
    assert wsd(steps=9, peak=1, decay=2, final=0, warmup_phase=1.0).call == wsd(steps=9, peak=1, decay=2).call


def test_a_table_keeps_its_own_values():
    values = np.array([0.1, 0.2])
    schedule = FAMILIES["from_array"](values=values)
    values[0] = 9
    assert schedule.to_array().tolist() == [0.1, 0.2]
    with pytest.raises(ValueError, match="read-only"):
        schedule.segments[0].values[0] = 9
    assert Schedule((Table([0.1, 0.2]),)) == schedule
