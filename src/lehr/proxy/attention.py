"""What the attention of a proxy looks at: logits of one layer, and how decided every head is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from lehr.proxy.model import Attention, Transformer, rotate


@dataclass(frozen=True)
class AttentionStatistics:
    """How one layer attends.

    Parameters
    ----------
    entropy : of each head, the mean over positions of the entropy of its weights, as a share of the highest possible,
        ln of the number of positions that are seen; 1 when undecided. The first position, which sees itself, is
        left out.
    largest_logit : over heads and positions, in absolute value.
    """

    entropy: tuple[float, ...]
    largest_logit: float


def attention_logits(layer: Attention, x: Tensor, rotation: Tensor) -> Tensor:
    """Scaled products of queries and keys; (B, C, D) -> (B, H, C, C), -inf where a position sees the future."""
    query, key = (part(x).unflatten(-1, (layer.heads, -1)) for part in (layer.query, layer.key))
    if layer.query_norm is not None and layer.key_norm is not None:
        query, key = layer.query_norm(query), layer.key_norm(key)
    query, key = rotate(query, rotation), rotate(key, rotation)
    logits = torch.einsum("bihk,bjhk->bhij", query, key) * layer.scale
    return logits.masked_fill(~seen(logits.shape[-1], logits.device), -torch.inf)


def seen(length: int, device: torch.device) -> Tensor:
    """Which positions (second) each position (first) sees: (length, length)."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


@torch.no_grad()
def attention_statistics(model: Transformer, tokens: Tensor) -> list[AttentionStatistics]:
    """Watch the attention, block by block, in one forward pass over `tokens` (B, C), C at least 2."""
    found: list[AttentionStatistics] = []

    def note(layer: Attention, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        found.append(_statistics(attention_logits(layer, *inputs)))

    layers = [module for module in model.modules() if isinstance(module, Attention)]
    hooks = [layer.register_forward_hook(note) for layer in layers]
    training = model.training
    model.eval()
    try:
        model(tokens)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return found


def _statistics(logits: Tensor) -> AttentionStatistics:
    length = logits.shape[-1]
    highest = torch.arange(1, length + 1, device=logits.device).log()[1:]
    entropy = torch.special.entr(logits.softmax(-1)).sum(-1)[..., 1:] / highest
    largest = logits[..., seen(length, logits.device)].abs().max()
    return AttentionStatistics(tuple(entropy.mean((0, 2)).tolist()), float(largest))
