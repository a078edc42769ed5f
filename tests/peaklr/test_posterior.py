"""The prior updated by runs."""

import numpy as np
import pytest
from tests.peaklr.planning import best_lr, train

from lehr.peaklr.posterior import bottoms_of, fit_posterior
from lehr.peaklr.prior import make_prior
from lehr.peaklr.published import Planned
from lehr.peaklr.table import merge

TARGET = Planned(8e8, 3.2e10)


LRS = 2.0 ** np.arange(-3, 4) * 1e-3


def grid(lrs=LRS, **options):
    size, tokens, lr = (a.ravel() for a in np.meshgrid([1e8, 2e8, 4e8], [2e9, 4e9, 8e9], lrs))
    return train(lr, size, tokens, **options)


def test_a_sweep_finds_the_optimum_far_from_its_prior():
    runs = grid()
    posterior = fit_posterior(make_prior(runs, 3e-4), runs)
    found = posterior.predict(TARGET)
    assert found.lr == pytest.approx(best_lr(8e8, 3.2e10), rel=0.1)
    assert found.low < best_lr(8e8, 3.2e10) < found.high
    assert posterior.runs == len(runs)


def test_runs_alone_in_their_cell_leave_the_prior_as_it_is():
    runs = grid(lrs=[2e-3])
    prior = make_prior(runs, "deepseek")
    before, after = fit_posterior(prior, None), fit_posterior(prior, runs)
    assert after.predict(TARGET).lr == pytest.approx(before.predict(TARGET).lr, rel=1e-2)
    assert after.variance(TARGET) == pytest.approx(before.variance(TARGET), rel=1e-2)


def test_more_runs_tell_more():
    runs = grid()
    prior = make_prior(runs, "deepseek")
    order = np.random.default_rng(0).permutation(len(runs))
    spread = [fit_posterior(prior, runs.select(order[:count])).variance(TARGET) for count in (8, 20, 40, 63)]
    assert (np.diff(spread) < 0).all()
    assert fit_posterior(prior, runs).expected_excess(TARGET) < 2.5e-3


def test_runs_that_diverged_bound_the_optimum_from_above():
    low = train([5e-4, 1e-3, 2e-3], 1e8, 2e9, noise=0)  # still falling
    prior = make_prior(merge([low, grid()]), 3e-3)
    place = Planned(1e8, 2e9)
    one = fit_posterior(prior, low).predict(place)
    bounded = fit_posterior(prior, merge([low, train([4e-3], 1e8, 2e9, diverges=1e-9)])).predict(place)
    assert bounded.high < one.high and bounded.lr < one.lr


def test_a_sweep_in_which_all_diverged_tells_nothing():
    runs = grid(diverges=1e-9)
    prior = make_prior(runs, "deepseek")
    assert fit_posterior(prior, runs).predict(TARGET).lr == pytest.approx(
        fit_posterior(prior, None).predict(TARGET).lr
    )


def test_one_spoilt_run_does_not_carry_the_optimum_away():
    runs = grid()
    loss = runs.loss.copy()
    loss[10] += 0.05
    spoilt = type(runs)(runs.lr, loss, runs.params, runs.tokens)
    prior = make_prior(runs, "deepseek")
    sound, other = (fit_posterior(prior, table).predict(TARGET).lr for table in (runs, spoilt))
    assert other == pytest.approx(sound, rel=0.05)


def test_the_expected_excess_of_a_small_error_is_half_the_curvature_times_its_square():
    runs = grid()
    posterior = fit_posterior(make_prior(runs, "deepseek"), runs)
    bend = posterior.prior.bend(posterior.mean, posterior.prior.logs_of(TARGET))[0]
    assert posterior.expected_excess(TARGET, 1e-4) == pytest.approx(bend * 1e-4 / 2, rel=1e-3)
    draws = np.random.default_rng(0).normal(0, 0.5, 20_000)
    value = posterior.prior.location(posterior.mean, posterior.prior.logs_of(TARGET))[0]
    logs = {name: np.repeat(column, draws.size) for name, column in posterior.prior.logs_of(TARGET).items()}
    mean = posterior.prior.height(posterior.mean, logs, value + draws).mean()
    assert posterior.expected_excess(TARGET, 0.25) == pytest.approx(mean, rel=0.05)


def batched(shift, at):
    """Runs of two batch sizes, the second .05 nats worse; those at batch number `at` have their optimum moved."""
    batches = np.array([4e5, 1e5])
    size, lr, number = (a.ravel() for a in np.meshgrid([1e8, 2e8], LRS, [0, 1]))
    moved = np.where(number == at, np.exp(shift), 1.0)
    base = train(lr / moved, size, 6e9, batches[0], noise=0)
    return type(base)(lr, base.loss + 0.05 * number, size, base.tokens, None, batches[number])


def test_a_poor_batch_has_less_of_a_say():
    place = Planned(2e8, 6e9, None, 4e5)
    best = fit_posterior(make_prior(batched(0.0, 0), 2e-3), batched(0.0, 0)).predict(place).lr
    good, poor = (
        abs(np.log(fit_posterior(make_prior(runs, 2e-3), runs).predict(place).lr / best))
        for runs in (batched(0.3, 0), batched(0.3, 1))
    )
    assert poor < good / 2


def test_the_bottom_of_a_cell_is_told_over_the_best_batch_known():
    runs = batched(0.0, 0)
    poor = runs.batch_tokens == 1e5
    np.testing.assert_allclose(bottoms_of(runs)[poor], 0.05)
    np.testing.assert_allclose(bottoms_of(runs)[~poor], 0)
    unknown = type(runs)(
        runs.lr, np.where(poor, np.nan, runs.loss), runs.params, runs.tokens, None, runs.batch_tokens
    )
    np.testing.assert_array_equal(bottoms_of(unknown), 0)
