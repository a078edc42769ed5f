"""The best LR of every group."""

import numpy as np
import pytest
from tests.peaklr.made import BATCHES, made_sweep, true_lr

from lehr.errors import InputError
from lehr.peaklr.optima import check_unmixed, covariates_of, measure_optima
from lehr.peaklr.table import SweepTable


def test_optima_have_intervals_that_hold_the_truth():
    found, refused = measure_optima(made_sweep())
    assert len(found) == 9 and not refused
    assert all(o.low < true_lr(o.params, o.tokens) < o.high for o in found)


def test_groups_at_an_edge_are_told_and_left_out():
    table = made_sweep(count=5, centre=2e-3, tokens=(8e9,), sizes=(2e8, 4e9))
    found, refused = measure_optima(table)
    assert len(found) == 1
    assert refused[0].startswith(
        "4e+09 parameters, 8e+09 tokens: the optimum lies at the edge of the LRs, at or beyond"
    )


def test_optima_at_every_batch_size():
    table = made_sweep(batches=BATCHES, sizes=(2e8,), tokens=(8e9,))
    found, _ = measure_optima(table, by_batch=True)
    assert [o.batch_tokens for o in found] == pytest.approx(BATCHES)
    slope = np.polyfit(np.log(BATCHES), np.log([o.lr for o in found]), 1)[0]
    assert slope == pytest.approx(0.5, abs=0.1)
    assert len(measure_optima(table)[0]) == 1


def test_mixed_runs_are_refused_whole():
    """Two batch sizes that the table does not tell: one group is named."""
    mixed = made_sweep(sizes=(2e8,), tokens=(8e9,), batches=(1.3e5, 2.1e6), count=5, centre=2e-3)
    table = SweepTable(mixed.lr, mixed.loss, mixed.params, mixed.tokens)
    for check in (check_unmixed, measure_optima):
        with pytest.raises(
            InputError, match=r"^2e\+08 parameters, 8e\+09 tokens: two runs at LR .* which is no noise"
        ):
            check(table)
    check_unmixed(mixed)


def test_seeds_and_runs_high_up_may_differ():
    table = made_sweep(sizes=(2e8,), tokens=(8e9,))
    again = SweepTable(*(np.concatenate([v, v]) for v in (table.lr, table.loss, table.params, table.tokens)))
    loss = again.loss.copy()
    loss[-1] += 3  # one seed of the highest LR is on its way to diverge
    loss[: len(table)] += 1e-3
    check_unmixed(SweepTable(again.lr, loss, again.params, again.tokens))


def test_covariates_are_over_their_geometric_means():
    found, _ = measure_optima(made_sweep(batches=BATCHES, count=5))
    logs, centre, ranges = covariates_of(found)
    assert set(logs) == {"params", "tokens", "sparsity", "batch"}
    assert all(abs(values.mean()) < 1e-9 for values in logs.values())
    assert centre["params"] == pytest.approx(2e8) and ranges["params"] == (1e8, 4e8)
