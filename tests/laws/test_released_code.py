"""Forward-Momentum (arXiv 2512.13705) and Multi-Power (arXiv 2503.12811) against their released code and figures."""

import numpy as np
import pytest
from benchmarks.mpl_curves import PROTOCOLS, load
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.synthetic import CASES

from lehr.laws.forward_momentum import EXACT, logged_features, momentum_sum
from lehr.laws.kernels import find_drops
from lehr.laws.law import Conditions
from lehr.laws.multi_power import MultiPower
from lehr.schedule.families import constant, cosine, cyclic, multistep, wsd
from lehr.schedule.pieces import to_pieces

# Forward-Momentum


def released(step, lr):
    """The released code's two features, written again from the formula: rows in, S and M out."""
    areas, sums = [lr[0] * step[0]], [0.0]
    mean = square = 0.0
    for i in range(1, len(step)):
        gap = step[i] - step[i - 1]
        areas.append(areas[-1] + lr[i] * gap)
        fall = (lr[i - 1] - lr[i]) * gap
        mean = 0.9 * mean + 0.1 * fall
        square = 0.999 * square + 0.001 * fall**2
        mean_hat = mean / (1 - 0.9 ** (i + 1))
        square_hat = 1e5 * square / (1 - 0.999 ** (i + 1))
        sums.append(sums[-1] + mean_hat / ((square_hat + 1e-8) ** 0.5 + 1e-8))
    return np.array(areas), np.array(sums)


@settings(deadline=None, max_examples=30)
@given(
    gaps=st.lists(st.integers(1, 500), min_size=1, max_size=60),
    lr=st.lists(st.floats(0.0, 3e-3), min_size=60, max_size=60),
)
def test_logged_features_follow_the_released_code(gaps, lr):
    step = np.cumsum(gaps).astype(float)
    lr = np.array(lr[: len(step)])
    areas, sums = released(step, lr)
    found = logged_features(step, lr)
    np.testing.assert_allclose(found[0], areas, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found[1], sums, rtol=1e-10, atol=1e-10)


def test_the_law_on_logged_rows_uses_those_features():
    schedule = wsd(steps=2000, peak=1e-3, warmup=100, decay=500)
    rows = np.arange(100.0, 2001, 100)
    areas, sums = released(rows, schedule.lr(np.minimum(rows.astype(int), 1999)))
    phi = CASES["forward_momentum, logged"].law.bind(Conditions(schedule), rows)(np.array([0.5]))[0]
    np.testing.assert_allclose(phi[:, 1], areas**-0.5, rtol=1e-12)
    np.testing.assert_allclose(phi[:, 2], -sums, rtol=1e-10)


@pytest.mark.parametrize(("ratio", "momentum"), [(0.05, 0.074), (0.1, 0.158), (0.2, 0.296), (0.4, 0.478)])
def test_on_a_coarse_grid_momentum_does_not_see_the_size_of_the_fall(ratio, momentum):
    """Caveat of the released form: only the number of rows in the decay counts."""
    rows = np.arange(100.0, 20_001, 100)
    found = []
    for peak in (1e-4, 1e-3):
        for final in (0.0, 0.1 * peak):
            plan = wsd(steps=20_000, peak=peak, decay=round(ratio * 20_000), final=final)
            found.append(logged_features(rows, plan.lr(np.minimum(rows.astype(int), 19_999)))[1][-1])
    assert found == pytest.approx([momentum] * 4, abs=6e-4)


def test_per_update_momentum_is_linear_in_the_fall_at_small_lrs_only():
    def per_fall(peak, ratio):
        plan = wsd(steps=20_000, peak=peak, decay=round(ratio * 20_000))
        total = momentum_sum(np.array([20_000.0]), find_drops(to_pieces(plan)))[0]
        return total / (peak - plan.lr(np.array([19_999]))[0])

    assert [per_fall(1e-4, 0.05), per_fall(1e-4, 0.4)] == pytest.approx([9731, 9981], abs=1)
    assert [per_fall(1e-3, 0.05), per_fall(1e-3, 0.4)] == pytest.approx([4933, 9370], abs=2)


