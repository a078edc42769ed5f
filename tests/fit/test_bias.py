"""Where a law errs: which points belong together, sound laws seldom accused, wrong ones found out."""

from dataclasses import replace

import numpy as np
import pytest
from tests.fit.wandering import wandering_runs
from tests.synthetic import CASES, PEAK, STEPS, WARMUP, make_runs

from lehr.fit.bias import CHANCE, REPEAT_ERROR, find_biases, phases, repeat_error
from lehr.fit.fit import FitOptions, fit
from lehr.fit.linearised import reopen
from lehr.fit.noise import Noise, estimate_noise
from lehr.runs.run import Run
from lehr.schedule.families import constant, cosine, multistep, rewarm, wsd, wsd_s

TISSUE = CASES["tissue"]
QUICK = FitOptions(starts=6, polished=1)


def words(schedule, steps):
    run = Run("r", schedule, np.array([schedule.steps]), np.array([3.0]))
    return phases(run, np.array(steps, dtype=float)).tolist()


@pytest.mark.parametrize(
    ("schedule", "steps", "expected"),
    [
        (wsd(steps=100, peak=1.0, warmup=20, decay=40), [5, 19, 30, 59, 62, 99, 100],
         ["warm-up", "warm-up", "stable", "stable", "decay", "decay", "decay"]),
        (constant(steps=100, peak=1.0), [1, 100], ["stable", "stable"]),
        (cosine(steps=100, peak=1.0, warmup=10, final=0.1), [5, 12, 100], ["warm-up", "decay", "decay"]),
        (cosine(steps=100, peak=1.0, final=0.1, cycle=50), [25, 60], ["decay", "after"]),
        (multistep(steps=100, peak=1.0, milestones=[50], factors=[0.1]), [20, 50, 80], ["stable", "decay", "after"]),
        (wsd_s(periods=[50, 50], peak=1.0, decay=20), [10, 40, 60, 90], ["stable", "decay", "stable", "decay"]),
        (rewarm(base=wsd(steps=50, peak=1.0, decay=40), steps=50, peak=0.5, warmup=20, decay=10), [40, 60, 75, 95],
         ["decay", "after", "after", "decay"]),
    ],
    ids=lambda value: value.call[0] if hasattr(value, "call") else "",
)  # fmt: skip
def test_phases(schedule, steps, expected):
    assert words(schedule, steps) == expected


def opened(runs, law=TISSUE.law):
    return reopen(fit(law, runs, QUICK), runs)


def by_part(rows):
    return {row.part: row for row in rows}


def test_every_point_is_in_one_part_of_each_kind():
    runs = wandering_runs(TISSUE)
    fitted = opened(runs)
    found = find_biases(fitted, runs, estimate_noise(fitted))
    assert list(found) == ["step", "lr", "phase"]
    for rows in found.values():
        assert sum(row.points for row in rows) == len(fitted.steps)
    assert [row.part for row in found["step"]] == [
        "2000 .. 4000", "1000 .. 2000", "500 .. 1000", "250 .. 500", "0 .. 250"
    ]  # fmt: skip
    assert [row.part for row in found["lr"]][:2] == ["0.001 .. 0.002", "0.0005 .. 0.001"]
    assert {row.part for row in found["phase"]} == {"stable", "decay", "after"}


def test_bias_and_rms_are_those_of_the_residuals():
    runs = wandering_runs(TISSUE)
    fitted = opened(runs)
    late = fitted.steps > STEPS / 2
    row = by_part(find_biases(fitted, runs, estimate_noise(fitted))["step"])["2000 .. 4000"]
    assert row.points == late.sum() and row.runs == len(runs)
    assert row.bias == pytest.approx(fitted.point.residual[late].mean())
    assert row.rms == pytest.approx(np.sqrt(np.mean(fitted.point.residual[late] ** 2)))


def test_deviations_are_of_unit_size_under_noise_alone():
    """Their mean square over 15 sets of runs: 1 within a half."""
    square = []
    for seed in range(15):
        runs = wandering_runs(TISSUE, seed)[:5]
        fitted = opened(runs)
        found = find_biases(fitted, runs, estimate_noise(fitted))
        square += [row.deviations**2 for rows in found.values() for row in rows]
    assert np.mean(square) == pytest.approx(1, abs=0.5)


def test_a_sound_law_is_seldom_accused():
    accused = 0
    for seed in range(30):
        runs = wandering_runs(TISSUE, 50 + seed)[:4]
        fitted = opened(runs)
        found = find_biases(fitted, runs, estimate_noise(fitted))
        accused += any(row.significant for rows in found.values() for row in rows)
    assert accused <= 5, f"{accused} of 30, meant {CHANCE:.0%}"


def test_a_law_that_does_not_hold_is_found_out_and_where():
    """Tissue's law where progress goes as the LR to the .8: wrong by peak LR."""
    runs = wandering_runs(CASES["effective_time"])
    fitted = opened(runs)
    found = find_biases(fitted, runs, estimate_noise(fitted))
    assert sum(row.significant for rows in found.values() for row in rows) >= 3
    assert any(row.significant for row in found["lr"])


def test_a_lone_bias_of_one_phase_is_seen():
    """Half a percent more loss during every decay than the law has, late in training."""
    runs = tuple(
        replace(r, loss=r.loss * (1 + 5e-3 * ((phases(r, r.step) == "after") & (r.step > 3000))))
        for r in wandering_runs(TISSUE)
    )
    fitted = opened(runs)
    row = by_part(find_biases(fitted, runs, estimate_noise(fitted))["phase"])["after"]
    assert row.significant and row.bias < 0, "the law is too low there"


def test_runs_of_one_schedule_say_how_far_runs_differ():
    runs = make_runs(TISSUE)
    fitted = opened(runs)
    assert repeat_error(fitted, runs) == REPEAT_ERROR
    again = replace(runs[0], name="again", loss=runs[0].loss * 1.01)
    both = (*runs, again)
    weight = np.mean(opened(both).problem.weight[opened(both).problem.rows[0]])
    expected = 0.01 / 1.01 / np.sqrt(2) * np.sqrt(weight)
    assert repeat_error(opened(both), both) == pytest.approx(expected, rel=1e-6)
    child = replace(again, parent="constant 0.001", branch_step=100)
    assert repeat_error(opened((*runs, child)), (*runs, child)) == REPEAT_ERROR, "its past is another's"


def test_a_large_wander_excuses_no_bias():
    """Five times the wander that runs of one schedule show: the ceiling is used in place of it."""
    runs = wandering_runs(TISSUE)
    fitted = opened(runs)
    plain = find_biases(fitted, runs, Noise(1e-4, REPEAT_ERROR, 0.1))
    large = find_biases(fitted, runs, Noise(1e-4, 5 * REPEAT_ERROR, 0.1))
    assert [r.deviations for r in large["lr"]] == pytest.approx([r.deviations for r in plain["lr"]])


def test_short_schedules_and_points_at_the_end_have_a_phase():
    run = Run("r", wsd(steps=2, peak=PEAK, decay=1), np.array([1, 2]), np.array([3.0, 2.9]))
    assert len(phases(run, run.step)) == 2
    one = Run("r", constant(steps=1, peak=PEAK), np.array([1]), np.array([3.0]))
    assert phases(one, one.step).tolist() == ["stable"]
    assert words(constant(steps=STEPS, peak=PEAK, warmup=WARMUP), [0]) == ["warm-up"]
