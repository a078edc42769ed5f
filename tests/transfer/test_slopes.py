"""Slopes and verdicts of a coordinate check, from numbers whose slopes are known."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.transfer.slopes import STREAM, WRITER, Origin, Reading, growth, judge, trends

SIZES = (64, 128, 256, 512)


def readings(slopes, scale="width", steps=(0, 1, 8), noise=0.0, seeds=2):
    """Powers of the size, one for each (part, measure), or each (part, measure, step)."""
    random = np.random.default_rng(0)
    found = []
    for (part, measure, *only), slope in slopes.items():
        for step, size, seed in itertools.product(only or steps, SIZES, range(seeds)):
            value = 3 * size**slope * np.exp(noise * random.standard_normal()) * max(step, 1) ** 0.7
            found.append(Reading(scale, size, seed, step, part, measure, float(value)))
    return found


@given(st.floats(-2, 2), st.floats(0.01, 100))
def test_the_slope_of_a_power_is_its_exponent(exponent, level):
    made = [
        Reading("depth", n, s, 3, "query", "size", level * n**exponent) for n in (2, 4, 16) for s in (0, 1)
    ]
    (found,) = trends(made, 3)
    assert found.slope == pytest.approx(exponent, abs=1e-9)
    assert found.values == pytest.approx([level * n**exponent for n in (2, 4, 16)])
    assert found.error == pytest.approx(0, abs=1e-9) and found.sizes == (2, 4, 16)


def test_its_error_is_that_of_the_seeds():
    made = [Reading("width", n, s, 1, "query", "size", n ** (0.1 * s)) for n in SIZES for s in (0, 1, 2)]
    (found,) = trends(made, 1)
    assert found.slope == pytest.approx(0.1)
    assert found.error == pytest.approx(0.1 / 3**0.5)
    (alone,) = trends([each for each in made if each.seed == 2], 1)
    assert alone.error is None and alone.slope == pytest.approx(0.2)


def test_what_is_level_holds_and_what_the_theory_does_not_want_level_is_not_judged():
    verdict = judge(
        readings({("query", "size"): 0.09, ("query", "update"): -0.09, ("query", "weights"): -0.5}), "width"
    )
    assert verdict.holds and not verdict.off and not verdict.origins
    assert verdict.text == "holds over width: all 2 slopes are within 0.1 of 0."
    (weights,) = [trend for trend in verdict.trends if trend.measure == "weights"]
    assert not weights.judged and not weights.level


def test_a_matrix_that_moves_too_far_from_the_first_update_on_is_named_and_those_after_it_are_not():
    slopes = {
        ("query", "update"): 0.0, ("value", "update"): 1.0, (WRITER, "update"): 0.05, (WRITER, "change"): 1.0,
        (STREAM, "change"): 1.0, ("ffn down", "update"): 0.6,
    }  # fmt: skip
    verdict = judge(readings(slopes), "width")
    assert [(each.part, each.what, pytest.approx(each.slope)) for each in verdict.origins] == [
        ("value", "update", 1)
    ]
    assert {each.part for each in verdict.off} == {"value", WRITER, STREAM, "ffn down"}
    assert verdict.text.startswith(
        "does not hold over width: 4 of 6 slopes are off, most that of the update of value (+1."
    )
    assert verdict.text.endswith("It begins with value (update +1.00).")


def test_initial_weights_of_a_wrong_size_are_named():
    slopes = {("key", "gain", 0): 0.5, ("key", "update"): 0.0, ("key", "size"): 0.3}
    assert judge(readings(slopes), "width").origins == (Origin("key", "gain", pytest.approx(0.5)),)


def test_a_stream_that_gets_more_than_its_branches_is_named():
    slopes = {("query", "update"): 0.1, (WRITER, "change"): -0.2, (STREAM, "change"): 0.7}
    assert judge(readings(slopes, "depth"), "depth").origins == (
        Origin(STREAM, "factor", pytest.approx(0.9)),
    )


def test_without_a_fault_from_the_start_finite_sizes_are_suspected():
    verdict = judge(readings({("key", "update", 1): -0.1, ("key", "update", 8): -0.15}), "width")
    assert not verdict.holds and not verdict.origins
    assert verdict.text.endswith(
        "No module is off by 0.25 or more from the first update on, so no exponent of the rule is the likely reason: "
        "leave out the smallest size, add seeds, or take fewer updates or a lower LR."
    )


def test_scales_are_judged_apart():
    made = readings({("query", "size"): 0.0}) + readings({("query", "size"): 1.0}, "depth")
    assert judge(made, "width").holds and not judge(made, "depth").holds


def test_growth_is_by_size_and_leaves_out_the_start():
    made = readings({("logits", "change"): 0.3}, steps=(0, 1, 2, 4))
    assert growth(made, "width", "logits", "change") == pytest.approx(dict.fromkeys(SIZES, 0.7))
