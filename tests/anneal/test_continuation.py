"""Ways to go on with a run, and WSD-S, have the losses that the true law gives them."""

from functools import cache

import numpy as np
import pytest
from tests.synthetic import CASES, PEAK, STEPS, WARMUP, make_runs

from lehr.anneal.continuation import compare_continuations, compare_wsd_s
from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.laws.law import Conditions
from lehr.schedule.families import branch, constant, cosine, wsd, wsd_s
from lehr.schedule.pieces import TOLERANCE

BASE = wsd(steps=2000, peak=PEAK, warmup=WARMUP, decay=500, final=PEAK / 10)
LOW = float(BASE.to_array()[-1])


@cache
def fitted(name):
    return fit(CASES[name].law, make_runs(CASES[name]), FitOptions(burn_in=1, tolerance=TOLERANCE))


@cache
def options(name, base=BASE):
    found = compare_continuations(fitted(name), base, steps=STEPS, warmup=100)
    return {option.name: option for option in found}


def end(name, schedule):
    return float(CASES[name].loss(Conditions(schedule), np.array([float(schedule.steps)]), 0.0)[0])


@pytest.mark.parametrize("name", ["multi_power", "effective_time", "tissue"])
def test_options_have_the_true_loss_and_keep_the_past(name):
    found = options(name)
    assert set(found) == {"hold", "decay", "rewarm", "before decay"} | (
        {"free"} - {"free" * (name == "tissue")}
    )
    past = BASE.to_array()
    for option in found.values():
        lr = option.schedule.to_array()
        assert len(lr) == STEPS
        kept = STEPS - option.updates
        assert np.array_equal(lr[:kept], past[:kept])
        assert kept == (1500 if option.name == "before decay" else 2000)
        assert option.loss == pytest.approx(end(name, option.schedule), abs=1e-4)
        assert option.low < option.loss < option.high


def test_options_come_best_first_with_their_excess():
    found = compare_continuations(fitted("effective_time"), BASE, steps=STEPS)
    losses = [option.loss for option in found]
    assert losses == sorted(losses)
    assert [option.excess for option in found] == pytest.approx([loss - losses[0] for loss in losses])
    assert found[0].excess == 0


def test_what_the_options_are():
    lr = {name: option.schedule.to_array()[2000:] for name, option in options("effective_time").items()}
    assert np.all(lr["hold"] == LOW)
    assert lr["decay"].max() == pytest.approx(LOW) and lr["decay"][-1] < LOW / 10
    assert np.argmax(lr["rewarm"]) == 99 and lr["rewarm"][0] < 2 * LOW + PEAK / 50
    assert np.all(np.diff(lr["free"][100:]) <= 1e-12)
    assert np.all(options("effective_time")["before decay"].schedule.to_array()[WARMUP:1500] == PEAK)


@pytest.mark.parametrize("name", ["multi_power", "effective_time"])
def test_free_form_is_at_least_as_good_as_any_way_on_from_the_same_state(name):
    found = options(name)
    assert found["free"].loss < min(found[other].loss for other in ("hold", "decay", "rewarm")) + 5e-5


def test_rewarming_is_the_best_of_the_peaks_tried():
    found = options("effective_time")["rewarm"]
    for peak in (0.3, 0.6, 1.0):
        flat = compare_continuations(
            fitted("effective_time"), BASE, steps=STEPS, warmup=100, peak=peak * PEAK
        )
        other = next(option for option in flat if option.name == "rewarm")
        assert found.loss < other.loss + 1e-4


def test_a_run_that_held_no_peak_has_no_state_before_its_decay():
    assert "before decay" not in options("multi_power", cosine(steps=2000, peak=PEAK, warmup=WARMUP))
    assert "before decay" not in options("multi_power", constant(steps=2000, peak=PEAK, warmup=WARMUP))
    flat = options("multi_power", constant(steps=2000, peak=PEAK, warmup=WARMUP))
    assert "rewarm" not in flat, "it is at its peak"


def test_steps_must_exceed_those_done():
    with pytest.raises(InputError, match=r"^steps must exceed the 2000 of the schedule so far, got 2000"):
        compare_continuations(fitted("multi_power"), BASE, steps=2000)


# WSD-S


def test_wsd_s_and_its_branches_have_the_true_losses():
    shared = {"peak": PEAK, "warmup": WARMUP, "decay": 300}
    found = compare_wsd_s(fitted("effective_time"), horizons=[1000, 2500, 4000], **shared)
    one = wsd_s(periods=[1000, 1500, 1500], **shared)
    for checkpoint, extra in zip(found, (0, 300, 600), strict=True):
        steps = checkpoint.steps
        assert checkpoint.wsd_s[0] == pytest.approx(end("effective_time", one.first(steps)), abs=1e-4)
        alone = wsd(steps=steps, **shared)
        assert checkpoint.wsd[0] == pytest.approx(end("effective_time", alone), abs=1e-4)
        assert checkpoint.extra_updates == extra
        assert checkpoint.wsd[1] < checkpoint.wsd[0] < checkpoint.wsd[2]
    assert found[0].wsd_s == found[0].wsd
    trunk = constant(steps=STEPS, peak=PEAK, warmup=WARMUP)
    tail = wsd(steps=300, peak=PEAK, decay=300)
    assert np.allclose(
        branch(base=trunk, at=2200, then=tail).to_array(), wsd(steps=2500, **shared).to_array()
    )


def test_horizons_must_leave_room():
    for horizons in ([1000, 1200], [2000, 1000], []):
        with pytest.raises(
            InputError, match=r"^horizons must increase by more than the 300 updates of a decay, got"
        ):
            compare_wsd_s(fitted("multi_power"), horizons=horizons, peak=PEAK, decay=300)
