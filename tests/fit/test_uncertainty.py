"""Intervals: the same for the same seed, about as often right as they say, wider where less is known."""

from dataclasses import replace

import numpy as np
import pytest
from tests.synthetic import CASES, PEAK, STEPS, make_runs

from lehr.fit.fit import FitOptions, fit, prepare
from lehr.fit.uncertainty import BLOCKS, bootstrap, bootstrap_all, random_weight
from lehr.laws.law import Conditions
from lehr.schedule.families import wsd

TISSUE = CASES["tissue"]


@pytest.fixture(scope="module")
def fitted():
    runs = make_runs(TISSUE, noise=1e-3, every=100)
    return replace(fit(TISSUE.law, runs), spread=(1e-3,)), runs


def test_equal_seeds_give_equal_draws(fitted):
    result, runs = fitted
    one, same, other = (bootstrap(result, runs, draws=4, seed=seed) for seed in (3, 3, 4))
    assert one == same
    assert one.draws != other.draws


def test_draws_and_intervals_are_of_all_parameters(fitted):
    result, runs = fitted
    found = bootstrap(result, runs, draws=20, level=0.5)
    table = np.array(found.draws)
    assert table.shape == (20, 5)
    assert list(found.intervals) == list(result.parameters)
    for column, (low, high) in zip(table.T, found.intervals.values(), strict=True):
        assert (low, high) == pytest.approx(tuple(np.quantile(column, [0.25, 0.75])))
    wide = bootstrap(result, runs, draws=20, level=0.95).intervals
    assert all(wide[n][0] < low <= high < wide[n][1] for n, (low, high) in found.intervals.items())


def test_the_fit_itself_is_not_changed(fitted):
    result, runs = fitted
    found = bootstrap(result, runs, draws=2)
    assert replace(found, draws=(), intervals={}) == result


def test_held_out_errors_are_measured_once(fitted):
    result, runs = fitted
    assert bootstrap(result, runs, draws=1).spread == (1e-3,), "there already"
    measured = bootstrap(replace(result, spread=()), runs, draws=1).spread
    assert len(measured) == len(runs) and all(abs(error) < 0.01 for error in measured)


def test_several_fits_are_drawn_as_each_by_itself_whatever_the_workers(fitted):
    result, runs = fitted
    other = replace(fit(CASES["one_power"].law, runs), spread=(1e-3,))
    both, told = {"b": result, "a": other}, []
    found = bootstrap_all(both, runs, 3, 7, 1, told.append)
    assert list(found.items()) == [(name, bootstrap(one, runs, 3, 7)) for name, one in both.items()]
    assert told == ["b", "a"]
    assert bootstrap_all(both, runs, 3, 7, 2) == found


def test_weights_are_by_run_and_by_block(fitted):
    problem = prepare(TISSUE.law, fitted[1], FitOptions(late_weight=0.0))
    rng = np.random.default_rng(0)
    weight = random_weight(problem, rng)
    assert weight.mean() == pytest.approx(1) and np.all(weight > 0)
    for rows in problem.rows:
        assert len(np.unique(weight[rows])) == BLOCKS
    many = np.array([random_weight(problem, rng)[0] for _ in range(4000)])
    assert many.mean() == pytest.approx(1, abs=0.15)


def test_no_draw_drops_the_only_decaying_run():
    runs = tuple(
        run for run in make_runs(TISSUE, noise=1e-3, every=100) if run.name in ("constant 0.001", "wsd 0.001")
    )
    found = bootstrap(replace(fit(TISSUE.law, runs), spread=(1e-3,)), runs, draws=60)
    assert np.all(np.isfinite(found.draws))
    assert np.mean(np.array(found.draws)[:, 4] > 0) > 0.95


@pytest.mark.parametrize("name", ["one_power", "multi_power, linear"])
def test_intervals_hold_the_truth_about_as_often_as_they_say(name):
    """White noise, 20 repetitions, level .9: between 75 and 100 % of each parameter's intervals."""
    case = CASES[name]
    hits = []
    for seed in range(20):
        runs = make_runs(case, noise=1e-3, seed=seed, every=100)
        found = bootstrap(
            replace(fit(case.law, runs, FitOptions(starts=6, polished=1)), spread=(1e-3,)), runs, 30, seed
        )
        hits.append(
            [low <= v <= high for (low, high), v in zip(found.intervals.values(), case.vector, strict=True)]
        )
    share = np.mean(hits, axis=0)
    assert np.all(share >= 0.75), share
    assert np.mean(share) < 1, "not so wide as to be always right"


def test_intervals_widen_with_noise_and_narrow_with_runs():
    def width(noise, count):
        runs = make_runs(TISSUE, noise=noise, every=100)[:count]
        found = bootstrap(replace(fit(TISSUE.law, runs), spread=(1e-3,)), runs, draws=40)
        return np.array([high - low for low, high in found.intervals.values()])

    assert np.all(width(3e-3, 8) > 1.5 * width(1e-3, 8))
    assert np.all(width(1e-3, 3) > width(1e-3, 8))


def test_draws_spread_more_outside_the_fitted_range(fitted):
    result, runs = fitted
    found = bootstrap(result, runs, draws=40)

    def spread(steps, peak):
        plan = wsd(steps=steps, peak=peak, warmup=200, decay=steps // 5)
        return np.std(found.evaluate(Conditions(plan), np.array([steps]), np.array(found.draws)))

    inside = spread(STEPS, PEAK)
    assert spread(10 * STEPS, PEAK) > 2 * inside
    assert spread(STEPS, 30 * PEAK) > 2 * inside
