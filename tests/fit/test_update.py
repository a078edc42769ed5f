"""A fit updated with one more run's log: little moves for a run of the same kind, much for another."""

from dataclasses import replace

import numpy as np
import pytest
from tests.synthetic import BATCH, CASES, PEAK, STEPS, WARMUP, make_runs

from lehr.errors import InputError
from lehr.fit import update as module
from lehr.fit.fit import FitOptions, conditions_of, fit
from lehr.fit.uncertainty import bootstrap
from lehr.fit.update import update
from lehr.laws import LAWS
from lehr.laws.law import Conditions
from lehr.runs.run import Run
from lehr.schedule.families import constant, wsd

NOISE = 3e-4
PLAN = wsd(steps=STEPS, peak=PEAK, warmup=WARMUP, decay=1000)
STABLE = 2500


def run_of(case, linear=None, nonlinear=None, seed=5, schedule=PLAN, every=50, until=STEPS, noise=NOISE):
    """A run of `case` with other parameters, shown up to `until`."""
    other = replace(case, linear=tuple(linear or case.linear), nonlinear=tuple(nonlinear or case.nonlinear))
    step = np.arange(every, until + 1, every)
    params = 1e8 if case.law.needs_sizes else None
    loss = other.loss(Conditions(schedule, params, BATCH), step)
    loss = loss * (1 + noise * np.random.default_rng(seed).standard_normal(len(step)))
    return Run("new", schedule, step, loss, params=params, batch_tokens=BATCH)


@pytest.fixture(scope="module")
def case():
    return CASES["weight_norm"]


@pytest.fixture(scope="module")
def result(case):
    runs = make_runs(case, noise=NOISE)
    return bootstrap(replace(fit(case.law, runs), spread=(5e-4, -5e-4)), runs, draws=25)


def final(result, run):
    return result.evaluate(conditions_of(run), np.array([float(STEPS)]))[0]


def test_a_run_of_the_fitted_kind_hardly_moves_the_fit(result, case):
    run = run_of(case, until=STABLE)
    found = update(result, run)
    assert found.scale == 0.0
    assert abs(found.shift) < 3 * NOISE and found.residual < 3 * NOISE
    true = final(replace(result, parameters=dict(zip(result.parameters, case.vector, strict=True))), run)
    assert final(found.result, run) == pytest.approx(true, rel=5e-4)
    assert found.result.warnings == result.warnings


@pytest.mark.parametrize("factors", [(1.1, 1.3, 1.3), (0.95, 0.8, 0.9), (1.0, 1.5, 1.5)])
def test_a_run_of_another_kind_moves_it_much(result, case, factors):
    """The decay of a run 4 to 30 % off, of which only the stable phase is seen, is predicted within .5 %."""
    linear = [a * f for a, f in zip(case.linear, factors, strict=True)]
    run = run_of(case, linear=linear, until=STABLE)
    true = replace(result, parameters=dict(zip(result.parameters, (*case.nonlinear, *linear), strict=True)))
    found = update(result, run)
    assert abs(final(result, run) / final(true, run) - 1) > 0.03
    assert final(found.result, run) == pytest.approx(final(true, run), rel=5e-3)
    assert found.scale >= 0.1 and abs(found.shift) > 0.03
    assert "another model or data than was fitted" in found.result.warnings[-1]


def test_more_of_the_log_tells_more(result, case):
    run = run_of(case, linear=[1.1 * a for a in case.linear])
    ends = [
        np.std(
            found.result.evaluate(conditions_of(run), np.array([float(STEPS)]), np.array(found.result.draws))
        )
        for until in (500, STABLE, STEPS)
        for found in [update(result, run.select(run.step <= until))]
    ]
    assert ends[0] > 1.5 * ends[1] > 1.5 * ends[2]


def test_the_band_holds_the_end_of_most_runs(result, case):
    """Runs whose amplitudes differ as the prior says: of 40 ends the 80 % interval of the draws holds 24 to 40."""
    rng, inside = np.random.default_rng(3), 0
    for seed in range(40):
        common, own = 0.1 * module.COMMON_SPREAD * rng.standard_normal(2)
        level = 0.1 * module.IRREDUCIBLE_SPREAD * rng.standard_normal()
        linear = np.array(case.linear) * np.exp([level, common, common + own])
        run = run_of(case, linear=list(linear), seed=seed, every=100)
        found = update(result, run.select(run.step <= STABLE)).result
        ends = found.evaluate(conditions_of(run), np.array([float(STEPS)]), np.array(found.draws))
        true = replace(
            result, parameters=dict(zip(result.parameters, (*case.nonlinear, *linear), strict=True))
        )
        low, high = np.quantile(ends, [0.1, 0.9])
        inside += low <= final(true, run) <= high
    assert inside >= 24


@pytest.mark.parametrize(
    "name", [name for name, case in CASES.items() if getattr(case.law, "grid", "") != "logged"]
)
def test_every_law_can_be_updated(name):
    case = CASES[name]
    result = fit(case.law, make_runs(case), FitOptions(one_schedule="warn"))
    run = run_of(case, linear=[1.05 * a for a in case.linear], noise=0.0, until=STABLE)
    found = update(result, run)
    assert np.all(np.isfinite(found.result.vector)) and np.all(np.isfinite(found.result.draws))
    assert found.residual < 1e-3 < abs(found.shift)
    law = result.get_law()
    for parameter, value in zip(law.nonlinear, np.array(found.result.draws).T, strict=False):
        assert np.all((value >= parameter.low * (1 - 1e-9)) & (value <= parameter.high * (1 + 1e-9)))


