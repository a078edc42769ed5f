"""Runs to add: the Gaussian update itself, and suggestions that a refit bears out."""

from dataclasses import replace

import numpy as np
import pytest
from tests.synthetic import CASES, PEAK, STEPS, WARMUP, make_runs

from lehr.anneal.form_error import RUN_ERROR, FormError, early, join
from lehr.anneal.outlook import (
    DRAWS,
    FAR,
    Look,
    ask,
    centred,
    draws_of,
    would_show,
)
from lehr.anneal.plans import Part, Plan, make_plans
from lehr.anneal.suggest import suggest_runs, weigh
from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.fit.uncertainty import bootstrap
from lehr.laws.law import Conditions
from lehr.runs.run import Run
from lehr.schedule.families import constant, wsd

TIME = CASES["effective_time"]
NOISE = 3e-4
PLANNED = {"steps": 4 * STEPS, "peak": 2 * PEAK}
ANY = (None, None, None, None)


@pytest.fixture(scope="module")
def runs():
    """Three runs at one peak LR."""
    return tuple(
        r for r in make_runs(TIME, noise=NOISE) if r.name in ("constant 0.001", "wsd 0.001", "cosine 0.001")
    )


@pytest.fixture(scope="module")
def fitted(runs):
    return bootstrap(replace(fit(TIME.law, runs), spread=(5e-4, -3e-4, 4e-4)), runs, draws=60)


@pytest.fixture(scope="module")
def question(fitted):
    return ask(fitted, PLANNED["steps"], PLANNED["peak"], ANY)


def at(form, index):
    """The law's own error at some of the points."""
    return FormError(form.places[index], form.size[index], form.beyond[index])


def as_if_seen(question, index, noise):
    """A look at the planned run itself, at one of its ratios."""
    return Look(
        draws=question.draws[:, [index]] / question.losses[-1],
        form=at(question.form, [index]),
        noise=np.array([[noise**2]]),
    )


def test_the_question_is_the_planned_run_at_every_ratio(fitted, question):
    assert question.draws.shape == (60, len(question.ratios))
    assert question.ratios[-1] == question.now.ratio
    assert question.losses[-1] == pytest.approx(question.now.final_loss)
    assert question.draws.mean(axis=0) == pytest.approx(0)
    plan = wsd(
        steps=PLANNED["steps"], peak=PLANNED["peak"], warmup=WARMUP, decay=round(question.ratios[3] * 16000)
    )
    assert question.losses[3] == pytest.approx(fitted.evaluate(Conditions(plan), np.array([16000.0]))[0])


def test_without_a_look_nothing_is_gained(question):
    nothing = weigh(question, Plan(()), None)
    assert nothing.gain == 0
    assert nothing.ratio_low <= question.now.ratio <= nothing.ratio_high
    assert nothing.regret > 0


def test_seeing_the_planned_run_itself_leaves_its_noise(question):
    seen = weigh(question, Plan(()), as_if_seen(question, -1, 1e-5))
    scale = question.losses[-1]
    assert seen.final_loss_high - seen.final_loss_low == pytest.approx(
        2 * 1.645 * RUN_ERROR * scale, rel=0.02
    )
    assert seen.gain > 0.5


def test_more_noise_tells_less(question):
    gains = [
        weigh(question, Plan(()), as_if_seen(question, -1, noise)).gain for noise in (1e-4, 1e-3, 1e-2, 1.0)
    ]
    assert gains == sorted(gains, reverse=True) and gains[-1] < 0.01


def test_the_update_is_the_gaussian_one(question):
    """Against the conditional covariance computed from the joint one."""
    q, look, scale = question, as_if_seen(question, 5, 4e-4), question.losses[-1]
    both = np.column_stack([q.draws, look.draws])
    own = join([q.form, look.form])
    unit = np.concatenate([np.full(len(q.losses), scale), [1.0]])
    joint = both.T @ both / len(both) + np.outer(unit, unit) * own.covariance(own)
    joint[-1, -1] += look.noise[0, 0]
    precision = np.linalg.inv(joint[[-2, -1]][:, [-2, -1]])
    expected = np.sqrt(1 / precision[0, 0] + (RUN_ERROR * scale) ** 2)
    found = weigh(q, Plan(()), look)
    assert (found.final_loss_high - found.final_loss_low) / (2 * 1.645) == pytest.approx(expected, rel=1e-3)


