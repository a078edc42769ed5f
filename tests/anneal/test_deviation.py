"""The cost of training under other LRs is the difference of the true law's final losses."""

import numpy as np
import pytest
from tests.synthetic import BATCH, CASES, PEAK, STEPS, WARMUP, make_runs

from lehr.anneal.deviation import deviation_cost
from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.fit.uncertainty import bootstrap
from lehr.laws.law import Conditions
from lehr.predict import predict
from lehr.schedule.export import export
from lehr.schedule.families import wsd
from lehr.schedule.pieces import TOLERANCE
from lehr.schedule.schedule import Schedule, Table

PLAN = wsd(steps=STEPS, peak=PEAK, warmup=WARMUP, decay=800, shape="power(1.5)", final=1e-5)
NAMES = ["effective_time", "tissue", "multi_power", "weight_norm"]


def fitted(name):
    return fit(CASES[name].law, make_runs(CASES[name]), FitOptions(burn_in=1, tolerance=TOLERANCE))


@pytest.fixture(scope="module")
def result():
    return fitted("effective_time")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("framework", ["hf", "megatron", "deepspeed"])
def test_the_cost_is_that_of_the_true_law_step_by_step(name, framework):
    """Even where it is .0004 nats: both LRs are cut into pieces in the same way."""
    lr = export(PLAN, framework, "settings").lr
    found = deviation_cost(fitted(name), PLAN, lr, weight_decay=0.1 if name == "weight_norm" else None)
    end = np.array([float(STEPS)])
    true = [
        CASES[name].loss(Conditions(Schedule((Table(values),)), None, BATCH, 0.1), end, 0.0)[0]
        for values in (lr, PLAN.to_array())
    ]
    assert found.excess_loss == pytest.approx(true[0] - true[1], rel=0.02, abs=6e-5)
    assert found.final_loss == pytest.approx(true[1], abs=2e-3)


def test_no_deviation_costs_nothing(result):
    assert deviation_cost(result, PLAN, PLAN.to_array()).excess_loss == 0.0


def test_draws_give_an_interval_that_holds_the_cost(result):
    runs = make_runs(CASES["effective_time"], noise=1e-3)
    drawn = bootstrap(fit(CASES["effective_time"].law, runs, FitOptions(burn_in=1)), runs, draws=20)
    lr = export(PLAN, "deepspeed", "settings").lr
    found = deviation_cost(drawn, PLAN, lr)
    assert found.low <= found.excess_loss <= found.high and found.high - found.low < found.excess_loss
    narrow = deviation_cost(drawn, PLAN, lr, level=0.1)
    assert narrow.high - narrow.low < found.high - found.low
    assert np.isnan(deviation_cost(result, PLAN, lr).low)


def test_what_lies_outside_the_fit_is_said(result):
    plan = wsd(steps=STEPS, peak=9 * PEAK, decay=800)
    assert (
        "peak LR 0.009 lies outside the fitted" in deviation_cost(result, plan, plan.to_array()).warnings[0]
    )


def test_refusals(result):
    with pytest.raises(
        InputError, match=f"^lr must have {STEPS} values, one an update, got 3: give all of them"
    ):
        deviation_cost(result, PLAN, np.ones(3))
    with pytest.raises(InputError, match="^level must lie between 0 and 1, got 1: use e.g. 0.9"):
        deviation_cost(result, PLAN, PLAN.to_array(), level=1)
    blind = fitted("one_power")
    with pytest.raises(
        InputError, match="law one_power has no annealing term, so it cannot tell what a deviation"
    ):
        deviation_cost(blind, PLAN, PLAN.to_array())


def test_another_batch_than_the_fitted_one_is_treated_as_in_predictions(result):
    """A law that counts updates says nothing of a batch below the fitted one, nor of what a deviation costs there."""
    with pytest.raises(InputError, match="batch"):
        predict(result, PLAN, batch_tokens=BATCH / 100)
    with pytest.raises(InputError, match="batch"):
        deviation_cost(result, PLAN, PLAN.to_array(), batch_tokens=BATCH / 100)


def test_sizes_reach_the_law():
    case = CASES["tissue_n"]
    sized = fit(case.law, make_runs(case), FitOptions(burn_in=1))
    lr = export(PLAN, "deepspeed", "settings").lr
    with pytest.raises(InputError, match="params"):
        deviation_cost(sized, PLAN, lr)
    small, large = (deviation_cost(sized, PLAN, lr, params=params).final_loss for params in (2e7, 5e8))
    assert small > large
