"""Plans: budgets in any unit, what is left open is chosen by the loss, gains are those of the true law."""

import numpy as np
import pytest
from tests.synthetic import BATCH, CASES, PEAK, STEPS, WARMUP, make_runs

from lehr.anneal.plan import SHAPES, budget_steps, nearest_evidence, plan_run
from lehr.anneal.ratio import recommend_ratio
from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.fit.result import FitResult
from lehr.fit.uncertainty import bootstrap
from lehr.laws.law import Conditions
from lehr.schedule.families import wsd
from lehr.schedule.pieces import TOLERANCE

CASE = CASES["effective_time"]


@pytest.fixture(scope="module")
def result():
    runs = make_runs(CASE)
    return bootstrap(fit(CASE.law, runs, FitOptions(burn_in=1, tolerance=TOLERANCE)), runs, draws=20)


def true_loss(schedule):
    return CASE.loss(Conditions(schedule, None, BATCH), np.array([float(schedule.steps)]))[0]


def test_budgets_in_updates_tokens_and_flops_agree():
    assert budget_steps(steps=1000) == 1000
    assert budget_steps(tokens=5e8, batch_tokens=5e5) == 1000
    assert budget_steps(flops=6 * 1e8 * 5e8, batch_tokens=5e5, params=1e8) == 1000


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        ({}, r"give the budget once, as steps, tokens or flops; got none of them\."),
        ({"steps": 1, "tokens": 1.0}, r"give the budget once.*got steps, tokens\."),
        ({"tokens": 1e9}, r"needs the batch, which .* differs among them: give it with --batch-tokens\."),
        ({"flops": 1e18, "batch_tokens": 1e5}, r"needs the number of parameters: give --params\."),
        ({"flops": -1.0, "params": 1e8, "batch_tokens": 1e5}, r"^flops must be above 0, got -1\.0"),
        ({"tokens": -1.0, "batch_tokens": 1e5}, r"^tokens must be a finite number above 0, got -1\.0"),
    ],
    ids=str,
)
def test_unclear_budgets_are_refused(budget, text):
    with pytest.raises(InputError, match=text):
        budget_steps(**budget)


def test_a_given_plan_is_the_recommendation(result):
    plan = plan_run(result, steps=STEPS, peak=PEAK, shape="linear", final=0.0)
    assert plan.best.ratio == recommend_ratio(result, steps=STEPS, peak=PEAK).ratio
    assert (plan.peak, plan.shape, plan.final) == (PEAK, "linear", 0.0)


def test_gains_are_those_of_the_true_law_and_their_intervals_hold_them(result):
    plan = plan_run(result, steps=STEPS, peak=PEAK, shape="linear", final=0.0)
    names = [gain.against for gain in plan.gains]
    assert names == ["cosine to 10 %", "linear WSD 10%", "linear WSD 20%"]
    for gain, ratio in zip(plan.gains[1:], (0.1, 0.2), strict=True):
        other = wsd(steps=STEPS, peak=PEAK, warmup=WARMUP, decay=round(ratio * STEPS))
        truth = true_loss(other) - true_loss(plan.best.schedule)
        assert gain.gain == pytest.approx(truth, abs=2e-4)
        assert gain.low <= truth <= gain.high
        assert gain.low < gain.high


def test_an_open_shape_and_final_lr_are_no_worse_than_any_given(result):
    plain = plan_run(result, steps=STEPS, peak=PEAK, shape="linear", final=0.0)
    plan = plan_run(result, steps=STEPS, peak=PEAK)
    assert plan.shape in SHAPES
    assert plan.best.final_loss <= plain.best.final_loss + 1e-4
    for shape in SHAPES:
        given = recommend_ratio(result, steps=STEPS, peak=PEAK, shape=shape, final=plan.final)
        assert plan.best.final_loss <= given.final_loss + 2e-4


def test_an_open_peak_stays_within_the_fitted_range(result):
    low, high = result.domain.peak_lr
    plan = plan_run(result, steps=STEPS, peak=None, shape="linear", final=0.0)
    assert low <= plan.peak <= high
    losses = [recommend_ratio(result, steps=STEPS, peak=p).final_loss for p in np.geomspace(low, high, 15)]
    assert plan.best.final_loss <= min(losses) + 2e-4
    if plan.peak in (low, high):
        assert any("that was fitted" in note for note in plan.best.warnings)


def test_one_fitted_peak_cannot_tell_the_best():
    runs = [run for run in make_runs(CASE) if run.schedule.peak == PEAK]
    result = fit(CASE.law, runs, FitOptions(burn_in=1))
    with pytest.raises(InputError, match="all fitted runs share the peak LR .* cannot tell the best one"):
        plan_run(result, steps=STEPS, peak=None)


def test_a_peak_of_zero_is_refused(result):
    with pytest.raises(
        InputError, match=r"^peak must be above 0, got 0\.0: give the highest LR, e\.g\. 1e-3\.$"
    ):
        plan_run(result, steps=STEPS, peak=0.0)


def test_evidence_is_the_nearest_runs_and_survives_the_file(result):
    again = FitResult.from_json(result.to_json())
    assert again.evidence == result.evidence
    assert {run.name for run in again.evidence} == set(result.residuals)
    for run in result.evidence:
        nearest = nearest_evidence(result, run.peak, run.steps, run.ratio)[0]
        assert (nearest.peak, nearest.steps, nearest.ratio) == (run.peak, run.steps, run.ratio)


def test_the_explanation_names_law_gains_and_evidence(result):
    plan = plan_run(result, steps=STEPS, peak=PEAK, shape="linear", final=0.0)
    assert "by the law effective_time, fitted to" in plan.explanation
    assert "linear WSD 10%" in plan.explanation
    assert f"Nearest fitted runs: {plan.evidence[0].name} (" in plan.explanation
