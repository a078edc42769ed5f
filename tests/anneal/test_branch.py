"""The advised start of a decay is the best under the true law; targets are reached where it says; bands hold."""

import importlib
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from tests.synthetic import BATCH, CASES, PEAK, STEPS, WARMUP, make_runs

from lehr.anneal.branch import SURE, WAITS, recommend_decay
from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.fit.uncertainty import bootstrap
from lehr.laws.law import Conditions
from lehr.runs.run import Run
from lehr.schedule.families import constant, cosine, wsd
from lehr.schedule.pieces import TOLERANCE

EXACT = FitOptions(burn_in=1, tolerance=TOLERANCE)
NAMES = ("weight_norm", "effective_time", "multi_power")
ONE = ("linear",)
PLAN = constant(steps=STEPS, peak=PEAK, warmup=WARMUP)


def seen(case, until, schedule=PLAN, noise=0.0, seed=1, factor=1.0, name="new"):
    """The log so far of a run of the true law."""
    step = np.arange(50, until + 1, 50)
    loss = factor * case.loss(Conditions(schedule, None, BATCH), step)
    loss = loss * (1 + noise * np.random.default_rng(seed).standard_normal(len(step)))
    return Run(name, schedule, step, loss, batch_tokens=BATCH)


@cache
def fitted(name):
    case = CASES[name]
    return case, replace(fit(case.law, make_runs(case), EXACT), spread=(5e-4, -5e-4))


def true_end(case, start, end, shape="linear"):
    plan = wsd(steps=end, peak=PEAK, warmup=WARMUP, decay=end - start, shape=shape)
    return case.loss(Conditions(plan, None, BATCH), np.array([float(end)]))[0]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("now", [500, 3000])
def test_with_a_deadline_the_start_is_the_best_of_the_true_law(name, now):
    case, result = fitted(name)
    found = recommend_decay(result, seen(case, now), deadline=STEPS, shapes=ONE)
    starts = np.arange(now, STEPS, 25)
    true = np.array([true_end(case, int(start), STEPS) for start in starts])
    assert true_end(case, found.best.start, STEPS) <= true.min() + 2e-5
    assert found.best.steps == STEPS and found.best.start + found.best.decay_steps == STEPS
    assert found.best.final_loss == pytest.approx(true_end(case, found.best.start, STEPS), rel=2e-4)
    assert found.low <= found.best.start <= found.high
    assert found.reached is None and found.probability is None
    for option in found.options:
        cost = true_end(case, option.start, STEPS) - true.min()
        assert option.cost == pytest.approx(cost, abs=2e-4)
    assert found.options[0].start == now


@pytest.mark.parametrize("name", NAMES)
def test_with_a_target_the_end_is_the_soonest_of_the_true_law(name):
    case, result = fitted(name)
    now, horizon = 1000, 12000
    target = min(true_end(case, start, 6000) for start in range(now, 6000, 100))
    found = recommend_decay(result, seen(case, now), target=target, horizon=horizon, shapes=ONE)
    assert found.reached
    assert found.best.final_loss <= target
    assert found.best.steps == pytest.approx(6000, rel=0.02)
    assert found.low < found.best.steps < found.high
    assert found.probability > 0.9
    for option in found.options:
        if option.cost is not None:
            assert option.final_loss <= target
            assert true_end(case, option.start, option.steps) <= target * (1 + 5e-4)
            assert option.cost == max(option.steps - found.best.steps, 0)


def test_the_better_shape_is_taken():
    case, result = fitted("weight_norm")
    run = seen(case, 3000)
    both = recommend_decay(result, run, deadline=STEPS, shapes=("linear", "sqrt"))
    one = {s: recommend_decay(result, run, deadline=STEPS, shapes=(s,)).best for s in ("linear", "sqrt")}
    assert both.best.shape == min(one, key=lambda s: one[s].final_loss)
    assert both.best.final_loss == min(best.final_loss for best in one.values())


def test_a_target_beyond_the_horizon_is_said_with_its_chance():
    case, result = fitted("effective_time")
    run = seen(case, 1000)
    end = recommend_decay(result, run, deadline=3000, shapes=ONE).best
    chances = []
    for target in (end.final_loss - 0.2, end.final_loss_low, end.final_loss - 1e-3, end.final_loss + 1e-3):
        found = recommend_decay(result, run, target=target, horizon=3000, shapes=ONE)
        chances.append(found.probability)
        assert found.reached == (target > end.final_loss)
        assert found.reached or (found.best.steps == 3000 and found.low is None and found.best.cost is None)
    assert chances[0] == SURE
    assert chances[1] == pytest.approx(0.05, abs=0.02)
    assert chances == sorted(chances)
    assert chances[2] < 0.5 < chances[3]


