"""Predicted curves: the law's own values, a band that holds what is really seen, warnings outside the fitted range."""

from dataclasses import replace

import numpy as np
import pytest
from tests.synthetic import CASES, PEAK, STEPS, make_runs

from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.fit.held_out import hold_out
from lehr.fit.stack import Stack
from lehr.fit.uncertainty import bootstrap
from lehr.laws import LAWS
from lehr.laws.law import Conditions
from lehr.predict import FAR, NEAR, half_width, predict, predict_stack
from lehr.schedule.families import constant, wsd

TISSUE = CASES["tissue"]
PLAN = wsd(steps=STEPS, peak=PEAK, warmup=200, decay=800)


@pytest.fixture(scope="module")
def result():
    runs = make_runs(TISSUE, noise=1e-3, every=100)
    return bootstrap(fit(TISSUE.law, runs), runs, draws=20)


def test_the_loss_is_the_laws_own(result):
    steps = np.array([250.0, 3000.0, 4000.0])
    found = predict(result, PLAN, steps)
    assert np.array_equal(found.loss, result.evaluate(Conditions(PLAN), steps))
    np.testing.assert_allclose(found.loss, TISSUE.loss(Conditions(PLAN), steps), rtol=1e-3)
    assert np.array_equal(found.steps, steps) and found.level == 0.9 and found.warnings == ()


def test_the_whole_curve_by_default(result):
    found = predict(result, PLAN)
    assert found.steps[0] == 200 and found.steps[-1] == STEPS and len(found.steps) == 200
    assert np.all(found.steps == found.steps.round()) and np.all(np.diff(found.steps) > 0)
    short = predict(result, constant(steps=30, peak=PEAK))
    assert short.steps[0] == 15 and short.steps[-1] == 30 and len(short.steps) == 16
    assert predict(result, constant(steps=1, peak=PEAK)).steps.tolist() == [1]


def test_the_band_is_around_the_loss_and_widens_with_the_level(result):
    bands = [predict(result, PLAN, level=level) for level in (0.5, 0.9, 0.99)]
    for found in bands:
        assert np.all((found.low < found.loss) & (found.loss < found.high))
        np.testing.assert_allclose(found.high - found.loss, found.loss - found.low, rtol=1e-9)
    widths = [found.high - found.low for found in bands]
    assert np.all(widths[0] < widths[1]) and np.all(widths[1] < widths[2])


def test_the_band_joins_the_spread_of_draws_and_the_error_of_the_form(result):
    conditions, steps = Conditions(PLAN), np.array([float(STEPS)])
    loss = result.evaluate(conditions, steps)

    def width(**changes):
        return float(half_width(replace(result, **changes), conditions, steps, loss, 0.9)[0])

    both, form, draws = width(), width(draws=()), width(spread=(1e-12,) * 8)
    assert both == pytest.approx(np.hypot(form, draws))
    assert form == pytest.approx(1.8595 * np.sqrt(np.mean(np.square(result.spread))) * loss[0], rel=1e-3), (
        "t, 8 runs"
    )
    one = width(draws=(), spread=(1e-3,))
    assert one == pytest.approx(6.3138 * 1e-3 * loss[0], rel=1e-3), "a single left-out run says little"
    typical = max(r["mean_absolute"] for r in result.residuals.values())
    assert width(draws=(), spread=()) == pytest.approx(1.6449 * typical * loss[0], rel=1e-3), (
        "the fit's own error"
    )


def test_a_wild_draw_does_not_blow_up_the_band(result):
    wild = (*result.draws, tuple(1e6 * v for v in result.draws[0]))
    conditions, steps = Conditions(PLAN), np.array([float(STEPS)])
    loss = result.evaluate(conditions, steps)
    tame = half_width(result, conditions, steps, loss, 0.9)
    assert half_width(replace(result, draws=wild), conditions, steps, loss, 0.9) < 1.5 * tame


