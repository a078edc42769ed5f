"""Attention as it is looked at: logits whose softmax is the model's own mixture, entropies of known weights."""

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.tiny import tiny  # noqa: E402

from lehr.proxy.attention import _statistics, attention_logits, attention_statistics  # noqa: E402
from lehr.proxy.model import Transformer, initialise  # noqa: E402


@pytest.fixture(params=[True, False])
def model(request):
    made = Transformer(tiny(model={"depth": 3, "qk_norm": request.param}).model, 32)
    initialise(made, 0)
    return made


@torch.no_grad()
def test_logits_are_those_that_mix_the_values(model):
    layer, x = model.blocks[0].attention, torch.randn(2, 12, 16)
    weights = attention_logits(layer, x, model.rotation[:12]).softmax(-1)
    value = layer.value(x).unflatten(-1, (layer.heads, -1))
    mixed = torch.einsum("bhij,bjhk->bihk", weights, value).flatten(2)
    torch.testing.assert_close(layer.output(mixed), layer(x, model.rotation[:12]))


def test_every_block_and_head_is_watched_and_nothing_stays(model):
    found = attention_statistics(model, torch.randint(32, (2, 16)))
    assert [len(each.entropy) for each in found] == [2, 2, 2]
    assert all(0 < entropy <= 1 for each in found for entropy in each.entropy)
    assert model.training and not any(module._forward_hooks for module in model.modules())


def test_entropy_is_one_when_undecided_and_none_when_decided():
    seen = torch.ones(4, 4, dtype=torch.bool).tril()
    logits = torch.zeros(1, 2, 4, 4)
    logits[:, 1] += 1000 * torch.eye(4)
    found = _statistics(logits.masked_fill(~seen, -torch.inf))
    assert found.entropy == pytest.approx((1, 0)) and found.largest_logit == 1000
