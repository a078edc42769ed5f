"""Weight decay, betas, warnings and refusals of a plan."""

import math
import re

import pytest
from tests.transfer.made import AS_DENSE, SETTINGS, dense, mixture, plan, scales

from lehr.errors import InputError
from lehr.transfer.plan import Settings, transfer
from lehr.transfer.roles import Multipliers
from lehr.transfer.tables import RULES

ALL_DENSE = ["sp", "mup", "depth-mup", "completep", "completep-lv", "completed-p"]


def taken(made):
    """What an update at the peak takes of a weight, by group, over what it took in the base."""
    base = SETTINGS.lr * SETTINGS.weight_decay
    return {
        group: own.lr.value * own.weight_decay.value / base
        for group, own in made.groups.items()
        if own.weight_decay.base
    }


@pytest.mark.parametrize("rule", ALL_DENSE)
def test_independent_decay_takes_of_every_weight_what_it_took(rule):
    made = plan(dense, rule, weight_decay="independent", horizon="zhou", width=256, depth=4, tokens=4e6)
    shares = taken(made)
    assert set(shares) == {"embedding", "attention_in", "attention_out", "ffn_in", "ffn_down", "head"}
    assert list(shares.values()) == pytest.approx([1.0] * 6)


@pytest.mark.parametrize("rule", ALL_DENSE)
def test_the_time_scale_is_that_share_of_the_training(rule):
    """batch / (LR * coefficient * tokens) is the base's for every module."""
    made = plan(dense, rule, weight_decay="timescale", width=256, depth=4, batch=2e3, tokens=12e6)
    assert list(taken(made).values()) == pytest.approx([2 / 12] * 6)
    assert not [text for text in made.warnings if "time scale" in text]


def test_norms_never_decay():
    for mode in ("rule", "independent", "timescale"):
        own = plan(dense, "completep", weight_decay=mode, width=128).groups
        assert {own[name].weight_decay.value for name in ("block_norm", "qk_norm", "final_norm")} == {0.0}


def test_values_factors_and_reasons():
    made = plan(dense, "completep", horizon="sqrt", tokens=4e6, width=256)
    own = made.groups["attention_in"]
    assert own.lr.value == pytest.approx(SETTINGS.lr / 4 / 2)
    assert own.lr.why == "fan_in 4 ^ -1, tokens 4 ^ -0.5"
    assert own.init_std.why == "fan_in 4 ^ -0.5"
    assert made.groups["embedding"].epsilon.why == ""
    assert made.multipliers == Multipliers(1.0, 1 / math.sqrt(16), 1 / 4)
    assert made.of("attention_key") is own and made.of("bias") is made.groups["block_norm"]
    assert made.groups["attention_out"].init_std.value == pytest.approx(0.02 / 2 / 4**0.5)


def test_the_attention_of_the_base_is_the_usual_one():
    """1 / sqrt(head width) of the base, then by 1 / head width."""
    assert plan(dense, "mup", head_width=64).multipliers.attention == pytest.approx(1 / 4 / 4)
    assert plan(dense, "sp", head_width=64).multipliers.attention == pytest.approx(1 / 8)


def test_a_base_may_have_a_standard_deviation_of_its_own_for_what_writes_to_the_stream():
    base, target = scales(dense)
    own = transfer(base, target, "mup", Settings(0.01, init_std=0.02, residual_init_std=0.005)).groups
    assert (own["ffn_down"].init_std.value, own["ffn_in"].init_std.value) == (0.005, 0.02)


@pytest.mark.parametrize(
    ("rule", "make", "sizes", "text"),
    [
        ("mup", dense, {"depth": 4}, "depth changes by a factor 2: the rule says nothing of depth"),
        ("depth-mup", dense, {"depth": 8}, "depth changes by a factor 4: CompleteP's authors find that the best LR"),
        ("mup-moe", mixture, {"expert_hidden": 64}, "expert_width changes by a factor 2: .* the granularity"),
        ("completep-moe", mixture, {"experts": 32}, "active_share changes by a factor 0.25: .* must stay"),
        ("completed-p", dense, {"width": 4096, "hidden": 16384}, "grow by a factor 4096; completed-p was measured up"),
        ("completep", dense, {"tokens": 2e6}, "training tokens change by a factor 2, of which completep says nothing"),
        ("completep", dense, {"batch": 2e3}, "the batch changes by a factor 2, of which completep says nothing"),
        ("completep", dense, {"tokens": 4e6, "batch": 2e3, "horizon": "zhou"}, "the batch changes by a factor 2"),
        ("completep", dense, {"tokens": 4e6}, "of weight decay, as a share of the training, changes by a factor 0.25"),
        ("depth-mup", dense, {"depth": 8}, "time scale of weight decay, .* changes by a factor 1 to 2: weight decay"),
    ],
)  # fmt: skip
def test_what_a_rule_does_not_cover_is_said(rule, make, sizes, text):
    assert any(re.search(text, warning) for warning in plan(make, rule, **sizes).warnings)


def test_nothing_is_said_of_what_is_covered():
    assert plan(dense, "completep", width=256, hidden=1024, depth=8).warnings == ()
    assert plan(dense, "completed-p", width=256, hidden=1024, batch=2e3, tokens=4e6).warnings == ()
    assert plan(dense, "mup", width=256, weight_decay="timescale", horizon="sde", tokens=4e6).warnings == ()


@pytest.mark.parametrize("rule", sorted(name for name, rule in RULES.items() if "router" not in rule.rows))
def test_a_dense_rule_refuses_a_router_unless_told_how_to_treat_it(rule):
    text = (
        rf"rule '{rule}' has no row for router: choose one that has \(sp, mup-moe, completep-moe\), or say as which "
        r"group to treat it, such as treat = \{ router = 'ffn_in' \}\."
    )
    with pytest.raises(InputError, match=text):
        plan(mixture, rule, width=128)
    treated = plan(mixture, rule, width=128, treat=AS_DENSE).groups
    assert treated["router"].lr.factor == 0.5
    assert treated["expert_down"].lr.factor == 1.0  # its own fan-in has not grown


@pytest.mark.parametrize(
    ("asked", "text"),
    [
        ({"rule": "complete-p"}, "unknown rule of transfer 'complete-p': did you mean 'complete"),
        ({"horizon": "bjork"}, "unknown rule for tokens and batch 'bjork': did you mean 'bjorck'"),
        ({"weight_decay": "coupled"}, "unknown way to carry weight decay over 'coupled'"),
        ({"treat": {"routers": "head"}}, "unknown group of parameters 'routers': did you mean 'router'"),
        ({"treat": {"router": "heads"}}, "unknown group of parameters 'heads': did you mean 'head'"),
        (
            {"rule": "completed-p", "batch": 12e3},
            r"1 - beta1 must stay below 1, and the rule multiplies it by 12 \(batch 12 \^ 1, tokens 1 \^ -1\), got 1\.",
        ),
    ],
)
def test_what_cannot_be_planned_is_refused(asked, text):
    with pytest.raises(InputError, match=text):
        plan(dense, **{"rule": "completep", **asked})


def test_a_tied_head_has_no_lr_of_its_own():
    base, target = scales(lambda **sizes: dense(tied=True, **sizes), width=128)
    assert "head" not in transfer(base, target, "completep", SETTINGS).groups
    with pytest.raises(
        InputError, match="tied must be false under rule 'completed-p' .* got True: use completep"
    ):
        transfer(base, target, "completed-p", SETTINGS)


def test_a_part_that_the_target_lacks_is_refused():
    with pytest.raises(InputError, match="must be the target that was planned for, .* got 'router'"):
        plan(dense, "mup").of("router")
