"""The best batch size: recovery and refusals."""

import numpy as np
import pytest
from tests.peaklr.made import BATCHES, made_sweep, true_batch

from lehr.errors import InputError
from lehr.peaklr.batch import batch_valley, fit_batch_law

WIDE = (3.3e4, 6.5e4, *BATCHES, 2.1e6)


def test_the_best_batch_is_found():
    group = made_sweep(batches=WIDE, sizes=(2e8,), tokens=(8e9,)).groups()[0]
    found = batch_valley(group)
    assert found.lr == pytest.approx(true_batch(8e9), rel=0.15)
    assert found.low <= true_batch(8e9) <= found.high


def test_its_law_is_a_power_of_the_tokens():
    law, optima, refused = fit_batch_law(made_sweep(batches=WIDE, count=7), draws=20)
    assert len(optima) == 9 and not refused
    assert law.trend.coefficients[1:] == pytest.approx((0.0, 0.5), abs=0.06)
    found = law.predict(2e8, 3.2e10)
    assert found.batch_tokens == pytest.approx(true_batch(3.2e10), rel=0.12)
    assert found.low < found.batch_tokens < found.high
    assert law.formula.startswith("B = ") and "D^+0." in law.formula


def test_one_size_gives_a_law_of_the_tokens_and_one_group_a_constant():
    assert fit_batch_law(made_sweep(batches=WIDE, sizes=(1e8,), count=7), draws=0)[0].trend.form == "tokens"
    one = made_sweep(batches=WIDE, sizes=(1e8,), tokens=(8e9,), count=7)
    assert fit_batch_law(one, draws=0)[0].trend.form == "constant"


def test_too_few_batches_and_a_best_one_at_the_edge_are_refused():
    group = made_sweep(batches=(1e5, 2e5), sizes=(2e8,), tokens=(8e9,)).groups()[0]
    with pytest.raises(
        InputError, match="2 batch sizes have LRs that enclose an optimum, which is fewer than 3: run more"
    ):
        batch_valley(group)
    edge = made_sweep(batches=(1e6, 2e6, 4e6), sizes=(2e8,), tokens=(8e9,)).groups()[0]
    with pytest.raises(InputError) as caught:
        batch_valley(edge)
    assert (
        "over batch sizes: the optimum lies at the edge of the batch sizes, at or beyond the lowest"
        in str(caught.value)
    )
    assert "run lower batch sizes" in str(caught.value)
    with pytest.raises(InputError, match="no group tells its best batch size: "):
        fit_batch_law(made_sweep(batches=(1e6, 2e6, 4e6), sizes=(2e8,), tokens=(8e9,)))


def test_a_batch_whose_lrs_enclose_nothing_is_passed_over():
    table = made_sweep(batches=WIDE, sizes=(2e8,), tokens=(8e9,))
    smallest = np.isclose(table.batch_tokens, WIDE[0])
    cut = table.select(~smallest | (table.lr < np.median(table.lr[smallest])))
    assert batch_valley(cut.groups()[0]).points[0][0] == pytest.approx(WIDE[1])
