"""Warm-up, hold and decay: read off segments exactly, or fitted to any LRs."""

import numpy as np
import pytest
from tests.export_cases import CASES

from lehr.schedule.export._plan import Plan, aim, choose, nearest, recognise
from lehr.schedule.families import constant, cosine, from_array, join, wsd
from lehr.schedule.schedule import Schedule, Segment
from lehr.schedule.shapes import between


def lrs(plan):
    """LR of every update of a plan, from its definition."""
    k = np.arange(plan.steps)
    used = np.where(k < plan.top, plan.first + (plan.peak - plan.first) * k / max(plan.top, 1), plan.peak)
    if plan.falls:
        x = np.clip((k - plan.begin) / (plan.end - plan.begin), 0, 1)
        used = np.where(k < plan.begin, used, between(plan.shape, x, plan.peak, plan.final))
    return used


PLANS = {
    "constant": Plan(12, 3e-4, 3e-4, 0, 12, 12, 3e-4, ""),
    "wsd": Plan(40, 3e-4, 3e-4 / 8, 7, 28, 40, 0.0, "linear"),
    "wsd, HF warm-up": Plan(40, 3e-4, 0.0, 8, 28, 40, 0.0, "linear"),
    "wsd, one update of warm-up": Plan(40, 3e-4, 3e-4, 0, 28, 40, 3e-5, "linear"),
    "wsd, all warm-up": Plan(20, 3e-4, 3e-4 / 20, 19, 20, 20, 3e-4, ""),
    "cosine past the end": Plan(40, 3e-4, 3e-4 / 8, 7, 8, 60, 3e-5, "cosine"),
    "cosine ends early": Plan(40, 3e-4, 3e-4 / 8, 7, 8, 30, 3e-5, "cosine"),
}


@pytest.mark.parametrize("name", PLANS)
def test_plans_of_known_schedules(name):
    assert recognise(CASES[name]) == PLANS[name]


@pytest.mark.parametrize("name", CASES)
def test_a_recognised_plan_is_the_schedule(name):
    plan = recognise(CASES[name])
    if plan is not None:
        np.testing.assert_allclose(lrs(plan), CASES[name].to_array(), rtol=1e-12, atol=1e-18)


def test_a_schedule_in_pieces_is_recognised():
    whole = wsd(steps=100, peak=1, warmup=10, decay=40)
    pieces = join(parts=[wsd(steps=30, peak=1, warmup=10, decay=0), constant(steps=30, peak=1),
                         wsd(steps=40, peak=1, decay=40)])  # fmt: skip
    assert pieces != whole and recognise(pieces) == recognise(whole)


@pytest.mark.parametrize(
    "schedule",
    [
        CASES["one cycle"],
        CASES["multistep"],
        CASES["rewarm"],
        CASES["table"],
        cosine(steps=50, peak=1, warmup=10, warmup_phase=0).first(5),
        Schedule((Segment(5, 0, 1, "linear"), Segment(5, 0.5, 0.1))),
        Schedule((Segment(5, 1, 0.1, "linear", 0, 10), Segment(5, 0.1, 0.1))),
        Schedule((Segment(5, 0, 1, "linear", 0, 20), Segment(5, 1, 1))),
    ],
)
def test_what_is_no_plan_is_not_recognised(schedule):
    assert recognise(schedule) is None


@pytest.mark.parametrize("shape", ["linear", "cosine", "sqrt"])
@pytest.mark.parametrize("decay", [1, 7, 300, 3500])
def test_the_nearest_plan_of_listed_lrs_is_exact_where_it_can_be(shape, decay):
    schedule = wsd(steps=9000, peak=1e-3, warmup=500, decay=decay, shape=shape, final=3e-5)
    plan = nearest(schedule.to_array(), shape, final=0.0)
    np.testing.assert_allclose(lrs(plan), schedule.to_array(), rtol=1e-9)
    if decay > 1:  # one update of decay still uses the peak
        assert (plan.begin, plan.final) == (9000 - decay, 3e-5)


def test_the_nearest_plan_ends_at_the_given_lr():
    """Least squares alone would hold .78 of the peak: the decay that a framework can only stretch."""
    wanted = wsd(steps=24000, peak=1, warmup=1000, decay=4000).to_array()
    plan = nearest(wanted, "cosine", final=0.0, begin=1000)
    assert (plan.begin, plan.final) == (1000, 0.0)


def test_rounding_never_lifts_the_final_lr_above_the_peak():
    plan = nearest(np.array([0.966375281377567]), "linear", final=0.966375281377567)
    assert plan.first == plan.final == plan.peak == 0.966375281377567


def test_where_the_decay_aims():
    assert aim(CASES["wsd"], CASES["wsd"].to_array()) == 0.0
    assert aim(CASES["cyclic"], CASES["cyclic"].to_array()) == CASES["cyclic"].to_array()[-1]


def test_the_first_exact_candidate_is_chosen_else_the_nearest():
    wanted = np.array([1.0, 0.5])
    near, far = ("near", wanted + 0.01), ("far", wanted + 0.1)
    assert choose(wanted, [far, ("same", wanted + 1e-12), ("again", wanted)])[0] == "same"
    assert choose(wanted, iter([far, near, far]))[0] == "near"
    assert choose(from_array(values=[1, 0.5]).to_array(), [("only", wanted)])[0] == "only"