@pytest.mark.parametrize("peak", [1e-4, 1e-3])
@pytest.mark.parametrize(
    "make",
    [
        lambda p: wsd(steps=5000, peak=p, decay=1000),
        lambda p: wsd(steps=5000, peak=p, decay=1000, shape="sqrt"),
        lambda p: wsd(steps=5000, peak=p, decay=4000, shape="exponential", final=0.05 * p),
        lambda p: cosine(steps=5000, peak=p, final=0.05 * p),
        lambda p: multistep(steps=5000, peak=p, milestones=[1500, 3000], factors=[0.3, 0.1]),
        lambda p: cyclic(steps=5000, peak=p, low=0.1 * p, period=1600),
    ],
    ids=["linear", "sqrt", "exponential", "cosine", "steps", "cyclic"],
)
def test_momentum_over_stretches_matches_the_recursion_over_updates(make, peak):
    schedule = make(peak)
    rows = np.arange(100, 5001, 100)
    exact = released(np.arange(5000.0), schedule.to_array())[1][rows - 1]
    found = momentum_sum(rows.astype(float), find_drops(to_pieces(schedule)))
    assert np.max(np.abs(found - exact)) < 3e-3 * np.max(np.abs(exact))
    assert np.all(
        momentum_sum(rows.astype(float), find_drops(to_pieces(constant(steps=5000, peak=peak)))) == 0
    )


def test_momentum_of_an_early_jump_is_exact():
    """Where the bias correction matters: the first updates of each stretch are summed one by one."""
    schedule = multistep(steps=200, peak=1e-3, milestones=[3, 40], factors=[0.5, 0.1])
    rows = np.arange(1, 40 + EXACT)
    exact = released(np.arange(200.0), schedule.to_array())[1][rows - 1]
    np.testing.assert_allclose(
        momentum_sum(rows.astype(float), find_drops(to_pieces(schedule))), exact, rtol=1e-6, atol=1e-12
    )


# Multi-Power: the released parameters on the public curves

RELEASED = {  # L0, A, alpha, B, C, beta, gamma as printed, and the mean relative error printed with them
    "csv_25": ("3.040 .525 .508 363.8 2.066 .583 .641", 0.00110),
    "csv_100": ("2.651 .601 .453 437.9 2.132 .598 .655", 0.00142),
}


@pytest.mark.parametrize("size", RELEASED)
def test_released_multi_power_parameters_reach_their_published_error(lehr_data, size):
    """Printed to 3 or 4 digits: the published error must be within reach of what those digits leave open."""
    words, published = RELEASED[size][0].split(), RELEASED[size][1]
    printed = np.array([float(word) for word in words])
    half = np.array([0.5 * 10.0 ** -len(word.partition(".")[2]) for word in words])
    runs = [load(lehr_data / "mpl-curves" / size, name) for name in PROTOCOLS["three"][1]]
    law = MultiPower(warmup="rise")
    bases = [law.bind(Conditions(run.schedule), run.step) for run in runs]

    def error(values):
        l0, a, alpha, b, c, beta, gamma = values
        shape, linear = np.array([alpha, c, beta, gamma]), np.array([l0, a, b])
        each = [basis(shape)[0] @ linear / run.loss - 1 for basis, run in zip(bases, runs, strict=True)]
        return np.mean([np.mean(np.abs(e)) for e in each])

    rng = np.random.default_rng(0)

    def reach(sign):
        """Lowest or highest error within the box: the best of some draws, then coordinate by coordinate."""
        best = min((printed + half * rng.uniform(-1, 1, 7) for _ in range(30)), key=lambda v: sign * error(v))
        for i in (*range(7), *range(7)):
            tried = [np.where(np.arange(7) == i, printed + side * half, best) for side in (-1, 1)]
            best = min((best, *tried), key=lambda v: sign * error(v))
        return error(best)

    assert abs(error(printed) - published) < 2e-4
    assert reach(1) - 5e-5 < published < reach(-1) + 5e-5
    assert reach(-1) < 2.5e-3, "the box is small"
