"""Fitting against transfer on made-up valleys whose optima are known."""

from dataclasses import replace

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.peaklr import valley as valley_module
from lehr.peaklr.comparison import compare_ways
from lehr.peaklr.study_noise import measure_noise
from lehr.peaklr.study_table import StudyRow, read_study, to_csv

NOISE = 5e-4  # nats


def valley(axis, rule, level, params, tokens, best, lowest, *, lrs=(-2.3, -1.3, -0.3, 0.7, 1.7), random=None):
    """Rows of a parabola of curvature .06 nats in ln LR with its lowest loss at `best`."""
    rows = []
    for lr in best * 2.0 ** np.array(lrs):
        loss = lowest + 0.03 * np.log(lr / best) ** 2 + (NOISE * random.standard_normal() if random else 0)
        rows.append(
            StudyRow("toy", axis, rule, f"level{level}", level, params, tokens, float(lr), float(loss), 1)
        )
    return rows


def study(random=None, sp=-0.4, rule=0.0, sp_loss=0.02):
    """Width by 4, 16 and 64 in parameters: under sp the optimum falls as params ** sp, under completep as ** rule."""
    rows = valley("", "sp", 0, 1e4, 1e6, 0.016, 3.2, random=random)
    for level, more in ((1, 4), (2, 16), (3, 64)):
        lowest = 3.2 - 0.1 * level
        rows += valley(
            "width", "sp", level, 1e4 * more, 1e6, 0.016 * more**sp, lowest + sp_loss, random=random
        )
        rows += valley(
            "width", "completep", level, 1e4 * more, 1e6, 0.016 * more**rule, lowest, random=random
        )
    return rows


def forecasts(rows):
    axis = compare_ways(rows).axes[0]
    return {(each.rule, each.way): each for each in axis.forecasts}, axis


def test_without_noise_optima_costs_and_shifts_are_those_put_in():
    found, axis = forecasts(study())
    shifts = {shift.rule: shift for shift in axis.shifts}
    assert shifts["sp"].factor == pytest.approx(64**-0.4, rel=0.03)
    assert shifts["sp"].size == pytest.approx(64**0.4, rel=0.03)
    assert shifts["completep"].factor == pytest.approx(1, rel=0.03)
    assert found["sp", "fit"].lr == pytest.approx(0.016 * 64**-0.4, rel=0.05)
    assert found["completep", "keep"].lr == pytest.approx(0.016, rel=0.03)
    assert found["completep", "keep"].excess < 2e-4
    # the lowest loss of sp lies .02 above that of the rule, and the kept LR costs .03 ln(64 ** .4) ** 2
    assert found["sp", "fit"].above_best == pytest.approx(0.02, abs=1e-3)
    assert found["sp", "keep"].excess == pytest.approx(0.03 * np.log(64**0.4) ** 2, rel=0.25)


def test_a_line_mends_the_drift_that_a_rule_leaves():
    found, _ = forecasts(study(rule=-0.08))
    assert found["completep", "fit"].excess < 0.1 * found["completep", "keep"].excess


def test_intervals_of_the_shift_hold_the_truth_about_nine_times_in_ten():
    held = 0
    for seed in range(40):
        axis = compare_ways(study(np.random.default_rng(seed), rule=-0.03)).axes[0]
        shift = next(each for each in axis.shifts if each.rule == "completep")
        held += shift.low < 64**-0.03 < shift.high
    assert 31 <= held <= 40


def test_the_level_of_a_seed_moves_no_optimum_and_is_no_noise():
    rows = study()
    random = np.random.default_rng(3)
    shaken = [replace(row, loss=row.loss + 1e-3 * random.standard_normal()) for row in rows]
    again = [replace(row, seed=2, loss=row.loss + 0.05 + 1e-3 * random.standard_normal()) for row in rows]
    assert measure_noise(rows).study == measure_noise(rows).at("width", 3) == valley_module.NOISE
    assert measure_noise([*shaken, *again]).study == pytest.approx(1e-3 / 3.1, rel=0.3)
    _, axis = forecasts([*shaken, *again])
    assert axis.levels["sp"][0].valley.lr == pytest.approx(0.016, rel=0.05)
    assert axis.levels["sp"][0].valley.deviation < 0.1


