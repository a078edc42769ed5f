"""Merge weights: inverse to the decay they stand for, and exact where the theory says exact."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.anneal.merging import check_weights, decay_of, decay_weights, merge_weights, merged_schedule
from lehr.errors import InputError
from lehr.schedule.families import constant, wsd
from lehr.schedule.shapes import SHAPES
from lehr.schedule.spec import parse, to_text

START, STEPS, PEAK = 40, 120, 0.05


@pytest.fixture(scope="module")
def trunk():
    """SGD at constant LR on a noisy, skewed valley: every iterate, and the gradient each update saw."""
    chance = np.random.default_rng(3)
    slopes = np.geomspace(0.01, 10, 8)
    at, iterates, gradients = np.ones(8), [np.ones(8)], []
    for _ in range(STEPS):
        gradients.append(slopes * at + chance.normal(size=8))
        at = at - PEAK * gradients[-1]
        iterates.append(at)
    return np.array(iterates), np.array(gradients)


def replay(trunk, schedule):
    """The end of a run from the trunk's start under another schedule, with the gradients the trunk saw."""
    return trunk[0][0] - schedule.to_array() @ trunk[1][: schedule.steps]


@pytest.mark.parametrize("shape", [*SHAPES, "exponential", "power(1.5)"])
@pytest.mark.parametrize("final", [0.02, 0.3])
def test_with_every_checkpoint_the_merge_is_the_decay(trunk, shape, final):
    steps = range(START, STEPS + 1)
    merged = decay_weights(steps, shape, final) @ trunk[0][steps]
    decayed = wsd(steps=STEPS, peak=PEAK, decay=STEPS - START, shape=shape, final=final * PEAK)
    np.testing.assert_allclose(merged, replay(trunk, decayed), rtol=0, atol=1e-12)
    assert np.max(np.abs(merged - trunk[0][-1])) > 1e-3


@pytest.mark.parametrize("steps", [(40, 120), (40, 60, 80, 100, 120), (40, 41, 90, 120), (0, 55, 120)])
@pytest.mark.parametrize("shape", ["linear", "sqrt"])
def test_with_few_checkpoints_the_merge_is_the_decay_in_stairs(trunk, steps, shape):
    weights = decay_weights(steps, shape)
    stairs = merged_schedule(constant(steps=150, peak=PEAK), steps, weights)
    assert stairs.steps == 120
    np.testing.assert_allclose(weights @ trunk[0][list(steps)], replay(trunk, stairs), rtol=0, atol=1e-12)
    curve = wsd(steps=120, peak=PEAK, decay=120 - steps[0], shape=shape)
    assert stairs.to_array().sum() == pytest.approx(curve.to_array().sum(), rel=1e-12)  # keeps the LR sum
    np.testing.assert_array_equal(stairs.to_array()[: steps[0]], PEAK)


def test_any_weights_stand_for_their_schedule(trunk):
    weights = np.random.default_rng(0).dirichlet(np.ones(5))
    steps = [40, 47, 80, 81, 120]
    schedule = merged_schedule(constant(steps=120, peak=PEAK, warmup=40, warmup_start=PEAK), steps, weights)
    np.testing.assert_allclose(weights @ trunk[0][steps], replay(trunk, schedule), rtol=0, atol=1e-12)


weights_lists = st.lists(st.floats(0, 1), min_size=2, max_size=20).filter(lambda row: sum(row) > 1e-3)


@settings(deadline=None, max_examples=100, derandomize=True)
@given(row=weights_lists, gap=st.integers(1, 50), start=st.integers(0, 1000))
def test_weights_and_decay_are_inverse(row, gap, start):
    weights = np.array(row) / sum(row)
    decay = decay_of(weights)
    assert np.all(np.diff(decay) <= 1e-12) and decay.min() >= 0 and decay.max() <= 1 + 1e-12
    steps = start + gap * np.arange(len(weights))
    back = merge_weights(np.repeat(np.minimum(decay, 1), gap), steps.tolist())
    np.testing.assert_allclose(back, weights, rtol=0, atol=1e-12)


@settings(deadline=None, max_examples=50, derandomize=True)
@given(
    gaps=st.lists(st.integers(1, 300), min_size=1, max_size=12),
    shape=st.sampled_from([*SHAPES, "exponential"]), final=st.floats(0.01, 1),
)  # fmt: skip
def test_weights_are_an_average(gaps, shape, final):
    weights = decay_weights(np.cumsum([5, *gaps]).tolist(), shape, final)
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1, abs=1e-12)
    check_weights(weights)
    assert weights[-1] >= final * (1 - 1e-9)  # what is left of the LR falls to the last checkpoint


