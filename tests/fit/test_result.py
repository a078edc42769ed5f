"""A fit as JSON: it comes back exactly, and a damaged file is refused with what is wrong with it."""

import json
import math

import numpy as np
import pytest
from tests.synthetic import CASES, make_runs

from lehr.errors import InputError
from lehr.fit.fit import FitOptions, fit
from lehr.fit.result import FitResult
from lehr.fit.uncertainty import bootstrap
from lehr.laws.law import Conditions
from lehr.laws.multi_power import MultiPower
from lehr.schedule.families import wsd


@pytest.fixture(scope="module")
def result():
    case = CASES["tissue"]
    runs = make_runs(case, noise=1e-3, every=200)
    return bootstrap(fit(case.law, runs), runs, draws=3)


@pytest.fixture
def data(result):
    return json.loads(result.to_json())


def test_round_trip_is_exact(result):
    again = FitResult.from_json(result.to_json())
    assert again == result
    assert again.to_json() == result.to_json()
    assert len(again.draws) == 3 and len(again.intervals) == 5 and again.spread


def test_round_trip_keeps_options_of_the_law():
    case = CASES["multi_power, exponential"]
    result = fit(case.law, make_runs(case, every=200), FitOptions(starts=2, polished=1))
    assert result.law_options == {"form": "exponential"}
    assert FitResult.from_json(result.to_json()).get_law() == MultiPower(form="exponential")


def test_a_file_without_intervals_and_draws_will_do(data, result):
    for name in ("intervals", "draws", "spread"):
        del data[name]
    again = FitResult.from_json(json.dumps(data))
    assert (again.intervals, again.draws, again.spread) == ({}, (), ())
    assert again.parameters == result.parameters


def test_unknown_fields_are_left_alone(data, result):
    assert FitResult.from_json(json.dumps({**data, "colour": "blue"})) == result


def test_evaluate_takes_one_vector_or_several(result):
    conditions, steps = (
        Conditions(wsd(steps=4000, peak=1e-3, warmup=200, decay=800)),
        np.array([500.0, 4000.0]),
    )
    one = result.evaluate(conditions, steps)
    assert one.shape == (2,)
    assert np.array_equal(result.evaluate(conditions, steps, result.vector), one)
    several = result.evaluate(conditions, steps, np.array(result.draws))
    assert several.shape == (3, 2)
    np.testing.assert_array_equal(several[1], result.evaluate(conditions, steps, np.array(result.draws[1])))


def test_text_that_is_no_json():
    with pytest.raises(InputError, match=r"^my\.json: not a fit: .*; make one with `lehr fit`\.$"):
        FitResult.from_json("{", "my.json")
    with pytest.raises(InputError, match=r"not a fit: .*recursion"):
        FitResult.from_json("[" * 200_000)


@pytest.mark.parametrize(
    ("text", "found"), [("[]", "'list'"), ("{}", "None"), ('{"lehr_fit": 2}', "2"), ("3", "'int'")]
)
def test_another_schema(text, found):
    with pytest.raises(
        InputError, match=rf"^fit: lehr_fit must be 1, got {found}: make the file again with `lehr fit`"
    ):
        FitResult.from_json(text)


def test_missing_fields_are_all_named(data):
    del data["cost"], data["domain"]
    with pytest.raises(
        InputError, match=r"^fit: the fit lacks cost, domain; make it again with `lehr fit`\.$"
    ):
        FitResult.from_json(json.dumps(data))


