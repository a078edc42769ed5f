"""A schedule through knots is what the laws see of it: same areas, same loss, same warm-up, exact text."""

import numpy as np
import pytest
from tests.synthetic import CASES

from lehr.anneal.knots import DIGITS, place_knots
from lehr.laws.law import Conditions
from lehr.schedule.families import wsd
from lehr.schedule.pieces import to_pieces
from lehr.schedule.spec import from_dict, to_dict

T, WARMUP, PEAK = 4000, 200, 1e-3
LAWS = ("multi_power", "functional", "effective_time", "effective_time_area", "weight_norm", "tissue")


def falling(grid, power=1.5):
    """LRs at the knots: a plateau, then (1 - x)^power over the last 40 %."""
    left = (T - grid.at) / T
    return np.array([float(f"{v:.{DIGITS}g}") for v in PEAK * np.minimum(left / 0.4, 1.0) ** power])


def test_knots_begin_after_the_warm_up_and_crowd_towards_the_end():
    grid = place_knots(T, WARMUP, 32)
    assert grid.at[0] == WARMUP and grid.at[-1] == T and len(grid.at) == 33 - 1
    gaps = np.diff(grid.at)
    assert np.all(gaps > 0) and np.all(np.diff(gaps[:-1]) <= 1)
    assert gaps[-1] <= 0.003 * T


@pytest.mark.parametrize(("steps", "warmup"), [(2, 0), (3, 1), (10, 0), (60, 7), (1_000_000, 2000)])
def test_any_length_has_knots_and_pieces_that_cover_it(steps, warmup):
    grid = place_knots(steps, warmup, 32)
    assert 2 <= len(grid.at) <= 33
    lr = np.linspace(PEAK, 0, len(grid.at))
    pieces, schedule = grid.pieces(lr), grid.schedule(lr)
    assert pieces.total == schedule.steps == steps
    assert np.all(pieces.steps > 0) and int(pieces.steps.sum()) == steps


@pytest.mark.parametrize("base", [None, wsd(steps=1000, peak=PEAK, warmup=50, decay=300, final=1e-4)])
def test_pieces_are_those_of_the_schedule(base):
    grid = place_knots(T, WARMUP, 32, base)
    lr = falling(grid)
    pieces, schedule = grid.pieces(lr), grid.schedule(lr)
    used = schedule.to_array()
    begin = np.append(pieces.start, T)
    means = np.array([used[a:b].mean() for a, b in zip(begin[:-1], begin[1:], strict=True)])
    np.testing.assert_allclose(pieces.lr, means, rtol=1e-5, atol=1e-9)
    np.testing.assert_allclose(pieces.first, used[begin[:-1]], rtol=1e-5, atol=1e-9)
    # a piece ends where the next begins, one update after its own last
    assert np.all(np.abs(pieces.last - used[begin[1:] - 1]) < 0.03 * PEAK)
    assert np.array_equal(pieces.warm[: len(to_pieces(schedule).warm)][:3], [True, True, True])


@pytest.mark.parametrize("name", LAWS)
def test_a_law_sees_the_same_loss_through_pieces_and_step_by_step(name):
    case, end = CASES[name], np.array([float(T)])
    grid = place_knots(T, WARMUP, 32)
    for power in (1.0, 1.5, 3.0):
        lr = falling(grid, power)
        schedule = grid.schedule(lr)
        seen = case.loss(Conditions(schedule, pieces=grid.pieces(lr)), end)[0]
        assert seen == pytest.approx(case.loss(Conditions(schedule), end, 0.0)[0], abs=2e-4)


@pytest.mark.parametrize("name", LAWS)
def test_the_loss_is_smooth_in_the_lrs(name):
    """Differences of steps of 1e-5 and of 1e-3 give the same slope: no jumps as the LRs change."""
    case, end = CASES[name], np.array([float(T)])
    grid = place_knots(T, WARMUP, 32)
    lr = PEAK * np.linspace(1, 0.05, len(grid.at)) ** 1.5
    conditions = Conditions(grid.schedule(lr))

    def slope(i, share):
        up, down = lr.copy(), lr.copy()
        up[i] *= 1 + share
        down[i] *= 1 - share
        high, low = (
            case.loss(Conditions(conditions.schedule, pieces=grid.pieces(v)), end)[0] for v in (up, down)
        )
        return (high - low) / (2 * share)

    slopes = np.array([[slope(i, share) for share in (1e-5, 1e-3)] for i in range(1, len(lr) - 1, 3)])
    np.testing.assert_allclose(slopes[:, 0], slopes[:, 1], atol=2e-3 * np.abs(slopes).max())


@pytest.mark.parametrize("name", LAWS)
def test_stairs_hold_the_lr_between_knots(name):
    case, end = CASES[name], np.array([float(T)])
    grid = place_knots(T, WARMUP, 16, stairs=True)
    lr = falling(grid)
    schedule = grid.schedule(lr)
    used = schedule.to_array()
    for begin, stop, value in zip(grid.at[:-1], grid.at[1:], lr[:-1], strict=True):
        assert np.all(used[begin:stop] == value)
    seen = case.loss(Conditions(schedule, pieces=grid.pieces(lr)), end)[0]
    assert seen == pytest.approx(case.loss(Conditions(schedule), end, 0.0)[0], abs=2e-4)


def test_the_schedule_starts_with_its_warm_up_and_survives_its_dict():
    grid = place_knots(T, WARMUP, 32)
    schedule = grid.schedule(falling(grid))
    used = schedule.to_array()
    np.testing.assert_allclose(used[:WARMUP], PEAK * np.arange(1, WARMUP + 1) / WARMUP, rtol=1e-12)
    assert from_dict(to_dict(schedule)) == schedule
    assert to_dict(schedule)["family"] == "join"


def test_flat_neighbours_are_one_segment():
    grid = place_knots(T, WARMUP, 32)
    lr = np.where(grid.at < 0.9 * T, PEAK, PEAK / 10)
    assert [part.steps for part in grid.schedule(lr).segments][0] == WARMUP
    assert len(grid.schedule(lr).segments) == 4, "warm-up, plateau, the way down, plateau"
    assert grid.schedule(np.full(len(grid.at), PEAK)).segments[1].steps == T - WARMUP


def test_after_a_base_the_warm_up_starts_from_its_last_lr():
    base = wsd(steps=1000, peak=PEAK, warmup=50, decay=300, final=1e-4)
    grid = place_knots(T, WARMUP, 32, base)
    low = base.to_array()[-1]
    assert grid.low == low and grid.begin == 1000 and grid.at[0] == 1000 + WARMUP
    used = grid.schedule(np.full(len(grid.at), 5e-4)).to_array()
    assert np.array_equal(used[:1000], base.to_array())
    np.testing.assert_allclose(np.diff(used[999:1200]), (5e-4 - low) / WARMUP, rtol=1e-3)
    assert np.all(used[1200:] == 5e-4)
