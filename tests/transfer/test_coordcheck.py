"""Measures of a module, against hand-made ones."""

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from torch import nn  # noqa: E402

from lehr.errors import InputError  # noqa: E402
from lehr.transfer.coordcheck import MATRIX, Observer, Site, rms  # noqa: E402

torch.set_num_threads(1)


class Two(nn.Module):
    """Two matrices in a row, and a bank of them that its own code multiplies."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(6, 5, bias=False), nn.Linear(5, 4, bias=False)
        self.bank = nn.Parameter(torch.randn(2, 3, 6))

    def forward(self, x):
        return self.second(self.first(x)), "more"


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Two()


X = torch.randn(7, 6, generator=torch.Generator().manual_seed(1))
SITES = (
    Site("a", "first", "weight", measures=MATRIX),
    Site("b", "second", "weight", factor=0.5, measures=MATRIX),
)


def test_sizes_changes_and_effects(module):
    observer = Observer(module, SITES, lambda: module(X))
    start = observer.measure()
    before, hidden = module.second.weight.detach().clone(), module.first(X)
    assert start["a", "size"] == pytest.approx(rms(hidden))
    assert start["b", "gain"] == pytest.approx(0.5 * rms(module.second(hidden)) / rms(hidden))
    assert start["a", "change"] == start["b", "update"] == start["b", "weights"] == 0
    with torch.no_grad():
        module.second.weight += 0.1
    found, moved = observer.measure(), torch.full((4, 5), 0.1)
    assert found["a", "change"] == found["a", "update"] == 0
    assert found["b", "change"] == pytest.approx(0.5 * rms(hidden @ moved.t()), rel=1e-5)
    assert found["b", "update"] == pytest.approx(0.5 * rms(hidden @ moved.t()) / rms(hidden), rel=1e-5)
    assert found["b", "weights"] == pytest.approx(0.1 / rms(before + 0.1), rel=1e-5)


def test_a_fault_before_a_module_is_not_its_own(module):
    """Its input grows tenfold: its size does, but not the effect of its own update."""
    observer = Observer(module, SITES, lambda: module(X))
    with torch.no_grad():
        module.second.weight += 0.1
        once = observer.measure()
        module.first.weight *= 10
    found = observer.measure()
    assert found["b", "size"] == pytest.approx(10 * once["b", "size"], rel=1e-5)
    assert found["b", "update"] == pytest.approx(once["b", "update"], rel=1e-5)
    assert found["a", "update"] == pytest.approx(0.9 * found["a", "size"] / rms(X), rel=1e-5)


def test_inputs_products_values_and_parts_of_several_sites(module):
    def product(own, weight, inputs):
        return inputs[0], torch.einsum("eoi,ni->eno", weight, inputs[0])

    sites = (
        Site("given", "second", side="input"),
        Site("bank", "", "bank", product=product, measures=("size", "update")),
        Site("value", "", value=lambda own, inputs: inputs[0] * 2),
        Site("both", "first"), Site("both", "second"),
    )  # fmt: skip
    observer = Observer(module, sites, lambda: module(X))
    with torch.no_grad():
        module.bank += 0.2
    found = observer.measure()
    assert found["given", "size"] == pytest.approx(rms(module.first(X)))
    assert found["bank", "size"] == pytest.approx(rms(torch.einsum("eoi,ni->eno", module.bank, X)))
    assert found["bank", "update"] == pytest.approx(rms(0.2 * X.sum(1)) / rms(X), rel=1e-5)
    assert found["value", "size"] == pytest.approx(2 * rms(X)) and ("bank", "change") not in found
    parts = [rms(module.first(X)), rms(module.second(module.first(X)))]
    assert found["both", "size"] == pytest.approx(((parts[0] ** 2 + parts[1] ** 2) / 2) ** 0.5)


def test_nothing_is_left_on_the_module(module):
    Observer(module, SITES, lambda: module(X)).measure()
    assert not any(each._forward_hooks for each in module.modules())

    def fails():
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        Observer(module, SITES, fails)
    assert not any(each._forward_hooks for each in module.modules())


def test_a_site_that_is_nowhere_is_refused(module):
    with pytest.raises(InputError, match="unknown module of a site 'frist': did you mean 'first'"):
        Observer(module, (Site("a", "frist"),), lambda: module(X))
