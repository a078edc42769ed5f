"""Forms of ln LR_opt: what they evaluate to, and when runs identify them."""

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.peaklr.location import FORMS, evaluate, formula, get_form, require_identified, start, unidentified

LOGS = {
    "params": np.log([1, 2, 4, 1, 2, 4]), "tokens": np.log([1, 1, 1, 4, 4, 4]),
    "batch": np.log([1.0, 2, 3, 4, 5, 6]), "sparsity": np.zeros(6),
}  # fmt: skip


def test_linear_forms_are_powers():
    found = evaluate(FORMS["batch"], np.array([0.5, -0.6, 0.2, 0.3]), LOGS)
    np.testing.assert_allclose(found, 0.5 - 0.6 * LOGS["params"] + 0.2 * LOGS["tokens"] + 0.3 * LOGS["batch"])
    np.testing.assert_array_equal(evaluate(FORMS["constant"], np.array([0.5]), LOGS), np.full(6, 0.5))


def test_the_surge_is_that_of_the_paper():
    """LR_max / ((sqrt(Bn/B) + sqrt(B/Bn)) / 2), arXiv 2405.14578, with Bn = e^.4 D^.7."""
    found = evaluate(FORMS["surge"], np.array([0.1, 0.0, 0.0, 0.4, 0.7]), LOGS)
    noise = np.exp(0.4 + 0.7 * LOGS["tokens"])
    batch = np.exp(LOGS["batch"])
    np.testing.assert_allclose(
        np.exp(found), np.exp(0.1) / ((np.sqrt(noise / batch) + np.sqrt(batch / noise)) / 2)
    )


def test_the_surge_grows_as_the_root_of_a_small_batch():
    logs = {**LOGS, "batch": np.array([-20.0, -18, -20, -18, -20, -18]), "tokens": np.zeros(6)}
    found = evaluate(FORMS["surge"], np.array([0.0, 0.0, 0.0, 0.0, 0.0]), logs)
    assert found[1] - found[0] == pytest.approx(1.0, abs=1e-6)


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_a_search_starts_with_as_many_coefficients_as_it_has_labels(form):
    assert len(start(form, 0.0)) == len(form.labels) == len(set(form.labels))
    assert evaluate(form, start(form, -6.0), LOGS).shape == (6,)


@pytest.mark.parametrize("name", FORMS)
def test_the_formula_says_what_the_law_does(name):
    """The formula, read back, gives the LR of the law."""
    form = FORMS[name]
    centre = {"params": 2e8, "tokens": 1e10, "batch": 3e5, "sparsity": 4.0}
    values = {"params": 5e8, "tokens": 7e10, "batch": 1e6, "sparsity": 9.0}
    coefficients = [-6.0, *np.linspace(0.2, 0.5, len(form.labels) - 1)]
    text = formula(form, coefficients, centre).removeprefix("LR = ")
    for symbol, key in (("N", "params"), ("D", "tokens"), ("S", "sparsity")):
        text = text.replace(f"{symbol}^", f"*{values[key]!r}**")
    text = (
        text.replace("B^", f"*{values['batch']!r}**")
        .replace("B /", f"{values['batch']!r} /")
        .replace("ln(", "np.log(")
    )
    text = text.replace("cosh", "np.cosh")
    if form.surge:
        scale = text.split(" / (")[1].split(")")[0]
        text = text.replace(scale, scale.replace(" *", "*"))
    logs = {key: np.log([values[key] / centre[key]]) for key in values}
    expected = float(np.exp(evaluate(form, np.array(coefficients), logs)[0]))
    assert eval(text, {"np": np}) == pytest.approx(expected, rel=0.03)  # exponents are printed to .001


def test_an_unknown_form_is_refused():
    with pytest.raises(InputError, match="unknown form of a peak-LR law 'sizes': did you mean 'size'"):
        get_form("sizes")


CASES = [
    ("size+sparsity", LOGS, "the optima share one sparsity, so that its exponent is not identified"),
    ("batch", {**LOGS, "params": np.zeros(6)}, "the optima share one params, so that its exponent is not identified"),
    ("size", {**LOGS, "tokens": 2 * LOGS["params"]}, "the optima vary params and tokens in step"),
    (
        "surge", {name: values[:4] for name, values in LOGS.items()},
        "4 optima cannot tell the 5 coefficients of the form",
    ),
    ("batch", {name: LOGS[name] for name in ("params", "tokens")}, "the optima do not tell their batch"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "logs", "text"), CASES, ids=[case[2][:30] for case in CASES])
def test_forms_that_the_runs_do_not_identify_are_refused(name, logs, text):
    assert text in unidentified(FORMS[name], logs)
    with pytest.raises(InputError) as caught:
        require_identified(FORMS[name], logs)
    message = str(caught.value)
    assert message.startswith(f"form '{name}' cannot be fitted: ") and text in message
    assert message.endswith("; take a simpler form or add runs.")


def test_identified_forms_pass():
    for name in ("constant", "tokens", "size", "batch", "surge"):
        assert unidentified(FORMS[name], LOGS) is None
