"""Sizes and cost of a model, from its configuration alone. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from lehr.proxy.config import Model
from lehr.proxy.parameters import parameters


@dataclass(frozen=True)
class Counts:
    """How large a model is and what a token costs.

    Parameters
    ----------
    total : parameters; a tied head is counted once.
    active : parameters that one token meets: of the experts those chosen and shared.
    non_embedding : total without embedding and head (Kaplan et al., arXiv 2001.08361, section 2.1).
    active_non_embedding : active without embedding and head.
    forward_flops : floating-point operations a token of a forward pass at full context: two for each active element of
        a matrix, head included and looked-up embedding not, and 4 * context * width a block for the attention. As
        in PaLM (arXiv 2204.02311, appendix B) causal masking gives no discount and element-wise work is left out.
    training_flops : of a forward and a backward pass: three times as many; nothing is computed anew.
    """

    total: int
    active: int
    non_embedding: int
    active_non_embedding: int
    forward_flops: int
    training_flops: int

    @property
    def params_total(self) -> int:
        """What logs tell as `params_total`: of a model of experts without its two ends, as laws count; else all."""
        return self.non_embedding if self.active < self.total else self.total


def count(config: Model, vocab_size: int) -> Counts:
    """Count parameters and FLOPs of a configuration."""
    total = active = ends = products = 0
    for role in parameters(config, vocab_size).values():
        used = role.size
        if role.kind.startswith("expert_") and config.experts is not None:
            used = used // config.experts.count * config.experts.top_k
        total += role.size
        active += used
        if role.kind in ("embedding", "head"):
            ends += role.size
        if role.kind != "embedding" and role.decays:
            products += used
    if config.tied:
        products += vocab_size * config.width
    forward = 2 * products + 4 * config.context * config.width * config.depth
    return Counts(total, active, total - ends, active - ends, forward, 3 * forward)
