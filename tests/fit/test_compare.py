"""Comparison of laws: over folds every law could be tried on, each question counting alike."""

from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests.synthetic import CASES, PEAK, make_runs

from lehr.errors import InputError
from lehr.fit import compare as module
from lehr.fit.compare import RESOLUTION, choose, compare
from lehr.fit.fit import FitOptions
from lehr.fit.folds import make_folds
from lehr.fit.held_out import HeldOut
from lehr.laws import LAWS
from lehr.laws.tissue import Tissue

TISSUE = CASES["tissue"]
QUICK = FitOptions(starts=8, polished=2)


@pytest.fixture(scope="module")
def runs():
    """Four schedules at one peak LR: constant, cosine, wsd, steps."""
    return make_runs(TISSUE, noise=1e-3)[:4]


def test_the_law_that_made_the_data_is_chosen(runs):
    names = []
    found = compare([LAWS["one_power"], LAWS["tissue"]], runs, QUICK, names.append, workers=1)
    assert names == ["one_power", "tissue"]
    assert found.chosen == "tissue"
    assert found.folds == tuple(fold.name for fold in make_folds(runs, 200))
    assert list(found.by_kind("tissue")) == ["run", "horizon", "later_part"]
    assert found.error("tissue") == pytest.approx(np.prod(list(found.by_kind("tissue").values())) ** (1 / 3))
    assert found.error("tissue") < 2e-3 < found.error("one_power")
    assert found.results["tissue"].spread == found.held_out["tissue"].spread()
    assert found.results["tissue"].final_errors == found.held_out["tissue"].finals


def test_ranking_is_over_folds_that_every_law_could_be_tried_on(runs):
    """one_power can do without a decay, tissue cannot: folds without one do not count for either."""
    found = compare([LAWS["one_power"], LAWS["tissue"]], (runs[0], runs[2]), QUICK, workers=1)
    assert runs[2].name in found.held_out["one_power"].errors
    assert runs[2].name not in found.folds
    assert set(found.folds) == set(found.held_out["tissue"].errors)


def test_the_training_error_never_enters(runs, monkeypatch):
    """A law that fits best in training but worst on hidden losses is not chosen."""
    real = module.fit
    monkeypatch.setattr(
        module, "fit", lambda law, *a: replace(real(law, *a), cost=0.0 if law.name == "one_power" else 1.0)
    )
    assert compare([LAWS["one_power"], LAWS["tissue"]], runs[1:3], QUICK, workers=1).chosen == "tissue"


def test_each_kind_of_fold_counts_alike():
    """a is better on three of the four folds, b by more on the one that asks another question."""
    kinds = {"p": "run", "q": "run", "r": "run", "s": "peak_lr"}
    held = {
        "a": HeldOut("a", {"p": 0.01, "q": 0.01, "r": 0.01, "s": 0.06}, kinds),
        "b": HeldOut("b", {"p": 0.015, "q": 0.015, "r": 0.015, "s": 0.03}, kinds),
    }
    assert choose(held, ("p", "q", "r", "s")) == "b"
    assert choose(held, ("p", "q", "r")) == "a"


def test_the_hardest_kind_does_not_decide_alone():
    """a is five times as good in two kinds and errs by half as much again in a third, which is far harder."""
    kinds = {"p": "run", "q": "horizon", "r": "peak_lr"}
    held = {
        "a": HeldOut("a", {"p": 0.002, "q": 0.002, "r": 0.3}, kinds),
        "b": HeldOut("b", {"p": 0.01, "q": 0.01, "r": 0.2}, kinds),
    }
    assert choose(held, ("p", "q", "r")) == "a"


def test_ties_go_to_the_first_given():
    def held(**errors):
        return {name: HeldOut(name, {"f": e}, {"f": "run"}) for name, e in errors.items()}

    assert choose(held(a=0.004 + 0.9 * RESOLUTION, b=0.004), ("f",)) == "a"
    assert choose(held(a=0.004 + 1.1 * RESOLUTION, b=0.004), ("f",)) == "b"
    assert choose(held(b=0.004, a=0.004), ("f",)) == "b"
    assert choose(held(a=np.inf, b=0.004), ("f",)) == "b"
    assert choose(held(a=np.inf, b=np.inf), ("f",)) == "a"
    assert choose(held(a=0.004), ()) is None


def test_laws_the_runs_cannot_identify_are_listed_with_the_reason(runs):
    found = compare([LAWS["tissue"], LAWS["chinchilla"]], runs, QUICK, workers=1)
    assert list(found.results) == ["tissue"]
    assert found.failed["chinchilla"].startswith("law chinchilla needs the number of parameters")


def test_no_law_at_all_is_refused_with_the_first_reason(runs):
    with pytest.raises(InputError, match="law tissue has an annealing term, but no run's LR falls"):
        compare([LAWS["tissue"], LAWS["multi_power"]], runs[:1], workers=1)
    with pytest.raises(InputError, match=r"no law to compare: name at least one\.$"):
        compare([], runs)


def test_a_choice_is_made_before_any_test_run_is_read(runs):
    """Runs kept apart do not reach compare at all: the choice depends on the training runs alone."""
    two = compare([LAWS["tissue"]], runs[1:3], QUICK)
    assert {final.run for final in two.held_out["tissue"].finals} == {run.name for run in runs[1:3]}
    assert two.results["tissue"].domain.peak_lr == (PEAK, PEAK)


# processes


def test_any_number_of_workers_gives_the_same_comparison(runs):
    laws = [LAWS["one_power"], LAWS["tissue"], LAWS["chinchilla"]]
    one, two = (compare(laws, runs[:3], QUICK, workers=workers) for workers in (1, 2))
    assert one == two
    for name, held in one.held_out.items():
        for fold, residual in held.residuals.items():
            assert np.array_equal(residual, two.held_out[name].residuals[fold], equal_nan=True)


@dataclass(frozen=True)
class Mine(Tissue):
    """A law of one's own, of a class that no other process knows."""


def test_a_law_from_elsewhere_is_compared_in_this_process(runs, monkeypatch):
    used = []
    real = module.map_tasks
    monkeypatch.setattr(
        module, "map_tasks", lambda f, tasks, workers, *a: used.append(workers) or real(f, tasks, 1, *a)
    )
    compare([Mine(), LAWS["one_power"]], runs[:2], QUICK, workers=2)
    compare([LAWS["tissue"], LAWS["one_power"]], runs[:2], QUICK, workers=2)
    assert used == [1, 2]
