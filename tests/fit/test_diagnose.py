"""The diagnosis of a fit: what it holds, and that its notes name what is wrong."""

from dataclasses import FrozenInstanceError, replace

import numpy as np
import pytest
from tests.fit.wandering import wandering_runs
from tests.synthetic import CASES

from lehr.errors import InputError
from lehr.fit.diagnose import PART, TOGETHER, diagnose
from lehr.fit.fit import FitOptions, fit
from lehr.fit.linearised import reopen
from lehr.fit.noise import estimate_noise
from lehr.fit.profile import profile, spread

TISSUE, TIME = CASES["tissue"], CASES["effective_time"]


@pytest.fixture(scope="module")
def sound():
    runs = wandering_runs(TISSUE)
    result = fit(TISSUE.law, runs, FitOptions(starts=6, polished=1))
    return diagnose(result, runs), result, runs


def test_it_is_frozen_and_holds_its_parts(sound):
    found, result, runs = sound
    with pytest.raises(FrozenInstanceError):
        found.law = "other"
    assert found.law == "tissue"
    assert found.noise == estimate_noise(reopen(result, runs))
    assert found.profiles == profile(result, runs)
    assert set(found.biases) == {"step", "lr", "phase"}


def test_a_sound_fit_has_no_notes(sound):
    assert sound[0].notes == () and sound[0].by_priors == ()


def test_the_autocorrelation_is_that_of_successive_points_within_runs(sound):
    found, result, runs = sound
    opened = reopen(result, runs)
    standard = opened.point.residual * np.sqrt(opened.problem.weight)
    pairs = [(standard[rows][1:], standard[rows][:-1]) for rows in opened.problem.rows]
    product = sum(float(a @ b) for a, b in pairs)
    size = sum(float(a @ a + b @ b) / 2 for a, b in pairs)
    assert found.autocorrelation == pytest.approx(product / size)
    runs = wandering_runs(TISSUE, slow=0.0)
    white = diagnose(fit(TISSUE.law, runs, FitOptions(starts=6, polished=1)), runs)
    assert abs(white.autocorrelation) < 0.12 < found.autocorrelation


def test_the_weakest_combination_moves_the_residuals_least(sound):
    found, result, runs = sound
    opened = reopen(result, runs)
    weighted = opened.jacobian * np.sqrt(opened.bend)[:, None]
    unit = weighted / np.linalg.norm(weighted, axis=0)
    values = np.linalg.svd(unit, compute_uv=False)
    assert found.condition == pytest.approx(values[0] / values[-1])
    weakest = np.linalg.svd(unit)[2][-1]
    weakest *= np.sign(weakest[np.argmax(abs(weakest))])
    expected = {n: v for n, v in zip(opened.names, weakest, strict=True) if abs(v) >= PART}
    assert found.weakest == pytest.approx(expected)
    assert next(iter(found.weakest.values())) == max(expected.values()), "the largest part comes first"


def test_pairs_are_the_correlations_of_the_estimates(sound):
    found, result, runs = sound
    opened = reopen(result, runs)
    covariance = spread(opened, estimate_noise(opened))
    for a, b, correlation in found.pairs:
        i, j = opened.names.index(a), opened.names.index(b)
        assert correlation == pytest.approx(covariance[i, j] / np.sqrt(covariance[i, i] * covariance[j, j]))
        assert abs(correlation) >= TOGETHER
    assert ("memory", "annealing_gain") in [pair[:2] for pair in found.pairs], "they share the drop's size"


def test_a_law_that_misses_is_told_so():
    runs = wandering_runs(TIME)
    notes = diagnose(fit(TISSUE.law, runs), runs).notes
    assert notes[0].startswith("the residuals wander by ") and notes[0].endswith(
        "more than the 0.07% that runs of one schedule differ by: the law misses these runs, or they differ more "
        "than that; repeat a run to tell."
    )
    assert any(note.startswith("at LRs ") and "the law is" in note for note in notes)


def test_what_rests_on_a_prior_is_told():
    runs = tuple(r for r in wandering_runs(TIME) if r.name in ("constant 0.001", "wsd 0.001"))
    found = diagnose(fit(TIME.law, runs), runs)
    assert found.by_priors == ("clock_exponent",)
    assert "clock_exponent rests on its prior: the runs alone do not tell it better." in found.notes


def test_runs_against_a_prior_are_told():
    """A clock exponent of 1.15 where the prior says .8 by .1, with little noise: the runs know better."""
    case = replace(TIME, nonlinear=(0.5, 1.15, 30.0, 2.0, 0.4))
    names = ("constant 0.001", "wsd 0.001", "constant 0.002")
    runs = tuple(r for r in wandering_runs(case, white=1e-4, slow=1e-4) if r.name in names)
    found = diagnose(fit(case.law, runs), runs)
    clock = {p.name: p for p in found.profiles}["clock_exponent"]
    assert clock.data.low == pytest.approx(1.15, abs=0.02) and clock.value < 1.1
    note = (
        f"clock_exponent: the runs alone say {clock.data.low:.4g} .. {clock.data.high:.4g}, "
        f"priors hold it at {clock.value:.4g}."
    )
    assert note in found.notes


def test_other_runs_are_refused(sound):
    _, result, runs = sound
    with pytest.raises(InputError, match="are not those that the fit of tissue was made from"):
        diagnose(result, runs[:3])
