"""A planned sweep, from its first runs to its end."""

import numpy as np
import pytest
from tests.peaklr.planning import best_lr, train, train_planned

from lehr.errors import InputError
from lehr.peaklr.plan import plan_runs
from lehr.peaklr.plan_question import PlanQuestion, trunk_flops
from lehr.peaklr.published import Planned
from lehr.peaklr.table import SweepTable, merge

SIZES, TOKENS, BATCHES = (1e8, 2e8, 4e8), (2e9, 4e9, 8e9), (1e5, 2e5, 4e5)
TARGET = Planned(8e8, 3.2e10)


def question(**options):
    return PlanQuestion(**{"params": SIZES, "tokens": TOKENS, "target": TARGET, "budget_runs": 60, **options})


def follow(asked, seed=0, **options):
    """Do what the plan says until it says stop; returns the last plan and all runs."""
    done, plan = None, plan_runs(asked, seed=seed)
    while not plan.stop:
        new = train_planned(plan.runs, seed=seed + plan.done_runs, **options)
        done = new if done is None else merge([done, new])
        plan = plan_runs(asked, done, seed=seed)
    return plan, done


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_finds_the_optimum_with_fewer_runs_than_the_grid(seed):
    plan, done = follow(question(), seed)
    assert plan.done_runs == len(done) <= 60 < plan.grid_runs
    assert abs(np.log(plan.prediction.lr / best_lr(8e8, 3.2e10))) < 0.25
    assert plan.prediction.low < best_lr(8e8, 3.2e10) < plan.prediction.high
    assert plan.excess < 2e-3


def test_it_finds_the_optimum_at_the_targets_batch():
    target = Planned(8e8, 3.2e10, batch=8e5)
    plan, _ = follow(question(target=target, batches=BATCHES, budget_runs=50))
    assert plan.done_runs <= 0.25 * plan.grid_runs
    assert abs(np.log(plan.prediction.lr / best_lr(8e8, 3.2e10, 8e5))) < 0.3


@pytest.mark.parametrize("prior", ["step_law", 3e-4, 2e-2])
def test_a_wrong_prior_costs_runs_and_not_the_answer(prior):
    plan, _ = follow(question(prior=prior))
    assert abs(np.log(plan.prediction.lr / best_lr(8e8, 3.2e10))) < 0.3


def test_flops_are_kept_to_and_spent_where_they_are_few():
    asked = question(budget_runs=None, budget_flops=2e20)
    plan, done = follow(asked)
    assert plan.done_flops <= 2e20 and plan.done_flops == pytest.approx(asked.flops(done))
    assert abs(np.log(plan.prediction.lr / best_lr(8e8, 3.2e10))) < 0.35
    assert plan.done_flops < 0.35 * plan.grid_flops


def test_runs_are_charged_with_what_they_add_to_their_trunk():
    asked = question(budget_runs=None, budget_flops=2e20)
    plan = plan_runs(asked)
    assert plan.flops == pytest.approx(asked.flops(train_planned(plan.runs)))
    for run in plan.runs:
        assert run.branch == pytest.approx(0.8 * run.tokens)
    trunks = {run.trunk for run in plan.runs}
    assert len(trunks) < len(plan.runs)  # some are only a cooldown more
    alone = plan_runs(question(cooldown=1.0))
    for run in alone.runs:
        assert run.branch == 0 and run.flops == pytest.approx(trunk_flops(run.active, [run.tokens], 1.0))


def test_it_stops_for_each_of_its_reasons():
    plan, done = follow(question(tolerance=1e-6))
    assert plan.stop == "budget" and plan.runs == () and plan.done_runs == 60
    assert plan.reason == "the budget of 60 runs is spent: what is left pays for no further run"
    plan = plan_runs(question(budget_runs=200, tolerance=0.01), done)
    assert plan.stop == "tolerance"
    assert "runs are expected to lower the excess loss by" in plan.reason
    assert plan.reason.endswith("less than the tolerance of 0.01")
    plan = plan_runs(question(budget_runs=200, tolerance=1e-6, within=2.0), done)
    assert plan.stop == "interval" and plan.law_high / plan.prediction.lr <= 2
    assert "is known to a factor of" in plan.reason
    plan = plan_runs(question(budget_runs=200, tolerance=1e-6), done)
    assert plan.stop is None and plan.runs


