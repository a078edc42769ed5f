"""The transformer: what may depend on what, initial weights, precision."""

import math

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from lehr.errors import InputError  # noqa: E402
from lehr.proxy.config import Experts, Model  # noqa: E402
from lehr.proxy.layers import EPSILON, RMSNorm  # noqa: E402
from lehr.proxy.model import Transformer, initialise, rotate, rotations  # noqa: E402
from lehr.proxy.parameters import describe  # noqa: E402
from lehr.transfer.roles import NORMS  # noqa: E402

F = torch.nn.functional
SMALL = Model(depth=2, width=16, heads=2, context=32)
CONFIGS = {
    "dense": SMALL,
    "tied, no QK-norm": SMALL.model_copy(update={"tied": True, "qk_norm": False}),
    "softmax, loss": SMALL.model_copy(update={"experts": Experts(count=4, shared=1)}),
    "sigmoid, bias": SMALL.model_copy(update={"experts": Experts(count=4, router="sigmoid", balance="bias")}),
    "one of two, no help": SMALL.model_copy(
        update={"experts": Experts(count=2, top_k=1, balance="none", z_loss=0.0)}
    ),
    "all of three": SMALL.model_copy(update={"experts": Experts(count=3, top_k=3)}),
}
VOCABULARY = 40


@pytest.fixture(autouse=True)
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(params=CONFIGS.values(), ids=CONFIGS.keys())
def model(request):
    return made(request.param)


def made(config, seed=0):
    model = Transformer(config, VOCABULARY)
    initialise(model, seed)
    return model


def some_tokens(count=3, length=32, seed=1):
    return torch.randint(0, VOCABULARY, (count, length), generator=torch.Generator().manual_seed(seed))


def test_the_loss_is_the_mean_of_what_the_logits_say(model):
    tokens, targets = some_tokens(), some_tokens(seed=2)
    output = model(tokens, targets)
    assert output.logits is None
    logits = model(tokens).logits
    assert logits.shape == (3, 32, VOCABULARY)
    assert model(tokens).loss is None
    picked = logits.log_softmax(-1).gather(-1, targets[..., None])
    torch.testing.assert_close(output.loss, -picked.mean())
    assert output.loss.item() == pytest.approx(math.log(VOCABULARY), abs=0.1)  # nothing is learnt yet
    assert output.auxiliary.shape == ()
    assert (output.auxiliary.item() > 0) == (
        model.config.experts is not None and model.config.experts.z_loss > 0
    )


def test_the_future_does_not_change_the_past(model):
    tokens = some_tokens()
    other = tokens.clone()
    other[:, 20:] = (other[:, 20:] + 7) % VOCABULARY
    before, after = model(tokens).logits, model(other).logits
    torch.testing.assert_close(before[:, :20], after[:, :20], atol=1e-6, rtol=0)
    assert not torch.allclose(before[:, 20], after[:, 20], atol=1e-4)


def test_the_past_changes_the_future(model):
    tokens = some_tokens()
    other = tokens.clone()
    other[:, 0] = (other[:, 0] + 7) % VOCABULARY
    change = (model(tokens).logits - model(other).logits).abs().amax(-1)
    assert (change[:, 31] > 1e-6).all()


def test_gradients_reach_every_parameter(model):
    output = model(some_tokens(8), some_tokens(8, seed=2))
    output.loss.backward()  # of the loss alone: the router must learn from it, even one of a single choice
    for name, weight in model.named_parameters():
        assert weight.grad is not None and weight.grad.abs().sum() > 0, name


