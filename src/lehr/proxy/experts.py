"""Mixture-of-experts feed-forward: a router sends each token to the top k of E experts; no token is dropped.

Rows (token, choice) are sorted by expert, so that each expert multiplies one slice (`lehr.proxy.grouped`). In
docstrings: N tokens, E experts, k chosen a token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import distributed as dist

from lehr.proxy.config import Experts, Model
from lehr.proxy.expert_products import expert_swiglu
from lehr.proxy.grouped import Grouping, collect, dispatch
from lehr.proxy.layers import SwiGLU, parameter
from lehr.proxy.parameters import shared_hidden


class Router(nn.Module):
    """Logits of the experts, in float32 whatever the rest is computed in (Switch Transformer, section 2.4)."""

    def __init__(self, width: int, count: int):
        super().__init__()
        self.weight = parameter(count, width)

    def forward(self, x: Tensor) -> Tensor:
        """(N, D) -> (E, N): reductions over a few experts are ten times faster along the first axis."""
        with torch.autocast(x.device.type, enabled=False):
            return self.weight.float() @ x.float().t()


class MixtureOfExperts(nn.Module):
    """The feed-forward of a block.

    With balance by bias it keeps two buffers (E,): `bias` of the choice, and `load`, rows of each expert on this rank
    since the last update.
    """

    bias: Tensor
    load: Tensor

    def __init__(self, config: Model):
        super().__init__()
        assert config.experts is not None
        self.experts = experts = config.experts
        width, hidden = config.width, config.expert_hidden
        self.router = Router(width, experts.count)
        self.gate, self.up = (parameter(experts.count, hidden, width) for _ in range(2))
        self.down = parameter(experts.count, width, hidden)
        self.shared = SwiGLU(width, shared_hidden(experts, hidden)) if experts.shared else None
        if experts.balance == "bias":
            self.register_buffer("bias", torch.zeros(experts.count))
            self.register_buffer("load", torch.zeros(experts.count))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """(B, C, D) -> (B, C, D) and the auxiliary loss."""
        flat = x.flatten(0, 1)
        logits = self.router(flat)
        bias = self.bias if self.experts.balance == "bias" else None
        scores, weights, chosen = route(logits, self.experts, bias)
        grouping = Grouping.of(chosen, self.experts.count)
        if bias is not None and self.training:
            self.load += grouping.load
        rows, weights = dispatch(flat, grouping), weights.flatten().index_select(0, grouping.order)
        y = expert_swiglu(rows, weights, self.gate, self.up, self.down, grouping.load)
        y = collect(y, grouping)
        if self.shared is not None:
            y = y + self.shared(flat)[0]
        return y.view_as(x), auxiliary_loss(logits, scores, grouping.load, self.experts)


def route(logits: Tensor, experts: Experts, bias: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Choose experts and weigh them.

    The bias moves the choice alone, not the weights (DeepSeek-V3, arXiv 2412.19437, eq. 16). A single chosen expert
    is weighed by its score (Switch Transformer, eq. 2): renormalised it would always weigh 1, and the router not learn.

    Parameters
    ----------
    logits : (E, N).
    experts : the `[model.experts]` table.
    bias : (E,) or None.

    Returns
    -------
    scores : (E, N), summing to 1 over experts.
    weights : (k, N), summing to 1 over the chosen if there are several.
    chosen : (k, N) int64.
    """
    raw = logits.softmax(0) if experts.router == "softmax" else logits.sigmoid()
    biased = raw.detach() if bias is None else raw.detach() + bias[:, None]
    chosen = biased.topk(experts.top_k, dim=0, sorted=False).indices
    weights = raw.gather(0, chosen)
    if experts.top_k > 1:
        weights = weights / weights.sum(0)
    scores = raw if experts.router == "softmax" else raw / raw.sum(0)
    return scores, weights, chosen


def auxiliary_loss(logits: Tensor, scores: Tensor, load: Tensor, experts: Experts) -> Tensor:
    """Loss of the balance and of the size of logits, each with its factor.

    Balance: E * sum_i f_i P_i, f_i the share of rows that expert i gets, P_i its mean score: 1 when level (Switch
    Transformer, arXiv 2101.03961, eq. 4 to 6). Size: mean of logsumexp(logits) ** 2 (ST-MoE, arXiv 2202.08906, eq. 5).
    """
    total = logits.new_zeros(())
    if experts.balance == "loss" and experts.balance_weight:
        share = load / load.sum()
        total = total + experts.balance_weight * experts.count * (share @ scores.mean(1))
    if experts.z_loss:
        total = total + experts.z_loss * logits.logsumexp(0).square().mean()
    return total


@torch.no_grad()
def level_loads(layers: Sequence[MixtureOfExperts]) -> None:
    """Move each bias one step against the load since the last update, over all ranks, and forget that load.

    Wang et al., arXiv 2408.15664, algorithm 1: bias += step * sign(mean load - load).
    """
    layers = [layer for layer in layers if layer.experts.balance == "bias"]
    if not layers:
        return
    loads = torch.stack([layer.load for layer in layers])
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(loads)
    for layer, load in zip(layers, loads, strict=True):
        layer.bias += layer.experts.balance_weight * torch.sign(load.mean() - load)
        layer.load.zero_()


@dataclass(frozen=True)
class RouterStatistics:
    """How one router spreads tokens.

    Parameters
    ----------
    load : share of rows that each expert gets, of sum 1; 1 / E each when level.
    entropy : mean over tokens of the entropy of the scores, in nats; log E when undecided.
    """

    load: tuple[float, ...]
    entropy: float


@torch.no_grad()
def router_statistics(model: nn.Module, tokens: Tensor) -> list[RouterStatistics]:
    """Watch the routers of a model, block by block, in one forward pass over `tokens` (B, C); none if it is dense."""
    layers = [module for module in model.modules() if isinstance(module, MixtureOfExperts)]
    seen: list[Tensor] = []
    hooks = [
        layer.router.register_forward_hook(lambda module, inputs, logits: seen.append(logits))
        for layer in layers
    ]
    training = model.training
    model.eval()  # what is only watched is not counted as load of the update
    try:
        model(tokens)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return [_statistics(layer, logits) for layer, logits in zip(layers, seen, strict=True)]


def _statistics(layer: MixtureOfExperts, logits: Tensor) -> RouterStatistics:
    bias = layer.bias if layer.experts.balance == "bias" else None
    scores, _, chosen = route(logits, layer.experts, bias)
    load = torch.bincount(chosen.flatten(), minlength=layer.experts.count) / chosen.numel()
    entropy = torch.special.entr(scores).sum(0).mean()
    return RouterStatistics(tuple(load.tolist()), float(entropy))
