"""After how many updates a run reaches a loss: only at constant LR, with noise and spikes, with an honest spread."""

import numpy as np
import pytest
from tests.batch_curves import batch_runs, fewest

from lehr.fit.crossing import FEWEST, Trunk, constant_part, smooth, trunk_of
from lehr.runs.run import Run
from lehr.schedule.families import constant, cosine, from_array, multistep, wsd

BEFORE = np.array([3.4, 3.1, 2.9, 2.7])


@pytest.mark.parametrize(
    ("schedule", "part"),
    [
        (constant(steps=100, peak=1.0), (1, 100)),
        (constant(steps=100, peak=1.0, warmup=10), (10, 100)),
        (wsd(steps=100, peak=1.0, warmup=10, decay=20), (10, 81)),
        (multistep(steps=100, peak=1.0, milestones=[40], factors=[0.5]), (1, 40)),
        (from_array(values=[0.5, 1.0, 1.0, 0.9995, 0.9, 1.0]), (2, 4)),
    ],
    ids=str,
)
def test_the_constant_part(schedule, part):
    """Loss at step s has seen updates below s, so the update that first uses a lower LR counts from the next step."""
    assert constant_part(schedule) == part
    lr = schedule.to_array()
    assert np.all(lr[part[0] - 1 : part[1]] >= 0.999 * lr.max())


def test_a_cosine_has_no_part_worth_comparing():
    schedule = cosine(steps=1000, peak=1.0, warmup=10)
    first, last = constant_part(schedule)
    assert last - first < 0.03 * 1000


def test_points_outside_the_constant_part_and_before_the_burn_in_are_left_out():
    step = np.arange(10, 1001, 10)
    run = Run("a", wsd(steps=1000, peak=1.0, warmup=10, decay=500), step, 5 / step**0.1, batch_tokens=7)
    trunk = trunk_of(run, 100)
    assert np.exp(trunk.log_step).min() == pytest.approx(100) and np.exp(trunk.log_step).max() <= 501
    assert trunk.batch == 7
    assert trunk_of(run, 480) is None, "too few points are left"
    assert trunk_of(run.select(step > 400), 0) is not None
    assert len(step[(step > 430) & (step <= 500)]) < FEWEST
    assert trunk_of(run.select(step > 430), 0) is None


def test_long_logs_are_binned_without_bias():
    step = np.arange(1, 100_001)
    run = Run("a", constant(steps=100_000, peak=1.0), step, 2 + 10 / step**0.4, batch_tokens=1)
    trunk = trunk_of(run, 100)
    assert len(trunk.log_step) < 710
    np.testing.assert_allclose(trunk.loss, 2 + 10 / np.exp(trunk.log_step) ** 0.4, rtol=2e-5)


def crossings(run, draws=0, seed=0):
    return smooth(trunk_of(run, 160), draws, np.random.default_rng(seed)).crossing(BEFORE)


def test_without_noise_the_updates_are_right():
    run = batch_runs([1e12], noise=0, run_noise=0, every=10)[0]
    np.testing.assert_allclose(np.exp(crossings(run)[0]), fewest(BEFORE), rtol=4e-3)


def test_spikes_do_not_count():
    run = batch_runs([1e12], noise=2e-3, run_noise=0, every=10)[0]
    loss = run.loss.copy()
    loss[100::37] += 3.0
    spiked = Run("spiked", run.schedule, run.step, loss, batch_tokens=1)
    np.testing.assert_allclose(crossings(spiked)[0], crossings(run)[0], atol=0.01)


def test_the_spread_of_the_draws_is_that_of_the_noise():
    """Over 150 logs of one curve, at four losses, the draws' standard deviation is the real one within 30 %."""
    first, spread = [], []
    for seed in range(150):
        found = crossings(batch_runs([1e12], run_noise=0, seed=seed, steps=4000, every=20)[0], 40, seed)
        first.append(found[0])
        spread.append(found[1:].std(axis=0))
    ratio = np.sqrt(np.mean(np.square(spread), axis=0)) / np.std(first, axis=0)
    assert np.all((ratio > 0.75) & (ratio < 1.3)), ratio


def test_a_curve_never_rises_and_its_slope_is_below_zero():
    rng = np.random.default_rng(0)
    x = np.linspace(5, 8, 60)
    found = smooth(Trunk("a", 1.0, x, 3 + 0.2 * rng.standard_normal(60)), 20, rng)
    assert np.all(np.diff(found.loss, axis=1) <= 0) and np.all(found.slope < 0)


def test_the_slope_is_that_of_the_loss_in_the_log_of_the_step():
    run = batch_runs([1e12], noise=0, run_noise=0, every=10)[0]
    found = smooth(trunk_of(run, 160), 0, np.random.default_rng(0)).slope_at(BEFORE)
    np.testing.assert_allclose(found, -0.42 * (BEFORE - 2.1), rtol=0.03)