@pytest.mark.parametrize(
    ("field", "value", "place"),
    [
        ("law", 5, "law: "),
        ("law_options", [1], "law_options: "),
        ("parameters", None, "parameters: "),
        ("parameters", {"exponent": "x"}, r"parameters\.exponent: "),
        ("status", None, "status: "),
        ("at_bounds", 3, "at_bounds: "),
        ("warnings", "no", "warnings: "),
        ("starts_agreeing", "many", "starts_agreeing: "),
        ("cost", {}, "cost: "),
        ("residuals", {"r": 1}, r"residuals\.r: "),
        ("domain", [1], "domain: "),
        ("domain", {"steps": 1}, r"domain\.peak_lr: Field required"),
        ("options", "x", "options: "),
        ("groups", "ab", "groups: "),
        ("adapted", 3, "adapted: "),
        ("versions", {"lehr": 1}, r"versions\.lehr: "),
        ("intervals", {"exponent": [1]}, r"intervals\.exponent\.1: "),
        ("draws", [[1, "x"]], r"draws\.0\.1: "),
        ("spread", 0.1, "spread: "),
    ],
)
def test_damaged_fields_are_refused_with_their_place(data, field, value, place):
    with pytest.raises(
        InputError, match=rf"^f\.json: the fit is damaged \({place}.*\); make it again with `lehr fit`"
    ):
        FitResult.from_json(json.dumps({**data, field: value}), "f.json")


def test_values_without_sense_are_refused(data):
    parameters = {**data["parameters"], "memory": math.nan}
    with pytest.raises(
        InputError, match=r"fit is damaged \(a parameter is not a finite number\); make it again"
    ):
        FitResult.from_json(json.dumps({**data, "parameters": parameters}))
    with pytest.raises(
        InputError, match=r"fit is damaged \(a draw does not hold 5 parameters\); make it again"
    ):
        FitResult.from_json(json.dumps({**data, "draws": [[1, 2]]}))


def test_an_unknown_law_or_option_is_refused(data):
    with pytest.raises(InputError, match=r"unknown law 'tisue': did you mean 'tissue'\?"):
        FitResult.from_json(json.dumps({**data, "law": "tisue"}))
    with pytest.raises(InputError, match=r"unknown option of law tissue 'warmups': did you mean 'warmup'\?"):
        FitResult.from_json(json.dumps({**data, "law_options": {"warmups": "peak"}}))
    with pytest.raises(
        InputError, match=r"law_options: the fit is damaged \(warmup: Input should be 'as_run', 'peak'"
    ):
        FitResult.from_json(json.dumps({**data, "law_options": {"warmup": "cold"}}))


def test_what_makes_a_law_over_sizes_that_law_is_no_option(data):
    sized = {**data, "law": "weight_norm_n"}
    for name in ("base", "name"):
        with pytest.raises(InputError, match=f"unknown option of law weight_norm_n '{name}'"):
            FitResult.from_json(json.dumps({**sized, "law_options": {name: "tissue"}}))
    with pytest.raises(
        InputError, match=r"law_options: the fit is damaged .*unknown parameter of law weight_norm 'x'"
    ):
        FitResult.from_json(json.dumps({**sized, "law_options": {"drift": ["x"]}}))


def test_fits_written_before_data_sets_were_known_are_still_read(data):
    old = {name: value for name, value in data.items() if name not in ("groups", "adapted")}
    old["domain"] = {name: value for name, value in data["domain"].items() if name != "sparsity"}
    result = FitResult.from_json(json.dumps(old))
    assert (result.groups, dict(result.adapted), result.domain.sparsity) == ((), {}, None)


def test_parameters_must_be_those_of_the_law(data):
    text = (
        r"^fit: parameters must be \['exponent', 'memory', .*\], got \['exponent', 'irreducible_loss'.*: make"
    )
    del data["parameters"]["memory"]
    with pytest.raises(InputError, match=text):
        FitResult.from_json(json.dumps(data))


def test_nothing_in_the_file_is_executed(data, tmp_path):
    """A classic of unpickling, as text in every string field: it stays text."""
    attack = f"__import__('pathlib').Path({str(tmp_path / 'x')!r}).touch()"
    data["warnings"], data["fingerprint"] = [attack], attack
    assert FitResult.from_json(json.dumps(data)).fingerprint == attack
    assert not (tmp_path / "x").exists()
