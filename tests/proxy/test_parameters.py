"""Every parameter has its role: the list made without torch against the model that is built."""

import pytest

from lehr.proxy.config import Experts, Model
from lehr.proxy.parameters import describe, parameters
from lehr.transfer.roles import NORMS, Multipliers

SMALL = Model(depth=2, width=16, heads=2, context=8)
CONFIGS = [
    SMALL,
    SMALL.model_copy(update={"tied": True, "qk_norm": False}),
    SMALL.model_copy(update={"experts": Experts(count=4, shared=2)}),
    SMALL.model_copy(update={"experts": Experts(count=2, top_k=1, balance="bias")}),
]


@pytest.mark.parametrize("config", CONFIGS)
def test_names_shapes_and_order_are_those_of_the_model(config):
    pytest.importorskip("torch", reason="needs the [train] extra")
    from lehr.proxy.model import Transformer

    model = Transformer(config, 30)
    built = [(name, tuple(weight.shape)) for name, weight in model.named_parameters()]
    assert built == [(name, role.shape) for name, role in describe(model).items()]
    assert describe(model) == parameters(config, 30)


def test_roles():
    roles = parameters(CONFIGS[2], 30)
    query = roles["blocks.1.attention.query.weight"]
    assert (query.kind, query.fan_in, query.fan_out, query.layer) == ("attention_query", 16, 16, 1)
    down = roles["blocks.0.ffn.down"]
    hidden = 48 // 4  # 8/3 of 16 rounded up to 48, over 2 chosen and 2 shared
    assert (down.kind, down.shape, down.fan_in, down.fan_out) == ("expert_down", (4, 16, hidden), hidden, 16)
    assert roles["blocks.0.ffn.shared.up.weight"].kind == "ffn_up"
    assert roles["blocks.0.ffn.shared.up.weight"].fan_out == 2 * hidden
    assert (roles["blocks.0.ffn.router.weight"].kind, roles["blocks.0.ffn.router.weight"].fan_in) == (
        "router",
        16,
    )
    assert (roles["embedding.weight"].fan_in, roles["embedding.weight"].fan_out) == (1, 16)
    assert (roles["head.weight"].fan_in, roles["head.weight"].fan_out) == (16, 30)
    assert (roles["norm.weight"].kind, roles["norm.weight"].layer) == ("final_norm", None)
    assert {role.kind for role in roles.values()} == {
        "embedding", *NORMS, "attention_query", "attention_key", "attention_value", "attention_output", "router",
        "expert_gate", "expert_up", "expert_down", "ffn_gate", "ffn_up", "ffn_down", "head",
    }  # fmt: skip


def test_a_tied_head_has_no_parameter_of_its_own():
    assert "head.weight" not in parameters(CONFIGS[1], 30)


def test_multipliers_act_where_they_say():
    torch = pytest.importorskip("torch", reason="needs the [train] extra")
    from lehr.proxy.model import Transformer, initialise

    tokens = torch.arange(8)[None]

    def logits(**values):
        model = Transformer(SMALL, 30, Multipliers(**values))
        initialise(model, 0)
        return model(tokens).logits.detach()

    plain = logits()
    assert torch.equal(logits(attention=8**-0.5), plain)  # heads are 8 wide
    assert not torch.allclose(logits(attention=1 / 8), plain, atol=1e-7)
    torch.testing.assert_close(logits(output=0.5), plain / 2)
    model = Transformer(SMALL, 30)
    initialise(model, 0)
    alone = model.head(model.norm(model.embedding.weight[tokens]))
    torch.testing.assert_close(logits(residual=0.0), alone)
