"""Sweeps as values: what they hold, how they split, and what they refuse."""

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.peaklr.table import SweepTable, merge


def table(**change):
    columns = {
        "lr": [1e-3, 2e-3, 1e-3, 2e-3], "loss": [3.0, 3.1, 2.9, float("nan")], "params": [1e8, 1e8, 2e8, 2e8],
        "tokens": [1e9] * 4, **change,
    }  # fmt: skip
    return SweepTable(**columns)


def test_groups_are_of_one_size_and_number_of_tokens():
    groups = table(tokens=[1e9, 1e9, 1e9, 5e9]).groups()
    assert [(g.params, g.tokens, len(g.table)) for g in groups] == [
        (1e8, 1e9, 2),
        (2e8, 1e9, 1),
        (2e8, 5e9, 1),
    ]


def test_counts_of_parameters_that_differ_by_trifles_are_one():
    assert len(table(params=[1e8, 1.001e8, 1.002e8, 1.0e8]).groups()) == 1


def test_models_of_experts_split_by_active_parameters():
    groups = table(params=[1e9] * 4, active_params=[1e8, 1e8, 3e8, 3e8]).groups()
    assert [g.active for g in groups] == [1e8, 3e8]
    assert groups[0].name == "1e+08 of 1e+09 parameters, 1e+09 tokens"


def test_groups_split_by_batch_on_demand():
    found = table(params=[1e8] * 4, batch_tokens=[1e5, 2e5, 1e5, 2e5])
    assert len(found.groups()) == 1
    assert [g.batch_tokens for g in found.groups(by_batch=True)] == [1e5, 2e5]
    assert found.groups()[0].batches == (1e5, 2e5)
    assert found.groups()[0].at_batch(2e5).table.names == ("row 2", "row 4")


def test_runs_of_one_size_and_batch_are_picked():
    found = table(batch_tokens=[1e5, 2e5, 1e5, 2e5])
    assert found.at(2e8).names == ("row 3", "row 4")
    assert found.at(2.01e8, 1e5).names == ("row 3",)
    assert found.at().names == found.names


ABSENT = [
    ((3e8,), "params must be one of those run (1e+08, 2e+08), got 300000000.0: choose one."),
    ((-1.0,), "params must be above 0, got -1.0: give a finite count."),
    ((1e8, 1e5), "the table does not tell the batch of its runs, of which 100000 was asked for."),
]


@pytest.mark.parametrize(("sizes", "text"), ABSENT, ids=[case[1][:20] for case in ABSENT])
def test_sizes_that_were_not_run_are_refused(sizes, text):
    with pytest.raises(InputError) as caught:
        table().at(*sizes)
    assert str(caught.value) == text


def test_a_size_never_run_at_a_batch_is_refused():
    with pytest.raises(
        InputError, match=r"no run has 1e\+08 parameters and a batch of 200000 tokens: choose others"
    ):
        table(batch_tokens=[1e5, 1e5, 2e5, 2e5]).at(1e8, 2e5)


def test_the_numbers_of_groups_are_their_order():
    found = table(tokens=[5e9, 1e9, 1e9, 5e9])
    for number, group in enumerate(found.groups()):
        assert found.select(found.group_numbers() == number).names == group.table.names


def test_the_best_batch_is_that_of_the_lowest_loss():
    group = table(params=[1e8] * 4, batch_tokens=[1e5, 2e5, 2e5, 1e5]).groups()[0]
    assert group.best_batch().batch_tokens == 2e5
    assert group.best_batch().table.loss.tolist() == [3.1, 2.9]


def test_diverged_runs_are_kept():
    assert table(loss=[3.0, float("inf"), 2.9, float("nan")]).diverged.tolist() == [False, True, False, True]


def test_a_group_that_diverged_whole_has_no_best_batch():
    group = table(loss=[float("nan")] * 4, params=[1e8] * 4).groups()[0]
    with pytest.raises(
        InputError, match=r"1e\+08 parameters, 1e\+09 tokens: every run diverged: run lower LRs"
    ):
        group.best_batch()


def test_arrays_are_frozen():
    with pytest.raises(ValueError, match="read-only"):
        table().loss[0] = 1.0


def test_tables_merge():
    both = merge([table(), table(active_params=[5e7] * 4)])
    assert len(both) == 8
    assert both.active.tolist() == [1e8, 1e8, 2e8, 2e8, *[5e7] * 4]
    assert merge([table(), table()]).active_params is None


REFUSED = [
    ({"lr": []}, "the table has no training: give at least one row."),
    ({"lr": [1e-3, 0.0, 1e-3, 1e-3]}, "row 2: lr must be above 0, got 0.0: mend the row or leave it out."),
    ({"loss": [3.0, -1.0, 3.0, 3.0]}, "row 2: loss must be above 0, got -1.0: mend the row or leave it out."),
    ({"params": [float("nan"), 1e8, 1e8, 1e8]}, "row 1: params must be above 0, got nan"),
    ({"tokens": [1e9, 1e9]}, "tokens must have 4 entries, got (2,): give one for each training."),
    ({"names": ("a",)}, "names must be one for each of the 4 trainings, got 1: name all."),
    (
        {"active_params": [2e8, 1e8, 1e8, 1e8]},
        "row 1: active_params must not exceed the 1e+08 parameters, got 200000000.0: "
        "params counts all experts, active_params those used.",
    ),
]


@pytest.mark.parametrize(("change", "text"), REFUSED, ids=lambda value: str(value)[:40])
def test_bad_columns_are_refused(change, text):
    with pytest.raises(InputError) as caught:
        table(**change)
    assert text in str(caught.value)


def test_batches_known_in_one_table_only_are_refused():
    with pytest.raises(
        InputError, match="row 1: its batch size is not known but that of other tables is: give all or"
    ):
        merge([table(batch_tokens=[1e5] * 4), table()])


def test_losses_below_0_are_no_losses_but_nan_is_divergence():
    assert np.isnan(table().loss[3])
