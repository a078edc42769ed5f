"""Laws over sizes: the base law at every size, priors from published fits, models of experts."""

import csv

import numpy as np
import pytest
from scipy.optimize import brentq, least_squares
from tests.synthetic import BATCH, CASES, STEPS, schedules

from lehr.errors import InputError
from lehr.fit.fit import conditions_of, fit
from lehr.laws import LAWS
from lehr.laws.effective_time import EffectiveTime
from lehr.laws.law import Conditions
from lehr.laws.sized import REFERENCE_PARAMS, Sized
from lehr.laws.weight_norm import WeightNorm
from lehr.runs.readers import read

AFTER = np.arange(500.0, STEPS + 1, 250)
every_sized = pytest.mark.parametrize("name", [n for n, law in LAWS.items() if isinstance(law, Sized)])


def conditions(params, total=None):
    return Conditions(schedules()["wsd"], params, BATCH, params_total=total)


@every_sized
def test_it_is_its_base_law_at_every_size(name):
    """By hand from the module's formula: n^-g on F, n^x on each amplitude, n^d on what drifts."""
    case, law = CASES[name], LAWS[name]
    shape, terms = len(law.base.nonlinear), len(law.base.linear)
    nonlinear = np.array(case.nonlinear)
    nonlinear[shape:] += 0.03  # nothing at 0
    for params in (2e7, 1e8, 7e8):
        n = params / REFERENCE_PARAMS
        base = nonlinear[:shape].copy()
        for j, moved in enumerate(law.drift):
            base[[p.name for p in law.base.nonlinear].index(moved)] *= n ** nonlinear[shape + terms + j]
        columns = law.base.bind(conditions(None), AFTER)(base)[0]
        floor, size, *others = case.linear
        growths = nonlinear[shape + 1 : shape + terms]
        expected = floor + size * n ** -nonlinear[shape] + columns[:, 1:] @ (np.array(others) * n**growths)
        found = law.bind(conditions(params), AFTER)(nonlinear)[0] @ np.array(case.linear)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_every_base_can_be_given_sizes():
    for base in (law for law in LAWS.values() if not law.needs_sizes):
        law = Sized(base, f"{base.name}_over_sizes", drift=(base.nonlinear[0].name,))
        here = np.array([*CASES[base.name].nonlinear, *[0.1] * (len(law.nonlinear) - len(base.nonlinear))])
        phi, slope = law.bind(conditions(3e7), AFTER)(here)
        assert phi.shape == (len(AFTER), len(base.linear) + 1)
        assert slope.shape == (*phi.shape, len(law.nonlinear))
        assert (law.needs_anneal, law.degenerate) == (base.needs_anneal, base.degenerate)


def test_a_drift_of_what_the_base_does_not_have_is_refused():
    with pytest.raises(
        InputError, match=r"unknown parameter of law effective_time 'exponnt': did you mean 'expo"
    ):
        Sized(EffectiveTime(), "x", drift=("exponnt",))


def test_priors_of_the_powers_are_those_of_published_fits():
    """Of three sizes (arXiv 2503.12811, released fits) and two joint fits (2408.11029)."""
    params = np.array([12 * 5 * 640**2, 12 * 8 * 1024**2, 12 * 12 * 1536**2])
    floor, amplitude, exponent, noise = (
        np.array(column)
        for column in (
            (3.040, 2.651, 2.375),
            (0.525, 0.601, 0.654),
            (0.508, 0.453, 0.429),
            (363.8, 437.9, 523.4),
        )
    )
    n = np.log(params)
    steps = np.diff(floor) / np.diff(n)
    size_exponent = -np.log(steps[1] / steps[0]) / np.diff(n[:-1] / 2 + n[1:] / 2)[0]
    # A counts from an LR sum of 1; a law's from 10,000 updates at 1e-3
    growth = np.diff(np.log(amplitude * 10**-exponent)) / np.diff(n)
    growth_of_noise = np.diff(np.log(noise)) / np.diff(n)
    priors = {p.name: p.prior for p in LAWS["weight_norm_n"].nonlinear}
    for found, name in (
        ([size_exponent, 0.158, 0.137], "params_exponent"),
        (growth, "amplitude_growth"),
        ([*growth_of_noise, 0.052, 0.117], "noise_amplitude_growth"),
    ):
        mean, spread = priors[name]
        assert np.all(np.abs(np.array(found) - mean) < spread), (name, found)


