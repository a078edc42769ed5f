"""Stacks: the best weights on the simplex, learned on hidden losses, judged on others."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from tests.synthetic import CASES, make_runs

from lehr.errors import InputError
from lehr.fit.compare import compare
from lehr.fit.fit import FitOptions
from lehr.fit.held_out import HeldOut
from lehr.fit.stack import SMALLEST, STACK, StackScore, learn_weights, score
from lehr.laws import LAWS

NAN = float("nan")


def held(law, residuals, kinds, weight=None):
    """A law with these residuals by fold; only what a stack reads."""
    rows = {name: np.asarray(row, dtype=float) for name, row in residuals.items()}
    weight = np.ones(len(next(iter(rows.values())))) if weight is None else np.asarray(weight)
    seen = {name: ~np.isnan(row) for name, row in rows.items()}
    errors = {n: float(np.average(np.abs(r[seen[n]]), weights=weight[seen[n]])) for n, r in rows.items()}
    return HeldOut(law, errors, kinds, residuals=rows, weight=weight)


def two(first, second, weight=None):
    """Two laws on one fold that hides all points."""
    kinds = {"f": "run"}
    return {"a": held("a", {"f": first}, kinds, weight), "b": held("b", {"f": second}, kinds, weight)}


# weights


def test_errors_to_different_sides_are_averaged_out():
    found = learn_weights(two([0.01, 0.01], [-0.03, -0.03]), ["f"])
    assert found == pytest.approx({"a": 0.75, "b": 0.25})


def test_errors_to_the_same_side_leave_the_better_law_alone():
    assert learn_weights(two([0.01, 0.02], [0.03, 0.05]), ["f"]) == {"a": 1.0}


def test_points_weigh_as_in_the_fit():
    """Law a is right at the first point, b at the second: w_a / w_b is the ratio of the points' weights."""
    found = learn_weights(two([0.0, 0.01], [0.01, 0.0], weight=[3.0, 1.0]), ["f"])
    assert found == pytest.approx({"a": 0.75, "b": 0.25})


def test_kinds_count_alike_however_many_folds_they_have_and_however_hard_they_are():
    """One kind asks for half each, the other, a hundred times as hard, for three quarters of a.

    In units of the better law's error: (2 w - 1)^2 + 16 (w - .75)^2 is least at w = .7.
    """
    kinds = {"p": "run", "q": "run", "r": "run", "s": "peak_lr"}
    easy, hard = {name: [1e-3, 1e-3] for name in "pqr"}, [0.1, 0.1]
    laws = {
        "a": held("a", {**easy, "s": hard}, kinds),
        "b": held("b", {**{n: [-1e-3, -1e-3] for n in "pqr"}, "s": [-0.3, -0.3]}, kinds),
    }
    assert learn_weights(laws, kinds) == pytest.approx({"a": 0.7, "b": 0.3})
    assert learn_weights(laws, ["p", "s"]) == pytest.approx({"a": 0.7, "b": 0.3})
    assert learn_weights(laws, ["p", "q"]) == pytest.approx({"a": 0.5, "b": 0.5}), "only the folds asked for"


@pytest.mark.parametrize("seed", range(5))
def test_weights_are_the_best_on_the_simplex(seed):
    """Against a general constrained optimiser, five laws with errors in common."""
    rng = np.random.default_rng(seed)
    rows = 1e-3 * (rng.standard_normal((1, 40)) + rng.standard_normal((5, 40)) + rng.normal(0, 1, (5, 1)))
    found = learn_weights(
        {str(i): held(str(i), {"f": row}, {"f": "run"}) for i, row in enumerate(rows)}, ["f"]
    )
    weights = np.array([found.get(str(i), 0.0) for i in range(5)])

    def cost(w):
        return 1e6 * np.mean((w @ rows) ** 2)

    best = minimize(
        cost, np.full(5, 0.2), bounds=[(0, 1)] * 5, constraints={"type": "eq", "fun": lambda w: w.sum() - 1},
        options={"ftol": 1e-12},
    )  # fmt: skip
    assert weights.sum() == pytest.approx(1) and weights.min() >= 0
    assert cost(weights) == pytest.approx(best.fun, rel=1e-3)
    assert all(w > SMALLEST / 2 for w in found.values())


def test_a_law_that_is_never_wrong_gets_all():
    assert learn_weights(two([0.0, 0.0], [1e-9, 0.5]), ["f"]) == {"a": 1.0}