def test_it_is_the_most_likely_point(result, case):
    """No step in any direction has a higher posterior density."""
    run = run_of(case, linear=[1.1 * a for a in case.linear], until=STABLE)
    law, options = result.get_law(), FitOptions(**result.options)
    log = module._Log.of(result, run, conditions_of(run), options)
    mean = module._coordinates(law, result.vector, result.vector)
    prior = module._covariance_of_draws(result) + 0.09 * module._covariance_between_runs(law)
    best = module._solve(law, log, mean, prior)
    precision = np.linalg.inv(prior)

    def density(place):
        gap = place - mean
        return -log.cost(log.residual(law, place)[0]) - 0.5 * gap @ precision @ gap

    rng, top = np.random.default_rng(0), density(best.place)
    root = np.linalg.cholesky(prior)
    for size in (1e-3, 1e-2, 1e-1):
        for _ in range(20):
            assert density(best.place + size * root @ rng.standard_normal(len(mean))) <= top + 1e-6


def test_the_evidence_is_that_of_a_linear_problem():
    """For a law linear in what moves the Laplace approximation is exact: compare with the normal's density."""
    case = CASES["one_power"]
    law, run = case.law, run_of(case, schedule=constant(steps=STEPS, peak=PEAK), noise=0.0)
    result = fit(law, make_runs(case))
    log = module._Log.of(result, run, conditions_of(run), FitOptions(huber=1e-3))
    mean = module._coordinates(law, case.vector, case.vector)
    step = 1e-4  # so small that logarithms and the Huber loss are straight and square
    prior = np.diag([0.0, step**2, step**2])
    residual, slope = log.residual(law, mean)
    found = module._solve(law, log, mean, prior)
    weight = log.weight / log.huber**2
    covariance = np.diag(1 / weight) + slope @ prior @ slope.T
    flat = np.diag(1 / weight)
    expected = -0.5 * residual @ np.linalg.solve(covariance, residual)
    expected -= 0.5 * (np.linalg.slogdet(covariance)[1] - np.linalg.slogdet(flat)[1])
    assert found.evidence == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_draws_are_of_the_posterior_and_repeat(result, case):
    run = run_of(case, until=STABLE)
    found = update(result, run, draws=30, seed=1)
    assert np.array(found.result.draws).shape == (30, len(result.parameters))
    assert found.result.draws == update(result, run, draws=30, seed=1).result.draws
    assert found.result.draws != update(result, run, draws=30, seed=2).result.draws
    assert found.result.intervals == {}
    assert np.std(np.array(found.result.draws), axis=0).max() > 0


def test_without_draws_it_says_so_and_still_works(result, case):
    run = run_of(case, linear=[1.1 * a for a in case.linear], until=STABLE)
    found = update(replace(result, draws=()), run)
    assert found.residual < 1e-3
    assert any(note.startswith("the fit has no bootstrap draws: ") for note in found.result.warnings)


def test_an_amplitude_of_nothing_stays_nothing(case):
    """A fit that saw no noise term, with draws in which it differs by orders of magnitude."""
    result = fit(case.law, make_runs(case))
    none = {**result.parameters, "noise_amplitude": 0.0}
    rows = tuple((*result.vector[:-1].tolist(), value) for value in (0.0, 1e-3, 0.0, 1e-9))
    found = update(replace(result, parameters=none, draws=rows), run_of(case, until=STABLE))
    assert 0 <= found.result.parameters["noise_amplitude"] < 1e-6
    assert np.all(np.isfinite(found.result.draws))


def test_a_run_that_was_fitted_is_warned_of(result):
    run = make_runs(CASES["weight_norm"], noise=NOISE)[0]
    assert f"run {run.name!r} is one of the fitted runs: its losses count twice; fit without it." in (
        update(result, run).result.warnings
    )


def test_a_log_that_no_law_describes_is_warned_of(result, case):
    run = run_of(case, until=STABLE)
    spiked = replace(run, loss=run.loss * (1 + 0.05 * np.sin(np.arange(len(run.loss)))))
    assert " off the log of 'new' on average: look for a spike" in update(result, spiked).result.warnings[-1]


def test_too_short_a_log_is_refused(result, case):
    run = run_of(case, until=200)
    with pytest.raises(InputError) as caught:
        update(result, run.select(run.step <= 250))
    assert str(caught.value) == (
        "run 'new': 1 of its 4 points come after the burn-in of 200 updates, fewer than 3: wait for more of the log."
    )


def test_a_warm_up_longer_than_that_of_the_fitted_runs_is_left_out(result, case):
    schedule = wsd(steps=STEPS, peak=PEAK, warmup=1000, decay=1000)
    run = run_of(case, schedule=schedule, until=1100)
    assert update(result, run).points == 3
    with pytest.raises(InputError, match="1 of its 20 points come after the burn-in of 1000 updates"):
        update(result, run.select(run.step <= 1000))


def test_the_laws_of_the_table_are_among_those_updated():
    assert set(LAWS) <= set(CASES)