def test_bands_hold_the_end_of_a_new_run_about_as_often_as_they_say():
    """The right law and, with the error of its form, a wrong one; a run of another schedule, 6 repetitions."""
    quick = FitOptions(starts=6, polished=1)
    plan = wsd(steps=STEPS, peak=PEAK, warmup=200, decay=2000)
    end = np.array([float(STEPS)])
    for name in ("tissue", "multi_power, linear"):
        law, hits = CASES[name].law, 0
        for seed in range(6):
            rng = np.random.default_rng(100 + seed)
            runs = make_runs(TISSUE, noise=1e-3, seed=seed, every=200)[:4]
            result = fit(law, runs, quick)
            result = replace(result, spread=hold_out(law, runs, quick).spread())
            found = predict(result, plan, end)
            seen = TISSUE.loss(Conditions(plan), end) * (1 + 1e-3 * rng.standard_normal())
            hits += int(found.low[0] <= seen[0] <= found.high[0])
        assert hits >= 5, name


def test_the_part_of_the_draws_grows_outside_the_fitted_range(result):
    """The part of the form does not: what left-out runs show is a share of the loss."""

    def share(steps, **changes):
        plan, end = wsd(steps=steps, peak=PEAK, warmup=200, decay=800), np.array([float(steps)])
        loss = result.evaluate(Conditions(plan), end)
        return half_width(replace(result, **changes), Conditions(plan), end, loss, 0.9)[0] / loss[0]

    none = {"spread": (1e-12,)}
    assert share(20 * STEPS, **none) > 2 * share(STEPS, **none)
    assert share(20 * STEPS, draws=()) == pytest.approx(share(STEPS, draws=()))


# warnings and refusals


def test_beyond_the_longest_run(result):
    longer = wsd(steps=11 * STEPS, peak=PEAK, warmup=200, decay=800)
    assert predict(result, longer, np.array([NEAR * STEPS])).warnings == ()
    assert predict(result, longer, np.array([NEAR * STEPS + 1])).warnings == (
        "step 4201 lies beyond the longest fitted run (4000 updates).",
    )
    assert predict(result, longer, np.array([FAR * STEPS + 1])).warnings == (
        "step 40001 is more than 10 times the longest fitted run (4000 updates): a guess, whatever its band; "
        "fit a longer run.",
    )


@pytest.mark.parametrize("peak", [0.9e-3, 2.1e-3])
def test_another_peak_lr(result, peak):
    found = predict(result, constant(steps=STEPS, peak=peak))
    assert found.warnings == (f"peak LR {peak:g} lies outside the fitted 0.001 .. 0.002.",)
    assert predict(result, constant(steps=STEPS, peak=1.5e-3)).warnings == ()


def test_another_size():
    case = CASES["tissue_n"]
    runs = make_runs(case, noise=1e-4, every=200)
    sized = bootstrap(replace(fit(case.law, runs), spread=(1e-3,)), runs, draws=2)
    assert predict(sized, PLAN, params=1e8).warnings == ()
    found = predict(sized, PLAN, params=1e9)
    assert found.warnings == ("1e+09 parameters lie outside the fitted 2e+07 .. 5e+08.",)
    with pytest.raises(InputError, match="law tissue_n needs the number of parameters"):
        predict(sized, PLAN)


def test_no_bootstrap(result):
    found = predict(replace(result, draws=()), PLAN)
    assert found.warnings == ("no bootstrap was run: the band holds the error of the form only.",)


@pytest.mark.parametrize("level", [0, 1, -0.1, 90, float("nan")])
def test_a_level_that_is_no_probability_is_refused(result, level):
    with pytest.raises(InputError, match=r"^level must lie between 0 and 1, got .*: use e\.g\. 0\.9\.$"):
        predict(result, PLAN, level=level)


