"""Choosing a law by hidden groups."""

import numpy as np
import pytest
from tests.peaklr.made import BATCHES, made_sweep, true_lr

from lehr.errors import InputError
from lehr.peaklr.choose import CANDIDATES, FALLBACK, choose_law, fit_candidate, rule_of


def test_a_law_of_the_batch_is_chosen_where_the_batch_matters():
    table = made_sweep(batches=BATCHES, count=6)
    found = choose_law(table, ("constant", "parabola", "surface_size", "surface_batch"))
    assert found.chosen == "surface_batch"
    assert found.mean("surface_batch") < 0.5 * found.mean("surface_size") < 0.5 * found.mean("constant")
    assert all(values.shape == (9,) for values in found.excess.values())


def test_the_simplest_of_tied_laws_is_chosen():
    table = made_sweep(count=6, lr=lambda n, d, b=None: 1e-3)
    assert choose_law(table, ("surface_size", "constant", "surface_tokens")).chosen == "surface_size"
    assert choose_law(table, ("constant", "surface_tokens", "surface_size")).chosen == "constant"


def test_a_group_has_no_say_in_the_law_it_is_scored_on():
    """Moving one group's losses does not move the LR it is given."""
    table = made_sweep(count=6)
    numbers = table.group_numbers()
    seen = {}
    for shift in (0.0, 0.7):
        moved = table.lr * np.where(numbers == 4, np.exp(shift), 1.0)
        part = type(table)(moved, table.loss, table.params, table.tokens)
        law, _ = fit_candidate(CANDIDATES["surface_size"], part.select(numbers != 4))
        seen[shift] = rule_of(law)(part.groups()[4])
        found = choose_law(part, ("surface_size",)).excess["surface_size"]
        seen[f"excess {shift}"] = found[4]
    assert seen[0.0] == seen[0.7]
    assert seen["excess 0.7"] > 5 * seen["excess 0.0"]


def test_what_cannot_be_fitted_is_told():
    found = choose_law(made_sweep(count=6), ("constant", "surface_batch"))
    assert "the groups do not tell their batch" in found.failed["surface_batch"]
    assert found.mean("surface_batch") is None


def test_few_groups_fall_back_on_a_law_that_can_be_fitted():
    """Three groups of one size: without one of them, two remain."""
    table = made_sweep(sizes=(1e8,), tokens=(2e9,), count=6)
    found = choose_law(table)
    assert found.chosen == "constant" and found.excess == {}
    assert "none can be left out" in str(found.failed) or "cannot be fitted" in str(found.failed)
    assert found.chosen in FALLBACK
    law, _ = fit_candidate(CANDIDATES["constant"], table)
    assert law.predict(1e8, 2e9).lr == pytest.approx(true_lr(1e8, 2e9), rel=0.1)


def test_each_turn_is_told():
    told = []
    choose_law(made_sweep(count=5), ("constant", "parabola"), begun=told.append)
    assert told == ["constant", "parabola"]


def test_unknown_names_and_hopeless_tables_are_refused():
    with pytest.raises(InputError, match="unknown peak-LR law 'parabole': did you mean 'parabola'"):
        choose_law(made_sweep(), ("parabole",))
    with pytest.raises(InputError, match="no peak-LR law can be fitted: "):
        choose_law(made_sweep(count=3, centre=1e-6), ("constant", "parabola"))
