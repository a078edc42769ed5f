"""Every rule is the identity at ratio 1 and can be taken in steps; the published tables, written out anew."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.transfer.made import AS_DENSE, MATRICES, dense, factors, mixture, plan

from lehr.transfer.plan import Settings, transfer
from lehr.transfer.sizes import Scale
from lehr.transfer.tables import HORIZONS, RULES

small = st.integers(1, 6)
dense_sizes = st.builds(
    dense, width=small.map(lambda k: 16 * k), depth=small, head_width=small.map(lambda k: 2 * k),
    hidden=small.map(lambda k: 24 * k),
)  # fmt: skip
mixed_sizes = st.builds(
    mixture, width=small.map(lambda k: 16 * k), depth=small, expert_hidden=small.map(lambda k: 8 * k),
    experts=st.integers(4, 9), top_k=st.integers(1, 4), shared=st.just(48),
)  # fmt: skip
tokens = st.floats(1e5, 1e9)
MODES = ("rule", "independent", "timescale")
asked = st.tuples(
    st.sampled_from(sorted(RULES)), st.sampled_from(MODES), st.sampled_from([None, *sorted(HORIZONS)])
)


def carried(base, target, how):
    rule, mode, horizon = how
    treat = {} if "router" in RULES[rule].rows else AS_DENSE
    # betas near 1, so that no batch is refused
    settings = Settings(lr=0.01, beta1=1 - 1e-9, beta2=1 - 1e-9)
    return transfer(base, target, rule, settings, weight_decay=mode, horizon=horizon, treat=treat)


@given(st.one_of(dense_sizes, mixed_sizes), st.floats(1, 1e6), tokens, asked)
def test_every_rule_is_the_identity_where_the_target_is_the_base(sizes, batch, length, how):
    made = carried(Scale(sizes, batch, length), Scale(sizes, batch, length), how)
    assert set(factors(made).values()) == {1.0}
    assert made.warnings == ()
    for group, own in made.groups.items():
        assert own.lr.value == 0.01 and own.epsilon.value == 1e-8
        if own.init_std:
            writes = group in ("attention_out", "ffn_down", "expert_down")
            assert own.init_std.value == pytest.approx(0.02 / (2 * sizes.depth) ** 0.5 if writes else 0.02)


@given(
    st.one_of(st.tuples(*[dense_sizes] * 3), st.tuples(*[mixed_sizes] * 3)), st.tuples(*[tokens] * 6), asked
)
def test_two_steps_are_as_one(sizes, lengths, how):
    """What a rule multiplies by from a to b and from b to c is what it multiplies by from a to c."""
    a, b, c = (Scale(each, lengths[i], lengths[3 + i]) for i, each in enumerate(sizes))
    first, second, both = (factors(carried(*pair, how)) for pair in ((a, b), (b, c), (a, c)))
    assert both.keys() == first.keys()
    for key, value in both.items():
        assert first[key] * second[key] == pytest.approx(value, rel=1e-9), key


def close(made, expected):
    """Hold the factors of a plan against {quantity: {group: factor}}; what is not named is 1."""
    found = factors(made)
    for key, value in found.items():
        if isinstance(key, tuple):
            group, name = key
            wanted = expected.get(name, {}).get(group, 1.0)
            assert value == pytest.approx(wanted), key
        else:
            assert value == pytest.approx(expected.get(key, 1.0)), key


N, L = 4, 3  # ratios of width and depth in the tables below
WIDE = {"width": 64 * N, "depth": 2 * L, "head_width": 32, "hidden": 256 * N}
BLOCK = (*MATRICES, "block_norm", "qk_norm")


def test_completep_is_the_published_table():
    """arXiv 2505.01618, table 1, at alpha = 1."""
    close(plan(dense, "completep", **WIDE), {
        "init_std": dict.fromkeys(MATRICES, N**-0.5), "lr": dict.fromkeys(MATRICES, 1 / N),
        "weight_decay": dict.fromkeys(MATRICES, N), "epsilon": dict.fromkeys(BLOCK, 1 / (N * L)),
        "residual": 1 / L, "output": 1 / N, "attention": 1 / 2,
    })  # fmt: skip


def test_depth_mup_is_the_same_table_at_one_half():
    close(plan(dense, "depth-mup", **WIDE), {
        "init_std": dict.fromkeys(MATRICES, N**-0.5),
        "lr": {**dict.fromkeys(MATRICES, 1 / N * L**-0.5), "block_norm": L**-0.5, "qk_norm": L**-0.5},
        "weight_decay": dict.fromkeys(MATRICES, N), "epsilon": dict.fromkeys(BLOCK, 1 / (N * L**0.5)),
        "residual": L**-0.5, "output": 1 / N, "attention": 1 / 2,
    })  # fmt: skip


def test_a_large_vocabulary_changes_completep_at_the_embedding_alone():
    """arXiv 2506.15025: the embedding's LR over that of hidden matrices grows as width^1/2, not as width."""
    plain, large = (plan(dense, name, **WIDE) for name in ("completep", "completep-lv"))
    assert large.groups["embedding"].lr.value == pytest.approx(plain.groups["embedding"].lr.value / N**0.5)
    matrix = large.groups["ffn_in"].lr.value / plan(dense, "completep-lv").groups["ffn_in"].lr.value
    start = plan(dense, "completep-lv").groups["embedding"].lr.value
    assert large.groups["embedding"].lr.value / start / matrix == pytest.approx(N**0.5)
    changed = {key for key, value in factors(large).items() if value != pytest.approx(factors(plain)[key])}
    assert len(changed) == 2 and all("embedding" in str(key) for key in changed)


