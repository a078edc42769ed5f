"""Sizes, their ratios, and what must not differ between base and target."""

from dataclasses import replace

import pytest
from tests.transfer.made import dense, mixture

from lehr.errors import InputError
from lehr.transfer.sizes import Architecture, Scale, ratios


def over(base, target, batch=1.0, tokens=1.0):
    return ratios(Scale(base, 1e3, 1e6), Scale(target, 1e3 * batch, 1e6 * tokens))


def test_ratios_by_name():
    found = over(mixture(), mixture(width=128, depth=6, expert_hidden=96, experts=16, top_k=8), 2, 5)
    assert (found.width, found.depth, found.head_width, found.ffn) == (2, 3, 1, 1)
    assert (found.expert_width, found.experts, found.top_k, found.active_share) == (1.5, 2, 4, 2)
    assert (found.batch, found.tokens) == (2, 5)
    assert found.of("fan_in", "expert_down") == 3 and found.of("fan_in", "router") == 2
    assert found.of("fan_in", "embedding") == 1 and found.of("width", "router") == 2
    assert over(dense(), dense(width=128, hidden=768)).ffn == 1.5
    assert over(mixture(shared=32), mixture(shared=96)).of("fan_in", "ffn_down") == 3


def test_parameters_are_those_of_the_blocks():
    """Two blocks: four matrices 64 x 64 and three 64 x 256, or the router and eight experts of three 64 x 32."""
    assert dense().block_parameters == 2 * (4 * 64 * 64 + 3 * 64 * 256)
    assert mixture().block_parameters == 2 * (4 * 64 * 64 + 8 * 64 + 8 * 3 * 64 * 32)


def test_groups_are_those_that_the_model_has():
    assert set(dense(tied=True).groups) == {
        "embedding", "attention_in", "attention_out", "ffn_in", "ffn_down", "block_norm", "qk_norm", "final_norm",
    }  # fmt: skip
    assert {"ffn_in", "ffn_down"} & set(mixture().groups) == set()
    assert {"ffn_in", "router", "expert_down", "head"} <= set(mixture(shared=32).groups)


@pytest.mark.parametrize(
    ("base", "target", "text"),
    [
        (dense(), mixture(), "one architecture: the target is a mixture of experts, the base is not"),
        (mixture(), dense(), "one architecture: the base is a mixture of experts, the target is not"),
        (mixture(), mixture(shared=9), "the target is with a dense or shared feed-forward, the base is not"),
        (dense(tied=True), dense(), r"tied \(whether the head is the embedding\) must be that of the base, True"),
        (replace(dense(), qk_norm=False), dense(), r"qk_norm \(.*\) must be that of the base, False, got True"),
        (mixture(), replace(mixture(), router="sigmoid"), r"router \(.*\) must be that of the base, 'softmax'"),
    ],
)  # fmt: skip
def test_different_architectures_are_refused_by_name(base, target, text):
    with pytest.raises(InputError, match=text):
        over(base, target)


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ({"width": 0}, "width must be at least 1, got 0"),
        ({"hidden": 0}, "hidden must be positive in a dense model, got 0"),
        ({"experts": 4, "top_k": 5, "expert_hidden": 8}, "top_k must be at most the 4 experts, got 5"),
        ({"experts": 4, "top_k": 1}, "expert_hidden must be at least 1, got 0"),
    ],
)
def test_sizes_that_cannot_be(sizes, text):
    with pytest.raises(InputError, match=text):
        Architecture(**{"width": 8, "depth": 1, "heads": 1, "head_width": 8, "hidden": 8, **sizes})


def test_a_training_has_tokens():
    with pytest.raises(InputError, match="tokens must be positive, got 0"):
        Scale(dense(), 1, 0)
