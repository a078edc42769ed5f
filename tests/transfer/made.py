"""Small architectures and plans between them."""

from lehr.transfer.plan import Settings, transfer
from lehr.transfer.sizes import Architecture, Scale

SETTINGS = Settings(lr=0.01, init_std=0.02, weight_decay=0.1, epsilon=1e-8)
# experts and routers are none of these rules' business
AS_DENSE = {"router": "ffn_in", "expert_in": "ffn_in", "expert_down": "ffn_down"}
MATRICES = ("attention_in", "attention_out", "ffn_in", "ffn_down")


def dense(width=64, depth=2, head_width=16, hidden=256, **more):
    return Architecture(width, depth, max(1, width // head_width), head_width, hidden, qk_norm=True, **more)


def mixture(width=64, depth=2, expert_hidden=32, experts=8, top_k=2, shared=0):
    return Architecture(
        width, depth, width // 16, 16, shared, experts, top_k, expert_hidden, router="softmax", qk_norm=True
    )


def scales(make, batch=1e3, tokens=1e6, **sizes):
    """A base, and a target with these sizes."""
    return Scale(make(), 1e3, 1e6), Scale(make(**sizes), batch, tokens)


def plan(make, rule, batch=1e3, tokens=1e6, weight_decay="rule", horizon=None, treat=None, **sizes):
    base, target = scales(make, batch, tokens, **sizes)
    return transfer(
        base, target, rule, SETTINGS, weight_decay=weight_decay, horizon=horizon, treat=treat or {}
    )


def factors(made):
    """All factors of a plan, by what they belong to."""
    found = {
        (group, name): getattr(own, name).factor
        for group, own in made.groups.items()
        for name in ("init_std", "lr", "weight_decay", "epsilon")
        if getattr(own, name) is not None
    }
    return found | {
        "residual": made.residual.factor, "attention": made.attention.factor, "output": made.output.factor,
        "one_minus_beta": made.one_minus_beta.value,
    }  # fmt: skip
