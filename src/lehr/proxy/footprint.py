"""What a training needs of memory, estimated from its configuration alone. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from lehr.proxy.config import TrainConfig
from lehr.proxy.parameters import parameters

STATE = 16  # bytes a parameter: weight, gradient and Adam's two moments in float32
FLOAT = {
    "float32": 4.0,
    "bfloat16": 2.6,
}  # bytes a saved activation; autocast leaves norms and sums in float32
GIB = 2**30


@dataclass(frozen=True)
class Memory:
    """Bytes on one device: `state` of parameters and optimiser, `activations` of one forward pass."""

    state: int
    activations: int

    @property
    def total(self) -> int:
        """Both."""
        return self.state + self.activations

    def __str__(self) -> str:
        """Such as `0.10 GiB of weights, gradients and optimiser, and 0.50 GiB of activations`."""
        return (
            f"{self.state / GIB:.2f} GiB of weights, gradients and optimiser, and {self.activations / GIB:.2f} GiB "
            "of activations"
        )


def estimate_memory(config: TrainConfig, vocab_size: int, ranks: int = 1) -> Memory:
    """Estimate what one rank needs.

    What autograd saves was counted in the model, in numbers a token: 14 D a block for norms, attention and residual
    stream; 4 a hidden unit of the feed-forward; of an expert, which computes some of it anew, 2, and D for its copy
    of the token; 3 V for logits, their log-softmax and its gradient.

    Parameters
    ----------
    config : of the training.
    vocab_size : V.
    ranks : that share it.
    """
    model, training = config.model, config.training
    count = sum(role.size for role in parameters(model, vocab_size).values())
    shards = ranks if training.parallel == "fsdp" else 1
    if model.experts is None:
        feed_forward = 4 * model.hidden
    else:
        chosen, shared = model.experts.top_k, model.experts.shared
        feed_forward = chosen * (model.width + 2 * model.expert_hidden) + shared * 4 * model.expert_hidden
    hidden = model.depth * (14 * model.width + feed_forward) * FLOAT[training.precision]
    tokens = max(1, training.batch // (ranks * training.accumulate)) * model.context
    return Memory(STATE * count // shards, int(tokens * (hidden + 3 * 4 * vocab_size)))
