"""Runs of several data sets, and of models of experts, in one fit."""

import re
from dataclasses import replace

import numpy as np
import pytest
from tests.synthetic import CASES, make_runs

from lehr.errors import InputError
from lehr.fit.fit import FitOptions, conditions_of, fit
from lehr.fit.held_out import hold_out
from lehr.fit.pooling import UNNAMED, data_of, pooled, sparsity_of, total_of
from lehr.fit.result import FitResult
from lehr.fit.uncertainty import bootstrap
from lehr.laws import LAWS
from lehr.laws.grouped import Grouped
from lehr.predict import predict

QUICK = FitOptions(starts=6, polished=2)
SCALE, LEVEL = 1.08, 2.9  # of the second data set; the first's irreducible loss is 2.5


def two_data_sets(noise=0.0):
    """Runs that follow Tissue's law: those at the peak of 1e-3 on books, the others on web."""
    case, runs = CASES["tissue"], []
    for run in make_runs(case, noise=noise):
        web = run.schedule.peak > 1e-3
        loss = LEVEL + SCALE * (run.loss - case.linear[0]) if web else run.loss
        runs.append(replace(run, loss=loss, meta={"dataset": "web" if web else "books", "split": "val"}))
    return tuple(runs)


def of_experts(runs, factor):
    return tuple(
        replace(run, params_total=run.params * factor, meta={"experts": 8}) if run.params == 2e7 else run
        for run in runs
    )


def test_the_data_set_is_what_the_meta_data_tell():
    run = make_runs(CASES["tissue"])[0]
    for meta, name in (
        ({}, UNNAMED),
        ({"dataset": "web"}, "web"),
        ({"split": "val"}, UNNAMED),
        ({"split": "train"}, f"{UNNAMED}/train"),
        ({"dataset": "web", "split": "val"}, "web"),
        ({"dataset": "web", "split": "train", "seed": 3}, "web/train"),
    ):
        assert data_of(replace(run, meta=meta)) == name


def test_runs_of_one_data_set_leave_the_law_as_it_is():
    law, runs = LAWS["tissue"], make_runs(CASES["tissue"])
    assert pooled(law, runs) is law
    named = tuple(replace(run, meta={"dataset": "web"}) for run in runs)
    assert pooled(law, named) is law
    over = pooled(law, two_data_sets())
    assert over == Grouped(law, ("books", "web"))
    assert pooled(over, named) is over


def test_the_data_set_of_most_runs_comes_first():
    runs = two_data_sets()
    web = [run for run in runs if data_of(run) == "web"]
    assert pooled(LAWS["tissue"], (*web, runs[0])).groups == ("web", "books")


def test_a_joint_fit_finds_the_shape_the_levels_and_the_scale():
    """The prior of the scale pulls it by little: .05 of 1, and much data."""
    result = fit(LAWS["tissue"], two_data_sets(noise=1e-4), QUICK)
    assert result.groups == ("books", "web")
    assert result.parameters["scale_web"] == pytest.approx(SCALE, abs=0.005)
    assert result.parameters["irreducible_loss_web"] == pytest.approx(LEVEL, abs=0.01)
    assert result.parameters["irreducible_loss"] == pytest.approx(2.5, abs=0.01)
    assert result.parameters["exponent"] == pytest.approx(0.5, abs=0.01)
    assert max(r["mean_absolute"] for r in result.residuals.values()) < 2e-4
    text = r"the runs are of 2 data sets or splits \(books, web\): they share the shape of the curve"
    assert any(re.match(text, warning) for warning in result.warnings)


def test_pooling_them_blindly_would_fail():
    """What the scales are for: as runs of one data set they leave large residuals."""
    blind = tuple(replace(run, meta={}) for run in two_data_sets())
    result = fit(LAWS["tissue"], blind, QUICK)
    assert max(r["mean_absolute"] for r in result.residuals.values()) > 0.02