def test_without_a_horizon_twice_the_plan_is_searched():
    case, result = fitted("effective_time")
    assert recommend_decay(result, seen(case, 1000), target=1.0).horizon_steps == 2 * STEPS
    short = seen(case, 1000, constant(steps=1000, peak=PEAK, warmup=WARMUP))
    assert recommend_decay(result, short, target=1.0).horizon_steps == 2000


def test_the_schedule_keeps_the_past_and_holds_the_lr():
    case, result = fitted("effective_time")
    now = 1500
    for plan in (PLAN, wsd(steps=STEPS, peak=PEAK, warmup=WARMUP, decay=800), PLAN.first(now)):
        found = recommend_decay(result, seen(case, now, plan), deadline=3500, final=1e-5, shapes=ONE)
        lr = found.best.schedule.to_array()
        assert len(lr) == 3500
        np.testing.assert_array_equal(lr[:now], PLAN.to_array()[:now])
        np.testing.assert_array_equal(lr[now : found.best.start + 1], PEAK)
        length = found.best.decay_steps
        np.testing.assert_allclose(
            lr[found.best.start :], PEAK + (1e-5 - PEAK) * np.arange(length) / length, rtol=1e-12
        )


def test_the_plan_is_compared_with_the_best():
    case, result = fitted("effective_time")
    late = wsd(steps=STEPS, peak=PEAK, warmup=WARMUP, decay=200)
    found = recommend_decay(result, seen(case, 1000, late))
    assert found.deadline_steps == STEPS, "the planned end is the deadline"
    assert (found.planned.start, found.planned.decay_steps) == (STEPS - 200, 200)
    assert found.planned.cost == pytest.approx(found.planned.final_loss - found.best.final_loss)
    assert found.planned.cost > 0.005
    assert found.planned.final_loss == pytest.approx(true_end(case, STEPS - 200, STEPS), rel=2e-4)
    flat = recommend_decay(result, seen(case, 1000), deadline=3000).planned
    assert (flat.decay_steps, flat.steps, flat.cost) == (0, STEPS, None)
    over = seen(case, 1000, PLAN.first(1000))
    assert recommend_decay(result, over, deadline=3000).planned is None


def test_options_start_now_and_later():
    case, result = fitted("effective_time")
    found = recommend_decay(result, seen(case, 2000), deadline=STEPS)
    assert [option.start for option in found.options] == [2000 + round(w * 2000) for w in WAITS]
    costs = [option.cost for option in found.options]
    assert min(costs) < 1e-3 and costs[-1] == max(costs)
    tiny = recommend_decay(result, seen(case, STEPS - 50, noise=1e-4), deadline=STEPS - 49)
    assert [option.start for option in tiny.options] == [STEPS - 50] == [tiny.best.start]


def test_a_run_of_another_level_is_advised_by_its_own_log():
    """Its loss lies 8 % above the fitted runs; the end is predicted within .5 %, within the band."""
    case, result = fitted("weight_norm")
    found = recommend_decay(result, seen(case, 2500, factor=1.08, noise=3e-4), deadline=STEPS)
    true = 1.08 * true_end(case, found.best.start, STEPS, found.best.shape)
    assert found.best.final_loss == pytest.approx(true, rel=5e-3)
    assert found.best.final_loss_low < true < found.best.final_loss_high
    assert found.updated.scale >= 0.03


def test_the_interval_of_the_start_holds_the_truth():
    case = CASES["weight_norm"]
    runs = make_runs(case, noise=5e-4)
    result = bootstrap(replace(fit(case.law, runs), spread=(5e-4, -5e-4)), runs, draws=25)
    found = recommend_decay(result, seen(case, 1000, noise=5e-4), deadline=STEPS, shapes=ONE)
    starts = np.arange(1000, STEPS, 25)
    best = starts[np.argmin([true_end(case, int(start), STEPS) for start in starts])]
    assert found.low <= best <= found.high
    narrow = recommend_decay(result, seen(case, 1000, noise=5e-4), deadline=STEPS, shapes=ONE, level=0.3)
    assert narrow.high - narrow.low < found.high - found.low
    assert (
        narrow.best.final_loss_high - narrow.best.final_loss
        < found.best.final_loss_high - found.best.final_loss
    )


# warnings and refusals


def test_a_run_that_already_decays_is_warned_of():
    case, result = fitted("effective_time")
    plan = wsd(steps=STEPS, peak=PEAK, warmup=WARMUP, decay=2000)
    found = recommend_decay(result, seen(case, 3000, plan))
    assert (
        "the LR at step 3000 is 0.0005005, below the run's peak of 0.001: it is held or decays from there."
        in (found.warnings)
    )
    assert found.best.schedule.lr(np.array([found.best.start]))[0] == pytest.approx(5.005e-4)


