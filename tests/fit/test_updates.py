"""The form of S(B, L) fitted to exact updates, many sets at once, against scipy, at its bounds."""

import numpy as np
import pytest
from scipy.optimize import least_squares
from tests.batch_curves import BATCHES, EXPONENT, fewest, true_critical

from lehr.fit.updates import EXPONENTS, bounds, fit_levels, fit_updates, middle, refit

LOSSES = np.array([3.6, 3.3, 3.0, 2.7])


def exact(batches, floor=0.0):
    x = true_critical(LOSSES) / np.array(batches)[:, None]
    return np.log(fewest(LOSSES)) + np.log1p(x / (1 - floor * x))


def noisy(batches, seed=0, size=0.05):
    return exact(batches) + size * np.random.default_rng(seed).standard_normal((len(batches), len(LOSSES)))


@pytest.mark.parametrize(("batches", "floor"), [((1e5, 1e6), 0.0), (BATCHES, 0.0), (BATCHES, 0.05)])
def test_exact_updates_give_back_the_form(batches, floor):
    found = fit_updates(exact(batches, floor), np.array(batches), LOSSES, floor > 0)
    assert np.exp(found.search[0]) == pytest.approx(true_critical(middle(LOSSES)), rel=1e-4)
    assert found.search[1] == pytest.approx(EXPONENT, rel=1e-4)
    assert found.search[2] == pytest.approx(floor, abs=1e-5)
    np.testing.assert_allclose(np.exp(found.log_fewest), fewest(LOSSES), rtol=1e-4)
    assert np.abs(found.residual).max() < 1e-5


@pytest.mark.parametrize("seed", range(4))
def test_it_ends_where_scipy_does(seed):
    batch, told = np.array(BATCHES), noisy(BATCHES, seed)
    found = fit_updates(told, batch, LOSSES, True)
    ratio = np.log(middle(LOSSES) / LOSSES)

    def residual(p):
        x = np.exp(p[0] + p[1] * ratio) / batch[:, None]
        gap = told - np.log1p(x / np.maximum(1 - p[2] * x, 1e-4))
        return (gap - gap.mean(axis=0)).ravel()

    ends = [
        least_squares(residual, [np.log(b), 4.0, 1e-3], bounds=bounds(batch, True), x_scale="jac")
        for b in (1e5, 3e5, 1e6)
    ]
    best = min(ends, key=lambda end: end.cost)
    assert np.sum(found.residual**2) <= 2 * best.cost * (1 + 1e-6)
    np.testing.assert_allclose(found.search, best.x, rtol=2e-3, atol=2e-4)


def test_many_sets_at_once_are_as_one_by_one():
    batch = np.array(BATCHES)
    start = fit_updates(exact(BATCHES), batch, LOSSES, True)
    sets = np.stack([noisy(BATCHES, seed) for seed in range(5)])
    together = refit(sets, batch, LOSSES, True, start)
    for row, one in zip(together, sets, strict=True):
        np.testing.assert_allclose(row, fit_updates(one, batch, LOSSES, True).search, rtol=2e-3, atol=2e-4)


def test_each_level_by_itself():
    batch = np.array(BATCHES)
    found = fit_updates(exact(BATCHES, 0.05), batch, LOSSES, True)
    np.testing.assert_allclose(
        fit_levels(exact(BATCHES, 0.05), batch, found), true_critical(LOSSES), rtol=1e-3
    )


def test_without_a_floor_there_is_none():
    assert fit_updates(exact(BATCHES, 0.05), np.array(BATCHES), LOSSES, False).search[2] == 0


def test_equal_updates_end_at_the_lowest_and_inverse_ones_far_above_the_batches():
    batch = np.array(BATCHES)
    equal = np.broadcast_to(np.log(fewest(LOSSES)), (5, 4))
    assert fit_updates(equal, batch, LOSSES, False).search[0] == pytest.approx(bounds(batch, False)[0][0])
    inverse = np.log(1e9 / batch[:, None] * np.ones(4))
    assert np.exp(fit_updates(inverse, batch, LOSSES, False).search[0]) > 100 * batch.max()


def test_a_larger_batch_that_is_slower_stays_finite():
    batch = np.array([1e5, 2e5])
    backwards = np.log([[100.0], [150.0]]) + np.zeros(4)
    found = fit_updates(backwards, batch, LOSSES, False)
    assert np.all(np.isfinite(found.search)) and EXPONENTS[0] <= found.search[1] <= EXPONENTS[1]
    assert np.abs(found.residual).max() == pytest.approx(np.log(1.5) / 2, rel=0.01)
