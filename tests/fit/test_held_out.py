"""Errors on hidden losses: they were really hidden, and are what a fit to the rest would have made."""

from dataclasses import replace

import numpy as np
import pytest
from tests.synthetic import CASES, make_runs

from lehr.errors import InputError
from lehr.fit import held_out as module
from lehr.fit.fit import FitOptions, fit, points
from lehr.fit.folds import KINDS, FinalError, make_folds
from lehr.fit.held_out import HeldOut, hold_out, mean_by_kind, mean_over_kinds, with_held_out
from lehr.fit.projection import natural
from lehr.fit.result import FitResult
from lehr.laws.law import Conditions
from lehr.runs.run import Run
from lehr.schedule.families import constant

TISSUE = CASES["tissue"]
QUICK = FitOptions(starts=8, polished=2)


@pytest.fixture(scope="module")
def runs():
    """Four schedules at one peak LR: constant, cosine, wsd, steps."""
    return make_runs(TISSUE, noise=1e-3)[:4]


def test_hidden_losses_do_not_change_the_fit_of_their_fold(monkeypatch):
    """Change the losses that a fold of each kind hides: the fit of the fold stays, its errors do not."""
    case = CASES["effective_time"]
    every = {run.name: run for run in make_runs(case, noise=1e-3)}
    runs = tuple(every[name] for name in ("constant 0.001", "cosine 0.001", "wsd 0.002"))
    fitted = []

    def spy(problem, warm, options):
        point = refit(problem, warm, options)
        fitted.append(np.concatenate([natural(case.law, point.search), point.linear]))
        return point

    refit = module._refit
    monkeypatch.setattr(module, "_refit", spy)
    order = list(dict.fromkeys(fold.until for fold in make_folds(runs, 200)))

    def fits(runs):
        fitted.clear()
        held = hold_out(case.law, runs, replace(QUICK, max_points=40))  # two logged losses a point
        return dict(zip(order, fitted, strict=True)), held

    def curve(vector):
        basis = case.law.bind(Conditions(runs[0].schedule), np.arange(500.0, 4001, 500))
        return basis(vector[: len(case.nonlinear)])[0] @ vector[len(case.nonlinear) :]

    before, held = fits(runs)
    rng, kinds = np.random.default_rng(0), set()
    for fold in make_folds(runs, 200):
        if fold.kind in kinds:
            continue
        kinds.add(fold.kind)
        others = tuple(
            replace(
                run,
                loss=np.where(
                    run.step > until, 1.3 * run.loss * (1 + 0.05 * rng.standard_normal(80)), run.loss
                ),
            )
            for run, until in zip(runs, fold.until, strict=True)
        )
        after, changed = fits(others)
        np.testing.assert_allclose(curve(after[fold.until]), curve(before[fold.until]), rtol=5e-5)
        assert changed.errors[fold.name] > 20 * held.errors[fold.name], "and yet they are what is scored"
        moved = [np.max(np.abs(curve(after[u]) / curve(before[u]) - 1)) for u in order if u != fold.until]
        assert max(moved) > 1e-3, "where shown they do matter"
    assert kinds == KINDS.keys()


def test_errors_are_those_of_a_fit_without_the_run(runs):
    held = hold_out(TISSUE.law, runs)
    rest = fit(TISSUE.law, [run for i, run in enumerate(runs) if i != 2])
    run = runs[2].select(runs[2].step >= 200)
    relative = rest.evaluate(Conditions(run.schedule), run.step, tolerance=0.02) / run.loss - 1
    assert held.errors[run.name] == pytest.approx(np.average(np.abs(relative), weights=run.step), rel=0.01)
    assert finals(held)[run.name, run.name].error == pytest.approx(relative[-1], rel=0.01)
    assert held.skipped == {}


def test_priors_weigh_in_a_fold_as_in_a_fit_to_what_it_shows():
    """Two of four runs hidden: what is left of the priors' weight must not be that of four runs."""
    case = CASES["weight_norm"]
    every = {run.name: run for run in make_runs(case, noise=3e-3, every=200)}
    names = ("constant 0.001", "wsd 0.001", "constant 0.002", "wsd 0.002")
    runs = tuple(every[name] for name in names)
    held = hold_out(case.law, runs, FitOptions(burn_in=200))
    rest = fit(case.law, runs[:2], FitOptions(burn_in=200))
    hidden = np.concatenate([run.loss for run in runs[2:]])
    predicted = np.concatenate([
        rest.evaluate(Conditions(run.schedule), run.step, tolerance=0.02) for run in runs[2:]
    ])  # fmt: skip
    weight = np.concatenate([run.step for run in runs[2:]])
    expected = np.average(np.abs(predicted / hidden - 1), weights=weight)
    assert held.errors["peak LR 0.002"] == pytest.approx(expected, rel=1e-3)


