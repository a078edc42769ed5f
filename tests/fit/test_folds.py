"""Folds: which losses each kind hides, and how far it makes a law reach."""

from dataclasses import replace

import numpy as np
import pytest
from tests.synthetic import CASES, PEAK, STEPS, make_runs

from lehr.fit.folds import CUTS, FEW, HORIZON_CUTS, KINDS, FinalError, make_folds, reach
from lehr.runs.run import Run
from lehr.schedule.families import constant, wsd

INF = float("inf")


@pytest.fixture(scope="module")
def runs():
    """Constant and WSD at one peak LR over 4,000 updates, constant at twice that over 2,000."""
    step = np.arange(0, STEPS + 1, 100)

    def run(name, schedule):
        seen = step <= schedule.steps
        return Run(name, schedule, step[seen], 3 + 0.001 * np.arange(seen.sum()))

    return (
        run("a", constant(steps=STEPS, peak=PEAK, warmup=200)),
        run("b", wsd(steps=STEPS, peak=PEAK, warmup=200, decay=1000)),
        run("c", constant(steps=2000, peak=2 * PEAK, warmup=200)),
    )


def named(runs, kind, burn_in=0):
    return {fold.name: fold for fold in make_folds(runs, burn_in) if fold.kind == kind}


def test_a_run_is_hidden_whole(runs):
    folds = named(runs, "run")
    assert list(folds) == ["a", "b", "c"]
    assert folds["b"].until == (INF, 0.0, INF)
    assert [run.name for run in folds["b"].shown(runs)] == ["a", "c"]


def test_all_runs_of_a_peak_lr_are_hidden_together(runs):
    folds = named(runs, "peak_lr")
    assert list(folds) == ["peak LR 0.001", "peak LR 0.002"]
    assert [run.name for run in folds["peak LR 0.001"].shown(runs)] == ["c"]
    assert [run.name for run in folds["peak LR 0.002"].shown(runs)] == ["a", "b"]


def test_peak_lrs_that_differ_by_rounding_are_one(runs):
    close = replace(runs[0], name="d", schedule=constant(steps=STEPS, peak=PEAK * (1 + 1e-9), warmup=200))
    assert len(named((*runs, close), "peak_lr")) == 2


def test_one_peak_lr_cannot_be_hidden(runs):
    assert named(runs[:2], "peak_lr") == {}


def test_the_horizon_is_cut_in_all_runs_at_the_same_step(runs):
    """At a share of the longest of them: no run shows a step beyond, and shorter runs stay whole."""
    folds = list(named(runs, "horizon").values())
    assert [fold.name for fold in folds] == ["all after step 2000", "all after step 3000"]
    for fold, cut in zip(folds, HORIZON_CUTS, strict=True):
        shown = fold.shown(runs)
        assert max(run.step[-1] for run in shown) == cut * STEPS
        assert [run.name for run in shown] == ["a", "b", "c"]
        assert np.array_equal(shown[2].step, runs[2].step[1:]), "all but step 0, which no fit uses"


def test_runs_that_begin_after_the_cut_are_hidden_whole(runs):
    branch = runs[1].select(runs[1].step > 3000)
    fold = named((runs[0], branch), "horizon")["all after step 3000"]
    assert [run.name for run in fold.shown((runs[0], branch))] == ["a"]


def test_later_parts_of_few_runs_are_hidden_from_a_share_of_their_points_on(runs):
    folds = named(runs, "later_part", burn_in=200)
    assert len(folds) == 3 * len(CUTS)
    counted = runs[2].step[runs[2].step >= 200]
    for cut in CUTS:
        fold = folds[f"c after {cut:.0%}"]
        assert fold.until == (INF, INF, counted[int(cut * len(counted)) - 1])
        a, b, c = fold.shown(runs)
        assert (len(a.step), len(b.step)) == (40, 40)
        assert np.sum(c.step >= 200) == int(cut * len(counted))


def test_many_runs_have_no_later_parts():
    many = make_runs(CASES["tissue"])
    assert len(many) >= FEW
    folds = make_folds(many)
    assert {fold.kind for fold in folds} == KINDS.keys() - {"later_part"}
    assert len([fold for fold in folds if fold.kind == "run"]) == len(many)


def test_a_single_run_can_only_be_cut_short(runs):
    assert [fold.kind for fold in make_folds(runs[:1])] == ["later_part"] * len(CUTS)


def test_a_run_of_one_point_has_no_later_part(runs):
    short = runs[0].select(np.array([20]))
    assert not [name for name in named((short, runs[1]), "later_part") if name.startswith("a ")]


def test_step_0_shows_nothing_of_a_run(runs):
    assert runs[0].step[0] == 0
    for fold in make_folds(runs):
        assert all(run.step[0] > 0 for run in fold.shown(runs))


def test_names_are_unique_and_kinds_known(runs):
    folds = make_folds(runs)
    assert len({fold.name for fold in folds}) == len(folds) == 3 + 2 + 2 + 9
    assert {fold.kind for fold in folds} == KINDS.keys()


@pytest.mark.parametrize(
    ("hidden", "shown", "ratios"),
    [
        (2, (0, 1), (2.0, 1.0)),
        (0, (2,), (0.5, 2.0)),
        (0, (1,), (1.0, 1.0)),
        (1, (0, 2), (1.0, 1.0)),
        (2, (0,), (2.0, 1.0)),
    ],
)
def test_reach_is_the_ratio_to_what_was_shown(runs, hidden, shown, ratios):
    """Peak LR against the nearest shown, end against the longest shown; 1 within."""
    assert reach(runs[hidden], tuple(runs[i] for i in shown)) == pytest.approx(ratios)


def test_reach_beyond_a_cut_horizon(runs):
    fold = named(runs, "horizon")["all after step 2000"]
    assert reach(runs[0], fold.shown(runs)) == pytest.approx((1.0, 2.0))


def test_final_errors_are_plain_values():
    one = FinalError("f", "run", "a", 0.01, 1.0, 2.0)
    assert one == FinalError("f", "run", "a", 0.01, 1.0, 2.0)
    with pytest.raises(AttributeError):
        one.error = 0.0