def test_a_joint_fit_survives_json_bootstrap_and_prediction():
    runs = two_data_sets(noise=1e-3)
    result = bootstrap(fit(LAWS["tissue"], runs, QUICK), runs, draws=4)
    again = FitResult.from_json(result.to_json())
    assert again == result and again.get_law() == Grouped(LAWS["tissue"], ("books", "web"))
    web = runs[-1]
    found = predict(again, web.schedule, web.step[10:], data="web")
    np.testing.assert_allclose(found.loss, again.evaluate(conditions_of(web), web.step[10:]))
    assert np.all(found.low < found.loss)
    with pytest.raises(InputError, match="the fit is of 2 data sets"):
        predict(again, web.schedule, web.step[10:])


def test_a_fold_that_hides_all_of_a_data_set_is_skipped():
    runs = two_data_sets()
    books = tuple(run for run in runs if data_of(run) == "books")
    web = next(run for run in runs if data_of(run) == "web")
    held = hold_out(LAWS["tissue"], (*books, web), QUICK)
    assert held.skipped[web.name] == (
        "no run is of the data set web, which this fit is to be of: add one, or fit anew."
    )
    assert {final.run for final in held.finals if final.kind == "run"} == {run.name for run in books}


def test_runs_that_do_not_tell_their_data_set_are_one_of_their_own():
    first, *rest = two_data_sets()
    result = fit(LAWS["tissue"], (replace(first, meta={}), *rest), QUICK)
    assert UNNAMED in result.groups
    text = "1 of 8 runs do not tell their data set and are taken as one of their own: give it with --dataset on import."
    assert text in result.warnings


# models of experts


def test_sparsity_is_told_of_models_of_experts_alone():
    run = make_runs(CASES["weight_norm_n"])[0]
    dense = replace(run, params_total=4e7)
    assert (sparsity_of(dense), total_of(dense)) == (1.0, None), (
        "all parameters of a dense model hold embeddings"
    )
    sparse = replace(dense, meta={"experts": 8})
    assert (sparsity_of(sparse), total_of(sparse)) == (2.0, 4e7)
    assert conditions_of(sparse).params_total == 4e7
    assert sparsity_of(replace(sparse, meta={"experts": 1})) == 1.0
    assert sparsity_of(replace(sparse, params_total=None)) is None


def test_the_share_is_fitted_where_sparsity_differs_and_found():
    case = CASES["weight_norm_n, experts"]
    runs = make_runs(case, noise=1e-4, every=200)
    result = fit(LAWS["weight_norm_n"], runs, QUICK)
    assert result.law_options == {"experts": True}
    assert result.parameters["total_share"] == pytest.approx(case.nonlinear[-1], abs=0.03)
    assert result.domain.sparsity == (1.0, 4.0)
    found = predict(result, runs[0].schedule, runs[0].step[5:], params=1e8, params_total=1e9)
    assert any(
        "10 times as many parameters as active ones (--params-total) lies outside" in w
        for w in found.warnings
    )
    inside = predict(result, runs[0].schedule, runs[0].step[5:], params=1e8, params_total=3e8)
    assert not any("--params-total" in w for w in inside.warnings)


def test_one_sparsity_is_counted_in_active_parameters_with_a_warning():
    runs = tuple(
        replace(run, params_total=run.params * 4, meta={"experts": 8})
        for run in make_runs(CASES["weight_norm_n"], noise=1e-4, every=200)
    )
    result = fit(LAWS["weight_norm_n"], runs, QUICK)
    assert "total_share" not in result.parameters
    text = "all models of experts have 4 times as many parameters as active ones: sizes are counted in active"
    assert any(warning.startswith(text) for warning in result.warnings)
    with pytest.raises(
        InputError, match=r"\(experts\), but their ratio is the same in all runs: add models of another"
    ):
        fit(CASES["weight_norm_n, experts"].law, runs, QUICK)


def test_a_model_of_experts_that_does_not_tell_its_size_is_refused():
    first, *rest = of_experts(make_runs(CASES["weight_norm_n"]), 4.0)
    text = (
        r"run '.*' is a model of 8 experts, but does not tell both its active and all its parameters, which law "
        r"weight_norm_n counts: give them without embeddings \(--params, --params-total\)\."
    )
    with pytest.raises(InputError, match=text):
        fit(LAWS["weight_norm_n"], (replace(first, params_total=None), *rest))
