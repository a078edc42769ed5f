"""Experts against a loop over tokens, balance, and what the routers tell."""

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from lehr.proxy import experts as module  # noqa: E402
from lehr.proxy.config import Experts, Model  # noqa: E402
from lehr.proxy.expert_products import can_group, expert_swiglu, grouped  # noqa: E402
from lehr.proxy.experts import MixtureOfExperts, level_loads, router_statistics  # noqa: E402
from lehr.proxy.model import Transformer, initialise  # noqa: E402

F = torch.nn.functional
TABLES = {
    "softmax": Experts(count=8, top_k=2),
    "sigmoid": Experts(count=8, top_k=3, router="sigmoid", shared=2),
    "bias": Experts(count=5, top_k=2, balance="bias", router="sigmoid"),
    "one": Experts(count=4, top_k=1, z_loss=0.0, balance="none"),
    "all": Experts(count=3, top_k=3, width=5),
    "mostly idle": Experts(count=64, top_k=1, width=4),
}


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


def made(table, width=16, seed=0):
    layer = MixtureOfExperts(Model(depth=1, width=width, heads=2, context=16, experts=table))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in layer.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) / 4)
        if table.balance == "bias":
            layer.bias.copy_(torch.randn(table.count, generator=generator) / 10)
    return layer


def some_rows(count=50, width=16, seed=1):
    return torch.randn(2, count // 2, width, generator=torch.Generator().manual_seed(seed))


def by_loop(layer, x):
    """The same feed-forward and auxiliary loss, a token at a time."""
    table, outputs, all_scores, load = layer.experts, [], [], [0] * layer.experts.count
    sizes = 0.0
    for token in x.flatten(0, 1):
        logits = layer.router.weight @ token
        scores = logits.softmax(0) if table.router == "softmax" else logits.sigmoid()
        biased = scores + layer.bias if table.balance == "bias" else scores
        chosen = sorted(range(table.count), key=lambda e: -biased[e].item())[: table.top_k]
        total = sum(scores[e] for e in chosen) if table.top_k > 1 else 1.0
        y = torch.zeros_like(token)
        for e in chosen:
            load[e] += 1
            hidden = F.silu(layer.gate[e] @ token) * (layer.up[e] @ token)
            y = y + scores[e] / total * (layer.down[e] @ hidden)
        if layer.shared is not None:
            y = y + layer.shared(token)[0]
        outputs.append(y)
        all_scores.append(scores / scores.sum())
        sizes = sizes + logits.exp().sum().log() ** 2
    auxiliary = table.z_loss * sizes / len(outputs)
    if table.balance == "loss":
        mean = torch.stack(all_scores).mean(0)
        shares = torch.tensor(load) / sum(load)
        auxiliary = auxiliary + table.balance_weight * table.count * (shares * mean).sum()
    return torch.stack(outputs).view_as(x), auxiliary, load


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_against_a_loop_over_tokens(table):
    layer, x = made(table), some_rows().requires_grad_()
    weights = [x, *layer.parameters()]
    y, auxiliary = layer(x)
    slow, slow_auxiliary, load = by_loop(layer, x)
    assert sum(load) == 50 * table.top_k  # nothing is dropped
    torch.testing.assert_close(y, slow, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(auxiliary, torch.as_tensor(slow_auxiliary), atol=1e-6, rtol=1e-5)
    pull = torch.randn(y.shape, generator=torch.Generator().manual_seed(2))
    ours = torch.autograd.grad((y * pull).sum() + auxiliary, weights)
    slowly = torch.autograd.grad((slow * pull).sum() + slow_auxiliary, weights)
    for a, b in zip(ours, slowly, strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


def test_every_row_to_one_expert():
    layer = made(Experts(count=8, top_k=1, balance="none"))
    with torch.no_grad():
        layer.router.weight.zero_()
    x = some_rows().requires_grad_()
    with torch.no_grad():
        layer.router.weight[3] = 1e-3 * x[0, 0].sign()
    y, _ = layer(x.abs() * x[0, 0].sign())  # every token agrees with expert 3
    y.sum().backward()
    norms = layer.up.grad.abs().amax((1, 2))
    assert (norms > 0).tolist() == [e == 3 for e in range(8)]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_grouped_products_are_the_same(dtype):
    if not hasattr(F, "grouped_mm"):
        pytest.skip("PyTorch older than 2.10")
    generator = torch.Generator().manual_seed(0)

    def some(*shape):
        return torch.randn(shape, generator=generator).to(dtype).requires_grad_()

    inputs = [some(40, 16), some(40), some(3, 24, 16), some(3, 24, 16), some(3, 16, 24)]
    load = torch.tensor([13, 7, 20])
    pull = torch.randn(40, 16, generator=generator).to(dtype)
    results = []
    for function in (grouped, expert_swiglu):
        y = function(*inputs, load)
        results.append([y, *torch.autograd.grad(y, inputs, pull)])
    for a, b in zip(*results, strict=True):
        tolerance = 1e-4 if dtype == torch.float32 else 0.03 * b.abs().max().item()
        torch.testing.assert_close(a, b, atol=tolerance, rtol=0)


def test_grouped_products_are_asked_only_for_what_they_take():
    assert can_group(torch.empty(3, 24, 16, dtype=torch.bfloat16)) == hasattr(F, "grouped_mm")
    assert not can_group(torch.empty(3, 43, 16, dtype=torch.bfloat16))
    assert not can_group(torch.empty(3, 24, 16))


def test_the_level_balance_loss_is_one():
    table = Experts(count=4, top_k=1, balance_weight=1.0, z_loss=0.0)
    logits = torch.zeros(4, 8)
    level = module.auxiliary_loss(logits, logits.softmax(0), torch.tensor([2, 2, 2, 2]), table)
    torch.testing.assert_close(level, torch.tensor(1.0))
    logits[0] = 10.0
    skewed = module.auxiliary_loss(logits, logits.softmax(0), torch.tensor([8, 0, 0, 0]), table)
    assert skewed.item() == pytest.approx(4, rel=1e-3)


def test_z_loss_by_hand():
    table = Experts(count=4, balance="none", z_loss=0.5)
    logits = torch.zeros(4, 8)
    loss = module.auxiliary_loss(logits, logits.softmax(0), torch.full((4,), 4), table)
    assert loss.item() == pytest.approx(0.5 * math.log(4) ** 2)


def skewed_rows(seed):
    """Rows that the router of `made` sends mostly to few experts: they share a large mean."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 512, 16, generator=generator) + torch.linspace(-2, 2, 16)


@pytest.mark.parametrize("router", ["softmax", "sigmoid"])
def test_the_bias_levels_the_load_of_skewed_tokens(router):
    layer = made(Experts(count=8, router=router, balance="bias", balance_weight=0.002))
    layer.bias.zero_()

    def imbalance(updates):
        loads = torch.zeros(8)
        for update in updates:
            layer(skewed_rows(update))
            loads += layer.load
            level_loads([layer])
            assert layer.load.sum() == 0
        return (loads.max() / loads.mean()).item()

    assert imbalance(range(20)) > 2.5
    imbalance(range(20, 500))
    assert imbalance(range(500, 520)) < 1.2


def test_the_bias_moves_a_step_against_the_load():
    layer = made(Experts(count=4, balance="bias", balance_weight=0.5))
    layer.bias.zero_()
    layer.load.copy_(torch.tensor([10.0, 5.0, 5.0, 0.0]))
    level_loads([layer])
    assert layer.bias.tolist() == [-0.5, 0.0, 0.0, 0.5]


def test_the_load_is_counted_in_training_alone():
    layer = made(TABLES["bias"])
    layer.eval()(some_rows())
    assert layer.load.sum() == 0
    layer.train()(some_rows())
    layer(some_rows())
    assert layer.load.sum() == 2 * 50 * 2


def test_the_bias_changes_the_choice_not_the_weights():
    table = Experts(count=3, top_k=1, balance="bias", router="sigmoid")
    logits = torch.tensor([[1.0], [0.0], [-1.0]])
    _, weights, chosen = module.route(logits, table, torch.tensor([0.0, 0.0, 5.0]))
    assert chosen.item() == 2
    assert weights.item() == pytest.approx(1 / (1 + math.e))


def test_the_router_computes_in_float32_under_autocast():
    layer, x = made(TABLES["softmax"]), some_rows()
    with torch.autocast("cpu", torch.bfloat16):
        logits = layer.router(x.flatten(0, 1))
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, layer.router.weight @ x.flatten(0, 1).T)


def test_router_statistics():
    config = Model(depth=2, width=16, heads=2, context=16, experts=Experts(count=4, balance="bias"))
    model = Transformer(config, 20)
    initialise(model, 0)
    tokens = torch.randint(0, 20, (4, 16), generator=torch.Generator().manual_seed(0))
    first, second = router_statistics(model, tokens)
    assert sum(first.load) == pytest.approx(1) and len(second.load) == 4
    assert first.entropy == pytest.approx(math.log(4), abs=0.05)  # small weights: undecided
    assert model.training and model.blocks[0].ffn.load.sum() == 0
    model(tokens)
    counted = model.blocks[0].ffn.load / 128
    torch.testing.assert_close(torch.tensor(first.load), counted)
    assert router_statistics(Transformer(config.model_copy(update={"experts": None}), 20), tokens) == []