def test_a_regret_shrinks_with_what_is_seen(question):
    none = weigh(question, Plan(()), None).regret
    ends = [0, 6, 12, 18, -1]
    look = Look(
        draws=question.draws[:, ends] / question.losses[-1], form=at(question.form, ends),
        noise=1e-8 * np.eye(5),
    )  # fmt: skip
    assert weigh(question, Plan(()), look).regret < 0.3 * none


def test_a_look_has_eight_points_a_run_and_shares_errors_with_the_trunk(fitted):
    plan = Plan((
        Part(constant(steps=3200, peak=PEAK, warmup=WARMUP)),
        Part(wsd(steps=4000, peak=PEAK, warmup=WARMUP, decay=800), 3200),
    ))  # fmt: skip
    look = would_show(fitted, plan, ANY)
    assert look.draws.shape == (60, 16) and look.noise.shape == (16, 16)
    assert np.all(look.noise[:8, 8:] > 0), "the cooldown carries its trunk's error"
    apart = would_show(fitted, Plan((plan.parts[0], replace(plan.parts[1], first=0))), ANY)
    assert np.all(apart.noise[:8, 8:] == 0)
    assert np.linalg.eigvalsh(look.noise).min() > 0
    assert np.all(np.diff(np.diag(look.noise)[:8]) < 0), "early points tell less"
    assert early(fitted, np.array([400.0, 4000.0])) == pytest.approx([2, 1.1])


def test_no_draw_decides_alone():
    values = np.random.default_rng(0).standard_normal((50, 2))
    values[7, 0] = 1e6
    kept = centred(values)
    assert np.abs(kept).max() < 2 * FAR and kept.mean(axis=0) == pytest.approx(0)
    assert draws_of(_Few(100)).shape == (DRAWS, 1)


class _Few:
    def __init__(self, count):
        self.draws = tuple((float(i),) for i in range(count))


def test_the_planned_peak_lr_is_suggested_and_a_refit_bears_it_out(runs, fitted):
    """The best plan narrows the bootstrap's spread of the asked loss more than the least of all plans."""
    plans = make_plans(fitted.domain, PLANNED["steps"], PLANNED["peak"], 4000)
    calls = []
    found = suggest_runs(fitted, **PLANNED, plans=plans, top=len(plans), progress=lambda: calls.append(1))
    assert len(calls) == len(plans) == len(found.best)
    assert [s.gain for s in found.best] == sorted((s.gain for s in found.best), reverse=True)
    assert [s.gain_per_cost for s in found.per_cost] == sorted(
        (s.gain_per_cost for s in found.per_cost), reverse=True
    )
    assert found.best[0].plan.parts[0].schedule.peak == PLANNED["peak"]
    assert found.best[0].regret < found.before.regret
    end = np.array([float(PLANNED["steps"])])

    def spread_after(plan):
        rng = np.random.default_rng(1)
        added = []
        for part in plan.parts:
            steps = np.arange(max(part.first, 100), part.schedule.steps + 1, 50)
            loss = TIME.loss(Conditions(part.schedule), steps)
            noisy = loss * (1 + NOISE * rng.standard_normal(len(steps)))
            added.append(Run(f"added {len(added)}", part.schedule, steps, noisy))
        all_runs = (*runs, *added)
        result = bootstrap(
            replace(fit(TIME.law, all_runs, FitOptions(starts=8)), spread=(4e-4,)), all_runs, draws=30
        )
        ends = result.evaluate(Conditions(found.now.schedule), end, np.array(result.draws))
        return float(np.diff(np.quantile(ends, [0.16, 0.84]))[0])

    assert spread_after(found.best[0].plan) < 0.7 * spread_after(found.best[-1].plan)


def test_the_same_answer_twice(fitted, question):
    plan = Plan((Part(wsd(steps=4000, peak=PEAK, warmup=WARMUP, decay=800)),))
    one, same = (weigh(question, plan, would_show(fitted, plan, ANY)) for _ in range(2))
    assert one == same


def test_too_few_draws_are_refused(fitted):
    with pytest.raises(InputError) as caught:
        suggest_runs(replace(fitted, draws=fitted.draws[:19]), **PLANNED)
    assert str(caught.value) == (
        "the fit has 19 bootstrap draws, too few to tell what a run would add: fit with --draws 20 or more "
        "(100 by default)."
    )


def test_a_law_without_annealing_is_refused():
    case = CASES["one_power"]
    data = make_runs(case, noise=1e-3)
    result = bootstrap(replace(fit(case.law, data), spread=(1e-3,)), data, draws=20)
    with pytest.raises(InputError, match="law one_power has no annealing term"):
        suggest_runs(result, **PLANNED)
