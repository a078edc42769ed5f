"""Studies: which trainings they ask for, and the search of a valley."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.proxy.study import (
    BASE,
    begin_at,
    between,
    cells,
    lacking,
    least_of,
    load_study,
    refine_of,
    training,
)

TEXT = """
name = "toy"
steps = 20
batch = 4
start = 1e-2
factor = 4.0
validation_sequences = 8
[model]
depth = 1
width = 16
heads = 2
context = 16
{experts}
[data]
vocab_size = 32
[axes.width]
rules = ["sp", "completep"]
targets = [{{ width = 32, heads = 4 }}]
[axes.tokens]
rules = ["sp"]
targets = [{{ steps = 40 }}]
"""


@pytest.fixture
def path(tmp_path):
    file = tmp_path / "toy.toml"
    file.write_text(TEXT.format(experts=""))
    return file


def change(path, old, new):
    path.write_text(path.read_text().replace(old, new))
    return path


def test_cells_are_the_base_and_every_target_under_every_rule(path):
    found = cells(load_study(path))
    assert [cell.name for cell in found] == ["base", "sp-width32", "completep-width32", "sp-steps40"]


def test_a_training_is_the_base_changed_under_a_rule(path):
    study = load_study(path)
    base, _, wide, long = (training(study, cell, 0.01, 3) for cell in cells(study))
    assert base.transfer is None and base.training.seed == 3
    assert (wide.model.width, wide.model.heads, wide.transfer.rule) == (32, 4, "completep")
    assert wide.transfer.base.model == base.model
    assert (long.training.plan.steps, long.transfer.base.steps) == (40, 20)
    assert long.training.schedule == "wsd(steps=40, peak=0.01, warmup=4, decay=16)"
    assert len({each.name for each in (base, wide, long)}) == 3


def test_an_axis_may_ask_for_more_runs_a_valley(path):
    change(path, 'rules = ["sp"]\n', 'rules = ["sp"]\nleast = 6\n')
    study = load_study(path)
    assert [least_of(study, cell) for cell in cells(study)] == [4, 4, 4, 6]


def test_experts_change_where_there_are_some(path):
    change(path, "targets = [{ width = 32, heads = 4 }]", "targets = [{ experts = 8, top_k = 4 }]")
    with pytest.raises(InputError, match="target experts8-top_k4: experts needs a base with experts, got 8"):
        training(load_study(path), cells(load_study(path))[1], 0.01, 1)
    change(path, "context = 16\n", "context = 16\nexperts = { count = 4, top_k = 2 }\n")
    change(path, '"completep"', '"completep-moe"')
    changed = training(load_study(path), cells(load_study(path))[2], 0.01, 1)
    assert (changed.model.experts.count, changed.model.experts.top_k) == (8, 4)


@given(
    best=st.floats(-7, 7), start=st.integers(-3, 3), least=st.integers(3, 6), skew=st.floats(0.3, 3),
    wall=st.floats(1, 6),
)  # fmt: skip
def test_the_search_encloses_any_optimum(best, start, least, skew, wall):
    """On any valley of one minimum, with LRs above some wall diverging, in steps of 2 from start."""

    def loss(lr):
        x = math.log2(lr) - best
        return math.nan if x > wall else x * x * (skew if x > 0 else 1)

    losses = {}
    while new := lacking(losses, 2.0**start, 2.0, least):
        assert not set(new) & set(losses)
        losses.update({lr: loss(lr) for lr in new})
    grid = sorted(losses)
    finite = [lr for lr in grid if not math.isnan(losses[lr])]
    if len(grid) < 12:
        assert len(grid) >= least
        assert grid[0] < min(finite, key=losses.__getitem__) < grid[-1]


def test_the_search_adds_where_the_loss_is_lower():
    losses = {1.0: 3.2, 2.0: 3.0, 4.0: 3.1}
    assert lacking(losses, 2.0, 2.0, 3) == []
    assert lacking(losses, 2.0, 2.0, 4) == [8.0]
    assert lacking({1.0: 3.05, 2.0: 3.0, 4.0: math.nan}, 2.0, 2.0, 4) == [0.5]
    assert lacking({1.0: math.nan, 2.0: math.nan}, 2.0, 2.0, 4) == [0.5]


def test_a_valley_is_refined_between_the_best_and_the_better_neighbour():
    assert between({1.0: 3.2, 2.0: 3.0, 8.0: 3.1}) == 4.0
    assert between({1.0: 3.05, 4.0: 3.0, 8.0: math.nan}) == 2.0
    assert between({1.0: 3.0, 4.0: 3.1}) == 2.0
    assert between({}) is None and between({1.0: 3.0}) is None
    assert between({1.0: math.nan, 2.0: math.nan}) is None


def test_an_axis_is_refined_as_it_says_or_as_its_study(tmp_path):
    file = tmp_path / "toy.toml"
    file.write_text(
        TEXT.format(experts="").replace("steps = 20", "steps = 20\nrefine = 2", 1)
        .replace("[axes.tokens]", "[axes.tokens]\nrefine = 0")
    )  # fmt: skip
    study = load_study(file)
    assert {cell.axis: refine_of(study, cell) for cell in cells(study)} == {"": 2, "width": 2, "tokens": 0}


def test_a_search_begins_at_the_best_of_the_next_smaller_level(path):
    study = load_study(path)
    small = cells(study)[2]
    assert begin_at(BASE, {}, study) == 1e-2
    assert begin_at(small, {("", "sp", 0): 4e-2}, study) == 4e-2
    larger = type(small)(small.axis, small.rule, small.target, 3)
    assert begin_at(larger, {("", "sp", 0): 4e-2, ("width", "completep", 1): 2e-2}, study) == 2e-2


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('"completep"', '"complete"', "unknown rule of transfer 'complete': did you mean 'completep'"),
        ("steps = 20", "step = 20", "toy.toml: "),
        (
            "heads = 4 }",
            "heads = 4, wide = 3 }",
            r"axes.width.targets.0.wide: Extra inputs are not permitted",
        ),
        ("start = 1e-2", "start = -1.0", "start: Input should be greater than 0"),
        ('name = "toy"', "name = ", "toy.toml is not TOML"),
    ],
)
def test_a_wrong_file_is_refused(path, old, new, said):
    with pytest.raises(InputError, match=said):
        load_study(change(path, old, new))


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="cannot read .*none.toml: No such file"):
        load_study(tmp_path / "none.toml")


def test_seeds_of_a_rule_that_the_axis_lacks_are_refused(tmp_path):
    file = tmp_path / "toy.toml"
    file.write_text(TEXT.format(experts="").replace("[axes.tokens]", "seeds = { mup = [1] }\n[axes.tokens]"))
    with pytest.raises(InputError, match="seeds: mup is none of the axis's rules, sp, completep"):
        load_study(file)