@pytest.mark.parametrize("step", [0, -1, STEPS + 1])
def test_a_step_outside_the_schedule_is_refused(result, step):
    with pytest.raises(
        InputError, match=rf"^step {step} lies outside 1 \.\. 4000, the steps of the schedule"
    ):
        predict(result, PLAN, np.array([100, step]))


def test_runs_of_several_weight_decays_need_to_be_told_the_planned_one():
    runs = make_runs(CASES["tissue"], noise=1e-3, every=100)
    mixed = [replace(run, meta={"weight_decay": 0.1 if i else 0.05}) for i, run in enumerate(runs)]
    plan, end = wsd(steps=STEPS, peak=PEAK, warmup=200, decay=800), np.array([STEPS])
    result = fit(LAWS["weight_norm"], mixed)
    text = r"the fitted runs had weight decays from 0\.05 to 0\.1: give that of the planned run \(--weight-decay\)\."
    with pytest.raises(InputError, match=text):
        predict(result, plan, end)
    low, high = (predict(result, plan, end, weight_decay=decay).loss[0] for decay in (0.05, 0.2))
    assert low != pytest.approx(high, rel=1e-6)
    assert predict(fit(LAWS["tissue"], mixed), plan, end).loss[0] > 0, "a law that does not ask needs none"


# stacks


@pytest.fixture(scope="module")
def other(result):
    """The same law with a loss that is .01 nats higher throughout."""
    raised = {**result.parameters, "irreducible_loss": result.parameters["irreducible_loss"] + 0.01}
    return replace(result, parameters=raised, draws=())


def test_a_stack_predicts_the_weighted_mean(result, other):
    steps = np.array([1000.0, 4000.0])
    one = predict(result, PLAN, steps)
    found = predict_stack(Stack({"a": 0.25, "b": 0.75}, {"b": other, "a": result}), PLAN, steps)
    np.testing.assert_allclose(found.loss, one.loss + 0.75 * 0.01)
    assert np.array_equal(found.steps, steps) and found.level == 0.9


def test_the_band_of_a_stack_joins_its_members_bands_and_their_disagreement(result, other):
    steps = np.array([4000.0])
    stack = Stack({"a": 0.25, "b": 0.75}, {"a": result, "b": other})
    bands = [predict(member, PLAN, steps) for member in (result, other)]
    own = 0.25 * (bands[0].high - bands[0].loss) ** 2 + 0.75 * (bands[1].high - bands[1].loss) ** 2
    apart = 0.25 * 0.75 * 0.01**2  # variance of a and a + .01 under these weights
    found = predict_stack(stack, PLAN, steps)
    assert found.high - found.loss == pytest.approx(np.sqrt(own + 1.6449**2 * apart), rel=1e-4)
    assert found.loss - found.low == pytest.approx(found.high - found.loss)


def test_a_stack_of_one_law_is_that_law(result):
    one, found = predict(result, PLAN), predict_stack(Stack({"a": 1.0}, {"a": result}), PLAN)
    for part in ("steps", "loss", "low", "high"):
        np.testing.assert_allclose(getattr(found, part), getattr(one, part))


def test_warnings_of_all_members_are_told_once(result, other):
    far = wsd(steps=20 * STEPS, peak=PEAK, warmup=200, decay=800)
    stack = Stack({"a": 0.5, "b": 0.5}, {"a": result, "b": other})
    warnings = predict_stack(stack, far).warnings
    assert len(warnings) == 2
    assert "more than 10 times" in warnings[0] and "no bootstrap was run" in warnings[1]


def test_a_stack_refuses_what_its_members_refuse(result, other):
    stack = Stack({"a": 0.5, "b": 0.5}, {"a": result, "b": other})
    with pytest.raises(InputError, match="level must lie between 0 and 1, got 1"):
        predict_stack(stack, PLAN, level=1)
    with pytest.raises(InputError, match="step 4001 lies outside"):
        predict_stack(stack, PLAN, np.array([4001]))
