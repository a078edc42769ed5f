"""Comparison of laws: on losses that were really hidden, over folds every law could be tried on."""

from dataclasses import replace

import numpy as np
import pytest
from tests.synthetic import CASES, PEAK, make_runs

from lehr.errors import InputError
from lehr.fit import compare as module
from lehr.fit.compare import CUTS, FEW, RESOLUTION, Fold, HeldOut, choose, compare, hold_out, make_folds
from lehr.fit.fit import FitOptions, fit, prepare
from lehr.fit.projection import natural
from lehr.laws import LAWS
from lehr.laws.law import Conditions

TISSUE = CASES["tissue"]
QUICK = FitOptions(starts=8, polished=2)


@pytest.fixture(scope="module")
def runs():
    """Four schedules at one peak LR: constant, cosine, wsd, steps."""
    return make_runs(TISSUE, noise=1e-3)[:4]


# folds


def test_few_runs_are_left_out_and_cut_short(runs):
    folds = make_folds(runs)
    assert folds[:4] == tuple(Fold(run.name, i) for i, run in enumerate(runs))
    assert len(folds) == 4 + 4 * len(CUTS)
    assert folds[4] == Fold("constant 0.001 after 50%", 0, 0.5)
    assert len({fold.name for fold in folds}) == len(folds)


def test_many_runs_are_only_left_out():
    runs = make_runs(TISSUE)
    assert len(runs) >= FEW
    assert make_folds(runs) == tuple(Fold(run.name, i) for i, run in enumerate(runs))


def test_a_single_run_can_only_be_cut_short(runs):
    assert {fold.shown for fold in make_folds(runs[:1])} == set(CUTS)


def test_hidden_rows_are_the_later_ones_of_the_run(runs):
    problem = prepare(TISSUE.law, runs, FitOptions())
    assert Fold("x", 2).rows(problem) == problem.rows[2]
    late = Fold("x", 2, 0.75).rows(problem)
    assert late == slice(2 * 77 + 57, 3 * 77)


# what is hidden is hidden


def test_hidden_losses_do_not_change_the_fit_of_their_fold(monkeypatch):
    """Change the losses of a left-out run, and of a later part: predictions of the fold's fit stay."""
    case = CASES["effective_time"]
    runs = make_runs(case, noise=1e-3)[:3]
    vectors = []

    def spy(problem, whole, options):
        point = refit(problem, whole, options)
        vectors.append(np.concatenate([natural(case.law, point.search), point.linear]))
        return point

    refit = module._refit
    monkeypatch.setattr(module, "_refit", spy)

    def fits(runs):
        vectors.clear()
        held = hold_out(case.law, runs, QUICK)
        return dict(zip(held.errors, vectors, strict=True)), held

    def curve(vector):
        basis = case.law.bind(Conditions(runs[0].schedule), np.arange(500.0, 4001, 500))
        return basis(vector[: len(case.nonlinear)])[0] @ vector[len(case.nonlinear) :]

    before, held = fits(runs)
    rng = np.random.default_rng(0)
    for fold in (Fold(runs[1].name, 1), Fold(f"{runs[1].name} after 50%", 1, 0.5)):
        hidden = np.arange(80) >= (3 + int(fold.shown * 77) if fold.shown else 0)
        loss = np.where(hidden, 1.3 * runs[1].loss * (1 + 0.05 * rng.standard_normal(80)), runs[1].loss)
        after, changed = fits((runs[0], replace(runs[1], loss=loss), runs[2]))
        np.testing.assert_allclose(curve(after[fold.name]), curve(before[fold.name]), rtol=5e-5)
        assert changed.errors[fold.name] > 20 * held.errors[fold.name], "and yet they are what is scored"
        other = runs[0].name
        assert np.max(np.abs(curve(after[other]) / curve(before[other]) - 1)) > 1e-3, (
            "where shown they do matter"
        )


def test_errors_are_those_of_a_fit_without_the_run(runs):
    held = hold_out(TISSUE.law, runs)
    rest = fit(TISSUE.law, [run for i, run in enumerate(runs) if i != 2])
    run = runs[2].select(runs[2].step >= 200)
    relative = rest.evaluate(Conditions(run.schedule), run.step, tolerance=0.02) / run.loss - 1
    assert held.errors[run.name] == pytest.approx(np.average(np.abs(relative), weights=run.step), rel=0.01)
    assert held.final_errors[run.name] == pytest.approx(relative[-1], rel=0.01)
    assert held.left_out == tuple(run.name for run in runs)
    assert held.skipped == {}


def test_spread_holds_whole_runs_where_some_could_be_left_out(runs):
    held = hold_out(TISSUE.law, runs, QUICK)
    assert held.spread() == tuple(held.final_errors[run.name] for run in runs)
    cut = hold_out(TISSUE.law, runs[2:3], replace(QUICK, one_schedule="warn"))
    assert cut.left_out == () and cut.spread() == tuple(cut.final_errors.values()) != ()


def test_mean_over_all_or_some_folds():
    held = HeldOut("x", {"a": 0.1, "b": 0.3}, {"a": 0.1, "b": -0.3}, ("a", "b"), {})
    assert held.mean() == pytest.approx(0.2)
    assert held.mean(["b"]) == 0.3
    assert np.isnan(held.mean([]))


