"""One surface through a sweep: recovery, groups at an edge, intervals, and what it refuses."""

import numpy as np
import pytest
from tests.peaklr.made import BATCHES, CURVATURE, FALL, NOISE, RISE, made_sweep, true_lr

from lehr.errors import InputError
from lehr.peaklr.law import fit_lr_law
from lehr.peaklr.optima import measure_optima
from lehr.peaklr.shape import valley_shape
from lehr.peaklr.surface import fit_surface
from lehr.peaklr.table import SweepTable, merge


def test_the_law_the_shape_and_the_curvature_are_found():
    found = fit_surface(made_sweep(), "size", draws=0)
    assert found.law.coefficients[1:] == pytest.approx((-0.6, 0.2), abs=0.04)
    assert found.law.predict(2e8, 8e9).lr == pytest.approx(true_lr(2e8, 8e9), rel=0.04)
    assert found.fall == pytest.approx(FALL, rel=0.3) and found.rise == pytest.approx(RISE, rel=0.3)
    assert np.exp(found.curvature[0]) == pytest.approx(CURVATURE, rel=0.15)
    assert found.noise == pytest.approx(NOISE * 3, rel=0.6)  # of losses of 2.5 to 4 nats
    assert (found.law.groups, found.law.source, found.runs) == (9, "surface", 81)


def test_the_batch_enters():
    found = fit_surface(made_sweep(batches=BATCHES), "batch", draws=0)
    assert found.law.coefficients[1:] == pytest.approx((-0.6, 0.2, 0.5), abs=0.04)
    assert found.law.predict(2e8, 8e9, batch=5e5).lr == pytest.approx(true_lr(2e8, 8e9, 5e5), rel=0.05)


def test_the_surge_is_found():
    def surge(n, d, b):
        scale = 4e5 * (d / 8e9) ** 0.8
        return 2 * true_lr(n, d) / (np.sqrt(scale / b) + np.sqrt(b / scale))

    found = fit_surface(made_sweep(batches=(3e4, *BATCHES, 4e6), lr=surge), "surge", draws=0).law
    for n, d, b in ((1e8, 2e9, 3e4), (2e8, 8e9, 4e5), (4e8, 3.2e10, 4e6)):
        assert found.predict(n, d, b).lr == pytest.approx(surge(n, d, b), rel=0.08)


def test_an_excess_is_that_of_the_valley():
    found = fit_surface(made_sweep(), "size", draws=0)
    for factor in (0.5, 2.0):
        truth = CURVATURE * valley_shape(np.log([factor]), FALL, RISE)[0]
        assert found.excess(factor * true_lr(2e8, 8e9), 2e8, 8e9) == pytest.approx(truth, rel=0.25)
    best = found.law.predict(2e8, 8e9).lr
    assert found.excess(best, 2e8, 8e9) == pytest.approx(0, abs=1e-12)


def test_groups_at_an_edge_count_here_but_give_no_optimum():
    """Grids about one LR: those of most sizes do not enclose their optimum."""
    table = made_sweep(sizes=(2.5e7, 1e8, 4e8), tokens=(2e9, 3.2e10), centre=2e-3, count=4, step=1.6)
    optima, refused = measure_optima(table)
    assert len(refused) >= 3
    with pytest.raises(InputError):
        fit_lr_law(optima, "size")
    found = fit_surface(table, "size", draws=0).law
    assert found.coefficients[1:] == pytest.approx((-0.6, 0.2), abs=0.1)


def test_diverged_runs_are_passed_over():
    table = made_sweep()
    broken = SweepTable(
        np.append(table.lr, [0.1, 0.2]), np.append(table.loss, [np.nan, np.inf]), np.append(table.params, [1e8, 2e8]),
        np.append(table.tokens, [2e9, 8e9]),
    )  # fmt: skip
    assert fit_surface(broken, "size", draws=0).law.coefficients == pytest.approx(
        fit_surface(table, "size", draws=0).law.coefficients, abs=1e-6
    )


def test_intervals_hold_what_they_claim():
    """Of groups that scatter by .1 about the law, 90 % intervals hold 8 to 10 of 10 hidden ones."""
    held = []
    for seed in range(12):
        law = fit_surface(made_sweep(seed=seed, scatter=0.1, count=7), "size", draws=20, seed=seed).law
        for n, d in ((2e8, 8e9), (8e8, 1e11)):
            found = law.predict(n, d)
            truth = true_lr(n, d) * np.exp(0.1 * np.random.default_rng([seed, int(d)]).standard_normal())
            held.append(found.low <= truth <= found.high)
    assert np.mean(held) >= 0.8
    assert law.scatter == pytest.approx(0.1, abs=0.08)


def test_a_parabola_errs_where_the_high_side_is_steeper():
    table = made_sweep(step=2.0, count=7)
    asymmetric, parabola = (
        fit_surface(table, "size", draws=0, symmetric=symmetric).law.predict(2e8, 8e9).lr
        for symmetric in (False, True)
    )
    assert parabola < 0.97 * true_lr(2e8, 8e9)
    assert abs(np.log(asymmetric / true_lr(2e8, 8e9))) < abs(np.log(parabola / true_lr(2e8, 8e9)))


def test_what_it_cannot_tell_is_refused():
    with pytest.raises(InputError, match="form 'batch' cannot be fitted: the groups do not tell their batch"):
        fit_surface(made_sweep(), "batch")
    with pytest.raises(InputError, match="the groups share one params"):
        fit_surface(made_sweep(sizes=(1e8,)), "size")
    with pytest.raises(
        InputError, match="no group has two runs near its lowest loss: give groups with more LRs"
    ):
        fit_surface(made_sweep(count=1), "size")
    with pytest.raises(InputError, match="unknown form of a peak-LR law"):
        fit_surface(made_sweep(), "cubic")


def test_order_of_the_rows_does_not_matter():
    table = made_sweep()
    shuffled = table.select(np.random.default_rng(0).permutation(len(table)))
    halves = merge([table.select(np.arange(40)), table.select(np.arange(40, 81))])
    expected = fit_surface(table, "size", draws=0).law.coefficients
    for other in (shuffled, halves):
        assert fit_surface(other, "size", draws=0).law.coefficients == pytest.approx(expected, abs=1e-4)
