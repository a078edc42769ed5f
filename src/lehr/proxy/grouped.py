"""Rows sorted by group: who goes where, there and back.

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
    order : (R,) int64; sorted row r is choice `order[r] // N` of token `order[r] % N`.
    tokens : (R,) int64; the token of each sorted row.
    places : (N, k) int64; the sorted rows of each token.
    load : (E,) int64; rows of each group.
    """

    order: Tensor
    tokens: Tensor
    places: Tensor
    load: Tensor

    @classmethod
    def of(cls, chosen: Tensor, count: int) -> Grouping:
        """Sort the choices (k, N) by group; ties keep their order, so that it is the same every time."""
        flat = chosen.flatten()
        order = flat.argsort(stable=True)
        rows = torch.arange(len(order), device=order.device)
        places = torch.empty_like(order).scatter_(0, order, rows).view_as(chosen).t().contiguous()
        load = (flat == torch.arange(count, device=flat.device)[:, None]).sum(1)
        return cls(order, order % chosen.shape[1], places, load)


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
