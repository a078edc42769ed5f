"""Pieces against the full array of LRs."""

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.schedule.families import branch, constant, cosine, from_array, one_cycle, ramp, rewarm, wsd
from lehr.schedule.pieces import RISING, TOLERANCE, to_pieces

SHAPES = ["linear", "sqrt", "square", "cosine", "mirror_cosine", "exponential", "power(0.5)", "power(1.5)"]
TRUNK = constant(steps=3000, peak=2e-3, warmup=300)
COOLED = wsd(steps=500, peak=2e-3, decay=500)
SCHEDULES = {
    **{s: wsd(steps=20_000, peak=3e-4, warmup=500, decay=8000, shape=s, final=3e-5) for s in SHAPES},
    "cosine to the end": cosine(steps=20_000, peak=1e-3, warmup=300, final=1e-4),
    "one cycle": one_cycle(steps=9_000, peak=1e-3, warmup=900, start=1e-5),
    "branch": branch(base=TRUNK, at=2000, then=COOLED),
    "rewarmed": rewarm(base=COOLED, steps=3000, peak=1e-3, warmup=400, decay=900, shape="sqrt"),
    "rising at the end": ramp(steps=4000, start=0, end=1, shape="sqrt"),
    "table": from_array(values=np.abs(np.sin(np.arange(3000) / 300)) ** 3),
    "single update": constant(steps=1, peak=1e-3),
}


def check(schedule, tolerance=TOLERANCE, area=1e-6):
    """Pieces cover the run, keep their range bound, and give the area of the full array."""
    pieces, full = to_pieces(schedule, tolerance), schedule.to_array()
    assert pieces.start[0] == 0
    assert pieces.total == schedule.steps
    np.testing.assert_array_equal(pieces.start[1:], (pieces.start + pieces.steps)[:-1])
    np.testing.assert_array_equal(pieces.first, full[pieces.start])
    np.testing.assert_array_equal(pieces.last, full[pieces.start + pieces.steps - 1])
    ranges = np.maximum.reduceat(full, pieces.start) - np.minimum.reduceat(full, pieces.start)
    allowed = np.where(pieces.last > pieces.first, RISING, 1.0) * tolerance * schedule.peak
    assert np.all(ranges <= allowed * (1 + 1e-9))
    found = np.concatenate([[0], np.cumsum(pieces.lr * pieces.steps)])
    expected = np.concatenate([[0], np.cumsum(full)])[pieces.edges.astype(int)]
    np.testing.assert_allclose(found, expected, atol=area * full.sum())
    return pieces


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_range_and_area(schedule):
    check(schedule)


@pytest.mark.parametrize("tolerance", [0.1, 0.003])
@pytest.mark.parametrize("shape", ["linear", "sqrt", "cosine"])
def test_range_and_area_at_other_tolerances(tolerance, shape):
    check(SCHEDULES[shape], tolerance, area=1e-4 * tolerance)


def test_a_flat_tail_costs_area_of_second_order():
    check(wsd(steps=20_000, peak=3e-4, decay=8000, shape="power(4)"), area=2e-5)


def test_a_steep_start_keeps_the_bound_in_a_long_decay():
    for shape in ("sqrt", "power(0.5)"):
        check(wsd(steps=1_000_000, peak=3e-4, decay=200_000, shape=shape))


def test_no_tolerance_gives_every_update():
    schedule = wsd(steps=40, peak=1.0, warmup=10, decay=20)
    pieces = check(schedule, tolerance=0)
    assert len(pieces.start) == 10 + 1 + 20  # the stable part needs one


def test_pieces_do_not_grow_with_the_run():
    counts = []
    for steps in (10_000, 1_000_000):
        schedule = wsd(steps=steps, peak=3e-4, warmup=steps // 50, decay=steps // 5, shape="sqrt")
        counts.append(len(to_pieces(schedule).start))
    assert counts[1] <= counts[0] + 3
    assert counts[0] < 170


def test_cost_is_by_segment():
    schedule = wsd(steps=10**12, peak=3e-4, warmup=10**9, decay=10**11)
    begin = time.perf_counter()
    pieces = to_pieces(schedule)
    assert time.perf_counter() - begin < 1
    assert pieces.total == 10**12
    assert schedule.lr(np.array([10**12 - 1]))[0] == pytest.approx(3e-15)


@pytest.mark.parametrize("phase", [0, 1])
@pytest.mark.parametrize("tail", [{"decay": 0}, {"decay": 300}, {"decay": 900, "shape": "sqrt"}])
def test_warm_marks_exactly_the_warm_up(phase, tail):
    pieces = to_pieces(wsd(steps=1000, peak=1e-3, warmup=100, warmup_phase=phase, **tail))
    assert pieces.steps[pieces.warm].sum() == 100
    assert np.all(pieces.start[pieces.warm] < 100)


def test_nothing_is_warm_without_a_rise_or_after_the_first_fall():
    assert not to_pieces(wsd(steps=1000, peak=1e-3, decay=300)).warm.any()
    pieces = to_pieces(SCHEDULES["rewarmed"])
    assert not pieces.warm.any()
    assert np.any(pieces.last > pieces.first)


def test_cuts_are_edges():
    schedule = cosine(steps=1000, peak=1.0, warmup=100)
    edges = to_pieces(schedule, cuts=(0, 50, 333, 777, 1000, 2000)).edges
    assert {50, 333, 777} <= set(edges)
    assert edges[-1] == 1000
    check(schedule)


def test_integral_is_exact_at_every_step_of_a_constant_density():
    pieces = to_pieces(SCHEDULES["linear"])
    steps = np.array([0, 1, 777.5, 20_000])
    np.testing.assert_allclose(pieces.integral(np.full(len(pieces.start), 2.0), steps), 2 * steps)


lrs = st.floats(1e-6, 1.0)
tables = st.lists(lrs, min_size=1, max_size=60).map(lambda values: from_array(values=values))


@st.composite
def decays(draw):
    steps, warmup = draw(st.integers(1, 3000)), draw(st.integers(0, 200))
    peak = draw(lrs)
    common = {"steps": steps, "peak": peak, "warmup": min(warmup, steps - 1)}
    common |= {"final": peak * draw(st.floats(0.01, 1)), "warmup_phase": draw(st.sampled_from([0, 1]))}
    if draw(st.booleans()):
        return cosine(**common)
    decay = draw(st.integers(0, steps - common["warmup"]))
    return wsd(decay=decay, shape=draw(st.sampled_from(SHAPES)), **common)


@settings(max_examples=80, deadline=None)
@given(st.one_of(decays(), tables))
def test_any_schedule(schedule):
    # Where a steep end of a shape falls into one piece, its area is right to a hundredth of the tolerance.
    check(schedule, area=TOLERANCE / 100)
