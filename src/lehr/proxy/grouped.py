"""Rows sorted by group, and the product of each group with a matrix of its own.

N tokens go to k groups each: R = N k rows. Nothing is padded and nothing dropped, whatever the sizes of groups.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Grouping(NamedTuple):
    """Which row goes where.

    Parameters
    ----------
    order : (R,) int64; row r of the sorted ones is choice `order[r] % k` of token `order[r] // k`.
    tokens : (R,) int64; the token of each sorted row.
    places : (N, k) int64; the sorted row of each token's choices: the inverse of `order`.
    load : (E,) float32; rows of each group.
    ends : (E,) int32; the row after the last of each group.
    """

    order: Tensor
    tokens: Tensor
    places: Tensor
    load: Tensor
    ends: Tensor

    @classmethod
    def of(cls, chosen: Tensor, count: int) -> Grouping:
        """Sort the choices (N, k) by group; ties keep the order of tokens, so that it is the same every time."""
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        places = torch.empty_like(order).scatter_(0, order, torch.arange(len(order), device=order.device))
        load = (flat[None] == torch.arange(count, device=flat.device)[:, None]).sum(1)
        ends = load.cumsum(0).to(torch.int32)
        return cls(order, order // chosen.shape[1], places.view_as(chosen), load.float(), ends)


class _Dispatch(torch.autograd.Function):
    """A copy of its token for each sorted row: the transpose of `_Collect`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, tokens: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, places)
        return x.index_select(0, tokens)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        tokens, places = ctx.saved_tensors
        return _collect(grad, tokens, places), None, None


class _Collect(torch.autograd.Function):
    """For each token the sum of its sorted rows: the transpose of `_Dispatch`."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, tokens: Tensor, places: Tensor) -> Tensor:
        ctx.save_for_backward(tokens, places)
        return F.embedding_bag(places, rows, mode="sum")

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        tokens, places = ctx.saved_tensors
        return _dispatch(grad, tokens, places), None, None


_dispatch: Callable[..., Tensor] = _Dispatch.apply
_collect: Callable[..., Tensor] = _Collect.apply


def dispatch(x: Tensor, grouping: Grouping) -> Tensor:
    """(N, D) -> (R, D): each sorted row the one of its token."""
    return _dispatch(x, grouping.tokens, grouping.places)


def collect(rows: Tensor, grouping: Grouping) -> Tensor:
    """(R, D) -> (N, D): the sum over a token's choices."""
    return _collect(rows, grouping.tokens, grouping.places)


def grouped_product(rows: Tensor, weight: Tensor, grouping: Grouping) -> Tensor:
    """Multiply each group by its matrix.

    Parameters
    ----------
    rows : (R, inputs), sorted.
    weight : (E, outputs, inputs).

    Returns
    -------
    (R, outputs), in the type of autocast where that is on.
    """
    device = rows.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        rows, weight = rows.to(dtype), weight.to(dtype)
    return _product(rows, weight, grouping.ends)


@torch.library.custom_op("lehr::grouped_product", mutates_args=())
def _product(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    out = rows.new_empty(len(rows), weight.shape[1])
    start = 0
    for matrix, end in zip(weight, ends.tolist(), strict=True):
        torch.mm(rows[start:end], matrix.t(), out=out[start:end])
        start = end
    return out


@torch.library.custom_op("lehr::grouped_outer", mutates_args=())
def _outer(grad: Tensor, rows: Tensor, ends: Tensor) -> Tensor:
    """(R, outputs) and (R, inputs) -> (E, outputs, inputs): the gradient of the matrices."""
    out = rows.new_empty(len(ends), grad.shape[1], rows.shape[1])
    start = 0
    for matrix, end in zip(out, ends.tolist(), strict=True):
        torch.mm(grad[start:end].t(), rows[start:end], out=matrix)
        start = end
    return out


@_product.register_fake
def _(rows: Tensor, weight: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(rows.shape[0], weight.shape[1])


@_outer.register_fake
def _(grad: Tensor, rows: Tensor, ends: Tensor) -> Tensor:
    return rows.new_empty(ends.shape[0], grad.shape[1], rows.shape[1])


def _save(ctx: Any, inputs: tuple[Tensor, Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
    rows, weight, ends = ctx.saved_tensors
    return _product(grad, weight.transpose(1, 2), ends), _outer(grad, rows, ends), None


_product.register_autograd(_backward, setup_context=_save)
