"""From few token counts to a larger one."""

import numpy as np
import pytest
from tests.peaklr.made import made_sweep, true_lr

from lehr.errors import InputError
from lehr.peaklr.horizon import fit_horizon, valley_at
from lehr.peaklr.shape import valley_shape
from lehr.peaklr.table import SweepTable

LRS = np.geomspace(5e-4, 8e-3, 7)
COUNTS = (4e9, 8e9, 1.6e10, 3.2e10)


def law(lr, tokens, gamma=0.35):
    """L0 + A D^-gamma at each LR, with L0 and A such that the optimum moves to lower LRs with D."""
    floor = 2.0 + 0.05 * valley_shape(np.log(lr / 1.5e-3), 0.3, 1.0)
    slope = 0.6 + 0.05 * valley_shape(np.log(lr / 4e-3), 0.3, 1.0)
    return floor + slope * (tokens / 1e10) ** -gamma


def sweep(noise=0.0, seed=0, counts=COUNTS, gamma=0.35):
    lr, tokens = (grid.ravel() for grid in np.meshgrid(LRS, counts))
    loss = law(lr, tokens, gamma) * (1 + noise * np.random.default_rng(seed).standard_normal(lr.size))
    return SweepTable(lr, loss, np.full(lr.size, 1e8), tokens)


def test_losses_are_carried_over_and_the_exponent_is_found():
    found = fit_horizon(sweep())
    assert found.gamma == pytest.approx(0.35, abs=0.1)
    mean, deviation = found.loss(1e11)
    np.testing.assert_allclose(mean, law(LRS, 1e11), atol=0.01)
    assert (np.abs(mean - law(LRS, 1e11)) < 2 * deviation).all()


def test_the_band_holds_and_widens_with_the_distance():
    held, widths = [], []
    for seed in range(20):
        found = fit_horizon(sweep(5e-4, seed, gamma=0.2 + 0.02 * seed))
        near, far = found.loss(6.4e10), found.loss(3.2e11)
        held += (np.abs(far[0] - law(LRS, 3.2e11, 0.2 + 0.02 * seed)) < 1.645 * far[1]).tolist()
        widths.append(far[1].mean() / near[1].mean())
    assert np.mean(held) > 0.9
    assert min(widths) > 1.5


def test_draws_have_the_mean_and_deviation_of_the_loss():
    found = fit_horizon(sweep(5e-4))
    mean, deviation = found.loss(1e11)
    drawn = found.sample(1e11, 4000, np.random.default_rng(0))
    np.testing.assert_allclose(drawn.mean(axis=0), mean, atol=0.1 * deviation.max())
    np.testing.assert_allclose(drawn.std(axis=0), deviation, rtol=0.1)


def test_the_valley_at_the_target_is_found():
    truth = LRS[0] * np.exp(np.linspace(0, np.log(LRS[-1] / LRS[0]), 2001))
    best = truth[np.argmin(law(truth, 1e11))]
    found = valley_at(fit_horizon(sweep(3e-4)), 1e11, "asymmetric", draws=60)
    assert found.lr == pytest.approx(best, rel=0.25)
    assert found.low <= best <= found.high
    near = valley_at(fit_horizon(sweep(3e-4)), 3.2e10, "asymmetric", draws=60)
    assert found.high / found.low > near.high / near.low
    assert found.low <= found.lr <= found.high


def test_the_optimum_of_a_made_sweep_moves_as_it_should():
    """LR_opt ~ D^.2, from three token counts to four times the largest."""
    table = made_sweep(sizes=(2e8,), tokens=(2e9, 4e9, 8e9, 1.6e10), centre=2e-3, count=9, step=1.5)
    found = valley_at(fit_horizon(table), 6.4e10, "asymmetric", draws=60)
    assert found.low <= true_lr(2e8, 6.4e10) <= found.high


def test_lrs_with_too_few_token_counts_or_a_diverged_run_are_passed_over():
    table = sweep()
    loss = table.loss.copy()
    loss[np.isclose(table.lr, LRS[-1]) & (table.tokens == 4e9)] = np.nan
    few = ~(np.isclose(table.lr, LRS[0]) & (table.tokens > 8e9))
    found = fit_horizon(SweepTable(table.lr, loss, table.params, table.tokens).select(few))
    np.testing.assert_allclose(found.lr, LRS[1:-1])


def test_mixed_sweeps_and_too_few_token_counts_are_refused():
    with pytest.raises(InputError, match="S mixes runs of more than one size: select those of one"):
        fit_horizon(made_sweep(), where="S")
    with pytest.raises(
        InputError, match="the sweep mixes runs of more than one batch size: select those of one"
    ):
        fit_horizon(made_sweep(sizes=(1e8,), batches=(1e5, 2e5)))
    with pytest.raises(
        InputError, match="S: no LR has runs of 3 token counts that all ended: anneal its run from 3 points"
    ):
        fit_horizon(sweep(counts=(4e9, 8e9)), where="S")
    with pytest.raises(InputError, match="tokens must be above 0, got 0: give the tokens of the planned run"):
        fit_horizon(sweep()).loss(0)


def test_an_optimum_at_an_edge_is_refused():
    low = sweep().select(np.flatnonzero(sweep().lr < 1.3e-3))
    with pytest.raises(
        InputError, match=r"extrapolated to 1e\+11 tokens: the optimum lies at the edge of the LRs"
    ):
        valley_at(fit_horizon(low), 1e11)


def test_draws_without_an_optimum_are_refused():
    """Three LRs close to the optimum, and losses carried far: their errors outweigh the valley."""
    lr, tokens = (
        grid.ravel() for grid in np.meshgrid(2.2e-3 * np.array([0.8, 1, 1.25]), (4e9, 4.6e9, 5.2e9))
    )
    table = SweepTable(lr, law(lr, tokens), np.full(lr.size, 1e8), tokens)
    with pytest.raises(InputError) as caught:
        valley_at(fit_horizon(table), 4e10, draws=40)
    assert (
        "of the draws have no optimum between the LRs: run more LRs, or anneal at more token counts."
        in str(caught.value)
    )