# folds that cannot be made


def test_a_fold_that_hides_the_only_decay_is_skipped_with_the_reason(runs):
    constant, wsd = runs[0], runs[2]
    held = hold_out(TISSUE.law, (constant, wsd), QUICK)
    assert set(held.skipped) == {wsd.name, f"{wsd.name} after 50%", f"{wsd.name} after 75%"}
    for reason in held.skipped.values():
        assert reason.startswith(
            "law tissue has an annealing term, but no run's LR falls before its last logged step"
        )
    assert held.left_out == (constant.name,)
    assert f"{wsd.name} after 90%" in held.errors


def test_a_fold_that_leaves_too_few_points_is_skipped_with_the_reason(runs):
    few = tuple(run.select(np.arange(20, 80, 20)) for run in runs[1:3])
    held = hold_out(TISSUE.law, few, QUICK)
    assert held.skipped[few[0].name] == "only 3 points would be left for 5 parameters"


def test_a_fold_that_leaves_nothing_of_the_run_is_skipped_with_the_reason(runs):
    short = (runs[1], runs[3], runs[2].select(np.array([79])))
    assert (
        hold_out(TISSUE.law, short, QUICK).skipped[f"{runs[2].name} after 50%"]
        == "nothing of the run would be left"
    )


def test_a_fold_that_leaves_one_size_is_skipped_with_the_reason():
    case = CASES["chinchilla"]
    two = [run for run in make_runs(case, noise=1e-3, every=200) if run.name in ("wsd 2e+07", "wsd 1e+08")]
    held = hold_out(case.law, two, QUICK)
    assert all("all runs have the same" in held.skipped[run.name] for run in two)


def test_runs_that_do_not_identify_the_law_together_are_refused(runs):
    with pytest.raises(InputError, match="law tissue has an annealing term, but no run's LR falls"):
        hold_out(TISSUE.law, runs[:1])


# the ranking


def test_the_law_that_made_the_data_is_chosen(runs):
    names = []
    found = compare([LAWS["one_power"], LAWS["tissue"]], runs, QUICK, names.append)
    assert names == ["one_power", "tissue"]
    assert found.chosen == "tissue"
    assert found.folds == tuple(fold.name for fold in make_folds(runs))
    assert found.error("tissue") == pytest.approx(np.mean(list(found.held_out["tissue"].errors.values())))
    assert found.error("tissue") < 2e-3 < found.error("one_power")
    assert found.results["tissue"].spread == found.held_out["tissue"].spread()


def test_ranking_is_over_folds_that_every_law_could_be_tried_on(runs):
    """one_power can do without a decay, tissue cannot: folds without one do not count for either."""
    found = compare([LAWS["one_power"], LAWS["tissue"]], (runs[0], runs[2]), QUICK)
    assert runs[2].name in found.held_out["one_power"].errors
    assert runs[2].name not in found.folds
    assert set(found.folds) == set(found.held_out["tissue"].errors)


def test_the_training_error_never_enters(runs, monkeypatch):
    """A law that fits best in training but worst on hidden losses is not chosen."""
    real = module.fit
    monkeypatch.setattr(
        module, "fit", lambda law, *a: replace(real(law, *a), cost=0.0 if law.name == "one_power" else 1.0)
    )
    assert compare([LAWS["one_power"], LAWS["tissue"]], runs[1:3], QUICK).chosen == "tissue"


def test_ties_go_to_the_first_given():
    def held(**errors):
        return {name: HeldOut(name, {"f": e}, {"f": e}, ("f",), {}) for name, e in errors.items()}

    assert choose(held(a=0.004 + 0.9 * RESOLUTION, b=0.004), ("f",)) == "a"
    assert choose(held(a=0.004 + 1.1 * RESOLUTION, b=0.004), ("f",)) == "b"
    assert choose(held(b=0.004, a=0.004), ("f",)) == "b"
    assert choose(held(a=0.004), ()) is None


def test_laws_the_runs_cannot_identify_are_listed_with_the_reason(runs):
    found = compare([LAWS["tissue"], LAWS["chinchilla"]], runs, QUICK)
    assert list(found.results) == ["tissue"]
    assert found.failed["chinchilla"].startswith("law chinchilla needs the number of parameters")


def test_no_law_at_all_is_refused_with_the_first_reason(runs):
    with pytest.raises(InputError, match="law tissue has an annealing term, but no run's LR falls"):
        compare([LAWS["tissue"], LAWS["multi_power"]], runs[:1])
    with pytest.raises(InputError, match=r"no law to compare: name at least one\.$"):
        compare([], runs)


def test_a_choice_is_made_before_any_test_run_is_read(runs):
    """Runs kept apart do not reach compare at all: the choice depends on the training runs alone."""
    two = compare([LAWS["tissue"]], runs[1:3], QUICK)
    assert {name.partition(" after")[0] for name in two.held_out["tissue"].errors} <= {
        run.name for run in runs[1:3]
    }
    assert two.results["tissue"].domain.peak_lr == (PEAK, PEAK)
