"""Plans applied to modules of other people: groups for AdamW, initial weights, and what is refused."""

import copy

import pytest

torch = pytest.importorskip("torch", reason="needs the [train] extra")

from tests.transfer.made import SETTINGS, dense, mixture, scales  # noqa: E402

from lehr.errors import InputError  # noqa: E402
from lehr.transfer.apply import initialise, parameter_groups  # noqa: E402
from lehr.transfer.plan import transfer  # noqa: E402
from lehr.transfer.roles import Role  # noqa: E402

nn = torch.nn
WIDTH = 256


class Small(nn.Module):
    """One matrix, its bias, and an embedding."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(300, WIDTH)
        self.inner = nn.Linear(WIDTH, 4 * WIDTH)
        self.norm = nn.LayerNorm(WIDTH)


ROLES = {
    "words.weight": Role("embedding", (300, WIDTH), 1),
    "inner.weight": Role("ffn_up", (4 * WIDTH, WIDTH), WIDTH, 0),
    "inner.bias": Role("bias", (4 * WIDTH,), 1, 0),
    "norm.weight": Role("final_norm", (WIDTH,), 1),
    "norm.bias": Role("bias", (WIDTH,), 1),
}


@pytest.fixture
def plan():
    base, target = scales(dense, width=WIDTH, depth=4, hidden=4 * WIDTH)
    return transfer(base, target, "completep", SETTINGS)


def test_one_group_for_each_set_of_hyperparameters(plan):
    model = Small()
    groups = parameter_groups(model, ROLES, plan)
    of = {id(p): group for group in groups for p in group["params"]}
    assert len(of) == len(list(model.parameters()))
    words, inner, gain = of[id(model.words.weight)], of[id(model.inner.weight)], of[id(model.norm.weight)]
    assert (words["lr"], words["lr_factor"], words["weight_decay"]) == (0.01, 1.0, 0.1)
    assert (inner["lr"], inner["lr_factor"], inner["weight_decay"]) == (0.0025, 0.25, 0.4)
    assert inner["eps"] == pytest.approx(1e-8 / 8) and inner["betas"] == (0.9, 0.95)
    assert gain["weight_decay"] == 0 and gain["eps"] == 1e-8
    # biases are those of blocks: not decayed, with the epsilon of a block
    assert of[id(model.inner.bias)] is of[id(model.norm.bias)]
    assert of[id(model.inner.bias)]["eps"] == pytest.approx(1e-8 / 8)
    assert len(groups) == 4


def test_the_schedulers_of_torch_scale_every_group_by_the_same(plan):
    optimizer = torch.optim.AdamW(parameter_groups(Small(), ROLES, plan))
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    optimizer.step()
    scheduler.step()
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.005 * group["lr_factor"])


def test_what_is_frozen_is_in_no_group(plan):
    model = Small()
    model.words.weight.requires_grad_(False)
    groups = parameter_groups(model, ROLES, plan)
    assert all(p is not model.words.weight for group in groups for p in group["params"])


def test_initial_weights(plan):
    first, second = Small(), Small()
    state = torch.get_rng_state()
    initialise(first, ROLES, plan, seed=3)
    initialise(second, ROLES, plan, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.words.weight.std().item() == pytest.approx(0.02, rel=0.03)
    assert first.inner.weight.std().item() == pytest.approx(0.01, rel=0.03)
    assert (first.norm.weight == 1).all() and (first.norm.bias == 0).all() and (first.inner.bias == 0).all()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))


def test_optimizer_state_is_saved_and_loaded(plan):
    def made():
        model = Small()
        initialise(model, ROLES, plan, 0)
        return model, torch.optim.AdamW(parameter_groups(model, ROLES, plan))

    def step(model, optimizer, seed):
        for p in model.parameters():
            p.grad = torch.randn(p.shape, generator=torch.Generator().manual_seed(seed))
        optimizer.step()

    model, optimizer = made()
    step(model, optimizer, 1)
    other, resumed = made()
    other.load_state_dict(model.state_dict())
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in ((model, optimizer), (other, resumed)):
        step(*each, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), other.parameters(), strict=True))


def test_a_parameter_without_a_role_is_named(plan):
    roles = {name: role for name, role in ROLES.items() if name != "inner.bias"}
    text = r"parameter 'inner.bias' of shape \(1024,\) has no role: add it to roles, such as roles\['inner.bias'\] = "
    for act in (lambda: parameter_groups(Small(), roles, plan), lambda: initialise(Small(), roles, plan, 0)):
        with pytest.raises(InputError, match=text):
            act()


def test_a_module_of_other_sizes_than_planned_is_refused():
    base, target = scales(dense, width=128, hidden=512)
    plan = transfer(base, target, "mup", SETTINGS)
    text = "fan-in of 'inner.weight' must be that of ffn_up in the target that was planned for, 128, got 256: plan for"
    with pytest.raises(InputError, match=text):
        parameter_groups(Small(), ROLES, plan)


@pytest.mark.parametrize("factor", [4.0, 16.0])
def test_adam_does_not_tell_a_factor_from_smaller_weights(factor):
    """The router of mup-moe, and the head of completed-p, in place of an output weight times 1 / factor.

    Weight w times 1 / m, of initial size s, LR eta and decay lambda, against W of s / m, eta / m and lambda m: the same
    function after every update, but for Adam's epsilon.
    """
    base, target = scales(mixture, width=int(64 * factor), expert_hidden=int(32 * factor))
    router = transfer(base, target, "mup-moe", SETTINGS).groups["router"]
    assert (router.init_std.factor, router.lr.factor) == pytest.approx((1 / factor, 1 / factor))
    assert router.weight_decay.factor == pytest.approx(factor)

    generator = torch.Generator().manual_seed(0)
    x, y = (torch.randn(32, n, generator=generator, dtype=torch.float64) for n in (8, 3))
    start = torch.randn(3, 8, generator=generator, dtype=torch.float64)
    outputs = []
    for scale, lr, decay, multiplier in (
        (1.0, 0.01, 0.1, 1 / factor),
        (router.init_std.factor, 0.01 * router.lr.factor, 0.1 * router.weight_decay.factor, 1.0),
    ):
        weight = nn.Parameter(start * scale)
        optimizer = torch.optim.AdamW([weight], lr=lr, weight_decay=decay, eps=1e-30)
        for _ in range(20):
            optimizer.zero_grad()
            ((x @ weight.T * multiplier - y) ** 2).mean().backward()
            optimizer.step()
        outputs.append(weight.detach() * multiplier)
    torch.testing.assert_close(*outputs, rtol=1e-9, atol=1e-12)
