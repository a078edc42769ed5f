import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.runs.readers.averages import ema_centre, since_last, window_centre


def loss_after(updates):
    """A loss that is linear in the updates done, so that a mean stands where its argument's mean is."""
    return 5.0 - 1e-3 * np.asarray(updates, dtype=float)


@pytest.mark.parametrize("window", [1, 3, 9, 51])
def test_a_mean_of_batches_belongs_to_the_middle_of_what_they_saw(window):
    step = np.arange(window, 500, window)
    # the batch of update u is measured with u updates done
    means = np.array([loss_after(np.arange(k - window, k)).mean() for k in step])
    assert loss_after(window_centre(step, window)) == pytest.approx(means, abs=1e-12)


def test_an_even_window_is_put_on_the_update_before_its_middle():
    assert window_centre(np.array([10.0, 20.0]), 10).tolist() == [4, 14]
    assert window_centre(np.array([1.0]), 10).tolist() == [0]


def test_windows_since_the_last_entry():
    assert since_last(np.array([10.0, 20, 30])).tolist() == [10, 10, 10]
    # a log that begins late, goes back after a restart, and misses an entry or two
    assert since_last(np.array([510.0, 520, 530, 520, 530, 600])).tolist() == [10] * 6
    assert since_last(np.array([5.0])).tolist() == [5]


@given(st.floats(0.0, 0.99), st.integers(2, 400))
def test_a_debiased_average_belongs_to_its_mean_age(decay, updates):
    average, weight = 0.0, 0.0
    for update in range(updates):
        average = decay * average + (1 - decay) * float(loss_after(update))
        weight = decay * weight + 1 - decay
    at = ema_centre(np.array([float(updates)]), decay)
    assert abs(float(loss_after(at)[0]) - average / weight) <= 0.5e-3 + 1e-12  # half an update


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (
            lambda: window_centre(np.array([1.0]), 0),
            "window must be at least 1 update, got 0.0: give the logging",
        ),
        (
            lambda: ema_centre(np.array([1.0]), 1.0),
            "decay must be at least 0 and below 1, got 1.0: give b of m",
        ),
    ],
)
def test_refused(call, text):
    with pytest.raises(InputError) as caught:
        call()
    assert text in str(caught.value)
