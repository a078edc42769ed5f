"""Shared numerics of the laws: drops of the LR as nodes, and relaxation kernels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.laws.law import Path
from lehr.schedule.pieces import Pieces

JUMP = 1e-9  # a piece whose LR is flat to this share of the peak has no drops inside


@dataclass(frozen=True, eq=False)
class Drops:
    """Falls of the LR (rises are negative), grouped into m nodes.

    Parameters
    ----------
    begin : shape (m,), first update of the node.
    count : shape (m,), number of updates over which it is spread evenly; 1 for a jump.
    size : shape (m,), LR lost over the whole node.
    lr : shape (m,), mean LR of its updates.
    """

    begin: np.ndarray
    count: np.ndarray
    size: np.ndarray
    lr: np.ndarray


def find_drops(pieces: Pieces, count_warmup: bool = False) -> Drops:
    """Group the falls of the LR between successive updates into nodes.

    A smooth stretch gives one node a piece, spread over the piece's updates. A jump between
    two pieces (more than twice the drop an update makes inside them) is a node of its own.

    Parameters
    ----------
    pieces : the compressed schedule.
    count_warmup : count the rise of the warm-up from 0, as the released Multi-Power code does;
        otherwise falls are counted from the peak on.
    """
    before = np.concatenate([[0.0], pieces.last[:-1]])
    edge = before - pieces.first
    inside = pieces.first - pieces.last
    rate = inside / np.maximum(pieces.steps - 1, 1)
    smooth = (pieces.steps > 1) & (edge * rate > 0) & (np.abs(edge) < 2 * np.abs(rate))
    if not count_warmup:
        edge = np.where(pieces.warm, 0.0, edge)
        inside = np.where(pieces.warm, 0.0, inside)
        edge[0] = 0.0
        if pieces.warm.any() and not pieces.warm.all():
            # the last step up to the peak still belongs to the warm-up
            edge[int(pieces.warm.sum())] = max(edge[int(pieces.warm.sum())], 0.0)
    spread = np.where(smooth, edge + inside, inside)
    jump = np.where(smooth, 0.0, edge)
    begin = np.concatenate([pieces.start + np.where(smooth, 0, 1), pieces.start])
    count = np.concatenate([np.maximum(pieces.steps - np.where(smooth, 0, 1), 1), np.ones(len(jump), int)])
    size = np.concatenate([spread, jump])
    lr = np.concatenate([pieces.lr, pieces.first])
    keep = np.abs(size) > JUMP * np.max(pieces.first)
    order = np.argsort(begin[keep], kind="stable")
    return Drops(*(array[keep][order].astype(float) for array in (begin, count, size, lr)))


@dataclass(frozen=True, eq=False)
class DropView:
    """Drops seen from n points; matrices have shape (n, m).

    Parameters
    ----------
    amount : LR lost by each node before each point.
    waited : updates since the middle of the part of the node that lies before the point.
    elapsed : area (LR sum) since then.
    node_area : area at that middle.
    """

    amount: np.ndarray
    waited: np.ndarray
    elapsed: np.ndarray
    node_area: np.ndarray


def view_drops(path: Path, drops: Drops) -> DropView:
    """Look at `drops` from the points of `path`."""
    done = np.clip((path.steps[:, None] - drops.begin) / drops.count, 0.0, 1.0)
    # a fall happens before the update that first uses the lower LR: the first one of a node at `begin` itself
    middle = drops.begin + 0.5 * np.maximum(done * drops.count - 1, 0.0)
    node_area = np.interp(middle, path.pieces.edges, path.area_edges)
    waited = np.maximum(path.steps[:, None] - middle, 0.0)
    return DropView(done * drops.size, waited, np.maximum(path.area[:, None] - node_area, 0.0), node_area)


def power_kernel(u: np.ndarray, rate: float, exponent: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(1 + rate u)^-exponent, then its derivatives by the rate and by the exponent."""
    log = np.log1p(rate * u)
    kernel = np.exp(-exponent * log)
    return kernel, -exponent * kernel * u / (1 + rate * u), -log * kernel


def exponential_kernel(u: np.ndarray, rate: float) -> tuple[np.ndarray, np.ndarray]:
    """exp(-rate u), then its derivative by the rate."""
    kernel = np.exp(-rate * u)
    return kernel, -u * kernel


