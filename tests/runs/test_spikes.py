"""The detector of loss spikes: finds those put in, at their place and height, and none in what is usual."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.runs.spikes import find_spikes

STEP = np.arange(1, 601)
FALL = 3 + 5 * STEP**-0.5


def noisy(seed=0, size=0.01):
    return FALL * np.exp(size * np.random.default_rng(seed).standard_normal(len(STEP)))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([1e-4, 0.003, 0.01, 0.03]))
def test_a_falling_loss_with_noise_has_no_spike(seed, size):
    assert find_spikes(STEP, noisy(seed, size)) == []


@settings(max_examples=25, deadline=None)
@given(st.integers(200, 550), st.integers(1, 20), st.floats(0.3, 5), st.integers(0, 100))
def test_a_spike_is_found_where_it_is(at, length, height, seed):
    loss = noisy(seed)
    loss[at : at + length] *= 1 + height
    (found,) = find_spikes(STEP, loss)
    assert (found.first, found.last) == (STEP[at], STEP[at + length - 1])
    assert found.height == pytest.approx(height, rel=0.1, abs=0.08) and found.deviations > 6


def test_a_slow_return_is_one_spike_and_two_are_two():
    loss = noisy()
    loss[200:230] *= 1 + 0.8 * np.exp(-np.arange(30) / 10)
    loss[400] *= 1.5
    first, second = find_spikes(STEP, loss)
    assert first.first == STEP[200] and 210 < first.last < 235 and (second.first, second.last) == (401, 401)


def test_a_quiet_run_needs_a_spike_of_a_per_cent():
    loss = np.full(200, 3.0)
    loss[100], loss[150] = 3.029, 3.031
    (found,) = find_spikes(np.arange(200), loss)
    assert found.first == 150


def test_short_runs_have_none():
    assert find_spikes(STEP[:10], np.full(10, 2.0)) == [] == find_spikes(STEP[:0], FALL[:0])


def test_wrong_input_is_refused():
    with pytest.raises(InputError, match="loss at step 3 must be positive and finite, got nan: leave out"):
        find_spikes(np.arange(5), np.array([1, 1, 1, np.nan, 1]))
    with pytest.raises(InputError, match="window must be at least 4 losses, got 2: take more"):
        find_spikes(STEP, FALL, window=2)
