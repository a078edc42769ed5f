"""Values that are one but for how they were printed."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lehr.peaklr.levels import levels_of


def test_rounded_lrs_are_one_and_grid_steps_are_not():
    levels = levels_of(np.array([4.88e-4, 4.883e-4, 6.906e-4, 2.76e-3, 2.762e-3]))
    assert levels[0] == levels[1] != levels[2]
    assert levels[3] == levels[4]


@given(st.lists(st.sampled_from([1.0, 1.5, 4.0, 9.0]), min_size=1, max_size=12))
def test_equal_values_share_a_level_and_order_is_kept(values):
    levels = levels_of(np.array(values))
    for a, x in zip(values, levels, strict=True):
        for b, y in zip(values, levels, strict=True):
            assert (a < b) == (x < y)
