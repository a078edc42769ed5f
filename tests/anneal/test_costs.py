"""What other ratios cost: nats as the law says, and the updates that a shorter run of the best ratio would need."""

from dataclasses import replace

import numpy as np
import pytest
from tests.synthetic import CASES, make_runs

from lehr.anneal.costs import ratio_costs
from lehr.anneal.ratio import recommend_ratio
from lehr.fit.fit import fit
from lehr.fit.uncertainty import bootstrap
from lehr.laws import get_law
from lehr.predict import predict
from lehr.schedule.families import wsd

RATIOS = (0.05, 0.2, 0.5, 0.9)


@pytest.fixture(scope="module")
def fitted():
    runs = tuple(make_runs(CASES["effective_time"], noise=1e-3, every=100))
    return bootstrap(fit(get_law("effective_time"), runs), runs, draws=8, seed=0)


def end(result, length, ratio, warmup=100):
    schedule = wsd(steps=length, peak=1e-3, warmup=warmup, decay=round(ratio * length))
    return predict(result, schedule, np.array([float(length)])).loss[0]


def test_costs_are_differences_of_predicted_losses(fitted):
    best = recommend_ratio(fitted, steps=6000, peak=1e-3, warmup=100)
    for cost in ratio_costs(fitted, best.schedule, RATIOS):
        assert cost.excess == pytest.approx(end(fitted, 6000, cost.ratio) - best.final_loss, abs=1e-9)
        assert cost.excess_low <= cost.excess <= cost.excess_high
        assert cost.wasted_low <= cost.wasted <= cost.wasted_high


def test_a_run_shorter_by_the_waste_ends_at_the_same_loss(fitted):
    best = recommend_ratio(fitted, steps=6000, peak=1e-3, warmup=100)
    for cost in ratio_costs(fitted, best.schedule, RATIOS):
        if 0.005 < cost.wasted < 0.6:
            shorter = round((1 - cost.wasted) * 6000)
            gap = end(fitted, shorter, best.ratio) - end(fitted, 6000, cost.ratio)
            step = end(fitted, round(0.99 * shorter), best.ratio) - end(fitted, shorter, best.ratio)
            assert abs(gap) < 2 * abs(step), "interpolated to about 2 % of the updates"


def test_a_better_ratio_wastes_less_than_nothing(fitted):
    poor = wsd(steps=6000, peak=1e-3, warmup=100, decay=120)
    best = recommend_ratio(fitted, steps=6000, peak=1e-3, warmup=100)
    (cost,) = ratio_costs(fitted, poor, [best.ratio])
    assert cost.excess < 0 and cost.wasted < 0


def test_without_draws_there_is_no_interval_and_no_room_no_row(fitted):
    plain = replace(fitted, draws=())
    best = recommend_ratio(plain, steps=6000, peak=1e-3, warmup=1500)
    costs = ratio_costs(plain, best.schedule, (0.5, 0.9, 1e-6))
    assert [cost.ratio for cost in costs] == [0.5]
    assert costs[0].excess_low is None and costs[0].wasted_high is None
