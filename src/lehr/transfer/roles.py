"""What a parameter is to a transformer, and where a rule of transfer acts on the forward pass. No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal[
    "embedding",
    "block_norm",
    "qk_norm",
    "final_norm",
    "bias",
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
Group = Literal[
    "embedding",
    "attention_in",
    "attention_out",
    "ffn_in",
    "ffn_down",
    "router",
    "expert_in",
    "expert_down",
    "block_norm",
    "qk_norm",
    "final_norm",
    "head",
]
GROUPS: tuple[Group, ...] = get_args(Group)
NORMS: tuple[Group, ...] = ("block_norm", "qk_norm", "final_norm")
WRITES_TO_RESIDUAL: tuple[Group, ...] = ("attention_out", "ffn_down", "expert_down")
_OTHER_GROUP: dict[Kind, Group] = {
    "attention_query": "attention_in",
    "attention_key": "attention_in",
    "attention_value": "attention_in",
    "attention_output": "attention_out",
    "ffn_gate": "ffn_in",
    "ffn_up": "ffn_in",
    "expert_gate": "expert_in",
    "expert_up": "expert_in",
    "bias": "block_norm",
}


def group_of(kind: Kind) -> Group:
    """Group of parameters that every rule treats alike; a bias of a block belongs to the block's norms."""
    return _OTHER_GROUP[kind] if kind in _OTHER_GROUP else kind  # type: ignore[return-value]


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
        return self.shape[-1] if self.kind == "embedding" or len(self.shape) == 1 else self.shape[-2]

    @property
    def decays(self) -> bool:
        """Whether weight decay acts on it: on matrices, not on norms and biases."""
        return self.kind not in (*NORMS, "bias")


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
