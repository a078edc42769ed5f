"""The functional scaling law, in the practical form its authors fit to LLM curves.

    L(s) = L0 + c1 S^-a - sum_k (lr_{k-1} - lr_k) (c2 + c3 S(k)^-a) (1 - (1 + r (S(s) - S(k)))^-g)

A fall of the LR removes noise whose size is a floor plus a part that shrinks as training goes on.
Both are amplitudes here (the paper writes c2 (c3 + S^-a)), so the law is linear in four of its
seven parameters. The falls are counted from the peak on.

Data it needs: runs of at least two schedules, with falls early and late to tell c2 from c3.
Known failures: no effect of the peak LR beyond the LR sum; c2 and c3 trade off on few curves.

Reference: Functional Scaling Laws, arXiv 2509.19189, appendix B.2, eq. 30 (one size).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.laws.chinchilla import IRREDUCIBLE
from lehr.laws.kernels import find_drops, power_kernel, view_drops
from lehr.laws.law import Amplitude, Basis, Conditions, Parameter, in_blocks, to_path
from lehr.schedule.pieces import TOLERANCE


@dataclass(frozen=True)
class Functional:
    """The functional scaling law at one size."""

    name: str = "functional"
    title: str = "Functional scaling law: relaxing noise that shrinks with training"
    reference: str = "arXiv 2509.19189, appendix B.2, eq. 30"
    needs_anneal: bool = True
    uses_weight_decay: bool = False
    needs_sizes: bool = False
    degenerate: str | None = None
    nonlinear: tuple[Parameter, ...] = (
        Parameter("exponent", "s", 0.05, 2.0, "exponent of the LR sum"),
        Parameter("rate", "c4", 1e-3, 1e4, "relaxation rate per unit of LR sum", log=True),
        Parameter("relaxation_exponent", "gamma", 0.05, 5.0, "exponent of the relaxation", log=True),
    )
    linear: tuple[Amplitude, ...] = (
        IRREDUCIBLE,
        Amplitude("amplitude", "c1", "loss at an LR sum of 1, nats"),
        Amplitude("annealing_gain", "c2 c3", "loss removed in the end by a fall of the LR by 1, nats", -1),
        Amplitude("early_gain", "c2", "what falls at an LR sum of 1 remove beyond that, nats", -1),
    )

    def bind(self, conditions: Conditions, steps: np.ndarray, tolerance: float = TOLERANCE) -> Basis:
        """Return the basis at `steps`."""
        path = to_path(conditions, steps, tolerance)
        view = view_drops(path, find_drops(path.pieces))
        log_area, log_node = np.log(path.area), np.log(np.maximum(view.node_area, 1e-300))

        def basis(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            exponent, rate, relax = nonlinear
            phi, slope = np.ones((len(log_area), 4)), np.zeros((len(log_area), 4, 3))
            phi[:, 1] = np.exp(-exponent * log_area)
            slope[:, 1, 0] = -log_area * phi[:, 1]
            kernel, by_rate, by_relax = power_kernel(view.elapsed, rate, relax)
            early = view.amount * np.exp(-exponent * log_node)
            for column, weight in ((2, view.amount), (3, early)):
                phi[:, column] = np.sum(weight * (kernel - 1), axis=1)
                slope[:, column, 1] = np.sum(weight * by_rate, axis=1)
                slope[:, column, 2] = np.sum(weight * by_relax, axis=1)
            slope[:, 3, 0] = np.sum(-log_node * early * (kernel - 1), axis=1)
            return phi, slope

        def values(rows: np.ndarray) -> np.ndarray:
            exponent, rate, relax = (rows[:, j, None, None] for j in range(3))
            phi = np.ones((len(rows), len(log_area), 4))
            phi[..., 1] = np.exp(-rows[:, :1] * log_area)
            lost = view.amount * np.expm1(-relax * np.log1p(rate * view.elapsed))
            phi[..., 2] = lost.sum(axis=-1)
            phi[..., 3] = (lost * np.exp(-exponent * log_node)).sum(axis=-1)
            return phi

        return Basis(basis, in_blocks(values, view.amount.size))
