"""The convex bound: its definition term by term, its authors' closed forms, and a bound on what descent really does."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.anneal.convex import best_ratio, distance_for, fit_bound, last_iterate_bound, peak_transfer
from lehr.errors import InputError
from lehr.schedule.families import constant, cosine, from_array, join, wsd


def naive(lr, distance, norms):
    """The two parts of the bound, straight from the definition: O(T^2)."""
    total, steps = sum(lr), len(lr)
    energy = [(a * g) ** 2 for a, g in zip(lr, norms, strict=True)]
    last = sum(lr[k] / sum(lr[k + 1 :]) * (sum(energy[k:]) / sum(lr[k:])) for k in range(steps - 1))
    return distance**2 / (2 * total), sum(energy) / (2 * total) + last / 2


def harmonic(n):
    return float(np.sum(1 / np.arange(1, n + 1)))


positive = st.floats(1e-4, 1e2)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(
    rows=st.lists(st.tuples(st.floats(0, 10), positive), min_size=1, max_size=40),
    end=positive, distance=positive,
)  # fmt: skip
def test_it_is_its_definition(rows, end, distance):
    lr, norms = np.array([*(row[0] for row in rows), end]), np.array([*(row[1] for row in rows), 1.0])
    found = last_iterate_bound(from_array(values=lr), distance=distance, gradient_norm=norms)
    want = naive(lr.tolist(), distance, norms.tolist())
    np.testing.assert_allclose((found.distance, found.noise), want, rtol=1e-10)
    assert found.value == pytest.approx(sum(want), rel=1e-10)


def test_digits_survive_a_long_tail_of_tiny_lrs():
    lr = np.geomspace(1.0, 1e-14, 300)
    found = last_iterate_bound(from_array(values=lr))
    np.testing.assert_allclose((found.distance, found.noise), naive(lr.tolist(), 1, [1] * 300), rtol=1e-10)


@pytest.mark.parametrize("steps", [1, 10, 1000])
def test_a_constant_lr_is_a_harmonic_number(steps):
    """The authors' own test of their code: gamma G^2 / 2 and gamma G^2 H(T - 1) / 2."""
    found = last_iterate_bound(constant(steps=steps, peak=0.5), distance=5.0, gradient_norm=10.0)
    assert found.distance == pytest.approx(25 / steps, rel=1e-12)
    assert found.noise == pytest.approx(25 * (1 + harmonic(steps - 1)), rel=1e-12)


@pytest.mark.parametrize("steps", range(100, 5000, 700))
def test_wsd_keeps_within_the_published_closed_form(steps):
    """Their Thm. 9 bounds Omega at the best LR for a linear cooldown from T0; it holds and is a quarter above."""
    decay = int(0.2 * (steps + 1))
    t0 = steps + 1 - decay
    bracket = (
        2 / 3 + (steps + 2 * t0) / (3 * (steps + t0)) + harmonic(steps + t0 - 2) - harmonic(steps - t0 + 1)
        - (steps - t0) * (t0 - 1) / (3 * (steps - t0 + 2) * (steps + t0)) + 1 / (steps - t0) ** 2
        + harmonic(steps - t0 - 1) / (steps - t0 + 1)
    )  # fmt: skip
    theirs = np.sqrt(4 * bracket / (steps + t0))
    mine = last_iterate_bound(wsd(steps=steps, peak=1.0, decay=decay)).best_value
    assert 0.78 * theirs < mine <= theirs


# steps 6400, D = G = 1: best peak LR and bound, times and over sqrt(steps), by the released code
RELEASED = {
    "constant": (0.311, 3.216), "cosine": (0.970, 2.061), "linear": (0.999, 2.001), "0.05": (0.424, None),
    "0.1": (0.460, None), "0.2": (0.514, 2.162), "0.4": (0.607, None), "0.6": (0.708, None), "0.8": (0.832, None),
}  # fmt: skip


@pytest.mark.parametrize("name", RELEASED)
def test_values_of_the_released_code(name):
    steps = 6400
    known = {"constant": constant(steps=steps, peak=0.1), "cosine": cosine(steps=steps, peak=0.1)}
    schedule = known.get(name) or wsd(
        steps=steps, peak=0.1, decay=steps if name == "linear" else round(float(name) * steps)
    )
    found, (peak, value) = last_iterate_bound(schedule), RELEASED[name]
    assert found.best_peak * 80 == pytest.approx(peak, abs=5e-4)
    assert value is None or found.best_value * 80 == pytest.approx(value, abs=5e-4)