def test_the_plain_mean_is_a_linear_decay():
    """k + 1 equal weights are the stairs 1 - j / (k + 1): linear, half a stair below the mean of a line to 0."""
    mean = decay_of(np.full(5, 0.2))
    np.testing.assert_allclose(mean, [0.8, 0.6, 0.4, 0.2], atol=1e-15)
    linear = decay_of(decay_weights([0, 1000, 2000, 3000, 4000]))
    np.testing.assert_allclose(linear, [0.875, 0.625, 0.375, 0.125], atol=2e-4)


def test_no_decay_is_the_last_checkpoint_and_all_of_it_the_first():
    np.testing.assert_allclose(decay_weights([3, 6, 9], "linear", 1.0), [0, 0, 1], atol=1e-15)
    np.testing.assert_allclose(merge_weights(np.zeros(6), [3, 6, 9]), [1, 0, 0], atol=1e-15)


def test_the_schedule_has_a_text_that_laws_can_be_asked_about():
    trunk = constant(steps=400, peak=1e-3, warmup=100)
    schedule = merged_schedule(trunk, [200, 300, 400], [0.25, 0.5, 0.25])
    np.testing.assert_allclose(schedule.lr(np.array([50, 199, 200, 299, 300, 399])),
                               [5.1e-4, 1e-3, 7.5e-4, 7.5e-4, 2.5e-4, 2.5e-4], rtol=1e-12)  # fmt: skip
    assert parse(to_text(schedule)) == schedule


# refusals


@pytest.mark.parametrize(
    ("steps", "text"),
    [
        ([5], r"^steps must be those of at least two checkpoints, got \[5\]: merge two or more\.$"),
        ([5, 5], r"^steps must be whole numbers of at least 0 that increase, got \[5, 5\]: sort the check"),
        ([5, 4], r"^steps must be whole numbers of at least 0 that increase, got \[5, 4\]: sort the check"),
        ([-1, 4], r"^steps must be whole numbers of at least 0 that increase, got \[-1, 4\]"),
        ([1.5, 4], r"^steps must be whole numbers of at least 0 that increase, got \[1\.5, 4\]"),
    ],
)
def test_wrong_steps_are_refused(steps, text):
    with pytest.raises(InputError, match=text):
        decay_weights(steps)


def test_wrong_decays_are_refused():
    with pytest.raises(InputError, match=r"unknown decay shape 'lineal': did you mean 'linear'\?"):
        decay_weights([0, 9], "lineal")
    with pytest.raises(InputError, match=r"^final must not exceed the peak 1, got 1\.5"):
        decay_weights([0, 9], "linear", 1.5)
    with pytest.raises(InputError, match=r"^final must be above 0 for an exponential decay, got 0\.0"):
        decay_weights([0, 9], "exponential")
    text = (
        r"^multipliers must be one number for each of the 9 updates between first and last, got \(8,\): cut"
    )
    with pytest.raises(InputError, match=text):
        merge_weights(np.ones(8), [0, 9])
    for value in (1.2, -0.1, float("nan")):
        with pytest.raises(
            InputError, match=rf"^multipliers must lie in \[0, 1\], got {value}: divide the LR"
        ):
            merge_weights(np.array([1, value, 0.5]), [0, 1, 3])
    text = (
        r"^multipliers must not rise, got 0\.25: the curve rises at step 12: no average of checkpoints stands"
    )
    with pytest.raises(InputError, match=text):
        merge_weights(np.array([0.5, 0.5, 0.75, 0.75]), [10, 12, 14])


@pytest.mark.parametrize(
    ("weights", "text"),
    [
        ([1.0], r"^weights must be a row of at least two numbers, got \(1,\): give one a checkpoint\.$"),
        ([1.5, -0.5], r"^weights must be at least 0, got -0\.5: a merge is an average\.$"),
        ([0.5, 0.4], r"^weights must sum to 1, got 0\.9: divide them by their sum\.$"),
        ([float("nan"), 1], r"^weights must be at least 0, got nan"),
    ],
)
def test_wrong_weights_are_refused(weights, text):
    with pytest.raises(InputError, match=text):
        decay_of(weights)


def test_a_trunk_that_decays_or_ends_before_is_refused():
    text = r"^the LR of the trunk must be constant between the first and the last checkpoint, got '0\.2 to 1': merge"
    with pytest.raises(InputError, match=text):
        merged_schedule(wsd(steps=10, peak=1.0, decay=5), [4, 10], [0.5, 0.5])
    with pytest.raises(InputError, match=r"^steps must lie in 1 \.\. 10, got 11: cut within the schedule\.$"):
        merged_schedule(constant(steps=10, peak=1.0), [4, 11], [0.5, 0.5])
    with pytest.raises(InputError, match=r"^weights must be as many as the 3 steps, got 2: pair them\.$"):
        merged_schedule(constant(steps=10, peak=1.0), [4, 5, 6], [0.5, 0.5])
