"""A decoder-only transformer: pre-norm RMSNorm, rotary positions, SwiGLU, no biases; dense or mixture of experts.

Shapes in comments: B sequences, C tokens each, D width, H heads of width K.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lehr.errors import bad
from lehr.proxy.config import Model
from lehr.proxy.experts import MixtureOfExperts, level_loads
from lehr.proxy.layers import Linear, RMSNorm, SwiGLU
from lehr.proxy.parameters import describe
from lehr.transfer import apply
from lehr.transfer.plan import Settings, Transfer
from lehr.transfer.roles import Multipliers, group_of


class Output(NamedTuple):
    """What a forward pass gives; a tuple, so that DDP and FSDP find the tensors in it.

    Parameters
    ----------
    loss : mean cross-entropy of the next token in nats, without auxiliary terms; None without targets.
    auxiliary : sum over blocks of the balance and z losses, each with its factor; 0 for a dense model.
    logits : (B, C, vocabulary), float32; None with targets.
    """

    loss: Tensor | None
    auxiliary: Tensor
    logits: Tensor | None


class Attention(nn.Module):
    """Causal self-attention of several heads with rotary positions."""

    def __init__(self, config: Model, multipliers: Multipliers):
        super().__init__()
        width, self.heads = config.width, config.heads
        head = width // self.heads
        self.scale = 1 / math.sqrt(head) if multipliers.attention is None else multipliers.attention
        self.query, self.key, self.value = (Linear(width, width) for _ in range(3))
        self.output = Linear(width, width)
        self.query_norm = RMSNorm(head) if config.qk_norm else None
        self.key_norm = RMSNorm(head) if config.qk_norm else None

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """(B, C, D) -> (B, C, D); `rotation` as from `rotations`."""
        query, key, value = (
            part(x).unflatten(-1, (self.heads, -1)) for part in (self.query, self.key, self.value)
        )  # (B, C, H, K)
        if self.query_norm is not None and self.key_norm is not None:
            query, key = self.query_norm(query), self.key_norm(key)
        query, key = (rotate(part, rotation).to(value.dtype) for part in (query, key))
        mixed = F.scaled_dot_product_attention(
            query.transpose(1, 2),
            key.transpose(1, 2),
            value.transpose(1, 2),
            is_causal=True,
            scale=self.scale,
        )
        return self.output(mixed.transpose(1, 2).flatten(2))


class Block(nn.Module):
    """Attention, then feed-forward, each on the normalised residual stream and added to it."""

    def __init__(self, config: Model, multipliers: Multipliers):
        super().__init__()
        self.residual = multipliers.residual
        self.attention_norm = RMSNorm(config.width)
        self.attention = Attention(config, multipliers)
        self.ffn_norm = RMSNorm(config.width)
        self.ffn = SwiGLU(config.width, config.hidden) if config.experts is None else MixtureOfExperts(config)

    def forward(self, x: Tensor, rotation: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the residual stream and the auxiliary loss of the experts, if there are any."""
        x = torch.add(x, self.attention(self.attention_norm(x), rotation), alpha=self.residual)
        added, auxiliary = self.ffn(self.ffn_norm(x))
        return torch.add(x, added, alpha=self.residual), auxiliary


class Transformer(nn.Module):
    """The model. Its weights are NaN until `initialise` or a checkpoint fills them.

    Parameters
    ----------
    config : the `[model]` table.
    vocab_size : tokens of the vocabulary.
    multipliers : fixed factors, for rules of transfer.
    """

    rotation: Tensor

    def __init__(self, config: Model, vocab_size: int, multipliers: Multipliers = Multipliers()):  # noqa: B008
        super().__init__()
        self.config, self.vocab_size, self.multipliers = config, vocab_size, multipliers
        self.embedding = Linear(config.width, vocab_size)
        self.blocks = nn.ModuleList(Block(config, multipliers) for _ in range(config.depth))
        self.norm = RMSNorm(config.width)
        self.head = self.embedding if config.tied else Linear(config.width, vocab_size)
        rotation = rotations(config.context, config.width // config.heads, config.rope_base)
        self.register_buffer("rotation", rotation, persistent=False)

    def forward(self, tokens: Tensor, targets: Tensor | None = None) -> Output:
        """Predict the token after each.

        Parameters
        ----------
        tokens : (B, C) int64, C at most the context.
        targets : (B, C) int64, the tokens that follow; None for the logits in place of the loss.

        Raises
        ------
        InputError
            If there are more tokens than the context.
        """
        length = tokens.shape[1]
        if length > self.config.context:
            raise bad(
                "tokens", f"must be at most {self.config.context} a sequence", length, "raise the context"
            )
        x = F.embedding(tokens, self.embedding.weight)
        rotation = self.rotation[:length]
        terms = []
        for block in self.blocks:
            x, term = block(x, rotation)
            if term is not None:
                terms.append(term)
        auxiliary = torch.stack(terms).sum() if terms else x.new_zeros((), dtype=torch.float32)
        logits = self.head(self.norm(x)).float()
        if self.multipliers.output != 1:
            logits = logits * self.multipliers.output
        if targets is None:
            return Output(None, auxiliary, logits)
        return Output(F.cross_entropy(logits.flatten(0, 1), targets.flatten()), auxiliary, None)

    def after_update(self) -> None:
        """Move what is not trained by gradients: the biases that level the load of experts. Once an update."""
        level_loads([block.ffn for block in self.blocks if isinstance(block.ffn, MixtureOfExperts)])


def initialise(model: Transformer, seed: int, plan: Transfer | None = None) -> None:
    """Fill the weights from a generator of their own, the same on every device; the global one is not touched.

    Norms are 1. Matrices and the embedding are normal with standard deviation `init_std`; those that write to the
    residual stream have it divided by sqrt(2 depth) (Radford et al. 2019, GPT-2, section 2.3). A plan of transfer has
    its own.
    """
    config, roles = model.config, describe(model)
    if plan is not None:
        apply.initialise(model, roles, plan, seed)
        return
    usual = Settings(lr=1.0, init_std=config.init_std)
    apply.draw_weights(model, roles, lambda _, role: usual.std(group_of(role.kind), config.depth), seed)


def rotations(length: int, width: int, base: float) -> Tensor:
    """Cosine and sine of the angle by which position p turns pair i: p * base ** (-2 i / width).

    Su et al., arXiv 2104.09864, eq. 15. Shape (length, 1, width / 2, 2), float32.
    """
    frequencies = base ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)
    angles = torch.outer(torch.arange(length, dtype=torch.float64), frequencies)[:, None]
    return torch.stack((angles.cos(), angles.sin()), dim=-1).float()


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn each pair (x[2 i], x[2 i + 1]) of (B, C, H, K) by the angle of its position, as complex numbers."""
    pairs = x.float().reshape(*x.shape[:-1], -1, 2)
    if torch.compiler.is_compiling():  # the compiler fuses real arithmetic and knows no complex
        (first, second), (cos, sin) = pairs.unbind(-1), rotation.unbind(-1)
        both = (first * cos - second * sin, second * cos + first * sin)
        return torch.stack(both, dim=-1).flatten(-2)
    turned = torch.view_as_complex(pairs) * torch.view_as_complex(rotation)
    return torch.view_as_real(turned).flatten(-2)
