"""The layers that the model is put together from: matrix, norm and SwiGLU feed-forward, none with a bias."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

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
    """x / sqrt(mean(x ** 2) + epsilon) times a gain (Zhang and Sennrich, arXiv 1910.07467, eq. 4), in float32."""

    def __init__(self, width: int):
        super().__init__()
        self.weight = parameter(width)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise the last dimension."""
        if x.device.type == "cpu" and not torch.compiler.is_compiling():
            return _rms_norm(x.float(), self.weight)
        return F.rms_norm(x.float(), self.weight.shape, self.weight, EPSILON)


class _RMSNorm(torch.autograd.Function):
    """PyTorch's own is one kernel on CUDA or compiled, but a dozen passes over memory on a CPU; this has half of them.

    With n = x / rms and h = gradient * n: the gain's gradient is the sum of h, that of x is
    (gradient * gain - n * mean(h * gain)) / rms.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor) -> Tensor:
        length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = length.square_().div_(x.shape[-1]).add_(EPSILON).rsqrt_()
        ctx.save_for_backward(x, gain, inverse)
        return (x * inverse).mul_(gain)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        x, gain, inverse = ctx.saved_tensors
        normal = x * inverse
        product = grad * normal
        mean = (product @ gain).div_(-x.shape[-1])
        of_x = (grad * gain).addcmul_(normal, mean[..., None]).mul_(inverse)
        return of_x, product.flatten(0, -2).sum(0)


_rms_norm: Callable[..., Tensor] = _RMSNorm.apply


class SwiGLU(nn.Module):
    """down(silu(gate x) * up x) (Shazeer, arXiv 2002.05202, eq. 6)."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.gate, self.up = Linear(width, hidden), Linear(width, hidden)
        self.down = Linear(hidden, width)

    def forward(self, x: Tensor) -> tuple[Tensor, None]:
        """Return the output and no auxiliary loss."""
        return self.down(F.silu(self.gate(x)) * self.up(x)), None
