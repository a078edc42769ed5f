"""The simulation of planning, on a made-up grid."""

import numpy as np
import pytest
from tests.peaklr.planning import train

from benchmarks import lr_planning

SIZE, TOKENS, BATCH, STEP = (
    a.ravel() for a in np.meshgrid([1e8, 2e8], [2e9, 8e9], [2e5, 4e5, 8e5], np.arange(-5, 6))
)
TABLE = train(2e-3 * 2.0 ** (STEP / 2), SIZE, TOKENS, BATCH)


@pytest.mark.parametrize("access", ["others", "cheaper"])
def test_it_counts_every_run_and_scores_as_the_sweeps_do(access):
    found = lr_planning.benchmark(TABLE, access, 1, lambda text: None)
    grid = {"others": 99, "cheaper": 99}[access]
    assert found["targets"] == (1 if access == "cheaper" else 4)
    assert found["full"]["runs"] == grid
    for plan in found["plans"]:
        assert plan["runs"] == round(plan["share"] * grid)
        assert (plan["random"] is None) == (access != "others")
        assert plan["excess_loss_mean"] >= 0 and 0 <= plan["coverage"] <= 1
    last = found["plans"][-1]
    assert last["excess_loss_mean"] < found["plans"][0]["excess_loss_mean"] + 1e-4
    at_bar = next(plan for plan in found["plans"] if plan["share"] == found["bar"]["share"])
    assert found["bar"]["excess_over_full"] == pytest.approx(
        at_bar["excess_loss_mean"] - found["full"]["excess_loss_mean"]
    )


def test_what_is_bought_is_never_of_the_target():
    groups = TABLE.groups()
    for held, group in enumerate(groups):
        grid = lr_planning.allowed(TABLE, groups, held, "others")
        assert not np.any((grid.params == group.params) & (grid.tokens == group.tokens))
        cheaper = lr_planning.allowed(TABLE, groups, held, "cheaper")
        if cheaper is not None:
            assert np.all(cheaper.params * cheaper.tokens < group.params * group.tokens)


@pytest.mark.parametrize("choose", [lr_planning.at_random, lr_planning.subgrid])
def test_the_other_ways_buy_each_run_once(choose):
    for seed in range(4):
        rows = choose(TABLE, 20, seed)
        assert len(set(rows)) == len(rows) and abs(len(rows) - 20) <= 2
