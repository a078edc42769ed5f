"""The search of the WSD family finds the best ratio of every shape and final LR."""

from functools import cache

import numpy as np
import pytest
from tests.synthetic import CASES, PEAK, STEPS, WARMUP, make_runs

from lehr.anneal.family_search import SHAPES_TRIED, search_family
from lehr.anneal.ratio import recommend_ratio
from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.laws.law import Conditions
from lehr.schedule.families import constant, wsd
from lehr.schedule.pieces import TOLERANCE


@cache
def fitted(name):
    return fit(CASES[name].law, make_runs(CASES[name]), FitOptions(burn_in=1, tolerance=TOLERANCE))


@pytest.mark.parametrize("name", ["tissue", "multi_power", "effective_time"])
@pytest.mark.parametrize(("shape", "final"), [("linear", 0.0), ("sqrt", 1e-4), ("cosine", 0.0)])
def test_the_ratio_is_that_of_the_recommendation_and_of_a_grid(name, shape, final):
    plan = {"steps": STEPS, "peak": PEAK, "warmup": WARMUP}
    member = search_family(fitted(name), shapes=(shape,), finals=(final,), **plan)[0]
    told = recommend_ratio(fitted(name), shape=shape, final=final, **plan)
    end = np.array([float(STEPS)])
    mine, other = (CASES[name].loss(Conditions(s), end, 0.0)[0] for s in (member.schedule, told.schedule))
    assert mine < other + 2e-4
    assert member.final_loss == pytest.approx(mine, abs=5e-5)
    assert member.ratio == member.decay_steps / STEPS
    assert member.schedule == wsd(decay=member.decay_steps, shape=shape, final=final, **plan)
    grid = [
        CASES[name].loss(Conditions(wsd(decay=d, shape=shape, final=final, **plan)), end, 0.002)[0]
        for d in range(100, STEPS - WARMUP, 100)
    ]
    assert mine < min(grid) + 2e-4


def test_every_shape_and_final_lr_is_tried_best_first():
    members = search_family(fitted("multi_power"), steps=STEPS, peak=PEAK, final=2e-5)
    assert {m.shape for m in members} == set(SHAPES_TRIED)
    assert {m.final for m in members} == {2e-5, 0.03 * PEAK, 0.1 * PEAK}
    assert [m.final_loss for m in members] == sorted(m.final_loss for m in members)
    assert {m.shape for m in search_family(fitted("multi_power"), steps=500, peak=PEAK, finals=(0.0,))} == (
        set(SHAPES_TRIED) - {"exponential"}
    ), "an exponential decay cannot end at 0"


def test_tiny_runs_have_an_answer():
    for steps, warmup in ((2, 0), (3, 0), (12, 10)):
        best = search_family(fitted("multi_power"), steps=steps, peak=PEAK, warmup=warmup)[0]
        assert 1 <= best.decay_steps <= steps - warmup


def test_after_a_base_the_run_is_warmed_up_again():
    base = wsd(steps=2000, peak=PEAK, warmup=WARMUP, decay=500)
    best = search_family(
        fitted("multi_power"), steps=STEPS, peak=PEAK / 2, base=base, shapes=("linear",), finals=(0.0,)
    )[0]
    lr = best.schedule.to_array()
    assert len(lr) == STEPS and np.array_equal(lr[:2000], base.to_array())
    assert lr[2000:].max() == pytest.approx(PEAK / 2)
    assert np.argmax(lr[2000:]) == 199, "the warm-up of the fitted runs, within a tenth of what is left"


def test_laws_without_an_annealing_term_and_wrong_plans_are_refused():
    with pytest.raises(InputError, match="^law one_power has no annealing term, so it cannot tell schedules"):
        search_family(fitted("one_power"), steps=STEPS, peak=PEAK)
    with pytest.raises(InputError, match="^steps must exceed the 4000 of the schedule so far, got 4000"):
        search_family(
            fitted("tissue"), steps=STEPS, peak=PEAK, base=constant(steps=4000, peak=PEAK, warmup=10)
        )
    with pytest.raises(InputError, match="'lineal'.*did you mean 'linear'"):
        search_family(fitted("tissue"), steps=STEPS, peak=PEAK, shapes=("lineal",))