def test_completed_p_is_the_published_table():
    """arXiv 2512.22382: r = batch ratio / token ratio, here 2 / 8."""
    r, groups = 2 / 8, dense().groups
    made = plan(dense, "completed-p", batch=2e3, tokens=8e6, **WIDE)
    close(made, {
        "init_std": {**dict.fromkeys(MATRICES, N**-0.5), "head": 1 / N},
        "lr": {g: r**0.5 / (N if g in (*MATRICES, "head") else 1) for g in groups},
        "weight_decay": {
            **{g: r**0.5 * N for g in (*MATRICES, "head")}, "embedding": r**0.5,
        },
        "epsilon": {
            g: r**-0.5 / {"embedding": N, "head": 1, "final_norm": 1}.get(g, N * L) for g in groups
        },
        "residual": 1 / L, "attention": 1 / 2, "one_minus_beta": r,
    })  # fmt: skip
    assert {(own.beta1, own.beta2) for own in made.groups.values()} == {(1 - 0.1 * r, 1 - 0.05 * r)}


def test_completed_p_keeps_the_time_scale_of_weight_decay_by_itself():
    sizes = {"batch": 4e3, "tokens": 9e6, **WIDE}
    close_to, kept = (
        plan(dense, "completed-p", weight_decay=mode, **sizes) for mode in ("rule", "timescale")
    )
    assert factors(close_to) == pytest.approx(factors(kept))


def test_the_rule_of_experts_is_the_published_table():
    """arXiv 2601.20205: alpha is the share of width that an expert has, here 1/2 -> 1/4."""
    alpha = 0.5
    expected = {
        "init_std": {
            "attention_in": N**-0.5, "attention_out": N**-0.5, "router": 1 / N, "expert_in": N**-0.5,
            "expert_down": N**-0.5 / alpha,
        },
        "lr": {
            "attention_in": 1 / N, "attention_out": 1 / N, "router": 1 / N, "expert_in": 1 / N,
            "expert_down": 1 / (N * alpha),
        },
        "residual": 1 / L, "output": 1 / N,
    }  # fmt: skip
    # CompleteP's rows for the rest, and what an update takes of a weight unchanged
    expected["weight_decay"] = {group: 1 / value for group, value in expected["lr"].items()}
    block = ("attention_in", "attention_out", "block_norm", "qk_norm", "router", "expert_in", "expert_down")
    expected["epsilon"] = dict.fromkeys(block, 1 / (N * L))
    made = plan(mixture, "completep-moe", width=64 * N, depth=2 * L, expert_hidden=64, experts=4, top_k=1)
    close(made, expected)
    assert made.warnings == ()


def test_mup_for_experts():
    """arXiv 2508.09752: experts as hidden matrices; the router's factor 1 / N in its weights."""
    hidden = ("attention_in", "attention_out", "expert_in", "expert_down")
    close(plan(mixture, "mup-moe", width=64 * N, expert_hidden=32 * N, experts=32), {
        "init_std": {**dict.fromkeys(hidden, N**-0.5), "router": 1 / N},
        "lr": dict.fromkeys((*hidden, "router"), 1 / N), "weight_decay": dict.fromkeys((*hidden, "router"), N),
        "output": 1 / N,
    })  # fmt: skip


def test_the_standard_parameterisation_scales_initial_weights_alone():
    close(plan(dense, "sp", **WIDE), {
        "init_std": {
            "attention_in": N**-0.5, "ffn_in": N**-0.5, "head": N**-0.5, "attention_out": (N * L) ** -0.5,
            "ffn_down": (N * L) ** -0.5,
        },
        "attention": 2**-0.5,
    })  # fmt: skip


def test_hidden_widths_of_their_own_count_by_fan_in():
    own = plan(dense, "mup", width=128, hidden=768).groups
    assert own["ffn_in"].lr.factor == 1 / 2 and own["ffn_down"].lr.factor == 1 / 3


@pytest.mark.parametrize(("name", "factor"), [("bjorck", 8**-0.32), ("zhou", 8**-0.3509), ("sqrt", 8**-0.5)])
def test_a_rule_for_tokens_acts_on_every_lr_and_on_nothing_else(name, factor):
    close(plan(dense, "completep", tokens=8e6, horizon=name), {"lr": dict.fromkeys(dense().groups, factor)})


def test_every_rule_says_where_it_is_from():
    for rule in RULES.values():
        assert rule.summary and rule.source and rule.certainty
    assert all(horizon.source for horizon in HORIZONS.values())
