"""Where a coordinate check, or a diagnosis, looks at a proxy.

What a block does is, in a deep model, a function of its relative depth, which the blocks of a shallow one sample
coarsely: of two blocks the attention sees the stream before the first block and at half the depth, the
feed-forward at half the depth and after the last attention. An average over blocks would drift with depth under any
rule. So the check compares like with like: attention at the start and at half the depth (blocks 0 and L/2), the
feed-forward after half of the attentions and after all (blocks L/2 - 1 and L - 1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lehr.proxy.attention import attention_logits, seen
from lehr.proxy.experts import MixtureOfExperts, route
from lehr.proxy.grouped import Grouping, dispatch
from lehr.proxy.model import Attention, Transformer
from lehr.transfer.coordcheck import MATRIX, Inputs, Product, Site
from lehr.transfer.slopes import STREAM, Measure

# those of initial weights vanish as width^-1/2 under muP
OUTPUT: tuple[Measure, ...] = ("change", "update", "weights")
# which rows an expert gets changes, so that they cannot be compared with the first
ROWS: tuple[Measure, ...] = ("size", "update", "gain", "weights")


def comparable_sites(model: Transformer) -> tuple[Site, ...]:
    """Sites that can be compared over widths, depths and experts, in the order of the forward pass."""
    depth = len(model.blocks)
    attentions, feed_forwards = {0, depth // 2}, {max(0, depth // 2 - 1), depth - 1}
    found = [Site("embedding", "blocks.0", side="input")]
    for layer in sorted(attentions):
        found += _attention(f"blocks.{layer}.attention")
    for layer in sorted(feed_forwards):
        found += _feed_forward(model, layer)
    return (*found, *_ends(model))


def sites_by_block(model: Transformer) -> tuple[Site, ...]:
    """Sites of every block, each a part of its own, such as "query 3"."""
    found = [Site("embedding", "blocks.0", side="input")]
    for layer in range(len(model.blocks)):
        for site in (*_attention(f"blocks.{layer}.attention"), *_feed_forward(model, layer)):
            found.append(replace(site, part=f"{site.part} {layer}"))
    return (*found, *_ends(model))


def _ends(model: Transformer) -> Iterator[Site]:
    yield Site(STREAM, f"blocks.{len(model.blocks) - 1}")
    if model.config.tied:  # the same module is looked up and multiplied; what is its own cannot be told apart
        yield Site("logits", "embedding", factor=model.multipliers.output, measures=("change",))
        return
    yield Site("logits", "head", "weight", factor=model.multipliers.output, measures=OUTPUT)


def _attention(name: str) -> Iterator[Site]:
    for part in ("query", "key", "value"):
        yield Site(part, f"{name}.{part}", "weight", measures=MATRIX)
    yield Site("attention logits", name, value=_logits)
    yield Site("attention heads", f"{name}.output", side="input")
    yield Site("attention output", f"{name}.output", "weight", measures=MATRIX)


def _feed_forward(model: Transformer, layer: int) -> Iterator[Site]:
    name, ffn = f"blocks.{layer}.ffn", model.blocks[layer].ffn
    if not isinstance(ffn, MixtureOfExperts):
        yield from _swiglu(name, "ffn")
        return
    yield Site("router logits", f"{name}.router", "weight", measures=OUTPUT)
    for part in ("gate", "up", "down"):
        yield Site(f"expert {part}", name, part, product=_expert(part), measures=ROWS)
    if ffn.shared is not None:
        yield from _swiglu(f"{name}.shared", "shared")
    yield Site("experts' sum", name)


def _swiglu(name: str, prefix: str) -> Iterator[Site]:
    for part in ("gate", "up"):
        yield Site(f"{prefix} {part}", f"{name}.{part}", "weight", measures=MATRIX)
    yield Site(f"{prefix} hidden", f"{name}.down", side="input")
    yield Site(f"{prefix} down", f"{name}.down", "weight", measures=MATRIX)


def _logits(layer: nn.Module, inputs: Inputs) -> Tensor:
    """Attention logits of what is seen."""
    assert isinstance(layer, Attention)
    logits = attention_logits(layer, *inputs)
    return logits[..., seen(logits.shape[-1], logits.device)]


def _expert(part: str) -> Product:
    """What the experts' matrix `part` is given, row by row, and what it makes of it."""

    def product(layer: nn.Module, weight: Tensor, inputs: Inputs) -> tuple[Tensor, Tensor]:
        assert isinstance(layer, MixtureOfExperts)
        x = inputs[0].flatten(0, 1)
        bias = layer.bias if layer.experts.balance == "bias" else None
        _, _, chosen = route(layer.router(x), layer.experts, bias)
        grouping = Grouping.of(chosen, layer.experts.count)
        rows = dispatch(x, grouping)
        if part == "down":
            rows = F.silu(_each(rows, layer.gate, grouping)) * _each(rows, layer.up, grouping)
        return rows, _each(rows, weight, grouping)

    return product


def _each(rows: Tensor, matrices: Tensor, grouping: Grouping) -> Tensor:
    """Rows of every expert times its matrix."""
    slices = torch.split(rows, grouping.load.tolist())
    return torch.cat([part @ matrix.t() for part, matrix in zip(slices, matrices, strict=True)])
