"""Recurrences by doubling are those of the loop."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.laws.recurrence import follow

shares = st.lists(st.tuples(st.floats(0, 1), st.floats(-10, 10)), max_size=70)


@given(shares, st.floats(-10, 10))
def test_it_is_the_loop(steps, first):
    keep, add = np.array(steps).reshape(-1, 2).T
    expected = [first]
    for k, more in steps:
        expected.append(k * expected[-1] + more)
    before = keep.copy(), add.copy()
    np.testing.assert_allclose(follow(keep, add, first), expected, rtol=1e-12, atol=1e-11)
    np.testing.assert_array_equal((keep, add), before)


@pytest.mark.parametrize("size", [1, 2, 3, 127, 128, 129])
def test_a_decay_is_a_power(size):
    found = follow(np.full(size, 0.5), np.zeros(size), 1.0)
    np.testing.assert_allclose(found, 0.5 ** np.arange(size + 1))
