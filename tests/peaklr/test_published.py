"""Published laws against the values that were computed from their sources."""

import pytest

from lehr.errors import InputError
from lehr.peaklr.published import LAWS, Anchor, LogLine, Planned, Power, apply_law, published_lrs


def told(name, *counts, **more):
    return next(found for found in published_lrs(*counts, **more) if found.name == name)


@pytest.mark.parametrize(
    ("name", "params", "tokens", "lr", "batch"),
    [
        ("step_law", 1e9, 1e11, 1.63e-3, 1.11e6),
        ("deepseek", 1e9, 1e11, 7.9e-4, 1.83e6),
        ("ant_moe", 1e9, 1e11, 1.11e-3, 3.24e6),
        ("step_law", 7e9, 2e12, 1.02e-3, 6.13e6),
        ("deepseek", 7e9, 2e12, 4.25e-4, 9.20e6),
        ("ant_moe", 7e9, 2e12, 5.6e-4, 15.3e6),
    ],
)
def test_values_of_the_laws(name, params, tokens, lr, batch):
    """Dense models, C = 6 N D."""
    found = told(name, params, tokens)
    assert found.lr == pytest.approx(lr, rel=0.007)
    assert found.batch == pytest.approx(batch, rel=0.005)


def test_the_held_out_check_of_the_sparsity_law():
    """arXiv 2609.08690: 12B, 1/64 active, 159B tokens: batch 5.84M; the LR 6.92e-4 goes with C = 2.97e20."""
    assert told("ant_moe", 12e9, 159e9, active=12e9 / 64).batch == pytest.approx(5.84e6, rel=0.002)
    params = 2.97e20 * 64 / 6 / 159e9
    assert told("ant_moe", params, 159e9, active=params / 64).lr == pytest.approx(6.92e-4, rel=0.002)


def test_the_other_laws_are_their_formulas():
    assert told("kaplan", 1e8, 1e10).lr == pytest.approx(3.239e-3 - 1.395e-4 * 18.420681, rel=1e-6)
    assert told("porian", 1e8, 1e10).lr == pytest.approx(3.7 * 1e8**-0.36)
    assert told("porian", 1e8, 1e10).batch == pytest.approx(0.7576 * 1e8**0.703)


@pytest.mark.parametrize("name", LAWS)
def test_an_anchor_is_its_own_prediction_and_ratios_follow_the_exponents(name):
    anchor = Anchor(2e-3, Planned(2e8, 1e10))
    assert told(name, 2e8, 1e10, anchor=anchor).anchored_lr == pytest.approx(2e-3)
    law = LAWS[name]
    if isinstance(law.lr, Power):
        grown = told(name, 4e8, 8e10, anchor=anchor).anchored_lr / 2e-3
        powers = law.lr
        expected = 2 ** (powers.params + powers.compute) * 8 ** (powers.tokens + powers.compute)
        assert grown == pytest.approx(expected)
    else:
        assert isinstance(law.lr, LogLine)


def test_laws_of_exponents_alone_need_an_anchor():
    for name in ("bjorck", "set_lr", "convex"):
        assert told(name, 1e9, 1e11).lr is None
        assert told(name, 1e9, 1e11).anchored_lr is None
        assert "exponents only" in told(name, 1e9, 1e11).remarks[0]
    carried = told("set_lr", 4e8, 4e10, anchor=Anchor(1e-3, Planned(2e8, 1e10))).anchored_lr
    assert carried == pytest.approx(1e-3 * 2**-0.2219 * 4**-0.3509)


def test_experts_count_whole_in_step_law_and_by_what_is_active_elsewhere():
    assert told("step_law", 1e10, 1e11, active=1e9).lr == told("step_law", 1e10, 1e11).lr
    assert told("deepseek", 1e10, 1e11, active=1e9).lr == told("deepseek", 1e9, 1e11).lr
    assert told("ant_moe", 1e10, 1e11, active=1e9).lr == pytest.approx(
        told("ant_moe", 1e9, 1e11).lr * 0.1**0.1361
    )


def test_what_lies_outside_and_another_batch_are_marked():
    found = told("step_law", 7e9, 2e12, batch=1e6)
    assert found.outside == ("params 7e+09 outside 2.1e+08 to 1.1e+09", "tokens 2e+12 outside 4e+09 to 1e+11")
    assert "holds at its own batch of 6.13e+06 tokens, not at 1e+06" in found.remarks
    assert not any("holds at" in remark for remark in told("step_law", 7e9, 2e12, batch=6e6).remarks)
    assert told("step_law", 5e8, 5e10).outside == ()


def test_a_line_that_has_turned_negative_gives_nothing():
    found = told("kaplan", 1e11, 1e12, anchor=Anchor(1e-3, Planned(1e8, 1e10)))
    assert found.lr is None and found.anchored_lr is None
    assert "gives no LR above 0 here" in found.remarks


@pytest.mark.parametrize("law", LAWS.values(), ids=list(LAWS))
def test_each_law_tells_its_source_certainty_and_units(law):
    assert "arXiv" in law.source
    assert any(word in law.certainty for word in ("seen", "memory"))
    assert law.batch_rule and law.params_unit
    assert (law.lr.prefactor is None) == ("needs an anchor" in law.remark)
    assert apply_law(law, Planned(1e9, 1e11)).name == law.name


REFUSED = [
    (dict(params=0, tokens=1e9), "params must be above 0, got 0: give a finite count."),
    (dict(params=1e8, tokens=float("nan")), "tokens must be above 0, got nan: give a finite count."),
    (dict(params=1e8, tokens=1e9, batch=-1), "batch must be above 0, got -1: give a finite count."),
    (
        dict(params=1e8, tokens=1e9, active=2e8),
        "active must not exceed the 1e+08 parameters, got 200000000.0: swap the two.",
    ),
]


@pytest.mark.parametrize(("counts", "text"), REFUSED, ids=lambda value: str(value)[:30])
def test_counts_without_sense_are_refused(counts, text):
    with pytest.raises(InputError) as caught:
        published_lrs(**counts)
    assert str(caught.value) == text


def test_an_anchor_without_an_lr_is_refused():
    with pytest.raises(
        InputError, match="anchor's LR must be above 0, got 0.0: give a measured best peak LR"
    ):
        Anchor(0.0, Planned(1e8, 1e9))
