"""Ratio laws recover known coefficients with honest intervals, and refuse what groups cannot tell."""

import numpy as np
import pytest
from tests.synthetic import CASES, PEAK, STEPS, make_runs

from lehr.anneal.ratio import recommend_ratio
from lehr.anneal.ratio_law import FORMS, Point, fit_ratio_law, law_points, to_points
from lehr.anneal.ratio_transfer import check_transfer, contradictions
from lehr.anneal.valley import Valley
from lehr.errors import InputError
from lehr.fit.fit import fit

PLACES = [(lr, steps) for lr in (5e-4, 1e-3, 2e-3) for steps in (15000, 25000, 50000)]


def truth(form, peak, steps):
    x, y = np.log(peak / 1e-3), np.log(steps / 1e4)
    if form == "power":
        return np.exp(-0.8 + 0.3 * x + 0.1 * y)
    slope = 0.35 if form == "logistic" else -0.2
    return 1 / (1 + np.exp(-(-0.3 + 0.7 * x + slope * y)))


def points(form, noise=0.0, seed=0):
    rng = np.random.default_rng(seed)
    out = []
    for peak, steps in PLACES:
        ratio = truth(form, peak, steps)
        logit = np.log(ratio / (1 - ratio)) + noise * rng.standard_normal()
        out.append(Point(peak, steps, float(1 / (1 + np.exp(-logit))), noise))
    return out


@pytest.mark.parametrize("form", FORMS)
def test_exact_groups_give_the_form_back(form):
    law = fit_ratio_law(points(form))
    assert law.form == form
    assert law.held_out_error < 1e-6
    assert law.ratio(3e-3, 100000)[0] == pytest.approx(truth(form, 3e-3, 100000), rel=1e-6)


def test_intervals_of_new_groups_cover_as_they_say():
    hits = [
        low <= truth("logistic", 1.5e-3, 35000) <= high
        for seed in range(300)
        for _, low, high in [fit_ratio_law(points("logistic", 0.1, seed), "logistic").ratio(1.5e-3, 35000)]
    ]
    assert np.mean(hits) > 0.85


def test_scatter_beyond_the_noise_widens_the_interval():
    tight = [Point(p.peak, p.steps, p.ratio, 0.01) for p in points("logistic", 0.2)]
    law = fit_ratio_law(tight, "logistic")
    assert law.scatter == pytest.approx(0.2, rel=0.6)
    middle, low, high = law.ratio(1e-3, 25000)
    assert high - low > 0.1


def test_what_groups_cannot_tell_is_refused():
    with pytest.raises(InputError, match=r"form logistic needs the best ratio of at least 3 groups .* got 1"):
        fit_ratio_law(points("logistic")[:1])
    with pytest.raises(InputError, match=r"cannot be told from groups at 1 peak LR\(s\) and 5 length"):
        fit_ratio_law([Point(1e-3, s, 0.4) for s in (1000, 2000, 4000, 8000, 16000)], "logistic_free")
    with pytest.raises(
        InputError, match="unknown form of the ratio law 'linear'|form of the ratio law.*linear"
    ):
        fit_ratio_law(points("logistic"), "linear")


def test_points_of_a_fitted_law_are_its_recommendations():
    case = CASES["effective_time"]
    result = fit(case.law, make_runs(case))
    (point,) = law_points(result, [(PEAK, STEPS)])
    assert point.ratio == recommend_ratio(result, steps=STEPS, peak=PEAK).ratio


def valley(peak, steps, ratio, curvature=0.2, edge=False):
    return Valley(
        peak, steps, "linear", 0.0, 1e8, "x", ratio, 0.05, curvature, ((0.2, 3.0), (0.4, 2.9)), edge
    )


def test_transfer_says_same_harmless_or_failed():
    law = fit_ratio_law(points("logistic", 0.05))
    same = check_transfer(law, [valley(p, s, truth("logistic", p, s)) for p, s in PLACES])
    assert same.same
    assert same.verdict.startswith("transfer held")
    moved = [1 / (1 + np.exp(-(np.log(r / (1 - r)) - 0.8))) for r in (truth("logistic", *x) for x in PLACES)]
    flat = check_transfer(
        law, [valley(p, s, r, curvature=0.01) for (p, s), r in zip(PLACES, moved, strict=True)]
    )
    assert not flat.same
    assert flat.harmless
    assert "shorter here, but following the law costs only" in flat.verdict
    failed = check_transfer(
        law, [valley(p, s, r, curvature=2.0) for (p, s), r in zip(PLACES, moved, strict=True)]
    )
    assert failed.verdict.startswith("transfer failed: the best ratios are shorter")
    assert failed.shift == pytest.approx(-0.8, abs=0.1)
    assert failed.excess_loss == pytest.approx(200 * flat.excess_loss)


def test_edges_are_bounds_and_not_used():
    law = fit_ratio_law(points("logistic"))
    assert to_points([valley(1e-3, 100, 0.4), valley(1e-3, 100, 0.9, edge=True)]) == (
        Point(1e-3, 100, 0.4, 0.05),
    )
    with pytest.raises(InputError, match="every measured optimum lies at the shortest or longest decay"):
        check_transfer(law, [valley(1e-3, 100, 0.9, edge=True)])


def test_a_law_whose_trend_the_runs_contradict_is_named():
    measured = fit_ratio_law(points("logistic", 0.02), "logistic_free")
    wrong = fit_ratio_law(points("logistic_free"), "logistic_free")  # falls with steps
    (note,) = contradictions(measured, wrong)
    assert note.startswith("the measured ratio rises with steps")
    assert "but the law's falls (-0.20)" in note
    assert contradictions(measured, measured) == ()
