"""What is held before a sweep."""

import numpy as np
import pytest
from tests.peaklr.planning import train

from lehr.errors import InputError
from lehr.peaklr.posterior import fit_posterior
from lehr.peaklr.prior import make_prior, slopes_of
from lehr.peaklr.published import LAWS, Planned

SIZES, TOKENS = np.meshgrid([1e8, 2e8, 4e8], [2e9, 4e9, 8e9])
RUNS = train(1e-3, SIZES.ravel(), TOKENS.ravel())
BATCHED = train(1e-3, SIZES.ravel(), TOKENS.ravel(), np.resize([1e5, 3e5], 9))


@pytest.mark.parametrize("name", ["deepseek", "step_law", "porian", "ant_moe"])
@pytest.mark.parametrize("place", [Planned(1e8, 2e9), Planned(2e9, 4e10)])
def test_it_is_the_law_itself_wherever_that_is_a_power(name, place):
    prior = make_prior(RUNS, name)
    found = fit_posterior(prior, None).predict(place)
    assert found.lr == pytest.approx(LAWS[name].lr.value(place, LAWS[name].of_total), rel=1e-4)
    assert found.low < found.lr / 3 and found.high > found.lr * 3


def test_an_lr_alone_holds_for_all_sizes():
    posterior = fit_posterior(make_prior(RUNS, 2e-3), None)
    for place in (Planned(1e8, 2e9), Planned(5e9, 4e10)):
        assert posterior.predict(place).lr == pytest.approx(2e-3)


def test_the_form_is_what_the_runs_can_tell():
    assert make_prior(RUNS, 1e-3).form == "size"
    assert make_prior(BATCHED, 1e-3).form == "surge"
    assert make_prior(RUNS.select(RUNS.params == 1e8), 1e-3).form == "tokens"
    assert make_prior(RUNS.select(np.array([0])), 1e-3).form == "constant"


def test_a_law_that_gives_no_lr_is_refused():
    huge = train(1e-3, np.array([1e12, 2e12]), np.array([1e12, 1e12]))
    with pytest.raises(InputError, match="the prior 'kaplan' gives no LR above 0 at 1.41e"):
        make_prior(huge, "kaplan")


def test_the_slope_by_the_optimum_is_that_by_the_constant():
    prior = make_prior(BATCHED, 1e-3)
    logs, lr = prior.logs(BATCHED), np.log(BATCHED.lr) + np.linspace(-1, 1, 9)
    slope = prior.jacobian(prior.mean, logs, lr)[:, 0]
    np.testing.assert_allclose(slope, slopes_of(prior, prior.mean, logs, lr), atol=1e-6)
    above = lr > prior.location(prior.mean, logs)
    assert 0 < above.sum() < 9
    np.testing.assert_array_equal(slope < 0, above)  # a higher optimum lowers the loss of LRs above it
