"""Everything that a sweep tells, saved and read back."""

import json

import pytest
from tests.peaklr.made import BATCHES, made_sweep, true_batch, true_lr

from lehr.errors import InputError
from lehr.peaklr.sweep_fit import STEPS, fit_sweep, load_sweep_fit, save_sweep_fit


@pytest.fixture(scope="module")
def fit():
    told = []
    found = fit_sweep(made_sweep(batches=(6.5e4, *BATCHES, 2.1e6), count=6), draws=8, begun=told.append)
    assert len(told) == STEPS
    return found


def test_it_holds_law_optima_and_scores(fit):
    assert fit.chosen in fit.held_out and fit.held_out[fit.chosen] <= min(fit.held_out.values()) + 1e-4
    assert fit.chosen in ("surface_batch", "surface_surge", "parabola_batch", "valley_batch")
    assert len(fit.optima) == 9 and not fit.refused
    assert (fit.runs, fit.diverged) == (9 * 6 * 6, 0)


def test_a_prediction_without_a_batch_takes_the_best_one(fit):
    found = fit.predict(2e8, 8e9)
    assert found.lr == pytest.approx(true_lr(2e8, 8e9, true_batch(8e9)), rel=0.12)
    assert (
        found.remarks[0].startswith("at a batch of 2.") and "the best one by this sweep" in found.remarks[0]
    )
    given = fit.predict(2e8, 8e9, batch=1e6)
    assert given.lr == pytest.approx(true_lr(2e8, 8e9, 1e6), rel=0.12)
    assert given.remarks == ()


def test_it_comes_back_from_its_file_as_it_was(fit, tmp_path):
    save_sweep_fit(tmp_path / "fit.json", fit)
    assert load_sweep_fit(tmp_path / "fit.json") == fit


def test_a_law_can_be_asked_for():
    found = fit_sweep(made_sweep(count=5), law="parabola", draws=0)
    assert found.chosen == "parabola" and found.surface is None and found.batch is None
    with pytest.raises(InputError, match="unknown peak-LR law 'parabolla': did you mean 'parabola'"):
        fit_sweep(made_sweep(count=5), law="parabolla")


def test_a_sweep_of_one_batch_size_tells_no_best_batch():
    found = fit_sweep(made_sweep(batches=(2.6e5,), sizes=(2e8,), count=5), law="surface_tokens", draws=0)
    assert found.batch is None
    assert "no group tells its best batch size" in found.refused[-1]


def change(data, path, value):
    *way, last = path
    for step in way:
        data = data[step]
    data[last] = value


DAMAGE = [
    (("law", "form"), "cubic", "unknown form of a peak-LR law 'cubic'"),
    (("law", "scatter"), "much", "is damaged (law.scatter: "),
    (("law", "coefficients"), [1.0], "is damaged: a law of form "),
    (
        ("batch", "trend", "draws"),
        [[1.0, 2.0]],
        "has the coefficients constant, params, tokens; make it again",
    ),
    (("optima",), 3, "is damaged (optima: "),
    (("lehr_sweep_fit",), 2, "is not a fit of a sweep of schema 1: make it with `lehr peak-lr fit --out`."),
]


@pytest.mark.parametrize(("path", "value", "text"), DAMAGE, ids=[".".join(case[0]) for case in DAMAGE])
def test_damaged_files_are_refused(fit, tmp_path, path, value, text):
    file = tmp_path / "fit.json"
    save_sweep_fit(file, fit)
    data = json.loads(file.read_text())
    change(data, path, value)
    file.write_text(json.dumps(data))
    with pytest.raises(InputError) as caught:
        load_sweep_fit(file)
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["", "[1]", "{", "[" * 100_000])
def test_other_files_are_refused(tmp_path, text):
    file = tmp_path / "fit.json"
    file.write_text(text)
    with pytest.raises(InputError, match=r"fit.json is not a fit of a sweep"):
        load_sweep_fit(file)
    with pytest.raises(
        InputError, match="nowhere.json does not exist: give a file made by `lehr peak-lr fit --out`"
    ):
        load_sweep_fit(tmp_path / "nowhere.json")
