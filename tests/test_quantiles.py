"""Quantiles are those of scipy.stats, to the last digits."""

import numpy as np
import pytest
from scipy import stats

from lehr.quantiles import normal_below, normal_half, share_interval, student_half

LEVELS = (1e-6, 0.5, 0.683, 0.9, 0.95, 0.999999)


@pytest.mark.parametrize("level", LEVELS)
def test_halves_of_intervals(level):
    assert normal_half(level) == pytest.approx(stats.norm.ppf(0.5 + level / 2), rel=1e-12)
    for freedom in (1, 2, 3.7, 12, 400):
        expected = stats.t.ppf(0.5 + level / 2, freedom)
        assert student_half(level, freedom) == pytest.approx(expected, rel=1e-9, abs=1e-15)


def test_probabilities_and_shares():
    for value in (-30.0, -1.0, 0.0, 2.5):
        assert normal_below(value) == pytest.approx(stats.norm.cdf(value), rel=1e-12)
    assert np.isclose(normal_below(normal_half(0.9)), 0.95)
    for hits, tries in ((0, 5), (5, 5), (3, 10), (45, 50)):
        told = stats.binomtest(hits, tries).proportion_ci(0.9, "exact")
        assert share_interval(hits, tries, 0.9) == pytest.approx((told.low, told.high), rel=1e-9)