def test_it_stops_where_nothing_is_left_to_run():
    tiny = question(params=(1e8,), tokens=(2e9,), target=Planned(1e8, 2e9), budget_runs=200, tolerance=1e-9)
    plan, done = follow(tiny)
    assert plan.stop == "exhausted" or plan.stop == "budget"
    assert len(done) < 200
    assert plan.reason in (
        "no run of the plan that may still be done tells more of the target",
        "the budget of 200 runs is spent: what is left pays for no further run",
    )


def test_it_works_where_high_lrs_diverge():
    plan, done = follow(question(), diverges=2.0)
    assert done.diverged.any()
    assert abs(np.log(plan.prediction.lr / best_lr(8e8, 3.2e10))) < 0.35


def test_it_is_the_same_for_a_seed_and_reads_the_order_of_results_for_nothing():
    first = plan_runs(question())
    assert first == plan_runs(question())
    done = train_planned(first.runs)
    backwards = done.select(np.arange(len(done))[::-1])
    one, other = plan_runs(question(), done), plan_runs(question(), backwards)
    assert one.prediction.lr == pytest.approx(other.prediction.lr, rel=1e-4)


def test_models_of_experts_are_planned_by_active_parameters():
    asked = question(
        params=(8e8, 1.6e9),
        active=(1e8, 2e8),
        target=Planned(6.4e9, 3.2e10, 8e8),
        budget_runs=None,
        budget_flops=1e20,
    )
    plan = plan_runs(asked)
    assert {(run.params, run.active) for run in plan.runs} <= {(8e8, 1e8), (1.6e9, 2e8)}
    assert sum(run.flops for run in plan.runs) < 1e20 / 2


def table(**columns):
    base = {"lr": [1e-3, 2e-3], "loss": [3.0, 3.1], "params": [1e8, 1e8], "tokens": [2e9, 2e9]}
    return SweepTable(**{**base, **columns})


@pytest.mark.parametrize(
    ("columns", "options", "text"),
    [
        (
            {"params": [1e8, 3e8]}, {},
            "row 2: its size 3e+08 is none of the plan's (1e+08, 2e+08, 4e+08): add it to --params or leave the row "
            "out.",
        ),
        (
            {"tokens": [2e9, 5e9]}, {},
            "row 2: its number of tokens 5e+09 is none of the plan's (2e+09, 4e+09, 8e+09): add it to --tokens",
        ),
        (
            {"batch_tokens": [1e5, 3e5]}, {"batches": BATCHES, "target": Planned(8e8, 3.2e10, None, 4e5)},
            "row 2: its batch size 3e+05 is none of the plan's",
        ),
        ({"batch_tokens": [1e5, 3e5]}, {}, "the results have several batch sizes: list them (--batch)"),
        ({}, {"batches": BATCHES, "target": Planned(8e8, 3.2e10, None, 4e5)}, "the results tell none: give their col"),
        ({"active_params": [5e7, 5e7]}, {}, "the results have active parameters but the plan tells none"),
        (
            {}, {"active": (1e7, 2e7, 4e7), "target": Planned(8e8, 3.2e10, 8e7)},
            "the plan has active parameters but the results tell none",
        ),
        (
            {"lr": [1e-3, 1.001e-3]}, {},
            "row 1 and row 2 have one size, number of tokens, batch and LR 0.001 but end at 3.0000 and 3.1000 nats, "
            "which is no noise: leave one out.",
        ),
    ],
)  # fmt: skip
def test_results_that_contradict_the_plan_are_refused(columns, options, text):
    with pytest.raises(InputError) as refused:
        plan_runs(question(**options), table(**columns))
    assert text in str(refused.value)


def test_one_run_at_a_time_is_refused():
    with pytest.raises(InputError, match="at_once must be at least 3: one run alone tells no optimum, got 1"):
        plan_runs(question(), at_once=1)


def test_it_remarks_on_what_is_far_out():
    far = plan_runs(question(target=Planned(8e9, 3.2e10)))
    assert far.remarks == ("size of the target: 20 times the largest of the plan, far out for any law",)
    size, tokens, lr = (a.ravel() for a in np.meshgrid(SIZES, TOKENS, 2.0 ** np.arange(-3, 4) * 2e-3))
    runs = train(lr, size, tokens)
    wrong = plan_runs(question(budget_runs=100, prior=1e-5, tolerance=1e-9), runs)
    assert any("times above the prior's" in remark for remark in wrong.remarks)
    noisy = SweepTable(lr, runs.loss + 0.05 * np.random.default_rng(0).standard_normal(lr.size), size, tokens)
    wild = plan_runs(question(budget_runs=100, tolerance=1e-9), noisy)
    assert any("look for runs that differ in another setting" in remark for remark in wild.remarks)