def by_equations(model, tokens):
    """Logits of a dense model, each step written as in its paper."""
    config, w = model.config, dict(model.named_parameters())

    def norm(x, name):
        return x / (x.square().mean(-1, keepdim=True) + 1e-6).sqrt() * w[name]

    def turned(x):  # (C, H, K)
        out = torch.empty_like(x)
        for position in range(len(x)):
            for pair in range(x.shape[-1] // 2):
                angle = position * config.rope_base ** (-2 * pair / x.shape[-1])
                cos, sin, i = math.cos(angle), math.sin(angle), 2 * pair
                out[position, :, i] = x[position, :, i] * cos - x[position, :, i + 1] * sin
                out[position, :, i + 1] = x[position, :, i] * sin + x[position, :, i + 1] * cos
        return out

    x = w["embedding.weight"][tokens]
    for layer in range(config.depth):
        of = f"blocks.{layer}"
        y = norm(x, f"{of}.attention_norm.weight")
        query, key, value = (
            (y @ w[f"{of}.attention.{n}.weight"].T).view(len(tokens), config.heads, -1)
            for n in ("query", "key", "value")
        )
        if config.qk_norm:
            query, key = (
                norm(query, f"{of}.attention.query_norm.weight"),
                norm(key, f"{of}.attention.key_norm.weight"),
            )
        scores = torch.einsum("qhk,chk->hqc", turned(query), turned(key)) / math.sqrt(query.shape[-1])
        later = torch.ones(len(tokens), len(tokens)).triu(1).bool()
        mixed = torch.einsum("hqc,chk->qhk", scores.masked_fill(later, -math.inf).softmax(-1), value)
        x = x + mixed.flatten(1) @ w[f"{of}.attention.output.weight"].T
        y = norm(x, f"{of}.ffn_norm.weight")
        gate, up = (y @ w[f"{of}.ffn.{n}.weight"].T for n in ("gate", "up"))
        x = x + (gate * gate.sigmoid() * up) @ w[f"{of}.ffn.down.weight"].T
    return norm(x, "norm.weight") @ model.head.weight.T


@pytest.mark.parametrize("config", [SMALL, CONFIGS["tied, no QK-norm"]])
def test_against_the_equations(config):
    model, tokens = made(config.model_copy(update={"init_std": 0.3})), some_tokens(1, 12)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight.copy_(torch.linspace(0.5, 1.5, len(weight)))
    weights = list(model.parameters())
    ours, plain = model(tokens).logits[0], by_equations(model, tokens[0])
    torch.testing.assert_close(ours, plain, atol=2e-5, rtol=1e-4)
    pull = torch.randn(ours.shape, generator=torch.Generator().manual_seed(0))
    slopes = zip(
        torch.autograd.grad(ours, weights, pull), torch.autograd.grad(plain, weights, pull), strict=True
    )
    for a, b in slopes:
        torch.testing.assert_close(a, b, atol=1e-5 * b.abs().max().item() + 1e-6, rtol=1e-3)


@pytest.mark.parametrize("width", [8, 33])
def test_rms_norm_and_its_gradient(width):
    norm = RMSNorm(width)
    x = torch.randn(3, 5, width, requires_grad=True)
    with torch.no_grad():
        norm.weight.copy_(torch.randn(width))
    grad = torch.randn(3, 5, width)
    ours = torch.autograd.grad(norm(x), (x, norm.weight), grad)
    plain = F.rms_norm(x, (width,), norm.weight, EPSILON)
    torch.testing.assert_close(norm(x), plain)
    for a, b in zip(ours, torch.autograd.grad(plain, (x, norm.weight), grad), strict=True):
        torch.testing.assert_close(a, b, atol=1e-5, rtol=1e-4)


def test_rotations_keep_lengths_and_depend_on_distance_alone():
    rotation = rotations(64, 8, 100.0)
    query, key = torch.randn(8), torch.randn(8)
    queries, keys = (rotate(v.expand(1, 64, 1, 8), rotation)[0, :, 0] for v in (query, key))
    products = queries @ keys.T
    for distance in (0, 1, 17):
        along = products.diagonal(-distance)
        torch.testing.assert_close(along, along[:1].expand_as(along), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(products.diagonal()[0], query @ key)
    assert abs(products[5, 0] - products[6, 0]) > 1e-3
    angle = torch.tensor(3 * 100.0 ** (-2 / 8))  # of position 3, pair 1
    turned = query[2] * angle.cos() - query[3] * angle.sin()
    torch.testing.assert_close(queries[3, 2], turned)


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    first, second, other = made(SMALL), made(SMALL), made(SMALL, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    for name, weight in first.named_parameters():
        assert torch.equal(weight, second.get_parameter(name))
        assert "norm" in name or not torch.equal(weight, other.get_parameter(name))


def test_initial_scales():
    model = made(Model(depth=8, width=128, heads=2, context=8, init_std=0.03))
    for name, role in describe(model).items():
        weight = model.get_parameter(name)
        if role.kind in NORMS:
            assert (weight == 1).all()
            continue
        expected = 0.03 / 4 if role.kind in ("attention_output", "ffn_down") else 0.03
        assert weight.std().item() == pytest.approx(expected, rel=0.05), name


def test_weights_that_nobody_filled_show():
    assert all(weight.isnan().all() for weight in Transformer(SMALL, VOCABULARY).parameters())


def test_a_tied_head_shares_its_storage():
    tied = made(CONFIGS["tied, no QK-norm"])
    assert tied.head.weight.data_ptr() == tied.embedding.weight.data_ptr()
    untied = made(SMALL)
    assert untied.head.weight.data_ptr() != untied.embedding.weight.data_ptr()


def test_autocast_to_bfloat16(model):
    tokens, targets = some_tokens(), some_tokens(seed=2)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(tokens, targets)
    (output.loss + output.auxiliary).backward()
    assert output.loss.dtype == torch.float32
    assert output.loss.item() == pytest.approx(model(tokens, targets).loss.item(), abs=0.01)
    assert all(weight.grad.dtype == torch.float32 for weight in model.parameters())


def test_a_sequence_beyond_the_context_is_refused():
    with pytest.raises(InputError) as refused:
        made(SMALL)(some_tokens(1, 33))
    assert str(refused.value) == "tokens must be at most 32 a sequence, got 33: raise the context."


def test_a_shorter_sequence_sees_the_same_positions():
    model, tokens = made(SMALL), some_tokens()
    torch.testing.assert_close(model(tokens[:, :9]).logits, model(tokens).logits[:, :9], atol=1e-6, rtol=1e-5)


def test_states_go_from_model_to_model(model):
    other = made(model.config, seed=5)
    other.load_state_dict(model.state_dict())
    assert torch.equal(other(some_tokens()).logits, model(some_tokens()).logits)


# the compiler itself makes instances of autograd functions, and warns of it
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", ["dense", "sigmoid, bias"])
def test_the_compiler_sees_one_graph(name):
    """Traced whole, without generating code; the gradients are those of the plain model."""
    plain, traced = made(CONFIGS[name]), made(CONFIGS[name])
    compiled = torch.compile(traced, backend="aot_eager", fullgraph=True)
    tokens, targets = some_tokens(), some_tokens(seed=2)
    for model in (plain, compiled):
        output = model(tokens, targets)
        (output.loss + output.auxiliary).backward()
    for name, weight in plain.named_parameters():
        torch.testing.assert_close(traced.get_parameter(name).grad, weight.grad, atol=1e-6, rtol=1e-3)
