"""A fit opened again: the same problem, exact derivatives, and refusal of other runs."""

from dataclasses import replace

import numpy as np
import pytest
from tests.fit.wandering import wandering_runs
from tests.synthetic import CASES

from lehr.errors import InputError
from lehr.fit.adapt import adapt
from lehr.fit.fit import FitOptions, fit
from lehr.fit.linearised import FLOOR, invert, linearise, reopen, without_priors
from lehr.fit.projection import natural

CASE = CASES["effective_time"]


@pytest.fixture(scope="module")
def fitted():
    runs = wandering_runs(CASE)
    return fit(CASE.law, runs), runs


def test_it_is_the_fit_that_was_made(fitted):
    result, runs = fitted
    opened = reopen(result, runs)
    assert opened.point.cost == pytest.approx(result.cost, rel=1e-9)
    assert opened.names == tuple(result.parameters)
    assert len(opened.steps) == result.points
    assert all(np.array_equal(opened.steps[rows], run.step[run.step >= result.domain.burn_in])
               for rows, run in zip(opened.problem.rows, runs, strict=True))  # fmt: skip


def test_its_columns_are_the_derivatives_of_the_residuals(fitted):
    opened = reopen(*fitted)
    count = len(CASE.law.nonlinear)

    def residual(search, linear):
        phi = np.concatenate([basis(natural(CASE.law, search))[0] for basis in opened.problem.bases])
        return phi @ linear / opened.problem.loss - 1

    for j in range(len(opened.names)):
        move = np.zeros(len(opened.names))
        move[j] = 1e-5
        ends = [
            residual(opened.point.search + sign * move[:count], opened.point.linear + sign * move[count:])
            for sign in (1, -1)
        ]
        slope = (ends[0] - ends[1]) / 2e-5
        assert opened.jacobian[:, j] == pytest.approx(slope, rel=1e-4, abs=1e-6 * np.abs(slope).max())


def test_points_beyond_the_huber_bound_pull_but_hardly_bend(fitted):
    result, runs = fitted
    opened = reopen(result, runs)
    narrow = linearise(replace(opened.problem, huber=2e-4), opened.point.search, opened.steps)
    out = np.abs(narrow.point.residual) > 2e-4
    assert out.any() and not out.all()
    assert narrow.bend[~out] == pytest.approx(narrow.weight[~out])
    assert narrow.bend[out] == pytest.approx(FLOOR * narrow.weight[out])


def test_priors_add_to_the_curvature_of_their_parameters_only(fitted):
    opened = reopen(*fitted)
    assert [n for n, p in zip(opened.names, opened.precision, strict=True) if p > 0] == ["clock_exponent"]
    bare = linearise(without_priors(opened.problem), opened.point.search, opened.steps)
    assert not bare.precision.any()
    j = opened.names.index("clock_exponent")
    assert opened.inverse()[j, j] < bare.inverse()[j, j]


def test_the_inverse_is_one_and_takes_directions_without_curvature():
    rng = np.random.default_rng(0)
    root = rng.standard_normal((9, 4)) * np.array([1.0, 1e4, 1e-4, 1.0])
    matrix = root.T @ root
    assert invert(matrix) @ matrix == pytest.approx(np.eye(4), abs=1e-6)
    matrix[3, :] = matrix[:, 3] = 0.0
    found = invert(matrix)
    assert np.all(np.isfinite(found)) and found[3, 3] > 1e6 * found[0, 0]


def test_other_runs_are_refused(fitted):
    result, runs = fitted
    with pytest.raises(InputError) as caught:
        reopen(result, runs[1:])
    assert str(caught.value) == (
        "the 7 runs given are not those that the fit of effective_time was made from: give the same runs, or fit again."
    )
    assert reopen(result, runs[::-1]).point.cost == pytest.approx(result.cost), "their order does not matter"


def test_an_amplitude_of_zero_has_no_column():
    """A decay that gains nothing, and loses a little: Tissue's law finds no annealing gain."""
    law = CASES["tissue"].law
    runs = tuple(r for r in wandering_runs(CASES["one_power"]) if r.name in ("constant 0.001", "wsd 0.001"))
    worse = replace(runs[1], loss=runs[1].loss * (1 + 1e-3 * (runs[1].step > 3000)))
    result = fit(law, (runs[0], worse), FitOptions(starts=6))
    assert result.parameters["annealing_gain"] == 0
    opened = reopen(result, (runs[0], worse))
    assert "annealing_gain" not in opened.names
    assert opened.jacobian.shape[1] == len(opened.names) == 4


def test_a_fit_that_was_moved_is_refused(fitted):
    result, runs = fitted
    moved = adapt(result, [replace(runs[0], loss=runs[0].loss * 1.01)], draws=0)
    with pytest.raises(InputError) as caught:
        reopen(moved, [replace(runs[0], loss=runs[0].loss * 1.01)])
    assert str(caught.value) == (
        "the fit of effective_time was moved to these runs, which tell its level and scale alone: diagnose the fit "
        "that it was moved from, or fit these runs."
    )


def test_runs_of_two_data_sets_are_opened_with_their_scales():
    """One shape, two levels: the scale of the second data set has a column of its own."""
    runs = wandering_runs(CASE)
    both = tuple(
        replace(r, meta={"dataset": "a" if i % 2 else "b"}, loss=r.loss if i % 2 else 0.9 * r.loss)
        for i, r in enumerate(runs)
    )
    result = fit(CASE.law, both)
    opened = reopen(result, both)
    assert opened.names == tuple(result.parameters) and len(opened.names) > len(CASE.vector)
    assert opened.point.cost == pytest.approx(result.cost, rel=1e-6)
