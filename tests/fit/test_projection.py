"""The projected problem: exact amplitudes, exact derivatives, bounds, priors, and the parameters that made the data."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.optimize import nnls
from tests.synthetic import CASES, PEAK, STEPS, WARMUP, Case, make_runs, schedules

from lehr.fit import projection
from lehr.fit.fit import FitOptions, fit, prepare, search
from lehr.fit.projection import Problem, evaluate, jacobian, natural, polish, search_box
from lehr.laws.effective_time import EffectiveTime
from lehr.laws.law import Conditions
from lehr.laws.tissue import Tissue
from lehr.runs.run import Run
from lehr.schedule.pieces import TOLERANCE

EXACT = FitOptions(burn_in=1, tolerance=TOLERANCE)  # as the synthetic runs were made
SQUARED = replace(EXACT, huber=10.0)
every_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)


def near(case, share=0.03):
    """Search coordinates a little off the truth, within the bounds."""
    low, high = search_box(case.law)
    truth = np.array([p.to_search(v) for p, v in zip(case.law.nonlinear, case.nonlinear, strict=True)])
    return np.clip(truth + share * (high - low) * np.cos(np.arange(len(low))), low, high)


def derivative(function, at, index, h=1e-3):
    """Central difference of fourth order."""

    def value(times):
        moved = at.copy()
        moved[index] += times * h
        return function(moved)

    return (8 * (value(1) - value(-1)) - (value(2) - value(-2))) / (12 * h)


# recovery


@every_case
def test_parameters_are_recovered_from_exact_data(case):
    problem = prepare(case.law, make_runs(case), EXACT)
    point, converged, _ = search(problem, EXACT)
    found = np.concatenate([natural(case.law, point.search), point.linear])
    np.testing.assert_allclose(found, case.vector, rtol=1e-8, atol=1e-12)
    assert converged
    assert np.max(np.abs(point.residual)) < 1e-9


@every_case
def test_parameters_are_recovered_from_noisy_data(case):
    """White noise of .1 % moves predictions by less than that, whatever parameters trade off."""
    result = fit(case.law, make_runs(case, noise=1e-3), EXACT)
    for name, schedule in schedules().items():
        conditions, steps = Conditions(schedule, 1e8, 5e5), np.arange(500.0, STEPS + 1, 500)
        if getattr(case.law, "grid", "update") == "logged":
            steps = np.arange(50.0, STEPS + 1, 50)
        truth = case.loss(conditions, steps)
        assert np.max(np.abs(result.evaluate(conditions, steps) / truth - 1)) < 8e-4, name


# amplitudes


@settings(deadline=None, max_examples=60)
@given(
    basis=arrays(float, (12, 3), elements=st.floats(-1, 1, width=32)),
    weight=arrays(float, 12, elements=st.floats(0.1, 1)),
)
def test_amplitudes_are_those_of_non_negative_least_squares(basis, weight):
    root = np.sqrt(weight)
    norm = nnls(basis * root[:, None], root)[1]
    found = projection._nonnegative(basis, weight)
    assert np.all(found >= 0)
    residual = (basis @ found - 1) * root
    assert np.linalg.norm(residual) <= norm * (1 + 1e-6) + 1e-9


def test_a_column_of_nothing_or_a_copy_gets_a_harmless_amplitude():
    one = np.ones((5, 1))
    line = np.linspace(0, 1, 5)[:, None]
    for basis in (np.hstack([one, 0 * one, line]), np.hstack([one, one, line])):
        found = projection._nonnegative(basis, np.ones(5))
        np.testing.assert_allclose(basis @ found, 1, atol=1e-9)
        assert np.all(found >= 0)


def test_a_term_with_the_wrong_sign_in_the_data_gets_amplitude_zero():
    """Losses that rise on annealing: C = 0, and raising it would raise the cost."""
    case = CASES["tissue"]
    upside_down = Case(case.law, case.nonlinear, (2.5, 0.6, -0.4))
    problem = prepare(case.law, make_runs(upside_down), EXACT)
    point, phi, _ = evaluate(problem, near(case, 0.0))
    assert point.linear[2] == 0 and np.all(point.linear[:2] > 0)
    weight = projection.robust_weight(problem, point)
    slope = phi.T @ (weight * point.residual)
    scale = np.linalg.norm(phi, axis=0) * np.linalg.norm(weight * point.residual)
    assert slope[2] > 0, "the condition of Kuhn and Tucker"
    assert np.all(np.abs(slope[:2]) < 0.05 * scale[:2]), "reweighted a few times only"
    turn = jacobian(problem, point, *evaluate(problem, near(case, 0.0))[1:])
    assert np.all(turn[:, 1] == 0), "the memory acts through C alone"


def test_outliers_hardly_move_the_amplitudes():
    case = CASES["tissue"]
    runs = list(make_runs(case))
    loss = runs[0].loss.copy()
    loss[10] *= 2
    runs[0] = replace(runs[0], loss=loss)
    point = evaluate(prepare(case.law, tuple(runs), EXACT), near(case, 0.0))[0]
    squared = evaluate(prepare(case.law, tuple(runs), SQUARED), near(case, 0.0))[0]
    robust_error, squared_error = (
        np.max(np.abs(p.linear / np.array(case.linear) - 1)) for p in (point, squared)
    )
    assert robust_error < 1e-4
    assert squared_error > 20 * robust_error


# derivatives


@every_case
def test_jacobian_is_the_derivative_of_the_projected_residual(case):
    """Exact where every residual is below the Huber threshold: amplitudes then follow by least squares."""
    problem = prepare(case.law, make_runs(case, noise=3e-3), SQUARED)
    here = near(case)
    turn = jacobian(problem, *evaluate(problem, here))
    assert turn.shape == (len(problem.loss), len(here))
    for i in range(len(here)):
        numeric = derivative(lambda z: evaluate(problem, z)[0].residual, here, i)
        np.testing.assert_allclose(turn[:, i], numeric, rtol=0, atol=1e-7 * np.abs(numeric).max())


@every_case
def test_gradient_of_the_huber_cost(case):
    """Amplitudes are reweighted a few times only, hence the two per cent."""
    problem = prepare(case.law, make_runs(case, noise=3e-3), EXACT)
    here = near(case)
    point, phi, slope = evaluate(problem, here)
    prior, gap = projection.prior_scale(problem), projection._prior_gap(problem, here)
    gradient = jacobian(problem, point, phi, slope).T @ (
        projection.robust_weight(problem, point) * point.residual
    )
    gradient = gradient + prior * gap
    numeric = [derivative(lambda z: evaluate(problem, z)[0].cost, here, i) for i in range(len(here))]
    np.testing.assert_allclose(gradient, numeric, rtol=0, atol=0.02 * np.abs(gradient).max())


# bounds and convergence


@every_case
@settings(deadline=None, max_examples=4, derandomize=True)
@given(share=st.lists(st.floats(-0.5, 1.5), min_size=16, max_size=16))
def test_polish_improves_and_stays_within_the_bounds(case, share):
    problem = prepare(case.law, make_runs(case, noise=1e-3, every=200), EXACT)
    low, high = search_box(case.law)
    start = low + (high - low) * np.array(share[: len(low)])
    with np.errstate(all="ignore"):
        point, _ = polish(problem, start)
        before = evaluate(problem, np.clip(start, low, high))[0].cost
    assert np.all((point.search >= low) & (point.search <= high))
    assert point.cost <= before


def test_a_truth_beyond_a_bound_ends_at_the_bound():
    beyond = Case(Tissue(), (0.5, 5.0), (2.5, 0.6, 12.0))
    result = fit(beyond.law, make_runs(beyond, noise=1e-4), EXACT)
    assert result.parameters["memory"] == pytest.approx(20.0, rel=1e-9)
    assert result.status == "at_bound" and result.at_bounds == ("memory",)


def test_polish_says_when_it_ran_out_of_steps():
    case = CASES["multi_power"]
    problem = prepare(case.law, make_runs(case, noise=1e-3), EXACT)
    assert not polish(problem, near(case, 0.2), most=1)[1]
    assert polish(problem, near(case, 0.2), most=200)[1]


def test_polish_of_a_converged_point_stays_there():
    case = CASES["tissue"]
    problem = prepare(case.law, make_runs(case, noise=1e-3), EXACT)
    point, _ = polish(problem, near(case), close=1e-12)
    again, converged = polish(problem, point.search)
    assert converged
    np.testing.assert_allclose(again.search, point.search, rtol=1e-4)


# priors


@dataclass(frozen=True)
class Free(EffectiveTime):
    """The effective-time law without its prior."""

    @property
    def nonlinear(self):
        return tuple(replace(p, prior=None) for p in super().nonlinear)


def test_a_prior_decides_only_what_the_runs_do_not():
    """p from runs at one peak LR rests on its prior of .8; from two peaks a factor of four apart on the runs."""
    base = CASES["effective_time"]
    case = Case(base.law, (0.5, 0.5, 30.0, 2.0, 0.4), base.linear)

    def exponent(peaks, pulled):
        law = base.law if pulled else Free()
        rng = np.random.default_rng(0)
        runs = []
        for peak in peaks:
            for name, schedule in schedules(peak).items():
                step = np.arange(WARMUP, STEPS + 1, 50.0)
                loss = case.loss(Conditions(schedule), step) * (1 + 1e-3 * rng.standard_normal(len(step)))
                runs.append(Run(f"{name} {peak}", schedule, step, loss))
        point = search(prepare(law, tuple(runs), EXACT), EXACT)[0]
        return natural(law, point.search)[1]

    one = (PEAK,)
    two = (PEAK, 4 * PEAK)
    assert abs(exponent(two, True) - 0.5) < 0.03, "the runs outweigh the prior"
    assert abs(exponent(two, True) - exponent(two, False)) < 0.03
    assert abs(exponent(one, True) - exponent(one, False)) > 0.05, "the prior matters"
    assert abs(exponent(one, True) - 0.8) < 0.25


def test_priors_weigh_less_the_more_points_there_are():
    case = CASES["effective_time"]
    few, many = (prepare(case.law, make_runs(case, every=every), EXACT) for every in (400, 50))
    shares = [projection.prior_scale(p)[1] ** 2 / len(p.loss) for p in (few, many)]
    assert shares[0] == pytest.approx(shares[1]), (
        "a share of the objective that does not grow with logging more often"
    )
    assert projection.prior_scale(few)[0] == 0, "no prior, no pull"


# parts of a problem


def test_a_problem_of_some_of_the_runs_is_that_of_those_runs():
    case = CASES["tissue"]
    runs = make_runs(case, noise=1e-3)
    whole = prepare(case.law, runs, EXACT)
    some = whole.only([3, 0])
    direct = prepare(case.law, (runs[3], runs[0]), EXACT)
    here = near(case)
    np.testing.assert_allclose(
        evaluate(some, here)[0].residual, evaluate(direct, here)[0].residual, atol=1e-9
    )
    assert some.rows == direct.rows
    assert isinstance(some, Problem)


def test_weights_of_zero_take_points_out_of_the_fit():
    case = CASES["tissue"]
    runs = make_runs(case, noise=1e-3)
    whole = prepare(case.law, runs, EXACT)
    weight = whole.weight.copy()
    weight[whole.rows[0]] = 0
    here = near(case)
    without = whole.only(range(1, len(runs)))
    found = evaluate(whole.with_weight(weight), here)[0]
    np.testing.assert_allclose(found.linear, evaluate(without, here)[0].linear, rtol=1e-6)


# held parameters and priors left out


def test_a_held_parameter_stays_and_the_others_find_their_best():
    case = CASES["tissue"]
    problem = prepare(case.law, make_runs(case, noise=1e-3), EXACT)
    best = search(problem, EXACT)[0]
    at = best.search[0] + 0.02
    held = polish(replace(problem, fixed=np.array([at, np.nan])), best.search)[0]
    assert held.search[0] == at and held.cost > best.cost
    costs = [evaluate(problem, np.array([at, held.search[1] + move]))[0].cost for move in (-1e-2, 0, 1e-2)]
    assert min(costs) == costs[1]


def test_priors_left_out_do_not_count():
    case = CASES["effective_time"]
    problem = prepare(case.law, make_runs(case), EXACT)
    bare = replace(problem, priors=False)
    here = near(case)
    priors = [p.prior for p in case.law.nonlinear]
    assert any(priors) and not projection.prior_scale(bare).any()
    assert evaluate(bare, here)[0].cost < evaluate(problem, here)[0].cost
