"""Profile intervals: edges where the objective has risen as it should, calibrated, open where nothing limits."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from tests.fit.wandering import wandering_runs
from tests.synthetic import CASES

from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.fit.linearised import linearise, reopen
from lehr.fit.noise import estimate_noise
from lehr.fit.profile import inflated, profile, spread
from lehr.fit.projection import evaluate, prior_unit

TISSUE, TIME = CASES["tissue"], CASES["effective_time"]
QUICK = FitOptions(starts=6, polished=1)


@pytest.fixture(scope="module")
def tissue():
    runs = wandering_runs(TISSUE)
    return fit(TISSUE.law, runs, QUICK), runs


@pytest.fixture(scope="module")
def time():
    """Two runs of one peak LR: the clock's exponent rests on its prior."""
    runs = tuple(r for r in wandering_runs(TIME) if r.name in ("constant 0.001", "wsd 0.001"))
    return fit(TIME.law, runs), runs


def test_one_profile_a_parameter_in_their_order(tissue):
    result, runs = tissue
    found = profile(result, runs)
    assert [p.name for p in found] == list(result.parameters)
    for p in found:
        assert p.value == result.parameters[p.name]
        assert p.interval.low < p.value < p.interval.high
        assert p.data == p.interval and p.prior_share == 0 and not p.by_prior, "a law without priors"


def test_at_an_edge_the_objective_has_risen_by_its_scale(tissue):
    """The other parameter minimised anew by another method, at both edges of both nonlinear parameters."""
    result, runs = tissue
    opened = reopen(result, runs)
    noise = inflated(estimate_noise(opened), opened, 0.9)
    for k, p in enumerate(profile(result, runs)[:2]):
        parameter = TISSUE.law.nonlinear[k]
        for edge in (p.interval.low, p.interval.high):
            at = parameter.to_search(edge)

            def search(free, k=k, at=at):
                return np.insert(np.atleast_1d(free), k, at)

            free = minimize(lambda v: evaluate(opened.problem, search(v))[0].cost * 1e6,
                            np.delete(opened.point.search, k), method="Nelder-Mead",
                            options={"xatol": 1e-6, "fatol": 1e-8})  # fmt: skip
            there = linearise(opened.problem, search(free.x), opened.steps)
            scale = spread(there, noise)[k, k] / there.inverse()[k, k]
            rise = np.sqrt(2 * (there.point.cost - opened.point.cost) / scale)
            assert rise == pytest.approx(1.645, abs=0.06)


def test_near_the_optimum_it_is_the_interval_of_the_sandwich(tissue):
    result, runs = tissue
    opened = reopen(result, runs)
    half = np.sqrt(np.diag(spread(opened, inflated(estimate_noise(opened), opened, 0.3))))
    for k, p in enumerate(profile(result, runs, level=0.3)[:2]):
        low, high = (TISSUE.law.nonlinear[k].to_search(v) for v in (p.interval.low, p.interval.high))
        assert high - low == pytest.approx(2 * 0.385 * half[k], rel=0.12)


def test_intervals_widen_with_level_and_with_noise(tissue):
    def widths(fitted, level):
        return np.array([p.interval.high - p.interval.low for p in profile(*fitted, level)])

    assert np.all(widths(tissue, 0.95) > 1.1 * widths(tissue, 0.8))
    louder = wandering_runs(TISSUE, white=9e-4, slow=12e-4)
    assert np.all(widths((fit(TISSUE.law, louder, QUICK), louder), 0.8) > 1.7 * widths(tissue, 0.8))


def test_what_only_a_prior_tells_is_told_apart(time):
    found = {p.name: p for p in profile(*time)}
    clock = found["clock_exponent"]
    assert clock.by_prior and clock.prior_share > 0.9
    assert clock.interval.high - clock.interval.low == pytest.approx(2 * 1.645 * 0.1, rel=0.1)
    assert clock.data.high - clock.data.low > 1.5 * (clock.interval.high - clock.interval.low)
    assert not any(p.by_prior for p in found.values() if p.name != "clock_exponent"), "they have no prior"
    assert all(p.prior_share < clock.prior_share for p in found.values() if p is not clock)


def test_with_two_peak_lrs_the_runs_tell_it():
    runs = wandering_runs(TIME)
    clock = {p.name: p for p in profile(fit(TIME.law, runs), runs)}["clock_exponent"]
    assert not clock.by_prior and clock.prior_share < 0.5
    assert clock.data.low < 0.8 < clock.data.high


def test_a_parameter_that_nothing_limits_is_open():
    """Without a fall of the LR to relax from, the memory is anything up to its bound."""
    runs = tuple(
        r for r in wandering_runs(CASES["one_power"]) if r.name in ("constant 0.001", "cosine 0.001")
    )
    memory = {p.name: p for p in profile(fit(TISSUE.law, runs), runs)}["memory"]
    assert memory.interval.open_high or memory.interval.open_low
    if memory.interval.open_high:
        assert memory.interval.high == pytest.approx(TISSUE.law.nonlinear[1].high)


def test_the_share_of_the_priors_is_theirs_of_the_variance(time):
    opened = reopen(*time)
    noise = estimate_noise(opened)
    whole = np.diag(spread(opened, noise))
    still = np.diag(spread(opened, replace(noise, white=0.0, slow=0.0)))
    shares = {p.name: p.prior_share for p in profile(*time)}
    assert [shares[n] for n in opened.names] == pytest.approx(list(still / whole), rel=1e-6)
    assert prior_unit(opened.problem) > 0


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0])
def test_a_level_out_of_range_is_refused(tissue, level):
    with pytest.raises(InputError) as caught:
        profile(*tissue, level)
    assert str(caught.value) == f"level must lie between 0 and 1, got {level!r}: use e.g. 0.9."


def test_other_runs_are_refused(tissue):
    result, runs = tissue
    with pytest.raises(InputError, match="are not those that the fit of tissue was made from"):
        profile(result, runs[:2])


def test_intervals_hold_the_truth_about_as_often_as_they_say():
    """Correlated noise, 30 repetitions, level .9: 80 to 98 % of all, no parameter below 70 %."""
    hits = []
    for seed in range(30):
        runs = wandering_runs(TISSUE, 100 + seed)[:5]
        found = profile(fit(TISSUE.law, runs, QUICK), runs)
        hits.append(
            [p.interval.low <= v <= p.interval.high for p, v in zip(found, TISSUE.vector, strict=True)]
        )
    share = np.mean(hits, axis=0)
    assert 0.8 <= share.mean() <= 0.98, share
    assert share.min() >= 0.7, share