# models of experts


def experts():
    case = CASES["weight_norm_n, experts"]
    return case, np.array(case.nonlinear), np.array(case.linear)


def test_a_model_of_experts_is_as_good_as_a_dense_one_of_its_size():
    case, nonlinear, linear = experts()
    share = nonlinear[-1]
    size = 1e8 ** (1 - share) * 8e8**share
    sparse = case.law.bind(conditions(1e8, 8e8), AFTER)(nonlinear)[0] @ linear
    dense = case.law.bind(conditions(size), AFTER)(nonlinear)[0] @ linear
    np.testing.assert_allclose(sparse, dense, rtol=1e-12)


def test_derivatives_with_experts_match_finite_differences():
    case, nonlinear, _ = experts()
    basis = case.law.bind(conditions(3e7, 5e8), AFTER)
    slope = basis(nonlinear)[1]
    for i in range(len(nonlinear)):
        h = 1e-5 * max(abs(nonlinear[i]), 0.1)
        up, down = (basis(nonlinear + np.eye(len(nonlinear))[i] * d)[0] for d in (h, -h))
        numeric = (up - down) / (2 * h)
        np.testing.assert_allclose(slope[:, :, i], numeric, atol=1e-5 * np.abs(numeric).max() + 1e-12)


def test_fewer_parameters_than_active_ones_are_refused():
    law = experts()[0].law
    text = "all parameters of a model of experts must be at least the active ones, got 5e\\+07 and 1e\\+08: give both"
    with pytest.raises(InputError, match=text):
        law.bind(conditions(1e8, 5e7), AFTER)


def test_the_prior_of_the_share_is_what_public_models_of_experts_show(lehr_data):
    """Best final losses of two models of experts put on the size curve of the dense ones (Step Law sweeps)."""

    def best(name, keys):
        found = {}
        with (lehr_data / "lr-sweeps" / name).open() as file:
            for row in csv.DictReader(file):
                key = tuple(float(row[k]) for k in keys)
                found[key] = min(found.get(key, np.inf), float(row["smooth loss"]))
        return found

    dense, sparse = best("dense.csv", ("N", "D")), best("moe.csv", ("N", "Na", "D"))

    def chinchilla(p, params, tokens):
        return p[0] + p[1] * (params / 1e8) ** -p[2] + p[3] * (tokens / 1e9) ** -p[4]

    params, tokens = np.array(list(dense)).T
    losses = np.array(list(dense.values()))
    p = least_squares(lambda p: chinchilla(p, params, tokens) - losses, [1.5, 0.8, 0.2, 0.5, 0.4]).x
    shares = []
    for (total, active, tokens_seen), loss in sparse.items():
        size = brentq(lambda n, d=tokens_seen, x=loss: chinchilla(p, n, d) - x, 1e7, 1e11)
        shares.append(np.log(size / active) / np.log(total / active))
    law = Sized(WeightNorm(), "x", experts=True)
    mean, spread = law.nonlinear[-1].prior
    assert len(shares) == 8
    assert np.all(np.array(shares) > 0) and np.all(np.array(shares) < 1), "between active and all parameters"
    assert abs(np.mean(shares) - mean) < spread / 2
    assert np.std(shares) < 1.2 * spread


# real sizes


def test_the_loss_of_a_size_never_fitted_is_predicted(lehr_data):
    """Two sizes of 34M and 61M fitted, 121M predicted: every last logged loss within half a per cent."""
    runs = [read(path)[0].run for path in sorted((lehr_data / "wsd-runs").glob("*openwebtext2*.json"))]
    sizes = sorted({run.params for run in runs})
    assert len(sizes) == 3
    result = fit(LAWS["weight_norm_n"], [run for run in runs if run.params < sizes[-1]])
    tests = [run for run in runs if run.params == sizes[-1]]
    errors = [result.evaluate(conditions_of(run), run.step[-1:])[0] / run.loss[-1] - 1 for run in tests]
    assert len(tests) == 7
    assert np.max(np.abs(errors)) < 0.005
