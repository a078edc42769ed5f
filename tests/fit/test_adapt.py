"""A fit moved to other data by a run or two."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from tests.fit.test_pooling import two_data_sets
from tests.synthetic import CASES, make_runs

from lehr.errors import InputError
from lehr.fit.adapt import adapt, adapt_fits, of_data, refit
from lehr.fit.files import Fits, load_fits, save_fits
from lehr.fit.fit import FitOptions, bind_runs, conditions_of, fit
from lehr.fit.result import FitResult
from lehr.fit.uncertainty import bootstrap
from lehr.laws import LAWS
from lehr.predict import predict
from lehr.runs.readers import read

QUICK = FitOptions(starts=6, polished=2)
SCALE, SHIFT = 1.06, 0.21


def other_data(run, scale=SCALE, shift=SHIFT, floor=2.5, noise=0.0):
    """The run as it would be on another data set."""
    rng = np.random.default_rng(1)
    loss = floor + shift + scale * (run.loss - floor)
    return replace(run, loss=loss * (1 + noise * rng.standard_normal(len(loss))), meta={"dataset": "other"})


@pytest.fixture(scope="module")
def source():
    runs = make_runs(CASES["tissue"], noise=1e-4)
    return bootstrap(fit(LAWS["tissue"], runs, QUICK), runs, draws=8)


@pytest.fixture(scope="module")
def run():
    return make_runs(CASES["tissue"])[0]


def test_one_run_gives_the_level_and_the_scale(source, run):
    moved = adapt(source, [other_data(run)], draws=0)
    assert moved.adapted["scale"] == pytest.approx(SCALE, abs=0.004)
    assert moved.adapted["shift"] == pytest.approx(SHIFT, abs=0.008)
    shape = len(source.get_law().nonlinear)
    assert np.array_equal(moved.vector[:shape], source.vector[:shape]), "the shape stays"
    np.testing.assert_allclose(moved.vector[shape + 1 :], moved.adapted["scale"] * source.vector[shape + 1 :])
    assert moved.parameters["irreducible_loss"] == pytest.approx(
        source.parameters["irreducible_loss"] + moved.adapted["shift"]
    )
    for unseen in make_runs(CASES["tissue"])[1:]:
        truth = other_data(unseen)
        told = moved.evaluate(conditions_of(truth), truth.step[10:])
        assert np.max(np.abs(told / truth.loss[10:] - 1)) < 2e-3


def test_a_run_of_the_fit_itself_moves_it_hardly(source, run):
    moved = adapt(source, [run], draws=0)
    assert moved.adapted["scale"] == pytest.approx(1, abs=2e-3)
    assert moved.adapted["shift"] == pytest.approx(0, abs=3e-3)


def test_it_is_the_best_line_under_the_cost_of_every_fit(source, run):
    """No small step in level or scale lowers Huber's cost and the prior's."""
    problem = bind_runs(source.get_law(), (other_data(run, noise=2e-3),), QUICK, 200)
    shape = len(source.get_law().nonlinear)
    rest = problem.bases[0](source.vector[:shape])[0][:, 1:] @ source.vector[shape + 1 :]

    def cost(level, scale):
        size = np.abs((level + scale * rest) / problem.loss - 1)
        pull = np.where(size < problem.huber, size**2 / 2, problem.huber * (size - problem.huber / 2))
        prior = problem.huber**2 * problem.weight.sum() / 8 * ((scale - 1) / 0.05) ** 2 / 2
        return problem.weight @ pull + prior

    level, scale = refit(problem, rest)
    best = cost(level, scale)
    for step in (1e-4, -1e-4):
        assert cost(level + step, scale) > best
        assert cost(level, scale + step) > best


def test_where_it_comes_from_is_kept_and_survives_json(source, run):
    moved = adapt(source, [other_data(run)], draws=3)
    assert moved.adapted["from"] == source.fingerprint != moved.fingerprint
    assert moved.adapted["runs"] == [run.name] and moved.adapted["data"] == "other"
    assert FitResult.from_json(moved.to_json()) == moved
    assert any(f"that of a fit to other runs ({source.fingerprint})" in warning for warning in moved.warnings)
    again = adapt(moved, [run], draws=0)
    assert again.adapted["from"] == source.fingerprint, "the shape is still that of the first fit"


def test_draws_hold_how_well_the_fit_was_known_and_the_new_level(source, run):
    moved = adapt(source, [other_data(run, noise=1e-3)], draws=12, seed=3)
    assert moved == adapt(source, [other_data(run, noise=1e-3)], draws=12, seed=3)
    table = np.array(moved.draws)
    shape = len(source.get_law().nonlinear)
    assert {tuple(row[:shape]) for row in table.tolist()} == {tuple(row[:shape]) for row in source.draws}
    assert np.std(table[:, shape]) > 0
    low, high = moved.intervals["irreducible_loss"]
    assert low < moved.parameters["irreducible_loss"] < high
    found = predict(moved, run.schedule, run.step[10:])
    assert np.all(found.low < found.loss) and np.all(found.loss < found.high)
    assert not any("no bootstrap" in warning for warning in found.warnings)


def test_a_fit_without_draws_is_moved_with_the_runs_own_spread(source, run):
    moved = adapt(replace(source, draws=()), [other_data(run, noise=1e-3)], draws=5)
    assert len(moved.draws) == 5 and len({row[0] for row in moved.draws}) == 1


def test_bands_gain_the_errors_on_hidden_losses(source, run):
    alone = adapt(source, [other_data(run)], draws=0)
    assert alone.spread[: len(source.spread)] == source.spread
    assert len(alone.spread) == len(source.spread) + 3, "the later parts of the only run"
    pair = [other_data(r) for r in make_runs(CASES["tissue"])[:2]]
    assert len(adapt(source, pair, draws=0).spread) == len(source.spread) + 2, "each run left out"


def test_one_loss_tells_the_level_but_hardly_the_scale(source, run):
    last = other_data(run).select(run.step == run.step[-1])
    moved = adapt(source, [last], draws=2)
    assert moved.adapted["scale"] == pytest.approx(1, abs=1e-6)
    assert moved.evaluate(conditions_of(last), last.step)[0] == pytest.approx(last.loss[0], rel=1e-6)
    text = "these losses hardly tell the scale, which a prior of 1 +- 0.05 decides: log more of the run."
    assert text in moved.warnings
    assert text not in adapt(source, [other_data(run)], draws=0).warnings


def test_a_joint_fit_is_moved_from_its_own_data_set_or_the_first():
    runs = two_data_sets(noise=1e-4)
    joint = bootstrap(fit(LAWS["tissue"], runs, QUICK), runs, draws=3)
    web = of_data(joint, "web")
    assert web.groups == () and len(web.draws) == 3 and web.intervals
    assert web.parameters["irreducible_loss"] == pytest.approx(joint.parameters["irreducible_loss_web"])
    np.testing.assert_allclose(
        web.evaluate(conditions_of(runs[-1]), runs[-1].step),
        joint.evaluate(conditions_of(runs[-1]), runs[-1].step),
    )
    assert adapt(joint, [runs[-1]], draws=0).adapted["scale"] == pytest.approx(1, abs=2e-3)
    assert adapt(joint, [other_data(runs[0])], draws=0).adapted["scale"] == pytest.approx(SCALE, abs=4e-3)
    with pytest.raises(InputError, match="unknown data set of the fit 'wbe'"):
        of_data(joint, "wbe")
    plain = fit(LAWS["tissue"], make_runs(CASES["tissue"]), QUICK)
    assert of_data(plain, None) is plain


def test_what_it_covers_is_the_fits_schedules_and_the_runs_size(source, run):
    longer = replace(other_data(run), params=3e8, batch_tokens=1e6)
    moved = adapt(source, [longer], draws=0)
    assert moved.domain.params == (3e8, 3e8)
    assert moved.domain.peak_lr == source.domain.peak_lr
    sized = fit(LAWS["tissue_n"], make_runs(CASES["tissue_n"]), QUICK)
    outside = replace(make_runs(CASES["tissue_n"])[0], params=5e9)
    moved = adapt(sized, [outside], draws=0)
    assert moved.domain.params == sized.domain.params
    assert any("5e+09 .. 5e+09 parameters lie outside the fitted 2e+07 .. 5e+08" in w for w in moved.warnings)


# refusals


def test_a_data_set_that_was_not_fitted_is_refused(source, run):
    moved = adapt(source, [other_data(run)], draws=0)
    plan = run.schedule
    assert predict(moved, plan, data="other").loss[-1] == predict(moved, plan).loss[-1]
    with pytest.raises(InputError, match="unknown data set of the fit 'fineweb': Known: other"):
        predict(moved, plan, data="fineweb")
    with pytest.raises(
        InputError, match="data must be left out: the fitted runs do not tell their data set, got 'other'"
    ):
        predict(source, plan, data="other")


def test_no_run_is_refused(source):
    with pytest.raises(InputError, match=r"no run to move the fit to: import at least one log\."):
        adapt(source, [])


def test_several_data_sets_are_refused(source, run):
    text = r"the runs are of 2 data sets or splits \(other, unnamed\): move the fit to one at a time"
    with pytest.raises(InputError, match=text):
        adapt(source, [other_data(run), run])


def test_early_losses_alone_are_refused(source, run):
    text = r"no point is left after the burn-in of 200 updates: add later losses\."
    with pytest.raises(InputError, match=text):
        adapt(source, [run.select(run.step < 200)])
    assert adapt(source, [run.select(run.step < 200)], draws=0, burn_in=50).points == 3


def test_losses_that_do_not_follow_the_curve_are_refused(source, run):
    late = run.select(run.step >= 200)
    text = r"the losses given do not follow the fit's curve: it is off by \d\.\d% on average after the move\. A run"
    with pytest.raises(InputError, match=text):
        adapt(source, [other_data(late, scale=-20.0, shift=40.0)])


def test_a_shape_that_does_not_fit_is_warned_of(source, run):
    wavy = replace(run, loss=run.loss * (1 + 0.05 * np.sign(np.sin(run.step / 300))))
    text = r"the moved fit is off by \d\.\d% on average on the runs it was moved to: its shape is not theirs; fit them"
    assert any(re.match(text, warning) for warning in adapt(source, [wavy], draws=0).warnings)
    assert not any(re.match(text, w) for w in adapt(source, [other_data(run)], draws=0).warnings)


def test_drawing_anew_from_the_runs_alone_is_refused(source, run):
    with pytest.raises(
        InputError, match="a fit that was moved to other runs is not fitted to them alone: give draws"
    ):
        bootstrap(adapt(source, [other_data(run)], draws=0), [run])


# files of fits


def test_all_fits_of_a_file_are_moved(source, run, tmp_path):
    fits = Fits(
        {"tissue": source, "one_power": fit(LAWS["one_power"], make_runs(CASES["tissue"]), QUICK)},
        {},
        "tissue",
    )
    seen = []
    moved = adapt_fits(fits, [other_data(run)], draws=2, progress=seen.append)
    assert seen == ["tissue", "one_power"] and moved.chosen == "tissue"
    assert moved.get().draws and not moved.get("one_power").draws
    assert moved.held_out["tissue"] < 1e-3
    save_fits(tmp_path / "moved.json", moved)
    assert load_fits(tmp_path / "moved.json") == moved
    assert (
        json.loads((tmp_path / "moved.json").read_text())["laws"]["tissue"]["adapted"]["from"]
        == source.fingerprint
    )
    alone = adapt_fits(fits, [other_data(run)], "one_power", draws=0)
    assert list(alone.results) == ["one_power"] == [alone.chosen]
    with pytest.raises(InputError, match="unknown fitted law 'tisue': did you mean 'tissue'"):
        adapt_fits(fits, [run], "tisue")


def test_a_law_that_cannot_be_moved_is_listed_unless_it_is_the_chosen_one(source, run):
    sized = fit(LAWS["tissue_n"], make_runs(CASES["tissue_n"]), QUICK)
    fits = Fits({"tissue": source, "tissue_n": sized}, {}, "tissue")
    moved = adapt_fits(fits, [other_data(run)], draws=0)
    assert list(moved.results) == ["tissue"]
    assert "law tissue_n needs the number of parameters" in moved.failed["tissue_n"]
    with pytest.raises(InputError, match="law tissue_n needs the number of parameters"):
        adapt_fits(replace(fits, chosen="tissue_n"), [other_data(run)], draws=0)


# real data sets


def test_a_fit_to_one_public_data_set_predicts_another_from_one_run(lehr_data):
    """34M and 61M of SlimPajama fitted; the same sizes of OpenWebText2, whichever run is seen."""
    runs = [read(path)[0].run for path in sorted((lehr_data / "wsd-runs").glob("*.json"))]
    of = {
        name: [run for run in runs if run.meta["dataset"] == name and run.params and 3e7 < run.params < 7e7]
        for name in ("slimpajama", "openwebtext2")
    }
    assert [len(found) for found in of.values()] == [12, 14]
    result = fit(LAWS["weight_norm_n"], of["slimpajama"])
    target = of["openwebtext2"]
    for one in target:
        moved = adapt(result, [one], draws=0)
        errors = [
            moved.evaluate(conditions_of(r), r.step[-1:])[0] / r.loss[-1] - 1 for r in target if r is not one
        ]
        assert np.mean(np.abs(errors)) < 0.005, one.name
