"""The recommended ratio is where the true law has its valley; its interval and costs say what a wrong one means."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.synthetic import BATCH, CASES, PEAK, STEPS, WARMUP, make_runs

from lehr.anneal.ratio import COSTS, recommend_ratio, valley
from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.fit.uncertainty import bootstrap
from lehr.laws import LAWS
from lehr.laws.law import Conditions
from lehr.schedule.families import wsd
from lehr.schedule.pieces import TOLERANCE

EXACT = FitOptions(burn_in=1, tolerance=TOLERANCE)
# rows of the log make Forward-Momentum's feature there: it has no value at the last step alone
SOUND = {
    name: case
    for name, case in CASES.items()
    if case.law.needs_anneal and getattr(case.law, "grid", "") != "logged"
}


def ends(case, decays, steps, peak, params=None, **more):
    """True final losses for the given numbers of decaying updates."""
    end = np.array([float(steps)])
    plans = [wsd(steps=steps, peak=peak, warmup=WARMUP, decay=int(d), **more) for d in decays]
    return np.array([case.loss(Conditions(plan, params, BATCH), end)[0] for plan in plans])


PLANS = [(name, STEPS, PEAK) for name in SOUND] + [
    (name, 2 * STEPS, 2 * PEAK) for name in SOUND if name in LAWS
]


@pytest.mark.parametrize(("name", "steps", "peak"), PLANS)
def test_the_ratio_is_the_minimum_of_the_true_laws_valley(name, steps, peak):
    """Fitted to exact data: within .01 of the best of 100 ratios, at no extra loss (.0001 where it is a cliff)."""
    case = SOUND[name]
    params = 1e8 if case.law.needs_sizes else None
    result = fit(case.law, make_runs(case), EXACT)
    found = recommend_ratio(result, steps=steps, peak=peak, warmup=WARMUP, params=params)
    grid = np.arange(steps // 100, steps - WARMUP + 1, steps // 100)
    true = ends(case, grid, steps, peak, params)
    assert found.ratio == pytest.approx(grid[np.argmin(true)] / steps, abs=0.01)
    mine = ends(case, [found.decay_steps], steps, peak, params)[0]
    assert mine - true.min() < (1e-4 if getattr(case.law, "form", "") == "linear" else 1e-5)
    assert found.final_loss == pytest.approx(mine, rel=1e-6)
    costs = ends(case, [round(ratio * steps) for ratio, _ in found.costs], steps, peak, params) - mine
    np.testing.assert_allclose([cost for _, cost in found.costs], np.maximum(costs, 0), atol=1e-5)


@pytest.fixture(scope="module")
def result():
    case = CASES["effective_time"]
    runs = make_runs(case, noise=5e-4, every=100)
    return bootstrap(replace(fit(case.law, runs), spread=(1e-3, -1e-3, 2e-3)), runs, draws=25)


def test_the_interval_holds_the_truth(result):
    case = CASES["effective_time"]
    grid = np.arange(40, 3801, 20)
    true = grid[np.argmin(ends(case, grid, STEPS, PEAK))] / STEPS
    found = recommend_ratio(result, steps=STEPS, peak=PEAK)
    assert found.ratio_low <= true <= found.ratio_high
    assert found.ratio_low < found.ratio < found.ratio_high
    narrow = recommend_ratio(result, steps=STEPS, peak=PEAK, level=0.3)
    assert narrow.ratio_high - narrow.ratio_low < found.ratio_high - found.ratio_low
    assert found.warnings == ()


def test_what_is_recommended_hangs_together(result):
    found = recommend_ratio(result, steps=STEPS, peak=PEAK, shape="sqrt", final=1e-5)
    assert found.ratio == found.decay_steps / STEPS
    assert found.schedule == wsd(
        steps=STEPS, peak=PEAK, warmup=WARMUP, decay=found.decay_steps, shape="sqrt", final=1e-5
    )
    assert found.final_loss_low < found.final_loss < found.final_loss_high
    assert found.final_loss == pytest.approx(
        result.evaluate(Conditions(found.schedule), np.array([STEPS]))[0]
    )
    assert [ratio for ratio, _ in found.costs] == [
        ratio for ratio in COSTS if ratio * STEPS <= STEPS - WARMUP
    ]
    assert all(cost >= 0 for _, cost in found.costs)
    assert found.costs[0][1] > 0.001


def test_warm_up_is_that_of_the_fitted_runs_but_at_most_a_tenth(result):
    assert recommend_ratio(result, steps=STEPS, peak=PEAK).schedule.segments[0].steps == WARMUP
    assert recommend_ratio(result, steps=500, peak=PEAK).schedule.segments[0].steps == 50
    assert recommend_ratio(result, steps=STEPS, peak=PEAK, warmup=0).schedule.segments[0].flat


def test_without_draws_the_interval_is_the_ratio_itself(result):
    found = recommend_ratio(replace(result, draws=()), steps=STEPS, peak=PEAK)
    assert found.ratio_low == found.ratio == found.ratio_high
    assert found.warnings == ("no bootstrap was run: the band holds the error of the form only.",)


@pytest.mark.parametrize(
    ("steps", "warmup"), [(2, 0), (3, 0), (20, 0), (100, 98), (100, 90), (1000, 999 - 1)]
)
def test_tiny_runs_have_an_answer(result, steps, warmup):
    found = recommend_ratio(result, steps=steps, peak=PEAK, warmup=warmup)
    assert 1 <= found.decay_steps <= steps - warmup
    assert all(0 <= cost < np.inf for _, cost in found.costs)


@settings(deadline=None, max_examples=8, derandomize=True)
@given(
    steps=st.integers(50, 20_000),
    peak=st.floats(3e-4, 5e-3),
    shape=st.sampled_from(["linear", "sqrt", "cosine"]),
)
def test_no_other_ratio_has_a_lower_predicted_loss(result, steps, peak, shape):
    found = recommend_ratio(replace(result, draws=()), steps=steps, peak=peak, shape=shape, warmup=0)
    end = np.array([float(steps)])
    for ratio in (0.02, 0.15, 0.35, 0.6, 0.85):
        plan = wsd(steps=steps, peak=peak, decay=max(1, round(ratio * steps)), shape=shape)
        assert result.evaluate(Conditions(plan), end)[0] >= found.final_loss - 2e-4


def test_the_valley_of_a_parabola_is_found_between_grid_points():
    grid = np.array([10.0, 20, 40, 70])
    assert valley(grid, (grid - 33.0) ** 2) == pytest.approx(33)
    assert valley(grid, grid) == 10 and valley(grid, -grid) == 70
    assert valley(grid, np.array([1.0, 0.5, 0.5, 1.0])) == pytest.approx(28, abs=3)


# warnings and refusals


def test_extrapolation_is_warned_of(result):
    notes = recommend_ratio(result, steps=11 * STEPS, peak=PEAK).warnings
    assert notes[0].startswith(
        "step 44000 is more than 10 times the longest fitted run (4000 updates): a guess"
    )
    assert recommend_ratio(result, steps=2 * STEPS, peak=PEAK).warnings == (
        "step 8000 lies beyond the longest fitted run (4000 updates).",
    )
    assert recommend_ratio(result, steps=STEPS, peak=5e-3).warnings[0] == (
        "peak LR 0.005 lies outside the fitted 0.001 .. 0.002."
    )


def test_a_degenerate_law_is_warned_of():
    case = CASES["tissue"]
    notes = recommend_ratio(fit(case.law, make_runs(case)), steps=STEPS, peak=PEAK).warnings
    assert notes[-1] == (
        "law tissue is degenerate: appending updates at LR 0 lowers its loss, and its best schedule is a drop in the "
        "last moment."
    )


def test_a_ratio_at_either_end_is_warned_of():
    case = CASES["effective_time"]
    no_gain = fit(case.law, make_runs(case), EXACT)
    flat = replace(no_gain, parameters={**no_gain.parameters, "noise_amplitude": 0.0})
    found = recommend_ratio(flat, steps=STEPS, peak=PEAK)
    assert found.decay_steps == 40
    assert (
        "the best ratio is the shortest tried: these runs show no gain from a longer decay." in found.warnings
    )
    noise = replace(no_gain, parameters={**no_gain.parameters, "noise_amplitude": 1e4})
    found = recommend_ratio(noise, steps=STEPS, peak=PEAK)
    assert found.decay_steps == STEPS - WARMUP
    assert (
        "the best ratio is the longest possible: the law wants a decay right after the warm-up."
        in found.warnings
    )


def test_fits_without_a_peak_widen_the_interval_and_a_law_that_contradicts_itself_is_warned_of(result):
    plan = {"steps": STEPS, "peak": PEAK, "warmup": WARMUP}
    plain = recommend_ratio(result, **plan)
    agreeing = recommend_ratio(replace(result, without_peak={"peak LR 1": tuple(result.vector)}), **plan)
    assert (agreeing.ratio, agreeing.warnings) == (plain.ratio, plain.warnings)
    less_noise = result.vector * np.where(np.array(list(result.parameters)) == "noise_amplitude", 0.2, 1.0)
    other = recommend_ratio(
        replace(result, parameters=dict(zip(result.parameters, less_noise, strict=True))), **plan
    )
    assert other.ratio < plain.ratio_low - 0.15
    apart = recommend_ratio(replace(result, without_peak={"peak LR 1": tuple(less_noise)}), **plan)
    assert apart.ratio == plain.ratio and apart.ratio_high == plain.ratio_high
    assert apart.ratio_low == pytest.approx(other.ratio, abs=1 / STEPS)
    assert any(
        w.startswith(
            f"all runs together ask for a ratio of {plain.ratio:.2f}, but {other.ratio:.2f} without peak LR 1: "
        )
        for w in apart.warnings
    )


def test_a_fit_that_did_not_converge_is_warned_of(result):
    found = recommend_ratio(replace(result, status="not_converged"), steps=STEPS, peak=PEAK)
    assert found.warnings[-1] == "the fit did not converge: fit again with more starts or more runs."


@pytest.mark.parametrize("name", ["one_power", "chinchilla"])
def test_laws_without_an_annealing_term_are_refused(name):
    case = CASES[name]
    text = rf"^law {name} has no annealing term, so it cannot tell ratios apart: fit one that has, such as "
    with pytest.raises(InputError, match=text):
        recommend_ratio(fit(case.law, make_runs(case)), steps=STEPS, peak=PEAK)


def test_a_size_the_law_needs_must_be_given():
    case = CASES["tissue_n"]
    with pytest.raises(InputError, match="law tissue_n needs the number of parameters"):
        recommend_ratio(fit(case.law, make_runs(case)), steps=STEPS, peak=PEAK)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"level": 1.0}, r"^level must lie between 0 and 1, got 1\.0: use e\.g\. 0\.9\.$"),
        ({"level": 0.0}, r"^level must lie between 0 and 1, got 0\.0"),
        ({"steps": 1}, r"^steps must leave room for a decay after the warm-up, got 1: plan a longer run\.$"),
        ({"steps": 200, "warmup": 199}, r"^steps must leave room for a decay after the warm-up, got 200"),
        ({"peak": 0.0}, r"^peak must be above 0, got 0\.0"),
        ({"final": 1.0}, r"^final must not exceed the peak 0\.001, got 1\.0"),
        ({"warmup": -1}, r"^warmup must be a whole number of updates, 0 "),
        ({"shape": "lineal"}, r"'lineal'.*did you mean 'linear'"),
        ({"shape": "exponential"}, r"^final must be above 0 for an exponential decay, got 0\.0"),
    ],
    ids=str,
)
def test_wrong_plans_are_refused(result, arguments, text):
    with pytest.raises(InputError, match=text):
        recommend_ratio(result, **{"steps": STEPS, "peak": PEAK, **arguments})
