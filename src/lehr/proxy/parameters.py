"""Every parameter of the proxy model, from its configuration alone: role, shape, fan-in and block. No torch.

The counts (`lehr.proxy.counts`), the initial weights (`lehr.proxy.model.initialise`) and rules of transfer read
this one list; a test holds it against the model that is built.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lehr.proxy.config import Experts, Model

if TYPE_CHECKING:
    from lehr.proxy.model import Transformer

Kind = Literal[
    "embedding",
    "norm",
    "attention_query",
    "attention_key",
    "attention_value",
    "attention_output",
    "ffn_gate",
    "ffn_up",
    "ffn_down",
    "router",
    "expert_gate",
    "expert_up",
    "expert_down",
    "head",
]
WRITES_TO_RESIDUAL = ("attention_output", "ffn_down", "expert_down")


@dataclass(frozen=True)
class Role:
    """What a parameter is to the model.

    Parameters
    ----------
    kind : its part. A shared expert is a dense feed-forward, hence of kind `ffn_...`. A tied head has no parameter
        of its own: the embedding serves.
    shape : of the tensor: (outputs, inputs) for a matrix, (experts, outputs, inputs) for those of experts,
        (vocabulary, width) for the embedding, (width,) for a norm.
    fan_in : inputs that one output sums over; 1 for an embedding, which is looked up, and for a norm.
    layer : block, from 0; None for embedding, final norm and head.
    """

    kind: Kind
    shape: tuple[int, ...]
    fan_in: int
    layer: int | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def fan_out(self) -> int:
        """Outputs of a matrix; the width of an embedding or a norm."""
        return self.shape[-1] if self.kind in ("embedding", "norm") else self.shape[-2]


@dataclass(frozen=True)
class Multipliers:
    """Fixed factors of the forward pass, where rules of transfer act on it.

    Parameters
    ----------
    residual : of what a block's attention and its feed-forward add to the residual stream (CompleteP,
        arXiv 2505.01618, has depth ratio ** -alpha).
    attention : of the product of query and key; None for 1 / sqrt(head width) (muP has 1 / head width).
    output : of the logits (muP has 1 / width ratio).
    """

    residual: float = 1.0
    attention: float | None = None
    output: float = 1.0


def parameters(config: Model, vocab_size: int) -> dict[str, Role]:
    """Name and role of every parameter, in the order and by the names of `Transformer.named_parameters()`."""
    width = config.width
    roles = {"embedding.weight": Role("embedding", (vocab_size, width), 1)}
    for layer in range(config.depth):
        for name, kind, shape in (*_attention(config), *_feed_forward(config)):
            fan_in = 1 if kind == "norm" else shape[-1]
            roles[f"blocks.{layer}.{name}"] = Role(kind, shape, fan_in, layer)
    roles["norm.weight"] = Role("norm", (width,), 1)
    if not config.tied:
        roles["head.weight"] = Role("head", (vocab_size, width), width)
    return roles


def describe(model: Transformer) -> dict[str, Role]:
    """Name and role of every parameter of a model, which must not be wrapped (DDP, `torch.compile`)."""
    return parameters(model.config, model.vocab_size)


Row = tuple[str, Kind, tuple[int, ...]]


def _attention(config: Model) -> Iterator[Row]:
    width = config.width
    yield "attention_norm.weight", "norm", (width,)
    yield "attention.query.weight", "attention_query", (width, width)
    yield "attention.key.weight", "attention_key", (width, width)
    yield "attention.value.weight", "attention_value", (width, width)
    yield "attention.output.weight", "attention_output", (width, width)
    if config.qk_norm:
        for name in ("query", "key"):
            yield f"attention.{name}_norm.weight", "norm", (width // config.heads,)


def _feed_forward(config: Model) -> Iterator[Row]:
    yield "ffn_norm.weight", "norm", (config.width,)
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
