"""A law over several data sets: a line between their losses."""

import numpy as np
import pytest
from tests.synthetic import BATCH, CASES, STEPS, schedules

from lehr.errors import InputError
from lehr.laws import LAWS
from lehr.laws.grouped import Grouped, find_group
from lehr.laws.law import Conditions

AFTER = np.arange(500.0, STEPS + 1, 250)
NAMES = ("books/val", "web/val", "code/val")
every_law = pytest.mark.parametrize("name", LAWS)


def on(data, params=1e8):
    return Conditions(schedules()["wsd"], params, BATCH, data=data)


def with_groups(case):
    """The law over three data sets, and its parameters: scales 1.2 and .9, levels .3 above and .2 below."""
    floor = case.linear[0]
    nonlinear = (*case.nonlinear, 1.2, 0.9)
    return Grouped(case.law, NAMES), np.array(nonlinear), np.array([*case.linear, floor + 0.3, floor - 0.2])


@every_law
def test_losses_of_all_data_sets_lie_on_lines(name):
    case = CASES[name]
    law, nonlinear, linear = with_groups(case)
    plain = case.loss(on(None), AFTER)
    found = {data: law.bind(on(data), AFTER)(nonlinear)[0] @ linear for data in NAMES}
    np.testing.assert_allclose(found["books/val"], plain, rtol=1e-13)
    for data, scale, level in (("web/val", 1.2, 0.3), ("code/val", 0.9, -0.2)):
        floor = case.linear[0]
        np.testing.assert_allclose(found[data], floor + level + scale * (plain - floor), rtol=1e-12)


@every_law
def test_parameters_of_one_data_set_give_its_loss_by_the_plain_law(name):
    case = CASES[name]
    law, nonlinear, linear = with_groups(case)
    shape = len(case.nonlinear)
    for data in NAMES:
        vectors = law.of_group(np.stack([np.concatenate([nonlinear, linear])] * 2), data)
        assert vectors.shape == (2, len(case.vector))
        own = case.law.bind(on(None), AFTER)(vectors[0, :shape])[0] @ vectors[0, shape:]
        np.testing.assert_allclose(own, law.bind(on(data), AFTER)(nonlinear)[0] @ linear, rtol=1e-12)


@every_law
def test_values_of_many_rows_at_once_are_those_of_each(name):
    law, nonlinear, _ = with_groups(CASES[name])
    rows = nonlinear * np.array([[1.0], [1.01], [0.98]])
    for data in NAMES:
        bound = law.bind(on(data), AFTER)
        np.testing.assert_allclose(
            bound.values(rows), np.stack([bound(row)[0] for row in rows]), rtol=1e-9, atol=1e-13
        )


@every_law
def test_derivatives_match_finite_differences(name):
    law, nonlinear, _ = with_groups(CASES[name])
    for data in NAMES:
        basis = law.bind(on(data), AFTER)
        phi, slope = basis(nonlinear)
        assert slope.shape == (*phi.shape, len(law.nonlinear))
        for i in range(len(nonlinear)):
            h = 1e-5 * max(abs(nonlinear[i]), 0.1)
            up, down = (basis(nonlinear + np.eye(len(nonlinear))[i] * d)[0] for d in (h, -h))
            numeric = (up - down) / (2 * h)
            np.testing.assert_allclose(slope[:, :, i], numeric, atol=2e-5 * np.abs(numeric).max() + 1e-10)


def test_it_says_of_itself_what_its_law_says():
    for case in (CASES["weight_norm_n"], CASES["tissue"], CASES["chinchilla"]):
        law = Grouped(case.law, NAMES)
        for word in (
            "name",
            "title",
            "reference",
            "needs_anneal",
            "needs_sizes",
            "uses_weight_decay",
            "degenerate",
        ):
            assert getattr(law, word) == getattr(case.law, word)
        assert law.linear[0] == case.law.linear[0]


def test_names_of_parameters_are_names_and_differ():
    law = Grouped(LAWS["tissue"], ("a", "Open-Web.Text2/val", "open web text2/val", "...", "b"))
    names = [p.name for p in law.nonlinear] + [a.name for a in law.linear]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name.islower() for name in names)
    assert names[2:6] == [
        "scale_open_web_text2_val_2",
        "scale_open_web_text2_val_3",
        "scale_unnamed",
        "scale_b",
    ]


def test_a_data_set_may_be_named_by_its_part_before_the_slash():
    assert find_group(NAMES, "web") == find_group(NAMES, "web/val") == 1


def test_no_data_set_or_an_unknown_one_is_refused():
    law = Grouped(LAWS["tissue"], NAMES)
    text = r"the fit is of 3 data sets \(books/val, web/val, code/val\): say on which the loss is asked for \(--data\)"
    with pytest.raises(InputError, match=text):
        law.bind(on(None), AFTER)
    with pytest.raises(InputError, match="unknown data set of the fit 'wb/val': did you mean 'web/val'"):
        law.bind(on("wb/val"), AFTER)
    with pytest.raises(InputError, match="unknown data set of the fit 'web'"):
        find_group(("web/val", "web/train"), "web")