def test_wsd_takes_about_half_of_the_lr_of_cosine():
    factor = peak_transfer(cosine(steps=6400, peak=1.0), wsd(steps=6400, peak=7.0, decay=1280))
    assert factor == pytest.approx(0.53, abs=0.005)


@pytest.mark.parametrize("times", [2, 10])
def test_the_best_lr_goes_as_one_over_the_root_of_the_horizon(times):
    short, long = (wsd(steps=n, peak=1e-3, decay=n // 5) for n in (5000, 5000 * times))
    assert peak_transfer(short, long) == pytest.approx(times**-0.5, rel=2e-3)
    assert peak_transfer(short, short) == 1
    assert peak_transfer(long, short) == pytest.approx(1 / peak_transfer(short, long), rel=1e-12)
    longer_decay = wsd(steps=5000 * times, peak=1e-3, decay=4000 * times)
    assert peak_transfer(short, longer_decay) > 1.5 * peak_transfer(short, long)


def test_the_best_peak_is_the_minimum_over_the_peak():
    plan = dict(steps=500, warmup=20, decay=100, shape="sqrt")
    told = last_iterate_bound(wsd(peak=0.3, **plan), distance=2.0, gradient_norm=3.0)
    at_best = last_iterate_bound(wsd(peak=told.best_peak, **plan), distance=2.0, gradient_norm=3.0)
    assert at_best.value == pytest.approx(told.best_value, rel=1e-12)
    for factor in (0.9, 1.1):
        other = wsd(peak=factor * told.best_peak, **plan)
        assert last_iterate_bound(other, distance=2.0, gradient_norm=3.0).value > told.best_value


def test_nothing_found_by_chance_is_much_better_than_linear_decay():
    """Linear decay to 0 is the best for constant G but for a per mille or two at 200 updates."""
    steps, chance = 200, np.random.default_rng(0)
    linear = last_iterate_bound(wsd(steps=steps, peak=1.0, decay=steps)).best_value
    walks = 0.3 * chance.normal(size=(200, steps)).cumsum(axis=1) / steps
    tried = [np.clip(np.linspace(1, 1 / steps, steps) + walk, 1e-3, None) for walk in walks]
    found = np.array([last_iterate_bound(from_array(values=lr)).best_value for lr in tried])
    assert found.min() > 0.99 * linear and np.mean(found > linear) > 0.5


@pytest.mark.parametrize("peak", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("name", ["constant", "cosine", "wsd", "warm"])
def test_it_bounds_subgradient_descent(name, peak):
    """On max_i <a_i, x> with unit a_i, from D = 3: f of the iterate before the last update is at most Omega."""
    steps, chance = 400, np.random.default_rng(1)
    schedule = {
        "constant": constant(steps=steps, peak=peak), "cosine": cosine(steps=steps, peak=peak),
        "wsd": wsd(steps=steps, peak=peak, decay=80), "warm": wsd(steps=steps, peak=peak, decay=300, warmup=50),
    }[name]  # fmt: skip
    planes = chance.normal(size=(30, 5))
    planes = np.concatenate([planes, -planes])  # so that the optimum is 0, at 0
    planes /= np.linalg.norm(planes, axis=1, keepdims=True)
    x = chance.normal(size=5)
    x *= 3 / np.linalg.norm(x)
    for lr in schedule.to_array()[:-1]:
        x = x - lr * planes[np.argmax(planes @ x)]
    assert 0 < np.max(planes @ x) <= last_iterate_bound(schedule, distance=3.0).value


def test_padding_with_zero_lrs_changes_nothing():
    plan = wsd(steps=300, peak=0.1, decay=60)
    padded = join(parts=[plan, from_array(values=[0.0] * 50)])
    assert last_iterate_bound(padded) == last_iterate_bound(plan)
    norms = np.linspace(1, 2, 350)
    assert last_iterate_bound(padded, gradient_norm=norms) == last_iterate_bound(
        plan, gradient_norm=norms[:300]
    )


# ratios


@pytest.mark.parametrize("shape", ["linear", "sqrt", "cosine"])
@pytest.mark.parametrize("strength", [0.25, 0.5, 0.8, 1.5])
def test_the_ratio_is_the_lowest_of_all(shape, strength):
    steps, warmup = 400, 10
    peak = strength / steps**0.5
    ratio = best_ratio(steps=steps, peak=peak, distance=1.0, shape=shape, warmup=warmup)
    every = [
        last_iterate_bound(wsd(steps=steps, peak=peak, warmup=warmup, decay=d, shape=shape)).value
        for d in range(1, steps - warmup + 1)
    ]
    assert every[round(ratio * steps) - 1] <= min(every) * (1 + 1e-7)
    assert ratio == pytest.approx((1 + int(np.argmin(every))) / steps, abs=0.006)


def test_the_ratio_depends_on_the_lr_times_the_root_of_the_horizon():
    at = [best_ratio(steps=n, peak=0.5 / n**0.5, distance=1.0) for n in (2000, 8000)]
    assert at[0] == pytest.approx(at[1], abs=0.01) == pytest.approx(0.40, abs=0.01)
    assert best_ratio(steps=8000, peak=0.5 / 2000**0.5, distance=1.0) > 0.95
    assert best_ratio(steps=2000, peak=1.0 / 2000**0.5, distance=2.0) == at[0]


def test_one_sweep_anchors_the_distance():
    sweep = cosine(steps=2000, peak=1.0, warmup=100)
    distance = distance_for(sweep, 1e-3)
    assert last_iterate_bound(sweep, distance=distance).best_peak == pytest.approx(1e-3, rel=1e-12)


# fitted constants


def sweep():
    return [
        wsd(steps=n, peak=p, warmup=30, decay=n // 5) for n in (1000, 2000) for p in (5e-4, 1e-3, 2e-3, 4e-3)
    ]


def test_constants_that_made_the_losses_are_found():
    schedules = sweep()
    losses = [2.5 + last_iterate_bound(s, distance=0.05, gradient_norm=1.5).value for s in schedules]
    found = fit_bound(schedules, losses)
    assert (found.distance, found.gradient_norm) == pytest.approx((0.05, 1.5), rel=1e-8)
    assert found.floor == pytest.approx(2.5, rel=1e-8) and found.rms < 1e-10


# refusals


def test_bad_constants_are_refused():
    plan = constant(steps=3, peak=1.0)
    with pytest.raises(InputError, match=r"^distance must be a finite number above 0, got 0: use 1 if"):
        last_iterate_bound(plan, distance=0)
    with pytest.raises(InputError, match=r"^gradient_norm must be finite and above 0, got -1\.0: use 1 if"):
        last_iterate_bound(plan, gradient_norm=-1)
    text = r"^gradient_norm must be one number or one for each of the 3 updates, got \(2,\): give G of every"
    with pytest.raises(InputError, match=text):
        last_iterate_bound(plan, gradient_norm=np.ones(2))
    with pytest.raises(
        InputError, match=r"^schedule must have an LR above 0, got 0\.0: without updates there"
    ):
        last_iterate_bound(from_array(values=[0.0, 0.0]))
    with pytest.raises(
        InputError, match=r"^best_peak must be a finite number above 0, got nan: give the best"
    ):
        distance_for(plan, float("nan"))
    text = r"^steps must leave room for a decay after the warm-up, got 10: plan a longer run\.$"
    with pytest.raises(InputError, match=text):
        best_ratio(steps=10, peak=1.0, distance=1.0, warmup=10)


def test_runs_that_cannot_tell_the_constants_are_refused():
    schedules = sweep()
    with pytest.raises(InputError, match=r"^losses must be as many as the 8 schedules, got 1: pair them\.$"):
        fit_bound(schedules, [1.0])
    with pytest.raises(
        InputError, match=r"^losses must be finite, got \[3\.0, nan\]: leave out runs that div"
    ):
        fit_bound(schedules[:2], [3.0, float("nan")])
    text = r"^schedules must differ in peak LR or length enough .*, got {}: give at least three runs at diff"
    for few in ([], schedules[:2], schedules[:1] * 4):
        with pytest.raises(InputError, match=text.format(len(few))):
            fit_bound(few, [3.0] * len(few))
    text = r"^the losses show no valley over the peak LR \(D\^2 = .*: add runs with peak LRs below and above the best"
    with pytest.raises(InputError, match=text):
        fit_bound(schedules, [3.0 + 10 * s.peak for s in schedules])