def test_residuals_are_kept_where_hidden_and_nowhere_else(runs):
    held = hold_out(TISSUE.law, runs, QUICK)
    sizes = [int(np.sum(run.step >= 200)) for run in runs]
    steps = np.concatenate([run.step[run.step >= 200] for run in runs])
    for fold in make_folds(runs, 200):
        residual = held.residuals[fold.name]
        assert np.array_equal(~np.isnan(residual), steps > np.repeat(fold.until, sizes)), fold.name
        seen = ~np.isnan(residual)
        error = np.average(np.abs(residual[seen]), weights=held.weight[seen])
        assert held.errors[fold.name] == pytest.approx(error)


def test_a_mean_of_logged_losses_is_hidden_if_one_of_them_is():
    step = np.arange(100.0, 1100, 100)
    run = Run("a", constant(steps=1000, peak=1e-3), step, 3 - step / 1e4)
    assert module._bin_ends(run, 0, 4).tolist() == [300, 600, 900, 1000]
    assert module._bin_ends(run, 350, 4).tolist() == [500, 700, 900, 1000]
    assert module._bin_ends(run, 0, 200).tolist() == step.tolist()
    assert module._bin_ends(run, 2000, 4).tolist() == []
    for burn_in, most in ((0, 4), (350, 4), (0, 3), (0, 10), (2000, 4)):
        assert len(module._bin_ends(run, burn_in, most)) == len(points(run, burn_in, most)[0])


def finals(held):
    """Final errors by fold and run."""
    return {(final.fold, final.run): final for final in held.finals}


def test_final_errors_of_every_hidden_run_come_with_their_distances():
    every = {run.name: run for run in make_runs(TISSUE, noise=1e-3, every=200)}
    runs = tuple(every[name] for name in ("constant 0.001", "cosine 0.001", "wsd 0.002"))
    held = hold_out(TISSUE.law, runs, QUICK)
    found = finals(held)
    far = found["peak LR 0.002", "wsd 0.002"]
    assert far == FinalError(
        "peak LR 0.002", "peak_lr", "wsd 0.002", float(held.residuals["peak LR 0.002"][-1]), 2.0, 1.0
    )
    assert [name for fold, name in found if fold == "all after step 3000"] == [run.name for run in runs]
    assert found["all after step 3000", "cosine 0.001"].horizon_ratio == pytest.approx(4 / 3)
    assert {final.fold for final in held.finals} == set(held.errors)


def test_folds_of_two_kinds_that_hide_the_same_are_fitted_once(monkeypatch):
    every = {run.name: run for run in make_runs(TISSUE, noise=1e-3, every=200)}
    runs = tuple(every[name] for name in ("constant 0.001", "cosine 0.001", "wsd 0.002"))
    count, refit = [], module._refit
    monkeypatch.setattr(module, "_refit", lambda *arguments: count.append(1) or refit(*arguments))
    held = hold_out(TISSUE.law, runs, QUICK)
    assert held.errors["peak LR 0.002"] == held.errors["wsd 0.002"]
    assert len(count) == len(held.errors) - 1


def test_a_known_fit_to_all_runs_is_taken_as_a_start(runs, monkeypatch):
    whole = fit(TISSUE.law, runs, QUICK)
    begun = []
    real = module._predict_hidden
    monkeypatch.setattr(
        module, "_predict_hidden", lambda p, h, warm, o: begun.append(warm) or real(p, h, warm, o)
    )
    held = hold_out(TISSUE.law, runs, QUICK, whole)
    assert begun[0] == pytest.approx([whole.parameters["exponent"], np.log(whole.parameters["memory"])])
    assert held.mean() == pytest.approx(hold_out(TISSUE.law, runs, QUICK).mean(), rel=1e-3)


def test_spread_holds_whole_runs_where_some_could_be_left_out(runs):
    held = hold_out(TISSUE.law, runs, QUICK)
    assert held.spread() == tuple(finals(held)[run.name, run.name].error for run in runs)
    cut = hold_out(TISSUE.law, runs[2:3], replace(QUICK, one_schedule="warn"))
    assert {final.kind for final in cut.finals} == {"later_part"}
    assert cut.spread() == tuple(final.error for final in cut.finals) != ()