def test_points_that_a_fold_shows_do_not_count():
    laws = two([0.01, NAN], [-0.01, NAN])
    assert learn_weights(laws, ["f"]) == pytest.approx({"a": 0.5, "b": 0.5})


def test_a_law_without_a_finite_prediction_is_left_out():
    laws = two([0.01, 0.01], [-0.01, -0.01])
    laws["c"] = held("c", {"f": [np.inf, 0.0]}, {"f": "run"})
    assert learn_weights(laws, ["f"]) == pytest.approx({"a": 0.5, "b": 0.5})


def test_what_cannot_be_stacked_is_refused():
    laws = two([0.01], [0.02])
    with pytest.raises(
        InputError, match=r"a stack averages at least two laws: fit more of them, such as --law all\.$"
    ):
        learn_weights({"a": laws["a"]}, ["f"])
    with pytest.raises(
        InputError, match=r"folds that every law could be tried on, and these runs give none: add a run\.$"
    ):
        learn_weights(laws, [])


def test_no_law_is_called_stack():
    assert STACK not in LAWS


# its own cross-validation


def test_each_fold_is_predicted_by_weights_of_the_others():
    """Law a errs up in f and down in g, b the other way round by twice as much, on separate points."""
    kinds = {"f": "run", "g": "run"}
    laws = {
        "a": held("a", {"f": [0.01, NAN], "g": [NAN, -0.01]}, kinds),
        "b": held("b", {"f": [-0.02, NAN], "g": [NAN, -0.02]}, kinds),
    }
    assert learn_weights(laws, ["f"]) == pytest.approx({"a": 2 / 3, "b": 1 / 3})
    assert learn_weights(laws, ["g"]) == {"a": 1.0}
    # f by the weights of g: a alone, .01; g by those of f: |-.01 * 2/3 - .02 / 3| = .04 / 3
    found = score(laws, ["f", "g"])
    assert found.stack == pytest.approx((0.01 + 0.04 / 3) / 2)
    assert found.single == pytest.approx(0.01)


def test_points_hidden_by_a_fold_are_taken_out_of_the_others():
    """The second fold hides the first's point as well, where it would tell that b is right."""
    kinds = {"f": "run", "g": "horizon"}
    laws = {
        "a": held("a", {"f": [0.01, NAN], "g": [0.01, 0.0]}, kinds),
        "b": held("b", {"f": [0.0, NAN], "g": [0.0, 0.02]}, kinds),
    }
    found = score(laws, ["f", "g"])
    # f: by the second point of g alone, where a is right; g: nothing is left of f to decide it by
    assert found == StackScore(pytest.approx(0.01), pytest.approx(0.01))


def test_no_score_where_nothing_is_left_to_decide_by():
    laws = two([0.01, 0.02], [0.02, 0.01])
    assert score(laws, ["f"]) is None


def test_a_stack_pays_where_laws_err_to_different_sides():
    rng = np.random.default_rng(0)
    kinds = {str(i): "run" for i in range(6)}
    hidden = np.repeat(np.eye(6, dtype=bool), 20, axis=1)

    def law(name, bias):
        noise = 1e-3 * rng.standard_normal(120)
        return held(name, {str(i): np.where(row, bias + noise, NAN) for i, row in enumerate(hidden)}, kinds)

    opposite = score({"a": law("a", 0.01), "b": law("b", -0.01)}, kinds)
    assert opposite.stack < 0.3 * opposite.single
    same = score({"a": law("a", 0.01), "b": law("b", 0.02)}, kinds)
    assert same.stack == pytest.approx(same.single)


def test_of_real_comparisons():
    """Residuals as the comparison keeps them; the law that made the runs takes nearly all."""
    runs = make_runs(CASES["tissue"], noise=3e-4)[:4]
    found = compare([LAWS["one_power"], LAWS["tissue"]], runs, FitOptions(starts=8, polished=2), workers=1)
    weights = learn_weights(found.held_out, found.folds)
    assert sum(weights.values()) == pytest.approx(1) and weights["tissue"] > 0.9
    judged = score(found.held_out, found.folds)
    assert judged.single == pytest.approx(found.error("tissue"), rel=0.3)
    assert judged.stack < 1.5 * judged.single
    with pytest.raises(AttributeError):
        replace(judged).stack = 0.0
