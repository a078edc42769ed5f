"""Fitting: what is done to the data, which starts are tried, what the result says of itself."""

import functools
from dataclasses import asdict, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.synthetic import CASES, PEAK, STEPS, WARMUP, Case, make_runs

from lehr.errors import InputError, ResultError
from lehr.fit import fit as module
from lehr.fit.fit import FitOptions, check_runs, fit, points, prepare, resolve_burn_in, space_filling
from lehr.laws import LAWS
from lehr.laws.law import Conditions
from lehr.runs.run import Run
from lehr.schedule.families import constant, cosine, wsd

TISSUE = CASES["tissue"]


@pytest.fixture(scope="module")
def runs():
    return make_runs(TISSUE, noise=1e-3)


# the data


def test_burn_in_is_the_longest_warm_up_or_two_per_cent_of_the_longest_run(runs):
    assert resolve_burn_in(runs, FitOptions()) == WARMUP
    long = Run("long", constant(steps=20_000, peak=PEAK), np.array([500.0]), np.array([3.0]))
    assert resolve_burn_in((*runs, long), FitOptions()) == 400
    assert resolve_burn_in(runs, FitOptions(burn_in=7)) == 7
    assert resolve_burn_in(runs, FitOptions(burn_in=0)) == 0


def test_points_before_the_burn_in_are_left_out(runs):
    step, loss = points(runs[0], 200, 1000)
    assert step[0] == 200 and step[-1] == STEPS and len(step) == len(loss) == 77
    assert fit(TISSUE.law, runs, FitOptions(burn_in=2000)).points == 8 * 41


def test_the_loss_at_step_0_never_counts():
    run = Run("r", constant(steps=10, peak=PEAK), np.arange(0, 11), np.linspace(9, 3, 11))
    assert points(run, 0, 100)[0][0] == 1


