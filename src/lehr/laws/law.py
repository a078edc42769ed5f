"""What a law is: a loss curve, linear in its amplitudes, of a schedule and sizes.

    loss(s) = sum_j basis_j(nonlinear; schedule, s, sizes) * linear_j,   linear_j >= 0

A law is a frozen value. `bind` fixes a run's schedule, sizes and steps and returns the functions
of the nonlinear parameters that fitting and prediction call; whatever does not depend on those
parameters is computed there, once. Amplitudes are never negative: a term that lowers the loss
carries its minus sign in its basis column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lehr.errors import InputError
from lehr.schedule.pieces import TOLERANCE, Pieces, to_pieces
from lehr.schedule.schedule import Schedule

CACHED = 1 << 15  # numbers of a matrix over points and parts that are worked on at a time


@dataclass(frozen=True)
class Parameter:
    """A nonlinear parameter.

    Parameters
    ----------
    name, symbol : the word used in results and the paper's letter.
    low, high : bounds, in the parameter's own unit.
    meaning : one line, with the unit.
    log : search its logarithm (scales and rates) rather than itself (exponents).
    prior : mean and standard deviation (of the logarithm if `log`) of what other data say, or None.
    """

    name: str
    symbol: str
    low: float
    high: float
    meaning: str
    log: bool = False
    prior: tuple[float, float] | None = None

    def to_search(self, value: float) -> float:
        """Return the search coordinate of `value`."""
        return float(np.log(value)) if self.log else float(value)

    def from_search(self, coordinate: float) -> float:
        """Return the value of a search coordinate."""
        return float(np.exp(coordinate)) if self.log else float(coordinate)


@dataclass(frozen=True)
class Amplitude:
    """A linear parameter, at least 0; `sign` is that of its term in the loss."""

    name: str
    symbol: str
    meaning: str
    sign: int = 1


@dataclass(frozen=True)
class Conditions:
    """What a law may know of a run besides the step: its schedule and sizes.

    Parameters
    ----------
    schedule : LR of every update.
    params : number of parameters N that size laws use, or None.
    batch_tokens : tokens of one update, or None.
    weight_decay : of AdamW, multiplied by the LR at each update, or None.
    params_total : all parameters but embeddings of a model of experts (`params` are its active ones); None
        for a dense model.
    data : what the loss is measured on, for fits of several data sets (`lehr.laws.grouped`), or None.
    pieces : the schedule as already cut, for searches that try many LRs on one cut; by default it is
        cut to the tolerance asked for.
    """

    schedule: Schedule
    params: float | None = None
    batch_tokens: float | None = None
    weight_decay: float | None = None
    params_total: float | None = None
    data: str | None = None
    pieces: Pieces | None = None


# nonlinear (K,) -> basis (n, L) and its derivatives (n, L, K)
WithSlopes = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]
# nonlinear (m, K) -> basis (m, n, L)
Values = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Basis:
    """A law bound to a run; calling it is `with_slopes`.

    Parameters
    ----------
    with_slopes : nonlinear parameters (K,) -> basis (n, L) and its derivatives (n, L, K), for fits.
    values : m rows of nonlinear parameters at once, (m, K) -> basis (m, n, L), for predictions and their draws.
    """

    with_slopes: WithSlopes
    values: Values

    def __call__(self, nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the basis (n, L) at `nonlinear` (K,), and its derivatives (n, L, K)."""
        return self.with_slopes(nonlinear)


def in_blocks(values: Values, width: int) -> Values:
    """Return `values` over as many rows at a time as stay in the cache where each takes `width` numbers."""
    count = max(CACHED // max(width, 1), 1)

    def blocked(rows: np.ndarray) -> np.ndarray:
        if len(rows) <= count:
            return values(rows)
        return np.concatenate([values(rows[i : i + count]) for i in range(0, len(rows), count)])

    return blocked


class Law(Protocol):
    """The protocol every law's frozen dataclass follows; options are its fields."""

    @property
    def name(self) -> str:
        """Name in the table of laws."""

    @property
    def title(self) -> str:
        """One line that says what it is."""

    @property
    def reference(self) -> str:
        """Paper and equation."""

    @property
    def nonlinear(self) -> tuple[Parameter, ...]:
        """Nonlinear parameters in the order `bind`'s function takes them."""

    @property
    def linear(self) -> tuple[Amplitude, ...]:
        """Amplitudes in the order of the basis columns; the first is the irreducible loss."""

    @property
    def needs_anneal(self) -> bool:
        """Whether an annealing term must be identified, so that runs of one schedule do not do."""

    @property
    def needs_sizes(self) -> bool:
        """Whether runs must say how many parameters were trained."""

    @property
    def uses_weight_decay(self) -> bool:
        """Whether it asks for the weight decay, which a run should therefore tell."""

    @property
    def degenerate(self) -> str | None:
        """Why free-form schedule optimisation under this law is meaningless, or None."""

    def bind(self, conditions: Conditions, steps: np.ndarray, tolerance: float = TOLERANCE) -> Basis:
        """Return the basis at `steps` (shape (n,)) of a run under `conditions`."""


def counts_tokens(law: Law) -> bool:
    """Whether `law` counts tokens rather than updates, so that it sees the batch; a law says so by a field."""
    return bool(getattr(law, "counts_tokens", False))


@dataclass(frozen=True, eq=False)
class Path:
    """A schedule seen from n logged steps: what every law's `bind` starts from.

    Parameters
    ----------
    pieces : P pieces of nearly constant LR.
    steps : shape (n,), updates done at each point.
    area : shape (n,), LR sum of the updates before each point (S, S1).
    area_edges : shape (P + 1,), the same at each edge of the pieces.
    """

    pieces: Pieces
    steps: np.ndarray
    area: np.ndarray
    area_edges: np.ndarray


def to_path(conditions: Conditions, steps: np.ndarray, tolerance: float) -> Path:
    """Compress the schedule of `conditions` and compute its areas at `steps`.

    Raises
    ------
    InputError
        If a step is 0 or lies beyond the schedule: no law has a value there.
    """
    steps = np.asarray(steps, dtype=float)
    if steps.size and (steps.min() < 1 or steps.max() > conditions.schedule.steps):
        wrong = steps.min() if steps.min() < 1 else steps.max()
        raise InputError(
            f"step {wrong:g} lies outside 1 .. {conditions.schedule.steps}, the steps of the schedule: "
            "ask for steps within it, or give a longer schedule."
        )
    pieces = to_pieces(conditions.schedule, tolerance) if conditions.pieces is None else conditions.pieces
    edges = np.concatenate([[0.0], np.cumsum(pieces.lr * pieces.steps)])
    area = np.interp(steps, pieces.edges, edges)
    return Path(pieces, steps, np.maximum(area, 1e-300), edges)
