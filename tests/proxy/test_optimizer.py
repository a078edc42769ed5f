"""AdamW: which parameters decay, by how much, and clipping."""

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.proxy.tiny import tiny  # noqa: E402

from lehr.proxy.config import Optimizer  # noqa: E402
from lehr.proxy.model import Transformer, initialise  # noqa: E402
from lehr.proxy.optimizer import clip_gradient, make_optimizer, set_lr  # noqa: E402


@pytest.fixture
def model():
    made = Transformer(tiny(model={"experts": {"count": 4}}).model, 32)
    initialise(made, 0)
    return made


def stepped(model, config, lr, peak=0.1):
    """Weights after one update without any gradient, over those before: what decay alone does."""
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = make_optimizer(model, config, peak)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    set_lr(optimizer, lr)
    optimizer.step()
    return {name: (p.detach() / before[name]).mean().item() for name, p in model.named_parameters()}


def test_matrices_decay_by_lr_times_weight_decay_and_norms_do_not(model):
    shares = stepped(model, Optimizer(weight_decay=0.5), lr=0.02)
    norms = {name for name in shares if "norm" in name}
    assert len(norms) == 5
    for name, share in shares.items():
        assert share == pytest.approx(1 if name in norms else 1 - 0.02 * 0.5, abs=1e-6), name


def test_an_independent_decay_follows_the_share_of_the_peak_alone(model):
    for peak in (0.1, 1e-4):
        initialise(model, 0)
        shares = stepped(model, Optimizer(weight_decay=0.01, independent=True), lr=0.25 * peak, peak=peak)
        assert shares["embedding.weight"] == pytest.approx(1 - 0.25 * 0.01, abs=1e-6)
        assert shares["norm.weight"] == 1


def test_the_update_is_that_of_adam(model):
    """Kingma and Ba, algorithm 1, by hand, over three updates."""
    config = Optimizer(beta1=0.8, beta2=0.9, epsilon=1e-3, weight_decay=0.0)
    p, optimizer = model.norm.weight, make_optimizer(model, config, 0.1)
    expected, m, v = p.detach().clone().double(), 0.0, 0.0
    for k in (1, 2, 3):
        gradient = torch.linspace(-1, 1, p.numel()) * k
        for other in model.parameters():
            other.grad = torch.zeros_like(other)
        p.grad = gradient.clone()
        set_lr(optimizer, 0.01 * k)
        optimizer.step()
        m, v = 0.8 * m + 0.2 * gradient.double(), 0.9 * v + 0.1 * gradient.double() ** 2
        expected -= 0.01 * k * (m / (1 - 0.8**k)) / ((v / (1 - 0.9**k)).sqrt() + 1e-3)
    torch.testing.assert_close(p.detach().double(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("largest", "after"), [(None, 5.0), (2.0, 2.0), (9.0, 5.0)])
def test_the_norm_is_over_all_and_clipped(largest, after):
    weights = [
        torch.nn.Parameter(torch.zeros(2)),
        torch.nn.Parameter(torch.zeros(1)),
        torch.nn.Parameter(torch.zeros(1)),
    ]
    weights[0].grad, weights[1].grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert clip_gradient(weights, largest).item() == 5
    assert torch.cat([weights[0].grad, weights[1].grad]).norm().item() == pytest.approx(after, rel=1e-5)
