"""The layers that the model is put together from: matrix, norm and SwiGLU feed-forward, none with a bias."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-6  # under the root of the norm; independent of width, as transfer over widths wants


def parameter(*shape: int) -> nn.Parameter:
    """A weight that shows when nobody has filled it: all NaN."""
    return nn.Parameter(torch.full(shape, torch.nan))


class Linear(nn.Module):
    """Product with a matrix (outputs, inputs)."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.weight = parameter(outputs, inputs)

    def forward(self, x: Tensor) -> Tensor:
        """(..., inputs) -> (..., outputs)."""
        return F.linear(x, self.weight)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x ** 2) + epsilon) times a gain (Zhang and Sennrich, arXiv 1910.07467, eq. 4)."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = parameter(width)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), EPSILON)


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (Shazeer, arXiv 2002.05202, eq. 6)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate, self.up = Linear(width, hidden), Linear(width, hidden)
        self.down = Linear(hidden, width)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return the output and no auxiliary loss."""
        return self.down(F.silu(self.gate(x)) * self.up(x)), None
