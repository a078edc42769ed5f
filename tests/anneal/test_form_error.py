"""The error of a law's form: alike for like runs, larger early and beyond the fitted peak LRs."""

from dataclasses import replace

import numpy as np
import pytest
from tests.synthetic import CASES, PEAK, STEPS, make_runs

from lehr.anneal.form_error import REACH, RUN_ERROR, early, features, form_error, join
from lehr.fit.fit import FitOptions, fit
from lehr.fit.reach import PER_DOUBLING
from lehr.schedule.families import constant, wsd

TIME = CASES["effective_time"]


@pytest.fixture(scope="module")
def fitted():
    runs = tuple(r for r in make_runs(TIME) if r.name in ("constant 0.001", "wsd 0.001"))
    return replace(fit(TIME.law, runs, FitOptions(starts=4, polished=1)), spread=(3e-3, -4e-3))


def end(result, **change):
    plan = {"steps": STEPS, "peak": PEAK, "decay": 1600, **change}
    schedule = wsd(**plan) if plan["decay"] else constant(steps=plan["steps"], peak=plan["peak"])
    return form_error(result, schedule, np.array([float(schedule.steps)]))


def correlation(one, other):
    return float(
        one.covariance(other)[0, 0] / np.sqrt(one.covariance(one)[0, 0] * other.covariance(other)[0, 0])
    )


def test_features_are_lr_length_mean_lr_and_lr_now():
    schedule = wsd(steps=1000, peak=2e-3, decay=400)
    found = features(schedule, np.array([600.0, 1000.0])) * REACH
    assert found[:, 0] == pytest.approx(np.log(2e-3))
    assert found[:, 1] == pytest.approx(np.log([600, 1000]))
    assert found[:, 2] == pytest.approx([1, 0.8], abs=2e-3)
    assert found[:, 3] == pytest.approx([1, 1 / 400])


def test_it_is_as_large_as_on_left_out_runs_and_larger_early(fitted):
    late = end(fitted, steps=100 * STEPS, decay=0)
    assert late.size == pytest.approx(np.sqrt(12.5e-6), rel=2e-3)
    assert end(fitted, steps=STEPS // 10, decay=0).size == pytest.approx(2 * np.sqrt(12.5e-6))
    assert early(fitted, np.array([400.0, 4000.0])) == pytest.approx([2, 1.1])
    assert end(replace(fitted, spread=()), steps=100 * STEPS, decay=0).size == pytest.approx(
        RUN_ERROR, rel=2e-3
    )


def test_a_run_is_like_itself_and_its_neighbours(fitted):
    plan = end(fitted)
    assert correlation(plan, plan) == pytest.approx(1)
    likes = [correlation(plan, end(fitted, decay=decay)) for decay in (2000, 2800)]
    assert 1 > likes[0] > likes[1] > 0
    assert correlation(plan, end(fitted, decay=0)) < likes[0]
    longer = correlation(plan, end(fitted, steps=2 * STEPS, decay=3200))
    assert longer == pytest.approx(np.exp(-0.5 * (np.log(2) / REACH[1]) ** 2), rel=1e-3)


def test_beyond_the_fitted_peak_lrs_it_grows_and_each_side_has_one_error(fitted):
    assert not end(fitted).beyond.any()
    for peak, side in ((2 * PEAK, 0), (PEAK / 2, 1)):
        assert end(fitted, peak=peak).beyond[0, side] == pytest.approx(PER_DOUBLING["effective_time"])
        assert end(fitted, peak=peak).beyond[0, 1 - side] == 0
    far = end(fitted, peak=2 * PEAK)
    apart = {"steps": 16 * STEPS, "decay": 0}
    shared = float(far.covariance(end(fitted, peak=4 * PEAK, **apart))[0, 0])
    assert shared == pytest.approx(2 * PER_DOUBLING["effective_time"] ** 2, rel=0.02), (
        "whatever the run's length"
    )
    assert float(far.covariance(end(fitted, peak=PEAK / 2, **apart))[0, 0]) < 1e-3 * shared


def test_it_is_a_covariance(fitted):
    both = join([end(fitted, peak=p, decay=d) for p in (1e-3, 3e-3) for d in (0, 100, 300)])
    assert both.places.shape == (6, 4)
    assert np.linalg.eigvalsh(both.covariance(both)).min() > -1e-15