def test_means_are_of_each_kind_and_then_over_kinds():
    errors = {"a": 0.1, "b": 0.3, "c": 0.5, "d": 1.2}
    kinds = {"a": "run", "b": "run", "c": "run", "d": "horizon"}
    held = HeldOut("x", errors, kinds)
    assert held.by_kind() == pytest.approx({"run": 0.3, "horizon": 1.2})
    assert held.mean() == pytest.approx(0.6), "not the mean over all four, .525, nor over both, .75"
    assert held.mean(["b"]) == pytest.approx(0.3)
    assert held.mean(["b", "d"]) == pytest.approx(0.6)
    assert np.isnan(held.mean([])) and held.by_kind([]) == {}
    assert list(mean_by_kind(errors, kinds, ["d", "a"])) == ["run", "horizon"], "in the order of the table"


def test_halving_the_error_of_any_kind_gains_the_same():
    hard, easy = {"peak_lr": 0.1, "run": 1e-3}, {"peak_lr": 0.2, "run": 0.5e-3}
    assert mean_over_kinds(hard) == pytest.approx(mean_over_kinds(easy)) == pytest.approx(1e-2)
    assert mean_over_kinds({"run": 0.0, "peak_lr": 1e-4}) == pytest.approx(1e-8), "0 does not end the ranking"
    assert mean_over_kinds({"run": np.inf, "peak_lr": 1e-4}) == np.inf


def test_a_prediction_that_is_no_number_is_the_worst_there_is(runs, monkeypatch):
    refit = module._refit

    def broken(problem, *arguments):
        point = refit(problem, *arguments)
        return replace(point, linear=point.linear * np.nan) if len(problem.rows) == 3 else point

    monkeypatch.setattr(module, "_refit", broken)
    held = hold_out(TISSUE.law, runs, QUICK)
    assert all(held.errors[run.name] == np.inf for run in runs), "left out whole: three are fitted"
    assert np.isfinite(held.errors["all after step 3000"])
    assert held.mean() == np.inf


# folds that cannot be made


def test_a_fold_that_hides_the_only_decay_is_skipped_with_the_reason(runs):
    constant, wsd = runs[0], runs[2]
    held = hold_out(TISSUE.law, (constant, wsd), QUICK)
    early = {"all after step 2000", "all after step 3000"}
    assert set(held.skipped) == {wsd.name, f"{wsd.name} after 50%", f"{wsd.name} after 75%"} | early
    for reason in held.skipped.values():
        assert reason.startswith(
            "law tissue has an annealing term, but no run's LR falls before its last logged step"
        )
    assert constant.name in held.errors
    assert f"{wsd.name} after 90%" in held.errors


def test_a_fold_that_leaves_too_few_points_is_skipped_with_the_reason(runs):
    few = tuple(run.select(np.arange(20, 80, 20)) for run in runs[1:3])
    held = hold_out(TISSUE.law, few, QUICK)
    assert held.skipped[few[0].name] == "only 3 points would be left for 5 parameters"


def test_a_fold_that_hides_nothing_that_is_scored_is_skipped_with_the_reason(runs):
    early = runs[1].select(runs[1].step < 200)
    held = hold_out(TISSUE.law, (runs[0], early, runs[2]), QUICK)
    assert held.skipped[early.name] == "none of the points it would hide lies after the burn-in"
    assert runs[0].name in held.errors


def test_a_fold_that_leaves_one_size_is_skipped_with_the_reason():
    case = CASES["chinchilla"]
    two = [run for run in make_runs(case, noise=1e-3, every=200) if run.name in ("wsd 2e+07", "wsd 1e+08")]
    held = hold_out(case.law, two, QUICK)
    assert all("all runs have the same" in held.skipped[run.name] for run in two)


def test_runs_that_do_not_identify_the_law_together_are_refused(runs):
    with pytest.raises(InputError, match="law tissue has an annealing term, but no run's LR falls"):
        hold_out(TISSUE.law, runs[:1])


def test_fits_without_a_peak_are_kept_and_survive_json():
    every = {run.name: run for run in make_runs(TISSUE, noise=1e-3)}
    runs = [every[name] for name in ("constant 0.001", "wsd 0.001", "cosine 0.001", "wsd 0.002")]
    kept = with_held_out(result := fit(TISSUE.law, runs), held := hold_out(TISSUE.law, runs, whole=result))
    assert list(kept.without_peak) == ["peak LR 0.002"], "one schedule alone does not identify the law"
    assert held.kinds["peak LR 0.002"] == "peak_lr"
    alone = fit(TISSUE.law, runs[:3])
    np.testing.assert_allclose(kept.without_peak["peak LR 0.002"], alone.vector, rtol=1e-3)
    assert FitResult.from_json(kept.to_json()).without_peak == dict(kept.without_peak)
