"""Which runs are picked next."""

import numpy as np
import pytest
from tests.peaklr.planning import train

from lehr.peaklr.posterior import fit_posterior
from lehr.peaklr.prior import make_prior
from lehr.peaklr.propose import may_run, propose
from lehr.peaklr.published import Planned

LRS = 2.0 ** (np.arange(-5, 6) / 2) * 2e-3
SIZE, TOKENS, LR = (a.ravel() for a in np.meshgrid([1e8, 2e8, 4e8], [2e9, 4e9, 8e9], LRS))
GRID = train(LR, SIZE, TOKENS)
TARGET = Planned(8e8, 3.2e10)
PRIOR = make_prior(GRID, "deepseek")


def free(_):
    return np.ones(len(GRID))


def picks(done=None, most=9, costs=free, budget=np.inf, seed=0):
    rows = None if done is None else GRID.select(np.asarray(done))
    return propose(fit_posterior(PRIOR, rows), rows, GRID, TARGET, costs, budget, most, seed)


def test_it_is_what_conditioning_the_whole_gaussian_gives():
    """After the picks, the variance is that of the posterior if the runs were as expected."""
    found = picks(most=12)
    before = fit_posterior(PRIOR, None).variance(TARGET)
    assert found.variance < before / 4
    assert len(found.picked) == 12 == len(set(found.picked)) and found.cost == 12
    after = fit_posterior(PRIOR, GRID.select(np.array(found.picked))).variance(TARGET)
    assert after < before / 4


def test_no_cell_is_opened_for_one_run_alone():
    found = picks(most=8)
    cell = GRID.group_numbers()[list(found.picked)]
    assert (np.unique(cell, return_counts=True)[1] >= 2).all()


def test_what_is_done_is_not_proposed_again():
    first = picks(most=8).picked
    then = picks(first, most=8).picked
    assert not set(first) & set(then)
    assert not may_run(GRID.select(np.array(first)), GRID)[list(first)].any()


def test_lrs_that_diverged_are_not_proposed_at_that_size():
    done = train([LRS[7], LRS[5]], 1e8, 2e9, diverges=1e-9)
    allowed = may_run(done, GRID)
    small = GRID.params == 1e8
    assert not allowed[small & (GRID.lr >= LRS[5] * 0.999)].any()
    assert allowed[small & (GRID.lr < LRS[5] * 0.999)].all() and allowed[~small].all()


def test_costs_move_the_choice_and_the_budget_binds():
    compute = GRID.params * GRID.tokens / 1e17
    cheap = picks(costs=lambda _: compute, most=None, budget=40.0)
    assert cheap.cost <= 40.0 and len(cheap.picked) > 2
    assert compute[list(cheap.picked)].mean() < compute[list(picks(most=9).picked)].mean()
    assert picks(budget=1.5, most=None).picked in {(), *((row,) for row in range(len(GRID)))}
    assert picks(budget=0.5).picked == ()


def test_it_is_the_same_for_a_seed():
    assert picks(seed=3) == picks(seed=3)


def test_the_losses_of_candidates_are_not_read():
    blind = type(GRID)(GRID.lr, np.full(len(GRID), np.nan), GRID.params, GRID.tokens)
    posterior = fit_posterior(PRIOR, None)
    seen, unseen = (propose(posterior, None, table, TARGET, free, np.inf, 9) for table in (GRID, blind))
    assert seen.picked == unseen.picked


@pytest.mark.parametrize("count", [10, 20])
def test_it_beats_chance(count):
    generator = np.random.default_rng(0)
    chosen = list(picks(most=10).picked)
    if count > 10:
        chosen += picks(chosen, most=count - 10).picked
    planned = fit_posterior(PRIOR, GRID.select(np.array(chosen))).variance(TARGET)
    chance = [
        fit_posterior(PRIOR, GRID.select(generator.permutation(len(GRID))[:count])).variance(TARGET)
        for _ in range(10)
    ]
    assert planned < min(chance)
