"""Measured valleys: the optimum is found without bias, its noise is honest, and bad groups are refused."""

from dataclasses import replace

import numpy as np
import pytest
from tests.synthetic import CASES, PEAK, STEPS, WARMUP

from lehr.anneal.valley import NOISE, fit_valley, measure_valleys
from lehr.errors import InputError
from lehr.laws.law import Conditions
from lehr.runs.run import Run
from lehr.schedule.families import constant, wsd

RATIOS = np.array([0.1, 0.2, 0.4, 0.6, 0.8, 0.9])
CASE = CASES["effective_time"]


def end(ratio, peak=PEAK, steps=STEPS):
    plan = wsd(steps=steps, peak=peak, warmup=WARMUP, decay=round(ratio * steps))
    return plan, CASE.loss(Conditions(plan), np.array([float(steps)]))[0]


def make(ratios=RATIOS, **more):
    out = []
    for ratio in ratios:
        plan, loss = end(ratio, **more)
        out.append(Run(f"r{ratio}", plan, np.array([plan.steps]), np.array([loss])))
    return out


def test_the_optimum_of_a_laws_valley_is_found_within_two_hundredths():
    grid = np.arange(0.02, 0.95, 0.005)
    best = grid[np.argmin([end(ratio)[1] for ratio in grid])]
    (valley,) = measure_valleys(make())
    assert valley.ratio == pytest.approx(best, abs=0.02)
    assert not valley.at_edge
    lowest = min(loss for _, loss in valley.points)
    assert valley.excess(0.2) == pytest.approx(end(0.2)[1] - lowest, abs=0.002)


def test_the_deviation_is_that_of_repeated_noisy_measurements():
    losses = np.array([end(ratio)[1] for ratio in RATIOS])
    rng = np.random.default_rng(0)
    small = NOISE / 5  # to first order
    found = [
        fit_valley(RATIOS, losses * (1 + small * rng.standard_normal(len(RATIOS))))[0] for _ in range(400)
    ]
    logit = np.log(np.array(found) / (1 - np.array(found)))
    assert fit_valley(RATIOS, losses, small)[1] == pytest.approx(logit.std(), rel=0.15)


def test_an_optimum_at_the_shortest_or_longest_decay_is_marked():
    falling = np.linspace(3.0, 2.9, len(RATIOS))
    assert fit_valley(RATIOS, falling)[3]
    assert fit_valley(RATIOS, falling[::-1])[3]


def test_groups_are_by_peak_and_length_and_others_are_passed_over():
    flat = constant(steps=STEPS, peak=PEAK, warmup=WARMUP)
    plan, loss = end(0.3)
    stopped = Run("stopped", plan, np.array([STEPS // 2]), np.array([loss]))
    runs = [
        *make(),
        *(r for r in make(steps=2 * STEPS)),
        Run("flat", flat, np.array([STEPS]), np.array([2.8])),
        stopped,
    ]
    valleys = measure_valleys(runs)
    assert [valley.steps for valley in valleys] == [STEPS, 2 * STEPS]
    assert [len(valley.points) for valley in valleys] == [6, 6]


def test_a_repeated_run_counts_by_its_mean_and_another_batch_apart():
    runs = make()
    again = replace(runs[2], name="again", loss=runs[2].loss + 0.002)
    (valley,) = measure_valleys([*runs, again])
    assert dict(valley.points)[0.4] == pytest.approx(runs[2].loss[0] + 0.001)
    small = [replace(run, batch_tokens=512.0) for run in runs]
    large = [replace(run, name=run.name + "b", batch_tokens=2048.0, loss=run.loss - 0.1) for run in runs]
    assert [len(v.points) for v in measure_valleys([*small, *large])] == [6, 6]


def test_a_logged_final_loss_comes_before_the_last_point():
    runs = [Run(r.name, r.schedule, r.step, r.loss, meta={"final_val_loss": 9.0}) for r in make()]
    (valley,) = measure_valleys(runs)
    assert {loss for _, loss in valley.points} == {9.0}
    assert valley.at_edge  # flat: no valley


def test_too_few_ratios_are_refused():
    with pytest.raises(InputError, match=r"has 4 annealing ratios .* the fullest has 3: run more ratios"):
        measure_valleys(make(RATIOS[:3]))