def seeds_of(rows, noises, random, seeds=(1, 2, 3)):
    """The rows with several seeds, each with a level of its own, and a noise in nats by level."""
    return [
        replace(row, seed=seed, loss=row.loss + 0.02 * seed + noises[row.level] * random.standard_normal())
        for row in rows
        for seed in seeds
    ]


def test_the_noise_of_a_level_is_its_own_pooled_with_that_of_the_study():
    noises = {0: 6e-3, 1: 6e-3, 2: 2e-3, 3: 1e-3}
    told = [measure_noise(seeds_of(study(), noises, np.random.default_rng(k))) for k in range(60)]
    means = {
        level: np.mean([noise.at("width" if level else "", level) for noise in told]) for level in noises
    }
    assert means[0] > means[2] > means[3]
    # 16 degrees of freedom of its own (two rules) against 4 of the study's, which is about 3.4e-3 nats
    assert means[3] * 2.9 == pytest.approx(np.sqrt((16 * 1e-3**2 + 4 * 3.4e-3**2) / 20), rel=0.15)
    assert told[0].at("depth", 1) == told[0].study, "a level without repeats has the study's"


def test_intervals_hold_where_larger_models_are_less_noisy():
    noises, held, deviations = {0: 3e-3, 1: 2e-3, 2: 1.5e-3, 3: 1e-3}, 0, {0: [], 3: []}
    for seed in range(40):
        rows = seeds_of(study(rule=-0.03), noises, np.random.default_rng(seed))
        axis = compare_ways(rows).axes[0]
        shift = next(s for s in axis.shifts if s.rule == "completep")
        held += shift.low < 64**-0.03 < shift.high
        for level, seen in deviations.items():
            seen.append(axis.levels["completep"][level].valley.deviation)
    assert 33 <= held <= 40
    assert np.median(deviations[3]) < 0.8 * np.median(deviations[0]), "1 where all levels are as noisy"


def test_tokens_have_published_exponents_beside_them():
    rows = valley("", "sp", 0, 1e4, 1e6, 0.016, 3.2)
    for level, more in ((1, 2), (2, 4)):
        rows += valley("tokens", "sp", level, 1e4, 1e6 * more, 0.016 * more**-0.5, 3.2 - 0.1 * level)
    found, _ = forecasts(rows)
    assert found["sp", "tokens^-.5"].lr == pytest.approx(0.008, rel=0.03)
    assert found["sp", "tokens^-.5"].excess < found["sp", "tokens^-.32"].excess < found["sp", "keep"].excess
    assert found["sp", "fit"].lr == pytest.approx(0.008, rel=0.05)


def of_batch(rows, batch):
    return [replace(row, batch=batch) for row in rows]


def test_a_batch_at_the_same_tokens_has_the_square_root_beside_it_and_no_power_of_tokens():
    rows = of_batch(valley("", "sp", 0, 1e4, 1e6, 0.016, 3.2), 1e3)
    for level, more in ((1, 4), (2, 16)):
        mine = valley("batch", "sp", level, 1e4, 1e6, 0.016 * more**0.4, 3.2 + 0.1 * level)
        rows += of_batch(mine, 1e3 * more)
    found, _ = forecasts(rows)
    assert {way for _, way in found} == {"keep", "fit", "batch^.5"}
    assert found["sp", "batch^.5"].lr == pytest.approx(0.064, rel=0.03)
    assert found["sp", "fit"].lr == pytest.approx(0.016 * 16**0.4, rel=0.05)


def test_where_batch_and_tokens_grow_together_no_published_power_is_shown():
    rows = of_batch(valley("", "sp", 0, 1e4, 1e6, 0.016, 3.2), 1e3)
    for level, more in ((1, 4), (2, 16)):
        rows += of_batch(valley("batch", "sp", level, 1e4, 1e6 * more, 0.016, 3.2 - 0.1 * level), 1e3 * more)
    assert {way for _, way in forecasts(rows)[0]} == {"keep", "fit"}


