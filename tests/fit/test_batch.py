"""The critical batch and B_opt as powers of the loss, and what one batch costs against another."""

import json
from dataclasses import replace

import numpy as np
import pytest
from tests.batch_curves import known_law
from tests.synthetic import CASES, make_runs

from lehr.errors import InputError
from lehr.fit.batch import TOLERANCE, distinct
from lehr.fit.fit import fit
from lehr.fit.result import FitResult

LAW = known_law()


def test_the_critical_batch_is_a_power_of_the_loss():
    assert LAW.critical(3.0) == 1000
    assert LAW.critical(1.5) == pytest.approx(16_000)


def test_from_b_opt_on_updates_exceed_the_fewest_by_the_tolerance():
    """The definition, against S(B) itself: an endless batch is stood for by a huge one."""
    for law in (LAW, known_law(floor=0.02)):
        for tolerance in (TOLERANCE, 0.2):
            at = law.optimal(2.8, tolerance)
            assert law.updates_ratio(2.8, at, 1e15) == pytest.approx(1 + tolerance)
            assert law.updates_ratio(2.8, 1.01 * at, 1e15) < 1 + tolerance


def test_at_the_critical_batch_updates_double_and_small_batches_pay_in_proportion():
    assert LAW.updates_ratio(3.0, 1000, 1e15) == pytest.approx(2)
    assert LAW.updates_ratio(3.0, 0.5, 1.0) == pytest.approx(2, rel=1e-3)
    assert LAW.updates_ratio(3.0, 2000, 1000) * LAW.updates_ratio(3.0, 1000, 2000) == pytest.approx(1)


def test_a_batch_below_the_floor_never_arrives():
    law = known_law(floor=0.1)
    assert law.updates_ratio(3.0, 100, 1000) == np.inf
    assert law.updates_ratio(3.0, 1000, 100) == 0
    assert np.isnan(law.updates_ratio(3.0, 90, 100))


def test_the_interval_is_that_of_the_draws():
    low, high = LAW.interval(3.0)
    assert (low, high) == pytest.approx((20_000 * np.exp(-0.09), 20_000 * np.exp(0.09)))
    inner = LAW.interval(3.0, level=0.5)
    assert low < inner[0] < LAW.optimal(3.0) < inner[1] < high
    assert LAW.interval(3.0, tolerance=1.0)[1] == pytest.approx(1000 * np.exp(0.09))
    assert known_law(draws=((1.0, 2.0, 0.0), (1.0, 4.0, 0.0))).exponent_interval() == pytest.approx(
        (2.1, 3.9)
    )


def test_a_bound_is_open_to_its_other_side():
    most, least = known_law("at_most"), known_law("at_least")
    assert most.optimal(3.0) == pytest.approx(most.interval(3.0)[1]) and most.interval(3.0)[0] == 0
    assert least.optimal(3.0) == pytest.approx(least.interval(3.0)[0]) and least.interval(3.0)[1] == np.inf


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: LAW.critical(0), "loss must be a finite number above 0, got 0: give it in nats per token."),
        (lambda: LAW.interval(-1.0), "loss must be a finite number above 0, got -1.0: give it in nats per token."),
        (
            lambda: LAW.optimal(3.0, 0.0),
            "tolerance must be a finite number above 0, got 0.0: give it in a share, such as 0.05.",
        ),
        (lambda: LAW.interval(3.0, level=1.0), "level must lie between 0 and 1, got 1.0: use e.g. 0.9."),
        (
            lambda: LAW.updates_ratio(3.0, np.inf, 1e5),
            "batch must be a finite number above 0, got inf: give it in tokens.",
        ),
    ],
)  # fmt: skip
def test_values_without_sense_are_refused(call, text):
    with pytest.raises(InputError) as caught:
        call()
    assert str(caught.value) == text


def test_batches_within_a_percent_are_one():
    assert distinct([1e5, 1.005e5, 2e5, 1.0e5]) == (1e5, 2e5)
    assert distinct([]) == ()


# the law travels with a fit


@pytest.fixture(scope="module")
def result():
    return fit(CASES["one_power"].law, make_runs(CASES["one_power"], every=200))


def test_the_law_travels_with_the_fit(result):
    told = replace(result, batch=LAW)
    assert FitResult.from_json(told.to_json()) == told


def test_files_of_before_still_load(result):
    data = json.loads(result.to_json())
    assert data.pop("batch") is None
    assert FitResult.from_json(json.dumps(data)).batch is None


def test_a_damaged_law_is_refused_with_its_place(result):
    data = json.loads(replace(result, batch=LAW).to_json())
    data["batch"]["kind"] = "guessed"
    with pytest.raises(InputError, match=r"the fit is damaged \(batch\.kind: Input should be 'measured'"):
        FitResult.from_json(json.dumps(data))
