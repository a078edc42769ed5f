"""The SwiGLU of each expert on its own slice of the sorted rows, forward and backward.

R rows, E experts, D width, F hidden width. On a CPU, and wherever PyTorch has no grouped product for the widths, an
expert is finished before the next begins, so that what passes between its products stays in the cache; the gradient is
written out for the same reason. On CUDA all experts go through PyTorch's grouped products.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

ALIGNMENT = 16  # bytes that the rows of a grouped product must be a multiple of


def expert_swiglu(
    rows: Tensor, weights: Tensor, gate: Tensor, up: Tensor, down: Tensor, load: Tensor
) -> Tensor:
    """Compute weight * down_e(silu(gate_e x) * up_e x) of each row x of expert e.

    Parameters
    ----------
    rows : (R, D), sorted by expert.
    weights : (R,).
    gate, up : (E, F, D).
    down : (E, D, F).
    load : (E,) int64; rows of each expert, of sum R.

    Returns
    -------
    (R, D), in the type of autocast where that is on.
    """
    device = rows.device.type
    dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else rows.dtype
    rows, weights, gate, up, down = (part.to(dtype) for part in (rows, weights, gate, up, down))
    if device == "cuda" and can_group(gate):
        return grouped(rows, weights, gate, up, down, load)
    return _one_by_one(rows, weights, gate, up, down, load)


def can_group(gate: Tensor) -> bool:
    """Whether PyTorch has grouped products (2.10 on) and takes matrices of this type and shape."""
    aligned = all(size * gate.element_size() % ALIGNMENT == 0 for size in gate.shape[1:])
    return aligned and gate.dtype == torch.bfloat16 and hasattr(F, "grouped_mm")


def grouped(rows: Tensor, weights: Tensor, gate: Tensor, up: Tensor, down: Tensor, load: Tensor) -> Tensor:
    """`expert_swiglu` by one product for all experts."""
    ends = load.cumsum(0).to(torch.int32)
    gates, ups = (F.grouped_mm(rows, matrix.transpose(1, 2), offs=ends) for matrix in (gate, up))
    hidden = F.silu(gates) * ups * weights[:, None]
    return F.grouped_mm(hidden, down.transpose(1, 2), offs=ends)


Parts = tuple[Tensor, Tensor, Tensor]


def _forward(rows: Tensor, weights: Tensor, gate: Tensor, up: Tensor, down: Tensor, load: Tensor) -> Parts:
    """Return the outputs (R, D), and silu's argument and its factor (R, F) for the way back."""
    sizes = load.tolist()
    gates, ups = (rows.new_empty(rows.shape[0], gate.shape[1]) for _ in range(2))
    out = torch.empty_like(rows)
    slices = zip(*(torch.split(part, sizes) for part in (rows, weights, gates, ups, out)), strict=True)
    for (x, weight, g, u, y), to_gate, to_up, to_out in zip(slices, gate, up, down, strict=True):
        torch.mm(x, to_gate.t(), out=g)
        torch.mm(x, to_up.t(), out=u)
        hidden = F.silu(g).mul_(u).mul_(weight[:, None])
        torch.mm(hidden, to_out.t(), out=y)
    return out, gates, ups


def _backward(
    grad: Tensor, rows: Tensor, weights: Tensor, gate: Tensor, up: Tensor, down: Tensor, gates: Tensor,
    ups: Tensor, load: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """Return the gradients of rows, weights, gate, up and down."""
    sizes = load.tolist()
    of_rows, of_weights = torch.empty_like(rows), torch.empty_like(weights)
    of_gate, of_up, of_down = torch.empty_like(gate), torch.empty_like(up), torch.empty_like(down)
    parts = (grad, rows, weights, gates, ups, of_rows, of_weights)
    slices = zip(*(torch.split(part, sizes) for part in parts), strict=True)
    matrices = zip(gate, up, down, of_gate, of_up, of_down, strict=True)
    for (dy, x, weight, g, u, dx, dw), (to_gate, to_up, to_out, d_gate, d_up, d_out) in zip(
        slices, matrices, strict=True
    ):
        activated = F.silu(g)
        hidden = activated * u
        d_hidden = torch.mm(dy, to_out)
        torch.sum(d_hidden * hidden, 1, out=dw)
        torch.mm(dy.t(), hidden.mul_(weight[:, None]), out=d_out)
        d_hidden.mul_(weight[:, None])
        du = activated.mul_(d_hidden)
        dg = torch.ops.aten.silu_backward(d_hidden.mul_(u), g)
        torch.mm(dg.t(), x, out=d_gate)
        torch.mm(du.t(), x, out=d_up)
        torch.addmm(torch.mm(dg, to_gate, out=dx), du, to_up, out=dx)
    return of_rows, of_weights, of_gate, of_up, of_down


# The sizes of slices are data, which the compiler cannot trace: it sees each pass as one operation. Uncompiled, the
# plain functions spare its overhead.
_forward_op = torch.library.custom_op("lehr::expert_swiglu", _forward, mutates_args=())
_backward_op = torch.library.custom_op("lehr::expert_swiglu_backward", _backward, mutates_args=())


@_forward_op.register_fake
def _(rows: Tensor, weights: Tensor, gate: Tensor, up: Tensor, down: Tensor, load: Tensor) -> Parts:
    hidden = rows.new_empty(rows.shape[0], gate.shape[1])
    return torch.empty_like(rows), hidden, torch.empty_like(hidden)


@_backward_op.register_fake
def _(grad: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.empty_like(part) for part in inputs[:5])


class _OneByOne(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, *inputs: Tensor) -> Tensor:
        forward = _forward_op if torch.compiler.is_compiling() else _forward
        out, gates, ups = forward(*inputs)
        ctx.save_for_backward(*inputs[:5], gates, ups, inputs[5])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        backward = _backward_op if torch.compiler.is_compiling() else _backward
        return *backward(grad, *ctx.saved_tensors), None


_one_by_one: Callable[..., Tensor] = _OneByOne.apply
