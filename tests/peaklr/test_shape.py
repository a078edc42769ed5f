"""The valley's form: unit curvature, convex, and what it becomes at its limits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.peaklr.shape import FARTHEST, PARABOLA, valley_shape, valley_slope

exponents = st.floats(0.02, 5)


@given(exponents, exponents)
def test_it_has_its_bottom_at_0_and_unit_curvature_there(fall, rise):
    u = np.array([-1e-3, 0.0, 1e-3])
    v = valley_shape(u, fall, rise)
    assert v[1] == 0
    assert (v[0] + v[2]) / 1e-6 == pytest.approx(1, rel=1e-3)
    assert valley_slope(np.zeros(1), fall, rise)[0] == 0


@given(exponents, exponents)
def test_it_is_convex_and_never_below_0(fall, rise):
    u = np.linspace(-4, 4, 201)
    v = valley_shape(u, fall, rise)
    assert (v >= 0).all()
    assert (np.diff(v, 2) > 0).all()


@given(exponents, exponents, st.floats(-3, 3))
def test_the_slope_is_the_derivative(fall, rise, u):
    step = 1e-5
    slope = np.diff(valley_shape(np.array([u - step, u + step]), fall, rise))[0] / (2 * step)
    assert valley_slope(np.array([u]), fall, rise)[0] == pytest.approx(slope, rel=1e-4, abs=1e-6)


def test_equal_small_exponents_are_the_parabola():
    u = np.linspace(-2, 2, 9)
    np.testing.assert_allclose(valley_shape(u, 1e-3, 1e-3), valley_shape(u, *PARABOLA), atol=1e-5)
    np.testing.assert_array_equal(valley_slope(u, *PARABOLA), u)


def test_exponents_of_1_are_the_bound_of_convex_optimisation():
    """A/eta + B eta + C about its lowest point, arXiv 2501.18965."""
    eta = np.geomspace(0.1, 10, 21)
    bound = 3 / eta + 3 * eta
    np.testing.assert_allclose(6 * valley_shape(np.log(eta), 1, 1), bound - 6, rtol=1e-12, atol=1e-12)


def test_a_larger_rise_is_steeper_at_high_lrs():
    v = valley_shape(np.array([-1.0, 1.0]), 0.3, 1.5)
    assert v[1] > 1.5 * v[0]


def test_far_out_it_stays_finite():
    assert np.isfinite(valley_shape(np.array([-1e3, 1e3]), 5.0, 5.0)).all()
    assert valley_shape(np.array([1e3]), 1.0, 1.0) == valley_shape(np.array([FARTHEST]), 1.0, 1.0)