def power_kernel_integral(
    u: np.ndarray, rate: float, exponent: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Integral of the power kernel from 0 to u; the kernel at u; derivatives by rate and exponent.

    F(u) = ((1 + rate u)^(1 - exponent) - 1) / (rate (1 - exponent)), a logarithm at exponent 1.
    """
    log = np.log1p(rate * u)
    gap = 1.0 - exponent
    kernel = np.exp(-exponent * log)
    if abs(gap) < 1e-6:
        integral = log / rate
        by_exponent = -0.5 * log * log / rate
    else:
        grown = np.expm1(gap * log)
        integral = grown / (rate * gap)
        by_exponent = (integral - log * (grown + 1) / rate) / gap
    return integral, kernel, (u * kernel - integral) / rate, by_exponent


def power_kernel_area(u: np.ndarray, rate: np.ndarray, exponent: np.ndarray) -> np.ndarray:
    """The integral of `power_kernel_integral` alone, for arrays that broadcast."""
    log = np.log1p(rate * u)
    gap = 1.0 - exponent
    flat = np.abs(gap) < 1e-6
    return np.where(flat, log, np.expm1(gap * log) / np.where(flat, 1.0, gap)) / rate


@dataclass(frozen=True, eq=False)
class Place:
    """Where each of n points lies among P pieces, for integrals of piecewise constant rates.

    Parameters
    ----------
    done : shape (n, P), share of each piece done at each point.
    passed : shape (n, P + 1), whether each edge of the pieces lies before the point.
    """

    done: np.ndarray
    passed: np.ndarray

    @classmethod
    def of(cls, steps: np.ndarray, start: np.ndarray, count: np.ndarray) -> Place:
        """Look from `steps` at pieces of `count` updates from `start`."""
        done = np.clip((steps[:, None] - start) / count, 0.0, 1.0)
        return cls(done, np.concatenate([done > 0.0, done[:, -1:] >= 1.0], axis=1))

    def at(self, amounts: np.ndarray) -> np.ndarray:
        """Return the sum of the pieces' `amounts` (shape (..., P)) up to each point, shape (..., n)."""
        return amounts @ self.done.T

    def distances(self, amounts: np.ndarray) -> np.ndarray:
        """Amount between each edge of the pieces and each point, 0 for later edges; (..., n, P + 1)."""
        return np.where(self.passed, self.at(amounts)[..., None] - running_sum(amounts)[..., None, :], 0.0)


def edge_weights(level: np.ndarray) -> np.ndarray:
    """Weights (..., P + 1) over the edges that turn integrals up to each edge into a sum over pieces.

    A piece of height `level` contributes level (F(its start) - F(its end)); the sum over pieces is
    one product with F at the edges.
    """
    none = np.zeros((*level.shape[:-1], 1))
    return np.concatenate([level, none], axis=-1) - np.concatenate([none, level], axis=-1)


def running_sum(amounts: np.ndarray) -> np.ndarray:
    """Sum of the `amounts` (..., P) before each of the P + 1 edges."""
    return np.concatenate([np.zeros((*amounts.shape[:-1], 1)), np.cumsum(amounts, axis=-1)], axis=-1)


@dataclass(frozen=True, eq=False)
class TwiceIntegrated:
    """The power kernel K, its integral F and the integral F2 of that, at u; slopes by rate and exponent.

    For 1 < exponent < 2. F2 serves sources that change along a straight line.
    """

    kernel: np.ndarray
    once: np.ndarray
    once_by_rate: np.ndarray
    once_by_exponent: np.ndarray
    twice: np.ndarray
    twice_by_rate: np.ndarray
    twice_by_exponent: np.ndarray


def integrals(u: np.ndarray, rate: np.ndarray, exponent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """F and F2 of `TwiceIntegrated` alone, for arrays that broadcast."""
    x = rate * u
    gap = 1.0 - exponent
    power = np.exp(gap * np.log1p(x))
    return (power - 1) / (rate * gap), ((power * (1 + x) - 1) / (gap + 1) - x) / (gap * rate * rate)


def integrate_twice(u: np.ndarray, rate: float, exponent: float) -> TwiceIntegrated:
    """Integrate (1 + rate u)^-exponent once and twice from 0; see `TwiceIntegrated`."""
    x = rate * u
    log = np.log1p(x)
    gap = 1.0 - exponent
    power = np.exp(gap * log)  # (1 + x)^(1 - exponent)
    kernel = power / (1 + x)
    once = (power - 1) / (rate * gap)
    raised = (power * (1 + x) - 1) / (gap + 1)
    twice = (raised - x) / (gap * rate * rate)
    raised_by_gap = (log * power * (1 + x) - raised) / (gap + 1)
    return TwiceIntegrated(
        kernel=kernel,
        once=once,
        once_by_rate=(u * kernel - once) / rate,
        once_by_exponent=(once - log * power / rate) / gap,
        twice=twice,
        twice_by_rate=(u * once - 2 * twice) / rate,
        twice_by_exponent=(twice - raised_by_gap / (rate * rate)) / gap,
    )
