"""The bundled study is what its two files ask for, and what is said of it can be read from it."""

from importlib.resources import files
from pathlib import Path

import pytest

from lehr.peaklr.comparison import compare_ways
from lehr.peaklr.study_table import read_study
from lehr.proxy.study import cells, load_study, seeds_of, training

EXAMPLES = Path(str(files("lehr.examples")))


@pytest.fixture(scope="module")
def rows():
    return read_study(EXAMPLES / "peak_lr_study.csv")


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("dense", "dense"),
        ("dense-zero", "dense_zero"),
        ("dense-init", "dense_init"),
        ("dense-batch", "batch"),
        ("moe", "moe"),
    ],
)
def test_the_table_holds_the_cells_of_the_study_and_no_others(rows, name, file):
    study = load_study(EXAMPLES / f"peak_lr_{file}.toml")
    asked = {(cell.axis, cell.rule, cell.target.label, cell.level): cell for cell in cells(study)}
    mine = [row for row in rows if row.study == name]
    assert {(row.axis, row.rule, row.target, row.level) for row in mine} == set(asked)
    for row in mine:
        cell = asked[row.axis, row.rule, row.target, row.level]
        config = training(study, cell, row.lr, row.seed)
        assert row.tokens == config.batch_tokens * config.training.plan.steps
        assert row.batch == config.batch_tokens
    for cell in asked.values():
        here = [r for r in mine if (r.axis, r.rule, r.target) == (cell.axis, cell.rule, cell.target.label)]
        here = here if cell.level else [r for r in mine if r.level == 0]
        lrs = {row.lr for row in here}
        assert {(row.lr, row.seed) for row in here} == {
            (lr, seed) for lr in lrs for seed in seeds_of(study, cell)
        }


def test_every_valley_is_enclosed(rows):
    for axis in compare_ways(rows).axes:
        for chain in axis.levels.values():
            assert all(level.valley is not None for level in chain)


def test_under_completep_the_best_lr_moves_less_with_width_than_under_sp(rows):
    (axis,) = (a for a in compare_ways(rows).axes if (a.study, a.axis) == ("dense", "width"))
    shifts = {shift.rule: shift for shift in axis.shifts}
    assert shifts["completep"].size < 1.8 < 4 < shifts["sp"].size
    costs = {(each.rule, each.way): each.above_best for each in axis.forecasts}
    assert costs["completep", "keep"] < 0.01 < costs["sp", "fit"] < costs["sp", "keep"]


def test_annealed_for_longer_the_best_lr_is_higher_at_every_width(rows):
    axes = {axis.study: axis for axis in compare_ways(rows).axes if axis.axis == "width"}
    short, long = (axes[study].levels["completep"] for study in ("dense", "dense-zero"))
    assert all(1.3 < b.valley.lr / a.valley.lr < 2 for a, b in zip(short, long, strict=True))
    assert all(b.valley.lowest_loss > a.valley.lowest_loss - 1e-3 for a, b in zip(short, long, strict=True))


def test_what_is_said_of_the_drift_when_annealed_for_longer(rows):
    axes = {(axis.study, axis.axis): axis for axis in compare_ways(rows).axes}
    sizes = {(*key, shift.rule): shift.size for key, axis in axes.items() for shift in axis.shifts}
    assert sizes["dense-zero", "width", "completep"] > 1.5, (
        "over 8 times the width: no less than with a ratio of .4"
    )
    assert sizes["dense-zero", "widest", "completep-lv"] < 1.3, "over 8 times the width"
    assert sizes["dense-zero", "depth", "completep"] < 1.3, "over 4 times the depth"


def test_from_small_initial_weights_the_best_lr_moves_by_less_than_the_aim(rows):
    axes = {(axis.study, axis.axis): axis for axis in compare_ways(rows).axes}
    sizes = {
        key: shift.size for key, axis in axes.items() for shift in axis.shifts if shift.rule == "completep"
    }
    assert sizes["dense-init", "width"] < 1.3 < 1.5 < sizes["dense", "width"], "over 8 times the width"
    assert sizes["dense-init", "depth"] < 1.3, "over 4 times the depth"


def test_small_initial_weights_end_lower_in_narrow_models_and_higher_in_wide_ones(rows):
    axes = {axis.study: axis for axis in compare_ways(rows).axes if axis.axis == "width"}
    usual, small = (
        [level.valley.lowest_loss for level in axes[study].levels["completep"]]
        for study in ("dense", "dense-init")
    )
    gains = [a - b for a, b in zip(usual, small, strict=True)]
    assert gains == sorted(gains, reverse=True) and gains[1] > 0.01 and gains[-1] < -0.01


def test_over_the_batch_the_rule_ends_lower_and_the_square_root_holds_for_the_first_doubling_alone(rows):
    (axis,) = (a for a in compare_ways(rows).axes if a.axis == "batch")
    base, twice, most = (level.valley for level in axis.levels["sp"])
    assert twice.low < 2**0.5 * base.lr < twice.high
    assert most.high < 4**0.5 * base.lr
    for plain, ruled in zip(axis.levels["sp"][1:], axis.levels["completed-p"][1:], strict=True):
        assert ruled.valley.lowest_loss < plain.valley.lowest_loss - 0.04
