"""Our muP held against the authors' package `mup` on a dense transformer; skipped where that is not installed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.export_cases import load, require
from tests.transfer.made import SETTINGS

require("torch", "mup")
pytestmark = pytest.mark.filterwarnings("ignore")
torch, mup = load("torch"), load("mup")

from lehr.proxy.config import Model  # noqa: E402
from lehr.proxy.model import Transformer  # noqa: E402
from lehr.proxy.parameters import architecture, describe  # noqa: E402
from lehr.transfer.apply import initialise, parameter_groups  # noqa: E402
from lehr.transfer.plan import transfer  # noqa: E402
from lehr.transfer.sizes import Scale  # noqa: E402

VOCABULARY = 40


def model(width, heads, ffn_width, depth=2):
    return Model(depth=depth, width=width, heads=heads, context=8, ffn_width=ffn_width)


def build(config):
    return Transformer(config, VOCABULARY)


def infinite(base, target):
    """The target with mup's base shapes: every dimension that differs from another model's is infinite."""
    made = build(target)
    other = model(2 * base.width, 2 * base.heads, 2 * base.ffn_width)
    mup.set_base_shapes(made, build(base), delta=build(other))
    return made


def planned(base, target, **more):
    return transfer(*(Scale(architecture(each), 1, 1) for each in (base, target)), "mup", SETTINGS, **more)


def by_parameter(model, groups):
    """LR and weight decay of every parameter by name."""
    names = {id(p): name for name, p in model.named_parameters()}
    return {
        names[id(p)]: (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]
    }  # fmt: skip


sizes = st.tuples(st.integers(1, 5).map(lambda k: 8 * k), st.integers(1, 9).map(lambda k: 8 * k))
BASE = model(16, 2, 48)


@settings(max_examples=25, deadline=None)
@given(sizes)
def test_lr_and_weight_decay_are_those_of_the_package(shape):
    """MuAdamW's, norms aside, which the package lets decay."""
    width, ffn_width = shape
    target = model(width, width // 8, ffn_width)
    made = infinite(BASE, target)
    package = mup.MuAdamW(made.parameters(), lr=SETTINGS.lr, weight_decay=SETTINGS.weight_decay)
    theirs = by_parameter(made, package.param_groups)
    ours = by_parameter(made, parameter_groups(made, describe(made), planned(BASE, target)))
    assert ours.keys() == theirs.keys()
    for name, (lr, decay) in theirs.items():
        assert ours[name][0] == pytest.approx(lr), name
        if "norm" not in name:
            assert ours[name][1] == pytest.approx(decay), name


def test_initial_weights_are_those_of_the_package():
    """Normal of one standard deviation at the base, rescaled by the package's own initialiser."""
    target = model(128, 16, 256)
    made, roles = infinite(BASE, target), describe(build(target))
    ours = build(target)
    plan = planned(BASE, target)
    initialise(ours, roles, plan, seed=0)
    for name, p in made.named_parameters():
        if "norm" in name:
            continue
        writes = roles[name].kind in ("attention_output", "ffn_down")
        mup.init.normal_(p, std=SETTINGS.init_std / (2 if writes else 1))  # the base is two blocks deep
        assert ours.get_parameter(name).std().item() == pytest.approx(p.std().item(), rel=0.05), name


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40).map(lambda k: 8 * k))
def test_the_factor_of_the_logits_is_that_of_the_readout(width):
    target = model(width, width // 8, 48)

    def readout(width):
        module = torch.nn.Module()
        module.head = mup.MuReadout(width, VOCABULARY, bias=False)
        return module

    module = readout(width)
    mup.set_base_shapes(module, readout(BASE.width), delta=readout(2 * BASE.width), rescale_params=False)
    x = torch.randn(3, width, generator=torch.Generator().manual_seed(0))
    plain = x @ module.head.weight.T
    assert planned(BASE, target).multipliers.output == pytest.approx(1 / module.head.width_mult())
    torch.testing.assert_close(module.head(x), plain * planned(BASE, target).multipliers.output)


@pytest.mark.parametrize("heads", [8, 4, 1])
def test_the_attention_is_by_head_width(heads):
    """arXiv 2203.03466, definition 4.1: q k / d, and q k / sqrt(d) at the base, whose heads are 8 wide."""
    plan = planned(BASE, model(64, heads, 48))
    assert plan.multipliers.attention == pytest.approx(8**0.5 / (64 / heads))


def test_a_decay_that_no_lr_multiplies_is_left_alone():
    """As with `decoupled_wd` in the package's source (no release has it): an update takes what it took in the base."""
    target = model(64, 8, 192)
    made = infinite(BASE, target)
    plan = planned(BASE, target, weight_decay="independent")
    for lr, decay in by_parameter(made, parameter_groups(made, describe(made), plan)).values():
        assert decay == 0 or lr * decay == pytest.approx(SETTINGS.lr * SETTINGS.weight_decay)
