"""What a sweep is planned for: candidates, costs, and questions that are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.peaklr.plan_question import PlanQuestion, trunk_flops
from lehr.peaklr.posterior import fit_posterior
from lehr.peaklr.prior import make_prior
from lehr.peaklr.published import Planned

GOOD = {
    "params": (1e8, 2e8), "tokens": (2e9, 4e9), "target": Planned(8e8, 3.2e10), "budget_runs": 40,
}  # fmt: skip


def question(**options):
    return PlanQuestion(**{**GOOD, **options})


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"params": ()}, "params must list what can be run, got (): give one value or more."),
        ({"tokens": (2e9, -1.0)}, "tokens must be above 0, got -1.0: give finite counts."),
        ({"params": (1e8, 1.01e8)}, "params must differ by 2 % or more, got (100000000.0, 101000000.0)"),
        ({"active": (1e7,)}, "active must pair with the 2 sizes, got (10000000.0,): give one for each."),
        ({"active": (1e7, 3e8)}, "active must not exceed the 2e+08 parameters, got 300000000.0"),
        ({"prior": "deepsek"}, "unknown published law 'deepsek': did you mean 'deepseek'?"),
        ({"prior": "bjorck"}, "prior must be a law that gives an LR by itself, got 'bjorck': give an LR, or kaplan."),
        ({"prior": -1.0}, "prior must be above 0, got -1.0: give the LR that you would take."),
        ({"prior_factor": 1.0}, "prior_factor must be a factor of 1.5 to 100, got 1.0"),
        ({"lr_step": 10.0}, "lr_step must be a factor of 1.05 to 4, got 10.0"),
        ({"within": 1.0}, "within must be a factor of 1.01 to 100, got 1.0"),
        ({"cooldown": 0.0}, "cooldown must be a share of a run, above 0 and at most 1, got 0.0"),
        ({"tolerance": 0.0}, "tolerance must lie between 0 and 1 nats, got 0.0"),
        (
            {"target": Planned(1e12, 3.2e10)},
            "size of the target must lie within 100 times of 1e+08 to 2e+08, got 1000000000000.0: plan larger runs, or "
            "ask for a nearer target.",
        ),
        ({"target": Planned(8e8, 1e7)}, "number of tokens of the target must lie within 100 times of 2e+09 to 4e+09"),
        (
            {"params": (1e8,)},
            "all runs of the plan share one size, 1e+08, but the target has 8e+08: they cannot tell how the LR moves "
            "with it; give another size 1.2 times as large or more.",
        ),
        ({"tokens": (2e9,)}, "all runs of the plan share one number of tokens, 2e+09, but the target has 3.2e+10"),
        (
            {"batches": (1e5,), "target": Planned(8e8, 3.2e10, None, 4e5)},
            "all runs of the plan share one batch size, 1e+05, but the target has 4e+05",
        ),
        ({"batches": (1e5, 2e5)}, "the plan has several batch sizes: give that of the target (--target-batch)."),
        ({"target": Planned(8e8, 3.2e10, None, 4e5)}, "batch of the target needs those of the runs, got 400000.0"),
        ({"budget_flops": 1e20}, "give one budget, in runs or in FLOPs (--budget-runs or --budget-flops)."),
        ({"budget_runs": None}, "give one budget, in runs or in FLOPs"),
        ({"budget_runs": -3}, "budget must be above 0, got -3.0"),
        (
            {"budget_runs": 8},
            "budget_runs must be at least 9, 3 and 3 for each of size, tokens and batch that varies, got 8: give more, "
            "or let less vary.",
        ),
        (
            {"budget_runs": None, "budget_flops": 1e18},
            "budget_flops must be at least 1.51e+19, the cost of the 9 cheapest runs that tell anything, got 1e+18",
        ),
    ],
)  # fmt: skip
def test_questions_that_cannot_be_answered_are_refused(options, text):
    with pytest.raises(InputError) as refused:
        question(**options)
    assert text in str(refused.value)


def test_a_size_that_is_the_targets_own_need_not_vary():
    asked = question(params=(8e8,), budget_runs=6)
    assert asked.fewest == 6


def test_a_trunk_is_paid_for_once():
    alone = trunk_flops(1e8, [2e9], 0.2) + trunk_flops(1e8, [4e9], 0.2)
    assert trunk_flops(1e8, [4e9], 0.2) == pytest.approx(6 * 1e8 * 4e9)
    both = trunk_flops(1e8, [2e9, 4e9], 0.2)
    assert both == pytest.approx(6 * 1e8 * (0.8 * 4e9 + 0.2 * 6e9)) and both < alone
    assert trunk_flops(1e8, [2e9, 4e9], 1.0) == pytest.approx(alone)


def test_lrs_are_on_one_ladder_through_the_priors_at_the_target():
    asked = question()
    prior = make_prior(asked.cells(), asked.prior, asked.target)
    runs = asked.candidates(prior)
    assert len(runs) == 4 * 9  # of four cells
    anchor = fit_posterior(prior, None).predict(asked.target).lr
    rungs = np.log(runs.lr / anchor) / np.log(asked.lr_step)
    np.testing.assert_allclose(rungs, np.round(rungs), atol=1e-6)
    for group in runs.groups():
        place = np.exp(prior.location(prior.mean, prior.logs(group.table)))[0]
        assert group.table.lr.min() < place / 3 and group.table.lr.max() > place * 3


@given(
    order=st.permutations(range(6)),
    tokens=st.lists(st.sampled_from([2e9, 4e9]), min_size=6, max_size=6),
    cooldown=st.floats(0.05, 1.0),
)
def test_the_costs_of_runs_picked_add_up_in_any_order(order, tokens, cooldown):
    asked = question(budget_runs=None, budget_flops=1e21, cooldown=cooldown)
    runs = asked.candidates(make_prior(asked.cells(), 1e-3, asked.target))
    rows = [np.flatnonzero(runs.tokens == count)[number] for number, count in zip(order, tokens, strict=True)]
    rows = list(dict.fromkeys(int(row) for row in rows))
    costs = asked.costs(runs, None)
    paid = sum(costs(rows[:number])[row] for number, row in enumerate(rows))
    assert paid == pytest.approx(asked.flops(runs.select(np.array(rows))))
    rest = asked.costs(runs, runs.select(np.array(rows[:2])))
    assert rest([])[rows[-1]] <= costs([])[rows[-1]]
