"""The valley of a group: recovery, intervals that hold, and what is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.peaklr.shape import valley_shape
from lehr.peaklr.valley import fit_valley


def runs(best=1e-3, count=7, step=2**0.5, fall=0.5, rise=1.0, curvature=0.05, noise=0.0, seed=0, offset=0.3):
    lr = best * step ** (np.arange(count) - (count - 1) / 2 + offset)
    loss = 2.5 + curvature * valley_shape(np.log(lr / best), fall, rise)
    return lr, loss * (1 + noise * np.random.default_rng(seed).standard_normal(count))


@settings(deadline=None, max_examples=25)
@given(
    st.floats(1e-4, 1e-2), st.integers(4, 12), st.floats(0.25, 1.0), st.floats(0.5, 2.0), st.floats(0.02, 0.2),
    st.floats(-0.5, 0.5),
)  # fmt: skip
def test_an_exact_valley_is_found(best, count, fall, rise, curvature, offset):
    lr, loss = runs(best, count, fall=fall, rise=rise, curvature=curvature, offset=offset)
    found = fit_valley(lr, loss)
    assert found.lr == pytest.approx(best, rel=0.12)  # few LRs leave the asymmetry to its prior
    assert found.low <= best <= found.high
    assert found.lowest_loss == pytest.approx(2.5, abs=1e-3)


def test_an_exact_parabola_is_found_and_its_curvature():
    lr, loss = runs(fall=0.0, rise=0.0, curvature=0.08)
    found = fit_valley(lr, loss, "parabola")
    assert found.lr == pytest.approx(1e-3, rel=0.01)
    assert found.curvature == pytest.approx(0.08, rel=0.02)
    assert (found.fall, found.rise) == (0, 0)


def test_the_excess_is_that_of_the_valley():
    lr, loss = runs(count=11)
    found = fit_valley(lr, loss)
    for at, value in zip(lr, loss, strict=True):
        assert found.loss(at) == pytest.approx(value, abs=2e-3)
    assert found.excess(found.lr) == 0
    assert found.excess(2 * found.lr) > found.excess(found.lr / 2) > 0


@pytest.mark.parametrize(("count", "step"), [(3, 2), (4, 2), (5, 2), (9, np.sqrt(2))])
def test_intervals_hold_what_they_claim(count, step):
    """90 % intervals hold the truth in 9 of 10 cases, with the noise that is assumed and with twice that."""
    random = np.random.default_rng(1)
    for noise in (5e-4, 1e-3):
        held, made = 0, 0
        for seed in range(60):
            fall, rise = np.exp(random.normal([np.log(0.5), 0], 0.4))
            lr, loss = runs(
                1e-3, count, step, fall, rise, noise=noise, seed=seed, offset=random.uniform(-0.5, 0.5)
            )
            try:
                found = fit_valley(lr, loss)
            except InputError:
                continue  # the noise put the lowest loss at an edge
            made += 1
            held += found.low <= 1e-3 <= found.high
        assert made > 40
        assert held >= 0.88 * made


def test_the_parabola_errs_to_low_lrs_where_the_high_side_is_steeper():
    errors = {"asymmetric": [], "parabola": []}
    for seed in range(20):
        lr, loss = runs(count=9, fall=0.3, rise=2.0, noise=3e-4, seed=seed)
        for form, found in errors.items():
            found.append(np.log(fit_valley(lr, loss, form).lr / 1e-3))
    assert np.mean(errors["parabola"]) < -0.1
    assert abs(np.mean(errors["asymmetric"])) < 0.05


def test_more_runs_and_less_noise_narrow_the_interval():
    def width(**change):
        found = fit_valley(*runs(**change), noise=change.get("noise", 5e-4) or 5e-4)
        return np.log(found.high / found.low)

    assert width(count=5, step=2.0) > 1.2 * width(count=13, step=2 ** (1 / 3))
    assert width(noise=2e-3) > width(noise=5e-4)


def test_a_diverged_run_bounds_the_valley_from_above():
    """The lowest loss is that of the highest LR that ended; the one above diverged."""
    lr = np.array([5e-4, 1e-3, 2e-3, 4e-3])
    loss = np.array([2.60, 2.54, 2.51, np.nan])
    found = fit_valley(lr, loss)
    assert 1.2e-3 < found.lr < 4e-3
    assert found.high < 8e-3
    with pytest.raises(InputError, match=r"at or beyond the highest, 0\.002"):
        fit_valley(lr[:3], loss[:3])


def test_seeds_at_one_lr_count_as_noise():
    lr, loss = runs(count=5)
    found = fit_valley(np.concatenate([lr, lr]), np.concatenate([loss + 0.001, loss - 0.001]))
    assert found.lr == pytest.approx(1e-3, rel=0.06)


def test_the_points_are_kept_in_order():
    lr, loss = runs(count=5)
    assert fit_valley(lr[::-1], loss[::-1]).points == tuple(zip(lr.tolist(), loss.tolist(), strict=True))


def test_the_search_is_invariant_to_the_unit_of_the_lr():
    lr, loss = runs(count=6, noise=5e-4)
    assert fit_valley(1e6 * lr, loss).lr == pytest.approx(1e6 * fit_valley(lr, loss).lr, rel=1e-6)


GRID = np.array([5e-4, 1e-3, 2e-3, 4e-3])
REFUSED = [
    (
        [1e-3, 2e-3], [3.0, 2.9], {},
        "S: LRs with a final loss must be at least 3 different ones, got 2: run more LRs, such as half and twice the "
        "best.",
    ),
    ([1e-3, 2e-3, 4e-3], [3.0, np.nan, np.inf], {}, "must be at least 3 different ones, got 1"),
    (
        GRID, [3.0, 2.9, 2.8, 2.7], {},
        "S: the optimum lies at the edge of the LRs, at or beyond the highest, 0.004 (lowest loss 2.7000): "
        "run higher LRs.",
    ),
    (GRID, [2.7, 2.8, 2.9, 3.0], {}, "at or beyond the lowest, 0.0005 (lowest loss 2.7000): run lower LRs."),
    (
        [5e-4, 1e-3, 1e-3, 2e-3, 4e-3], [2.8, 2.70, 2.75, 2.75, 2.8], {},
        "S: two runs at LR 0.001 end at 2.7000 and 2.7500 nats, which is no noise: if they differ in batch size or "
        "another setting, give its column or leave one out.",
    ),
    (GRID, [3.0, 2.9, 2.8], {}, "S: loss must pair with the LRs, of shape (4,), got (3,): give one a run."),
    ([0.0, 1e-3, 2e-3], [3.0, 2.9, 3.0], {}, "S: lr must be above 0, got 0.0: give peak LRs."),
    (GRID, [3.0, 2.9, 2.95, 3.0], {"form": "cubic"}, "unknown form of a valley 'cubic'"),
    (GRID, [3.0, 2.9, 2.95, 3.0], {"noise": 0.0}, "noise must lie between 0 and 1, got 0.0: give a fraction."),
    (GRID, [3.0, 2.9, 2.95, 3.0], {"level": 1.0}, "level must lie between 0 and 1, got 1.0: give a fraction."),
]  # fmt: skip


@pytest.mark.parametrize(("lr", "loss", "change", "text"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_what_tells_no_optimum_is_refused(lr, loss, change, text):
    with pytest.raises(InputError) as caught:
        fit_valley(np.array(lr), np.array(loss), where="S", **change)
    assert text in str(caught.value)