@settings(deadline=None, max_examples=50)
@given(count=st.integers(1, 700), most=st.integers(1, 300))
def test_bins_keep_the_mean_and_are_of_equal_count(count, most):
    step = np.cumsum(np.arange(1, count + 1) % 7 + 1)
    run = Run("r", constant(steps=int(step[-1]), peak=PEAK), step, 2 + 1 / step)
    mean_step, mean_loss = points(run, 0, most)
    assert len(mean_step) <= most
    size = -(-count // most)
    weight = np.full(len(mean_step), float(size))
    weight[-1] = count - size * (len(mean_step) - 1)
    assert 0 < weight[-1] <= size
    assert weight @ mean_step == pytest.approx(step.sum())
    assert weight @ mean_loss == pytest.approx((2 + 1 / step).sum())
    if count <= most:
        assert np.array_equal(mean_step, step)


def test_binning_a_long_log_hardly_changes_the_fit():
    fine = make_runs(TISSUE, noise=1e-4, every=2)
    assert len(fine[0].step) == 2000
    result = fit(TISSUE.law, fine)
    assert result.points == 8 * 191, "1901 points after the burn-in, ten a bin"
    np.testing.assert_allclose(result.vector, TISSUE.vector, rtol=0.01)


def test_weights_have_mean_one_and_prefer_late_points(runs):
    weight = prepare(TISSUE.law, runs, FitOptions()).weight
    assert weight.mean() == pytest.approx(1)
    first = weight[prepare(TISSUE.law, runs, FitOptions()).rows[0]]
    assert np.all(np.diff(first) > 0)
    assert np.all(prepare(TISSUE.law, runs, FitOptions(late_weight=0.0)).weight == 1)


def test_order_of_the_runs_does_not_matter(runs):
    one, other = fit(TISSUE.law, runs), fit(TISSUE.law, runs[::-1])
    np.testing.assert_allclose(other.vector, one.vector, rtol=1e-6)
    assert other.fingerprint == one.fingerprint
    assert fit(TISSUE.law, runs[1:]).fingerprint != one.fingerprint


def test_a_generator_of_runs_will_do(runs):
    assert fit(TISSUE.law, (run for run in runs)) == fit(TISSUE.law, runs)


# the search


@pytest.mark.parametrize("dimensions", [1, 2, 5])
def test_starts_fill_the_box_evenly(dimensions):
    low, high = np.full(dimensions, -1.0), np.full(dimensions, 3.0)
    grid = space_filling(low, high, 64)
    assert grid.shape == (64, dimensions)
    assert np.all((grid >= low) & (grid <= high))
    assert len(np.unique(grid, axis=0)) == 64
    for column in grid.T:
        counts = np.histogram(column, bins=4, range=(-1, 3))[0]
        assert np.all(np.abs(counts - 16) <= 2)


def test_a_law_without_nonlinear_parameters_has_one_start():
    assert space_filling(np.zeros(0), np.zeros(0), 24).shape == (1, 0)


@pytest.mark.parametrize("name", ["tissue", "multi_power", "effective_time"])
def test_fresh_starts_agree(name):
    """Three sets of starts, one optimum."""
    case = CASES[name]
    runs = make_runs(case, noise=1e-3)
    found = [fit(case.law, runs, FitOptions(starts=starts, polished=3)) for starts in (12, 24, 60)]
    assert all(result.starts_agreeing >= 2 and result.starts_polished == 3 for result in found)
    for other in found[1:]:
        assert other.cost == pytest.approx(found[0].cost, rel=0.01)
        np.testing.assert_allclose(
            other.evaluate(Conditions(runs[0].schedule), np.array([STEPS])),
            found[0].evaluate(Conditions(runs[0].schedule), np.array([STEPS])),
            rtol=1e-4,
        )


def test_repeated_fits_are_equal(runs):
    assert fit(TISSUE.law, runs) == fit(TISSUE.law, runs)


# what the result says


def test_options_travel_with_the_result(runs):
    options = FitOptions(huber=2e-3, burn_in=300, max_points=50, tolerance=0.03, starts=6, polished=2)
    result = fit(TISSUE.law, runs, options)
    assert FitOptions(**result.options) == options
    assert result.options == asdict(options)
    assert result.starts_polished == 2
    assert fit(TISSUE.law, runs, FitOptions(starts=1, polished=4)).starts_polished == 1


def test_a_converged_fit_inside_its_bounds(runs):
    result = fit(TISSUE.law, runs)
    assert (result.status, result.at_bounds, result.warnings) == ("converged", (), ())
    assert result.law == "tissue" and result.law_options == {}
    assert list(result.parameters) == [
        "exponent",
        "memory",
        "irreducible_loss",
        "amplitude",
        "annealing_gain",
    ]
    assert result.domain.steps == STEPS and result.domain.warmup == WARMUP
    assert result.domain.peak_lr == (PEAK, 2 * PEAK)
    assert result.domain.params is None and result.domain.batch_tokens == (5e5, 5e5)
    assert set(result.versions) == {"lehr", "numpy", "scipy", "python"}
    assert result.points == 8 * 77


def test_residuals_are_those_of_each_run(runs):
    result = fit(TISSUE.law, runs, FitOptions(burn_in=200))
    assert set(result.residuals) == {run.name for run in runs}
    run = runs[2]
    keep = run.step >= 200
    relative = result.evaluate(Conditions(run.schedule), run.step[keep], tolerance=0.02) / run.loss[keep] - 1
    said = result.residuals[run.name]
    assert said["mean_absolute"] == pytest.approx(np.mean(np.abs(relative)), rel=1e-9)
    assert said["mean"] == pytest.approx(np.mean(relative), rel=1e-6)
    assert said["largest"] == pytest.approx(np.max(np.abs(relative)), rel=1e-9)


def test_sizes_are_part_of_the_domain():
    case = CASES["chinchilla"]
    assert fit(case.law, make_runs(case, noise=1e-4)).domain.params == (2e7, 5e8)


def test_a_parameter_at_its_bound_is_named():
    beyond = Case(TISSUE.law, (0.5, 5.0), (2.5, 0.6, 12.0))
    result = fit(beyond.law, make_runs(beyond, noise=1e-4))
    assert result.status == "at_bound" and result.at_bounds == ("memory",)


def test_a_search_that_ran_out_of_steps_is_not_converged(runs, monkeypatch):
    monkeypatch.setattr(module, "polish", functools.partial(module.polish, most=1))
    assert fit(TISSUE.law, runs, FitOptions(starts=2, polished=1)).status == "not_converged"


def test_an_effect_the_runs_do_not_show_is_said():
    upside_down = Case(TISSUE.law, (0.5, 150.0), (2.5, 0.6, -0.4))
    result = fit(TISSUE.law, make_runs(upside_down))
    assert result.parameters["annealing_gain"] == 0
    assert "annealing_gain came out as 0: these runs show no such effect." in result.warnings


# warnings and refusals


def test_one_peak_lr_with_a_prior_is_warned_of():
    case = CASES["effective_time"]
    runs = [run for run in make_runs(case, noise=1e-3) if run.schedule.peak == PEAK]
    text = (
        "all runs share the peak LR 0.001: predictions at another rest on priors (clock_exponent); "
        "add a run at another peak LR to test them."
    )
    assert any(text in warning for warning in fit(case.law, runs).warnings)
    assert not any("rest on priors" in w for w in check_runs(case.law, make_runs(case), FitOptions()))
    assert not check_runs(TISSUE.law, tuple(runs), FitOptions()), (
        "a law without a prior needs no such warning"
    )


def test_one_schedule_is_a_warning_on_request(runs):
    one = [runs[2]]
    with pytest.raises(
        InputError, match=r"law tissue has an annealing term, which one schedule cannot identify"
    ):
        fit(TISSUE.law, one)
    result = fit(TISSUE.law, one, FitOptions(one_schedule="warn"))
    assert "the prediction for other schedules rests on the law's form alone." in result.warnings[0]
    assert fit(LAWS["one_power"], one).status == "converged", "a law without an annealing term may have one"


def test_the_same_schedule_written_differently_or_cut_short_is_still_one():
    case = TISSUE
    whole = wsd(steps=4000, peak=PEAK, warmup=200, decay=1000)
    listed = replace(whole, call=None)
    made = []
    for name, schedule, last in (("a", whole, 4000), ("b", listed, 3800), ("c", whole.first(3500), 3500)):
        step = np.arange(200, last + 1, 50)
        made.append(Run(name, schedule, step, case.loss(Conditions(schedule), step)))
    with pytest.raises(InputError, match="one schedule cannot identify"):
        fit(case.law, made)
    other = cosine(steps=4000, peak=PEAK, warmup=200)
    step = np.arange(200, 4001, 50)
    made.append(Run("d", other, step, case.loss(Conditions(other), step)))
    assert fit(case.law, made).status == "converged"


def test_no_run_is_refused():
    for law in (TISSUE.law, LAWS["chinchilla"]):
        with pytest.raises(InputError, match=r"no run to fit: import at least one log\."):
            fit(law, ())


def test_a_burn_in_beyond_the_runs_is_refused(runs):
    text = (
        r"law tissue has 5 parameters, but only 0 points are left after the burn-in of 9000 updates: add runs"
    )
    with pytest.raises(InputError, match=text):
        fit(TISSUE.law, runs, FitOptions(burn_in=9000))


def test_losses_beyond_all_reason_reach_no_result(runs):
    tiny = [replace(run, loss=np.full(len(run.step), 5e-324)) for run in runs]
    with pytest.raises(
        ResultError, match=r"law tissue gave no finite loss from any of 24 starts: look for an LR"
    ):
        with np.errstate(all="ignore"):
            fit(TISSUE.law, tiny)
