"""Every parameter of the proxy model, from its configuration alone: role, shape, fan-in and block. No torch.

The counts (`lehr.proxy.counts`), the initial weights (`lehr.proxy.model.initialise`) and rules of transfer read
this one list; a test holds it against the model that is built.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from lehr.proxy.config import Experts, Model
from lehr.transfer.roles import NORMS, Kind, Role
from lehr.transfer.sizes import Architecture

if TYPE_CHECKING:
    from lehr.proxy.model import Transformer


def parameters(config: Model, vocab_size: int) -> dict[str, Role]:
    """Name and role of every parameter, in the order and by the names of `Transformer.named_parameters()`."""
    width = config.width
    roles = {"embedding.weight": Role("embedding", (vocab_size, width), 1)}
    for layer in range(config.depth):
        for name, kind, shape in (*_attention(config), *_feed_forward(config)):
            fan_in = 1 if kind in NORMS else shape[-1]
            roles[f"blocks.{layer}.{name}"] = Role(kind, shape, fan_in, layer)
    roles["norm.weight"] = Role("final_norm", (width,), 1)
    if not config.tied:
        roles["head.weight"] = Role("head", (vocab_size, width), width)
    return roles


def describe(model: Transformer) -> dict[str, Role]:
    """Name and role of every parameter of a model, which must not be wrapped (DDP, `torch.compile`)."""
    return parameters(model.config, model.vocab_size)


def architecture(config: Model) -> Architecture:
    """Sizes of the model, as rules of transfer ask for them."""
    experts, width = config.experts, config.width
    common = Architecture(
        width, config.depth, config.heads, width // config.heads, config.hidden, tied=config.tied,
        qk_norm=config.qk_norm,
    )  # fmt: skip
    if experts is None:
        return common
    weights = f"{experts.router}, renormalised" if experts.top_k > 1 else experts.router
    return replace(
        common, hidden=shared_hidden(experts, config.expert_hidden), experts=experts.count, top_k=experts.top_k,
        expert_hidden=config.expert_hidden, router=weights,
    )  # fmt: skip


Row = tuple[str, Kind, tuple[int, ...]]


def _attention(config: Model) -> Iterator[Row]:
    width = config.width
    yield "attention_norm.weight", "block_norm", (width,)
    yield "attention.query.weight", "attention_query", (width, width)
    yield "attention.key.weight", "attention_key", (width, width)
    yield "attention.value.weight", "attention_value", (width, width)
    yield "attention.output.weight", "attention_output", (width, width)
    if config.qk_norm:
        for name in ("query", "key"):
            yield f"attention.{name}_norm.weight", "qk_norm", (width // config.heads,)


def _feed_forward(config: Model) -> Iterator[Row]:
    yield "ffn_norm.weight", "block_norm", (config.width,)
    if config.experts is None:
        yield from _swiglu("ffn.", config.width, config.hidden)
        return
    experts, width, hidden = config.experts, config.width, config.expert_hidden
    yield "ffn.gate", "expert_gate", (experts.count, hidden, width)
    yield "ffn.up", "expert_up", (experts.count, hidden, width)
    yield "ffn.down", "expert_down", (experts.count, width, hidden)
    yield "ffn.router.weight", "router", (experts.count, width)
    if experts.shared:
        yield from _swiglu("ffn.shared.", width, shared_hidden(experts, hidden))


def shared_hidden(experts: Experts, hidden: int) -> int:
    """Hidden width of all shared experts together: they see the same tokens, so they are one wide feed-forward."""
    return experts.shared * hidden


def _swiglu(prefix: str, width: int, hidden: int) -> Iterator[Row]:
    yield f"{prefix}gate.weight", "ffn_gate", (hidden, width)
    yield f"{prefix}up.weight", "ffn_up", (hidden, width)
    yield f"{prefix}down.weight", "ffn_down", (width, hidden)
