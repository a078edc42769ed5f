"""The noise along a curve: its form, and that it is found again in the residuals of a fit."""

import math
from dataclasses import replace

import numpy as np
import pytest
from tests.fit.wandering import LENGTH, SLOW, WHITE, wandering_runs
from tests.synthetic import CASES

from lehr.fit.fit import FitOptions, fit
from lehr.fit.linearised import reopen
from lehr.fit.noise import Noise, directions, estimate_noise, places, without_spikes

TISSUE = CASES["tissue"]


def opened(seed, case=TISSUE, **noise):
    runs = wandering_runs(case, seed, every=40, **noise)[:6]
    return reopen(fit(case.law, runs, FitOptions(starts=6, polished=1)), runs)


def test_the_covariance_is_white_plus_what_falls_off_along_the_run():
    noise = Noise(white=3.0, slow=2.0, length=0.5)
    found = noise.covariance(np.array([0.0, 0.5, 1.0]), np.array([1.0, 4.0, 1.0]))
    assert np.diag(found) == pytest.approx([13.0, 10.0, 13.0])
    assert found[0, 2] == pytest.approx(4 * math.exp(-2))
    assert found[0, 1] == pytest.approx(4 / 2 * math.exp(-1))
    assert np.array_equal(found, found.T)


def test_runs_are_independent():
    fitted = opened(0)
    noise = Noise(1e-4, 5e-4, 0.3)
    columns = np.ones((len(fitted.steps), 1))
    whole = sum(float(matrix.sum()) for matrix in noise.covariances(fitted.problem, fitted.steps))
    assert noise.spread_of(fitted.problem, fitted.steps, columns) == pytest.approx(whole)


def test_places_run_from_0_to_1():
    assert places(np.array([100.0, 200.0, 500.0])) == pytest.approx([0, 0.25, 1])
    assert places(np.array([100.0])) == pytest.approx([0.0])


def test_noise_is_found_again():
    """Means over ten sets of six runs: within 5 % for the white part, 15 % for the wander, a third for its length."""
    found = [estimate_noise(opened(seed)) for seed in range(10)]
    assert np.mean([n.white for n in found]) == pytest.approx(WHITE, rel=0.05)
    assert np.sqrt(np.mean([n.slow**2 for n in found])) == pytest.approx(SLOW, rel=0.15)
    assert np.exp(np.mean([np.log(n.length) for n in found])) == pytest.approx(LENGTH, rel=0.33)


def test_white_noise_alone_has_little_wander():
    found = estimate_noise(opened(3, slow=0.0))
    assert found.white == pytest.approx(WHITE, rel=0.1)
    assert found.slow < 0.3 * WHITE


def test_a_spike_does_not_decide():
    fitted = opened(1)
    before = estimate_noise(fitted)
    residual = fitted.point.residual.copy()
    residual[[40, 333]] = 0.1
    spiked = replace(fitted, point=replace(fitted.point, residual=residual))
    assert estimate_noise(spiked).white == pytest.approx(before.white, rel=0.15)
    assert np.abs(without_spikes(spiked)).max() < 0.01


def test_what_the_fit_absorbed_is_allowed_for():
    """Ten parameters of pure noise added to the fit's own do not make the noise look smaller."""
    sizes = []
    for seed in range(4):
        fitted = opened(seed, slow=0.0)
        extra = np.random.default_rng(seed).standard_normal((len(fitted.steps), 10))
        basis = directions(np.column_stack([fitted.jacobian, extra]))
        rest = fitted.point.residual - basis @ (basis.T @ fitted.point.residual)
        followed = replace(
            fitted,
            jacobian=np.column_stack([fitted.jacobian, extra]),
            point=replace(fitted.point, residual=rest),
        )
        sizes.append(estimate_noise(followed).white)
    assert np.mean(sizes) == pytest.approx(WHITE, rel=0.04)


def test_columns_that_say_the_same_count_once():
    column = np.linspace(0, 1, 30)
    assert directions(np.column_stack([column, 5 * column, column**2])).shape == (30, 2)


@pytest.mark.parametrize(("length", "stretches"), [(0.01, 100), (1e6, 1)])
def test_a_run_counts_as_its_independent_stretches(length, stretches):
    fitted = opened(0)
    used = np.sum(fitted.inverse() * fitted.information())
    assert used == pytest.approx(5, abs=0.01), "as many as parameters, without priors"
    expected = max(2.0, len(fitted.problem.rows) * stretches - used)
    assert Noise(1e-4, 1e-4, length).freedom(fitted) == pytest.approx(expected, rel=0.02)
