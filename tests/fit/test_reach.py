"""Bands widen outside the fitted peak LRs, by what each law's form was measured to err there."""

from dataclasses import replace

import numpy as np
import pytest
from tests.synthetic import CASES, STEPS, WARMUP, make_runs

from lehr.fit.fit import fit
from lehr.fit.reach import OTHERWISE, PER_DOUBLING, doublings_outside, reach_error
from lehr.laws import LAWS
from lehr.predict import predict
from lehr.schedule.families import wsd

CASE = CASES["tissue"]


@pytest.fixture(scope="module")
def result():
    return replace(fit(CASE.law, make_runs(CASE)), spread=(0.001, -0.001, 0.001))


def half(result, peak):
    plan = wsd(steps=STEPS, peak=peak, warmup=WARMUP, decay=STEPS // 5)
    found = predict(result, plan, np.array([STEPS]))
    return float((found.high - found.low)[0] / 2 / found.loss[0])


def test_doublings_are_counted_outside_the_fitted_range_only(result):
    low, high = result.domain.peak_lr
    assert doublings_outside(result.domain, (low * high) ** 0.5) == 0
    assert doublings_outside(result.domain, 4 * high) == pytest.approx(2)
    assert doublings_outside(result.domain, low / 8) == pytest.approx(3)


def test_the_band_widens_by_the_laws_own_reach(result):
    low, high = result.domain.peak_lr
    inside, out, further = half(result, high), half(result, 2 * high), half(result, 4 * high)
    assert np.sqrt(out**2 - inside**2) == pytest.approx(1.645 * PER_DOUBLING["tissue"], rel=0.01)
    assert np.sqrt(further**2 - inside**2) == pytest.approx(2 * 1.645 * PER_DOUBLING["tissue"], rel=0.01)


def test_laws_with_sizes_reach_as_far_as_their_base_and_others_get_the_common_error(result):
    peak = 2 * result.domain.peak_lr[1]
    assert reach_error("tissue_n", result.domain, peak) == reach_error("tissue", result.domain, peak)
    assert reach_error("of the user", result.domain, peak) == pytest.approx(OTHERWISE)
    assert set(PER_DOUBLING) <= set(LAWS)


def test_the_law_that_knows_the_peak_lr_reaches_furthest():
    assert min(PER_DOUBLING, key=PER_DOUBLING.get) == "weight_norm"
