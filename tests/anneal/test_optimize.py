"""The free-form schedule keeps its bounds and has the lowest loss under the law that was fitted."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from tests.synthetic import CASES, PEAK, STEPS, WARMUP, make_runs

from lehr.anneal.family_search import check_bounds
from lehr.anneal.knots import place_knots
from lehr.anneal.optimize import fall_steps, optimize_schedule, search
from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.laws.law import Conditions
from lehr.predict import planned, predict
from lehr.schedule.families import constant, cosine, from_array, wsd
from lehr.schedule.pieces import TOLERANCE
from lehr.schedule.schedule import Segment

EXACT = FitOptions(burn_in=1, tolerance=TOLERANCE)
QUICK = ("multi_power", "functional", "effective_time", "effective_time_area")
SOUND = (*QUICK, "weight_norm")


@cache
def fitted(name):
    return fit(CASES[name].law, make_runs(CASES[name]), EXACT)


@cache
def best(name, final=0.0, monotone=True):
    return optimize_schedule(
        fitted(name), steps=STEPS, peak=PEAK, final=final, warmup=WARMUP, monotone=monotone
    )


def end(name, schedule):
    """True final loss, update by update."""
    return float(CASES[name].loss(Conditions(schedule), np.array([float(schedule.steps)]), 0.0)[0])


def keeps(schedule, steps, peak, final, warmup, monotone=True):
    lr = schedule.to_array()
    assert schedule.steps == steps
    assert np.all(lr <= peak * (1 + 1e-5)) and np.all(lr[warmup:] >= final * (1 - 1e-5))
    assert np.all(np.diff(lr[:warmup]) > 0)
    if monotone:
        assert np.all(np.diff(lr[warmup:]) <= 1e-12)


@pytest.mark.parametrize("final", [0.0, PEAK / 10])
@pytest.mark.parametrize("name", SOUND)
def test_the_schedule_keeps_its_bounds(name, final):
    keeps(best(name, final).schedule, STEPS, PEAK, final, WARMUP)


@pytest.mark.parametrize("final", [0.0, PEAK / 10])
@pytest.mark.parametrize("name", SOUND)
def test_no_other_schedule_has_a_lower_loss(name, final):
    found = best(name, final)
    shared = {"steps": STEPS, "peak": PEAK, "warmup": WARMUP, "final": final}
    others = [
        wsd(decay=d, shape=s, **shared)
        for d in (200, 400, 800, 1600, 3000)
        for s in ("linear", "sqrt", "power(2)")
    ]
    others += [cosine(**shared), constant(steps=STEPS, peak=PEAK, warmup=WARMUP), found.wsd.schedule]
    rng = np.random.default_rng(0)
    grid = place_knots(STEPS, WARMUP, 12)
    for _ in range(20):
        shares = np.sort(rng.random(len(grid.at)) ** rng.uniform(0.2, 3))[::-1]
        others.append(grid.schedule(final + (PEAK - final) * shares))
    lowest = min(end(name, schedule) for schedule in others)
    assert end(name, found.schedule) < lowest + 2e-5


@pytest.mark.parametrize("name", ["effective_time", "effective_time_area"])
def test_it_agrees_with_a_plain_search_over_every_update(name):
    """SLSQP over the LRs of 30 updates, at LRs that make up for the few; no pieces and no knots."""
    steps, top, peak = 30, np.array([30.0]), 100 * PEAK
    found = optimize_schedule(fitted(name), steps=steps, peak=peak, warmup=0)

    def loss(share):
        return CASES[name].loss(Conditions(from_array(values=peak * np.clip(share, 0, 1))), top, 0.0)[0]

    plain = minimize(
        loss, np.linspace(1, 0.05, steps), method="SLSQP", bounds=[(0, 1)] * steps,
        constraints={"type": "ineq", "fun": lambda share: -np.diff(share)}, options={"maxiter": 300},
    )  # fmt: skip
    gain = loss(np.ones(steps)) - plain.fun
    assert gain > 0.01
    assert loss(found.schedule.to_array() / peak) < plain.fun + 1e-3 * gain


@pytest.mark.parametrize("name", ["multi_power", "effective_time"])
def test_every_start_leads_to_the_same_optimum(name):
    result, plan = fitted(name), check_bounds(fitted(name), STEPS, PEAK, 0.0, WARMUP, None)
    losses = []
    for start in (
        constant(steps=STEPS, peak=PEAK, warmup=WARMUP),
        cosine(steps=STEPS, peak=PEAK, warmup=WARMUP),
        constant(steps=STEPS, peak=PEAK / 10, warmup=WARMUP),
    ):
        grid, lr, converged = search(result, planned(result, start, None, None, None), plan, 24, True)
        assert converged
        losses.append(end(name, grid.schedule(lr)))
    assert max(losses) - min(losses) < 1e-5


@pytest.mark.parametrize("name", QUICK)
def test_letting_it_rise_does_not_raise_the_loss(name):
    free = best(name, monotone=False)
    keeps(free.schedule, STEPS, PEAK, 0.0, WARMUP, monotone=False)
    assert free.final_loss < best(name).final_loss + 1e-5


@pytest.mark.parametrize("name", ["functional", "effective_time"])
def test_stairs_cost_little_and_never_beat_lines_but_for_their_width(name):
    found = optimize_schedule(fitted(name), steps=STEPS, peak=PEAK, warmup=WARMUP, stairs=True, knots=32)
    keeps(found.schedule, STEPS, PEAK, 0.0, WARMUP)
    lr = found.schedule.to_array()[WARMUP:]
    assert len(np.unique(lr)) <= 32
    lines = end(name, best(name).schedule)
    assert lines - 1e-4 < end(name, found.schedule) < lines + 2e-3


def test_stairs_beat_lines_under_multi_power():
    """Its known failure: see `test_degeneracy`."""
    found = optimize_schedule(
        fitted("multi_power"), steps=STEPS, peak=PEAK, warmup=WARMUP, stairs=True, knots=32
    )
    assert end("multi_power", found.schedule) < end("multi_power", best("multi_power").schedule) - 5e-4


def test_a_higher_floor_costs_loss():
    losses = [best("multi_power", final).final_loss for final in (0.0, PEAK / 10, PEAK / 3)]
    assert losses[0] < losses[1] < losses[2]


def test_what_is_found_hangs_together():
    name = "multi_power"
    found, result = best(name), fitted(name)
    assert found.final_loss == pytest.approx(end(name, found.schedule), abs=2e-5)
    assert found.gain == pytest.approx(found.wsd.final_loss - found.final_loss)
    assert found.gain == pytest.approx(end(name, found.wsd.schedule) - end(name, found.schedule), abs=5e-5)
    told = predict(result, found.schedule, np.array([float(STEPS)]))
    assert told.loss[0] == pytest.approx(found.final_loss, abs=2e-4)
    half = found.final_loss_high - found.final_loss
    assert half == pytest.approx(found.final_loss - found.final_loss_low) and half > 0
    assert half == pytest.approx(told.high[0] - told.loss[0], rel=1e-2)
    assert len(found.schedule.segments) < 40 and all(isinstance(s, Segment) for s in found.schedule.segments)
    lr = found.schedule.to_array()
    high, low = np.flatnonzero(lr >= 0.9 * PEAK)[-1], np.flatnonzero(lr <= 0.1 * PEAK)
    assert found.fall_steps == pytest.approx(low[low > high][0] - high, abs=2)
    assert best("functional").fall_steps is None, "its LR ends above 10 % of the peak"


def test_fall_steps_of_a_plain_line():
    grid = place_knots(1000, 0, 32)
    assert fall_steps(grid, PEAK * (1000 - grid.at) / 1000) == 801
    assert fall_steps(grid, np.full(len(grid.at), PEAK)) is None


def test_warm_up_is_that_of_the_fitted_runs_but_at_most_a_tenth():
    result = fitted("multi_power")
    for steps, warmup in ((STEPS, WARMUP), (500, 50)):
        found = optimize_schedule(result, steps=steps, peak=PEAK, knots=8)
        assert found.schedule.segments[0].steps == warmup
    found = optimize_schedule(result, steps=500, peak=PEAK, warmup=0, knots=8)
    assert found.schedule.lr(np.array([0]))[0] == pytest.approx(PEAK)


@settings(deadline=None, max_examples=6, derandomize=True)
@given(
    steps=st.integers(2, 3000), peak=st.floats(1e-4, 1e-2), share=st.floats(0, 0.9), warm=st.floats(0, 0.5),
    knots=st.integers(3, 20), monotone=st.booleans(),
)  # fmt: skip
def test_any_plan_has_an_answer_within_its_bounds(steps, peak, share, warm, knots, monotone):
    warmup = min(int(warm * steps), steps - 2)
    found = optimize_schedule(
        fitted("effective_time"), steps=steps, peak=peak, final=share * peak, warmup=warmup, knots=knots,
        monotone=monotone,
    )  # fmt: skip
    keeps(found.schedule, steps, peak, share * peak, warmup, monotone)
    assert np.isfinite(found.final_loss)


def test_a_run_that_goes_on_keeps_its_past_and_may_drop_or_rise():
    base = wsd(steps=2000, peak=PEAK, warmup=WARMUP, decay=500, final=PEAK / 5)
    found = optimize_schedule(fitted("effective_time"), steps=STEPS, peak=PEAK, base=base, warmup=100)
    lr = found.schedule.to_array()
    assert np.array_equal(lr[:2000], base.to_array())
    assert np.all(np.diff(lr[2100:]) <= 1e-12)
    stay = base.then(from_array(values=np.full(2000, lr[1999])))
    rewarmed = found.wsd.schedule
    assert np.array_equal(rewarmed.to_array()[:2000], base.to_array())
    assert end("effective_time", found.schedule) < end("effective_time", stay) - 0.01
    assert end("effective_time", found.schedule) < end("effective_time", rewarmed) + 2e-5


def test_the_weight_decay_of_the_plan_is_used():
    result = fitted("weight_norm")
    plans = [
        optimize_schedule(result, steps=2000, peak=PEAK, knots=8, weight_decay=decay) for decay in (0.1, 0.3)
    ]
    assert plans[0].final_loss != pytest.approx(plans[1].final_loss, abs=1e-3)


# warnings and refusals


def test_a_gain_below_the_noise_of_runs_is_said():
    notes = best("multi_power").warnings
    assert any(
        note.startswith("it gains 0.0")
        and note.endswith(
            " of the loss over the best WSD schedule, less than two runs of one schedule differ by: the simpler "
            "schedule does as well."
        )
        for note in notes
    )
    assert not any("it gains" in note for note in best("effective_time_area").warnings)


def test_a_law_that_is_nearly_degenerate_under_its_parameters_is_warned_of():
    """Relaxation within a few updates at any LR: the functional law then asks for a drop."""
    case = replace(CASES["functional"], nonlinear=(0.5, 5000.0, 4.0))
    result = fitted("functional")
    result = replace(result, parameters=dict(zip(result.parameters, case.vector.tolist(), strict=True)))
    found = optimize_schedule(result, steps=STEPS, peak=PEAK, warmup=WARMUP)
    assert any(
        note.endswith(
            "under these parameters law functional is near to degenerate, so do not trust the schedule."
        )
        for note in found.warnings
    )
    assert not any("near to degenerate" in note for name in SOUND for note in best(name).warnings)


def test_extrapolation_and_fits_that_did_not_converge_are_warned_of():
    result = replace(fitted("multi_power"), status="not_converged")
    notes = optimize_schedule(result, steps=2 * STEPS, peak=5 * PEAK, knots=8).warnings
    assert notes[0] == "step 8000 lies beyond the longest fitted run (4000 updates)."
    assert notes[1] == "peak LR 0.005 lies outside the fitted 0.001 .. 0.002."
    assert notes[-1] == "the fit did not converge: fit again with more starts or more runs."


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"knots": 2}, r"^knots must be at least 3, got 2: a few dozen do\.$"),
        ({"level": 1.0}, r"^level must lie between 0 and 1, got 1\.0: use e\.g\. 0\.9\.$"),
        ({"final": PEAK}, r"^final must lie below the peak 0\.001, got 0\.001: leave room between them\.$"),
        ({"final": 1.0}, r"^final must not exceed the peak 0\.001, got 1\.0"),
        ({"final": -1e-4}, r"^final must be a finite number of at least 0, got -0\.0001"),
        ({"peak": 0.0}, r"^peak must be above 0, got 0\.0"),
        ({"steps": 1}, r"^steps must leave room for a decay after the warm-up, got 1: plan a longer run\.$"),
        ({"steps": 200, "warmup": 199}, r"^steps must leave room for a decay after the warm-up, got 200"),
        ({"warmup": -1}, r"^warmup must be a whole number of updates, 0 "),
        (
            {"base": constant(steps=5000, peak=PEAK)},
            r"^steps must exceed the 5000 of the schedule so far, got 4000: count those too\.$",
        ),
    ],
)
def test_plans_that_cannot_be(arguments, text):
    with pytest.raises(InputError, match=text):
        optimize_schedule(fitted("multi_power"), **{"steps": STEPS, "peak": PEAK, **arguments})


@pytest.mark.parametrize("name", ["one_power", "chinchilla"])
def test_laws_without_an_annealing_term_are_refused(name):
    text = (
        rf"^law {name} has no annealing term, so it cannot tell schedules apart: fit one that has, such as "
    )
    with pytest.raises(InputError, match=text):
        optimize_schedule(fitted(name), steps=STEPS, peak=PEAK)
