"""Chinchilla, L(N, D), and the one-size power law in the LR sum.

    chinchilla   L = L0 + A N^-alpha + B D^-beta                 D = tokens seen
    one_power    L = L0 + A S^-alpha                             S = LR sum so far

Neither knows of annealing: they are the baselines every annealing law must beat. Chinchilla was
made for the final losses of runs whose schedule ends at D; on mid-run losses it is wrong by
construction (section G of its critics: no schedule enters it).

References: Hoffmann et al., arXiv 2203.15556, eq. 2. one_power is "OPL" of Luo et al., arXiv
2503.12811, section 5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError
from lehr.laws.law import Amplitude, Basis, Conditions, Parameter, to_path
from lehr.schedule.pieces import TOLERANCE

IRREDUCIBLE = Amplitude("irreducible_loss", "L0", "loss that no training removes, nats per token")
PARAMS_UNIT = 1e6  # N is counted in millions of parameters, so that amplitudes stay readable
TOKENS_UNIT = 1e9


@dataclass(frozen=True)
class Chinchilla:
    """L0 + A N^-alpha + B D^-beta, over runs of several sizes."""

    name: str = "chinchilla"
    title: str = "Chinchilla: a power law in parameters plus one in tokens"
    reference: str = "Hoffmann et al., arXiv 2203.15556, eq. 2"
    needs_anneal: bool = False
    uses_weight_decay: bool = False
    needs_sizes: bool = True
    counts_tokens: bool = True
    degenerate: str | None = "it does not see the schedule"
    nonlinear: tuple[Parameter, ...] = (
        Parameter("params_exponent", "alpha", 0.05, 1.5, "exponent of N"),
        Parameter("tokens_exponent", "beta", 0.05, 1.5, "exponent of D"),
    )
    linear: tuple[Amplitude, ...] = (
        IRREDUCIBLE,
        Amplitude("params_amplitude", "A", "loss at N of a million parameters, nats"),
        Amplitude("tokens_amplitude", "B", "loss at D of a billion tokens, nats"),
    )

    def bind(self, conditions: Conditions, steps: np.ndarray, tolerance: float = TOLERANCE) -> Basis:
        """Return the basis; needs the number of parameters and the batch size."""
        to_path(conditions, steps, 1.0)
        millions = require_params(self.name, conditions) / PARAMS_UNIT
        if conditions.batch_tokens is None:
            raise InputError(
                f"law {self.name} needs the tokens seen: give the batch size in tokens (--batch-tokens)."
            )
        billions = np.asarray(steps, dtype=float) * conditions.batch_tokens / TOKENS_UNIT

        def basis(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            phi, slope = np.ones((len(billions), 3)), np.zeros((len(billions), 3, 2))
            phi[:, 1] = millions ** -nonlinear[0]
            slope[:, 1, 0] = -np.log(millions) * phi[:, 1]
            phi[:, 2] = billions ** -nonlinear[1]
            slope[:, 2, 1] = -np.log(billions) * phi[:, 2]
            return phi, slope

        def values(rows: np.ndarray) -> np.ndarray:
            phi = np.ones((len(rows), len(billions), 3))
            phi[..., 1] = (millions ** -rows[:, 0])[:, None]
            phi[..., 2] = billions ** -rows[:, 1, None]
            return phi

        return Basis(basis, values)


@dataclass(frozen=True)
class OnePower:
    """L0 + A S^-alpha at one size."""

    name: str = "one_power"
    title: str = "One power law in the LR sum, no annealing term"
    reference: str = "Luo et al., arXiv 2503.12811, section 5 (OPL)"
    needs_anneal: bool = False
    uses_weight_decay: bool = False
    needs_sizes: bool = False
    degenerate: str | None = "it has no annealing term, so the highest LR always wins"
    nonlinear: tuple[Parameter, ...] = (Parameter("exponent", "alpha", 0.05, 2.0, "exponent of the LR sum"),)
    linear: tuple[Amplitude, ...] = (
        IRREDUCIBLE,
        Amplitude("amplitude", "A", "loss at an LR sum of 1, nats"),
    )

    def bind(self, conditions: Conditions, steps: np.ndarray, tolerance: float = TOLERANCE) -> Basis:
        """Return the basis at `steps`."""
        log_area = np.log(to_path(conditions, steps, tolerance).area)

        def basis(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            phi, slope = np.ones((len(log_area), 2)), np.zeros((len(log_area), 2, 1))
            phi[:, 1] = np.exp(-nonlinear[0] * log_area)
            slope[:, 1, 0] = -log_area * phi[:, 1]
            return phi, slope

        def values(rows: np.ndarray) -> np.ndarray:
            phi = np.ones((len(rows), len(log_area), 2))
            phi[..., 1] = np.exp(-rows[:, :1] * log_area)
            return phi

        return Basis(basis, values)


def require_params(law: str, conditions: Conditions) -> float:
    """Return the number of parameters a size law needs.

    Raises
    ------
    InputError
        If the run does not say.
    """
    if conditions.params is None:
        raise InputError(f"law {law} needs the number of parameters: give it for every run (--params).")
    return conditions.params
