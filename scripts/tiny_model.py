"""The tiny byte-level transformer of the bundled runs: RMSNorm, RoPE, QK-norm, SwiGLU, tied head."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

SEQ_LEN = 128


class Block(nn.Module):
    """Pre-norm attention and SwiGLU, each with a residual connection."""

    def __init__(self, width, heads):
        super().__init__()
        hidden = -(-8 * width // 24) * 8  # 8/3 of the width, rounded up to a multiple of 8
        self.heads = heads
        self.norm1, self.norm2 = nn.RMSNorm(width), nn.RMSNorm(width)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.up = nn.Linear(width, 2 * hidden, bias=False)
        self.down = nn.Linear(hidden, width, bias=False)

    def forward(self, x, cos, sin):
        """Map ``(batch, length, width)`` to the same shape."""
        b, n, width = x.shape
        qkv = self.qkv(self.norm1(x)).view(b, n, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        # QK-norm (without gain) bounds the attention logits, so that the
        # highest learning rates stay stable; RoPE then turns q and k together.
        qk = F.rms_norm(qkv[:2], qkv.shape[-1:], eps=1e-6)
        first, second = qk.chunk(2, dim=-1)
        qk = qk * cos + torch.cat((-second, first), dim=-1) * sin
        mixed = F.scaled_dot_product_attention(qk[0], qk[1], qkv[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(b, n, width))
        gate, value = self.up(self.norm2(x)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * value)


class Model(nn.Module):
    """Byte-level transformer whose output head is its embedding."""

    def __init__(self, width, layers, heads):
        super().__init__()
        self.embed = nn.Embedding(256, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.norm = nn.RMSNorm(width)
        for name, p in self.named_parameters():
            if p.ndim == 2:
                std = 0.02 if name == "embed.weight" else p.shape[1] ** -0.5
                if name.endswith(("out.weight", "down.weight")):
                    std /= (2 * layers) ** 0.5  # so that depth does not inflate the stream
                nn.init.normal_(p, std=std)
        half = width // heads // 2
        frequency = 10000.0 ** (-torch.arange(half) / half)
        angle = torch.outer(torch.arange(SEQ_LEN), frequency).repeat(1, 2)
        self.register_buffer("cos", angle.cos(), persistent=False)
        self.register_buffer("sin", angle.sin(), persistent=False)

    def forward(self, x, y):
        """Return the mean cross-entropy in nats per byte."""
        h = self.embed(x)
        for block in self.blocks:
            h = block(h, self.cos, self.sin)
        logits = F.linear(self.norm(h), self.embed.weight)
        return F.cross_entropy(logits.flatten(0, 1), y.flatten())