def test_levels_that_hardly_differ_have_no_line():
    rows = valley("", "sp", 0, 1e4, 1e6, 0.016, 3.2)
    for level in (1, 2):
        rows += valley("experts", "sp", level, 1e4 + 8 * level, 1e6, 0.016, 3.2 - 0.1 * level)
    assert {way for _, way in forecasts(rows)[0]} == {"keep"}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"batch": 2e3}, "the same batch, got 1000 and 2000"),
        ({"tokens": 2e6}, "the same tokens, got 1e.06 and 2e.06"),
    ],
)
def test_trainings_of_one_level_that_differ_in_more_than_the_lr_are_refused(change, said):
    rows = of_batch(study(), 1e3)
    rows[7] = replace(rows[7], **change)
    with pytest.raises(InputError, match=f"study 'toy', sp at level1: .*{said}: give what differs a target"):
        compare_ways(rows)


def test_standings_pair_each_way_with_fitting_on_the_same_axes():
    standings = {(s.rule, s.way): s for s in compare_ways(study()).standings()}
    assert standings["completep", "keep"].axes == 1
    assert standings["completep", "keep"].fitting == standings["sp", "fit"].above_best
    assert list(standings)[-1] == ("sp", "keep")


def test_an_optimum_at_the_edge_is_told_and_not_used():
    rows = [row for row in study() if not (row.level == 2 and row.rule == "sp" and row.lr > 0.006)]
    found, axis = forecasts(rows)
    (refused,) = [level for level in axis.levels["sp"] if level.valley is None]
    assert "study 'toy', sp at level2" in refused.refused and "edge" in refused.refused
    assert found["sp", "fit"].lr == pytest.approx(0.016 * 64**-0.4, rel=0.05)


def test_a_diverged_run_bounds_the_valley_from_above():
    rows = [replace(row, loss=float("nan")) if row.lr > 0.05 else row for row in study()]
    assert forecasts(rows)[0]["completep", "keep"].excess < 1e-3


def test_a_base_is_needed_and_must_enclose_its_optimum():
    rows = study()
    with pytest.raises(InputError, match="study 'toy' has no training of its base .level 0.: train it first"):
        compare_ways(row for row in rows if row.level)
    with pytest.raises(InputError, match="study 'toy': the base has no valley to start from: .*edge"):
        compare_ways(row for row in rows if row.level or row.lr < 0.02)
    with pytest.raises(InputError, match="no training beyond the bases"):
        compare_ways(row for row in rows if not row.level)


def test_rows_survive_the_file(tmp_path):
    rows = [*study(), replace(study()[0], loss=float("nan"), seed=2, batch=4096.0)]
    (tmp_path / "results.csv").write_text(to_csv(rows))
    read = read_study(tmp_path / "results.csv")
    assert [replace(r, loss=0) for r in read] == [replace(r, loss=0) for r in rows]
    np.testing.assert_allclose([r.loss for r in read], [r.loss for r in rows], atol=1e-6)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda text: text.replace("level,", "lvl,", 1), "no column level: give the results.csv of"),
        (lambda text: text.replace("0.016", "x", 1), r"line \d+: could not convert string to float: 'x'"),
        (lambda text: text.splitlines()[0] + "\n", "has no training: give at least one row"),
        (
            lambda text: text.replace(",1000000.0,", ",-1,", 1),
            r"line 2: tokens must be above 0 and finite, got -1: mend or remove",
        ),
        (
            lambda text: text.replace(",1,\n", ",1,inf\n", 1),
            r"line 2: batch must be above 0 and finite, got inf",
        ),
        (lambda text: text + "toy,a\n", r"line \d+: "),
    ],
)
def test_a_wrong_file_is_refused_by_line(tmp_path, change, said):
    path = tmp_path / "results.csv"
    path.write_text(change(to_csv([*valley("", "sp", 0, 1e4, 1e6, 0.016, 3.2, lrs=(-1, 0, 1))])))
    with pytest.raises(InputError, match=said):
        read_study(path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(InputError, match="results.csv does not exist: give a table of studies"):
        read_study(tmp_path / "results.csv")
