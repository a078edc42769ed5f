"""Candidate runs: within the budget, costed with the trunk once, as texts that read back."""

import pytest

from lehr.anneal.plans import COOLDOWNS, RATIOS, Part, Plan, make_plans
from lehr.errors import InputError
from lehr.fit.result import Domain
from lehr.schedule.families import constant, wsd
from lehr.schedule.spec import parse

DOMAIN = Domain(steps=50000, peak_lr=(1e-3, 2e-3), warmup=300, burn_in=1000)


def make(steps=100000, peak=2e-3, budget=20000, domain=DOMAIN):
    return make_plans(domain, steps, peak, budget)


def test_a_trunk_is_paid_once():
    plan = Plan((
        Part(constant(steps=8000, peak=1e-3)),
        Part(wsd(steps=10000, peak=1e-3, decay=2000), 8000),
        Part(wsd(steps=10000, peak=1e-3, decay=6000), 4000),
    ))  # fmt: skip
    assert plan.cost == 8000 + 2000 + 6000
    assert Plan(()).cost == 0


def test_every_plan_fits_the_budget_and_the_planned_run():
    plans = make(steps=15000)
    assert plans and all(0 < plan.cost <= 20000 for plan in plans)
    assert max(part.schedule.steps for plan in plans for part in plan.parts) == 15000
    assert len({plan.specs for plan in plans}) == len(plans)


def test_cooldowns_follow_their_trunk_until_they_branch():
    for plan in make():
        trunk = plan.parts[0].schedule
        for part in plan.parts[1:]:
            assert part.first <= trunk.steps
            assert part.schedule.first(part.first) == trunk.first(part.first)


def test_single_runs_and_trunks_of_every_kind_are_there():
    plans = make()
    single = {round(1 - p.parts[0].schedule.segments[1].steps / (p.parts[0].schedule.steps - 300), 1)
              for p in plans if len(p.parts) == 1}  # fmt: skip
    assert len(single) == len(RATIOS)
    assert {len(plan.parts) for plan in plans} == {1, *(len(ratios) + 1 for ratios in COOLDOWNS)}


def test_peak_lrs_are_those_fitted_the_planned_one_and_its_half():
    def peaks(peak):
        return sorted({plan.parts[0].schedule.peak for plan in make(peak=peak)})

    assert peaks(5e-3) == [1e-3, 2e-3, 2.5e-3, 5e-3]
    assert peaks(2.05e-3) == [1e-3, 2e-3], "nearly the same LR is tried once"


def test_specs_read_back():
    for plan in make():
        assert tuple(parse(text) for text in plan.specs) == tuple(part.schedule for part in plan.parts)


def test_runs_much_shorter_than_the_planned_one_are_not_tried_beside_longer():
    lengths = {plan.parts[-1].schedule.steps for plan in make(steps=60000, budget=20000)}
    assert min(lengths) >= 60000 / 8 and max(lengths) == 20000
    assert make(steps=1000000, budget=5000), "unless the budget has room for no other"


def test_a_budget_without_room_is_refused():
    with pytest.raises(InputError) as caught:
        make(budget=1100)
    assert str(caught.value) == (
        "budget must be at least 2000 updates, four times the warm-up and twice the burn-in, got 1100: "
        "allow a longer run."
    )


@pytest.mark.parametrize("peak", [0.0, -1e-3, float("nan"), float("inf")])
def test_a_peak_lr_that_is_none_is_refused(peak):
    with pytest.raises(InputError) as caught:
        make(peak=peak)
    assert str(caught.value) == f"peak must be above 0, got {peak!r}: give the peak LR of the planned run."