def test_what_lies_outside_the_fit_is_warned_of():
    case, result = fitted("effective_time")
    found = recommend_decay(result, seen(case, 1000), deadline=20 * STEPS, shapes=ONE)
    assert found.warnings[0].startswith("the fit has no bootstrap draws")
    assert any("more than 10 times the longest fitted run" in note for note in found.warnings)
    degenerate = recommend_decay(fitted("tissue")[1], seen(CASES["tissue"], 1000), deadline=STEPS)
    assert any(note.startswith("law tissue is degenerate: ") for note in degenerate.warnings)
    stuck = recommend_decay(replace(result, status="not_converged"), seen(case, 1000), deadline=STEPS)
    assert stuck.warnings[-1] == "the fit did not converge: fit again with more starts or more runs."


def test_the_weight_decay_of_the_log_is_used():
    case, result = fitted("weight_norm")
    run = seen(case, 2000)
    told = recommend_decay(result, replace(run, meta={"weight_decay": 0.03}), deadline=STEPS, shapes=ONE)
    given = recommend_decay(result, run, deadline=STEPS, weight_decay=0.03, shapes=ONE)
    assert told.best == given.best != recommend_decay(result, run, deadline=STEPS, shapes=ONE).best


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"deadline": 1000}, r"^deadline must lie beyond the 1000 updates that run 'new' has done, got 1000: give the "
                             r"updates of the whole run, past ones included\.$"),
        ({"target": 2.0, "horizon": 900}, r"^horizon must lie beyond the 1000 updates .* got 900"),
        ({"target": 2.0, "deadline": 3000}, r"^a deadline and a target were given: ask for one of them; a horizon "),
        ({"target": 0.0}, r"^target must be a loss above 0, got 0\.0: give nats per token, as the log has them\.$"),
        ({"target": float("nan")}, r"^target must be a loss above 0, got nan"),
        ({"target": 9.0}, r"^target must lie below the loss that run 'new' has at step 1000 \(\d\.\d+\), got 9\.0: it "
                          r"has been reached\.$"),
        ({"shapes": ()}, r"^shapes must name at least one decay shape, got \(\)"),
        ({"shapes": ("lineal",)}, r"'lineal'.*did you mean 'linear'"),
        ({"level": 1.0}, r"^level must lie between 0 and 1, got 1\.0"),
        ({"final": 1.0}, r"^run 'new': its LR at step 1000 is 0\.001, not above the 1 that the decay would end at: it "
                         r"has been annealed already\.$"),
        ({"shapes": ("exponential",)}, r"^final must be above 0 for an exponential decay, got 0\.0"),
    ],
    ids=str,
)  # fmt: skip
def test_wrong_questions_are_refused(arguments, text):
    case, result = fitted("effective_time")
    with pytest.raises(InputError, match=text):
        recommend_decay(result, seen(case, 1000), **arguments)


def test_a_log_without_a_plan_needs_a_question():
    case, result = fitted("effective_time")
    with pytest.raises(InputError) as caught:
        recommend_decay(result, seen(case, 1000, PLAN.first(1000)))
    assert str(caught.value) == (
        "run 'new' has no plan beyond step 1000: give a deadline (--deadline-steps) or a target (--target-loss)."
    )


def test_an_annealed_run_is_refused():
    case, result = fitted("effective_time")
    schedule = cosine(steps=2000, peak=PEAK, warmup=WARMUP).then(constant(steps=100, peak=1e-12))
    with pytest.raises(InputError, match="its LR at step 2100 is 1e-12, not above the 1e-12"):
        recommend_decay(result, seen(case, 2100, schedule), deadline=3000, final=1e-12)


def test_a_law_without_an_annealing_term_is_refused():
    case = CASES["one_power"]
    text = "^law one_power has no annealing term, so it cannot tell what a decay gains: fit one that has, such as "
    with pytest.raises(InputError, match=text):
        recommend_decay(fit(case.law, make_runs(case)), seen(case, 1000), deadline=STEPS)


# public curves


@pytest.mark.parametrize(("size", "other"), [("25", "25"), ("100", "100"), ("25", "100"), ("100", "25")])
def test_public_decays_are_predicted_from_their_stable_phase(lehr_data, size, other):
    """The law fitted on other schedules, of the same or another size; seen up to 70 % of the stable phase."""
    mpl_curves = importlib.import_module("benchmarks.mpl_curves")
    folder = lehr_data / "mpl-curves"
    names = ("cosine_24000", "constant_24000", "wsdcon_9") if size != other else ("cosine_24000", "wsdcon_9")
    train = tuple(mpl_curves.load(folder / f"csv_{other}", name) for name in names)
    result = bootstrap(fit(CASES["weight_norm"].law, train), train, draws=20)
    run = mpl_curves.load(folder / f"csv_{size}", "wsd_20000_24000")
    found = recommend_decay(result, run.select(run.step <= 14000))
    assert found.planned.start == 20000 and found.planned.steps == 24000
    assert found.planned.final_loss == pytest.approx(run.final_loss, rel=5e-3)
    assert found.planned.final_loss_low < run.final_loss < found.planned.final_loss_high
