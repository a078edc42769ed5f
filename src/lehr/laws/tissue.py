"""Tissue's law: a power law in the forward area S1 minus the annealing area S2.

    L(s) = L0 + A S1^-alpha - C S2,          S1(s) = sum_{k<s} lr_k
    S2(s) = sum_{k<s} (lr_{k-1} - lr_k) (1 - lambda^(s-k)) / (1 - lambda)

S2 is the sum of an LR momentum with decay factor lambda; 1 / (1 - lambda) updates is the delay
between a fall of the LR and the fall of the loss. Falls that are spread evenly over a piece of
the schedule are summed in closed form, so compression costs no accuracy on straight decays.

The paper computes both areas as if the warm-up ran at the peak: `warmup="peak"`. The default,
`"as_run"`, counts in S1 the LRs really used and leaves the warm-up's rise out of S2; with
`"rise"` the rise counts as well, as a negative fall.
The paper fixes lambda at .999 (`decay_factor=0.999`); the default fits it. With sizes:
L = L0 + A S1^-alpha + B N^-beta - C S2 N^gamma, N in millions.

Data it needs: runs of at least two schedules, one of which decays. Known failures: it has no
effect of the peak LR, so it errs as soon as that changes; appending updates at LR 0 lowers the
predicted loss, and so does scaling the whole schedule up; its best free schedule is a drop in
the last moment.

Reference: Tissue, Wang, Wang, arXiv 2408.11029, eq. 1; sizes: eq. 8.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lehr.laws.chinchilla import IRREDUCIBLE, PARAMS_UNIT, require_params
from lehr.laws.kernels import Drops, find_drops
from lehr.laws.law import Amplitude, Basis, Conditions, Parameter, Path, in_blocks, to_path
from lehr.schedule.pieces import TOLERANCE

DEGENERATE = "appending updates at LR 0 lowers its loss, and its best schedule is a drop in the last moment"


@dataclass(frozen=True)
class Tissue:
    """Tissue's law; `decay_factor` fixes lambda, None fits it; `sizes` adds the terms in N."""

    name: str = "tissue"
    decay_factor: float | None = None
    warmup: Literal["as_run", "peak", "rise"] = "as_run"
    sizes: bool = False
    title: str = "Tissue: power law in the LR sum minus an annealing area"
    reference: str = "Tissue, Wang, Wang, arXiv 2408.11029, eq. 1 and 8"
    needs_anneal: bool = True
    uses_weight_decay: bool = False
    degenerate: str | None = DEGENERATE

    @property
    def needs_sizes(self) -> bool:
        """Whether the terms in N are on."""
        return self.sizes

    @property
    def nonlinear(self) -> tuple[Parameter, ...]:
        """Exponent, memory and, with sizes, two exponents of N."""
        alpha = Parameter("exponent", "alpha", 0.05, 2.0, "exponent of the forward area")
        memory = Parameter("memory", "1/(1-lambda)", 20.0, 20000.0, "delay of annealing, updates", log=True)
        sizes = (
            Parameter("params_exponent", "beta", 0.02, 1.5, "exponent of N"),
            Parameter("annealing_params_exponent", "gamma", -0.5, 0.5, "growth of the annealing gain with N"),
        )
        free = (alpha,) if self.decay_factor is not None else (alpha, memory)
        return free + (sizes if self.sizes else ())

    @property
    def linear(self) -> tuple[Amplitude, ...]:
        """Irreducible loss, amplitude, annealing gain and, with sizes, the amplitude of N."""
        one = (
            IRREDUCIBLE,
            Amplitude("amplitude", "A", "loss at a forward area of 1, nats"),
            Amplitude("annealing_gain", "C", "loss removed by an annealing area of 1, nats", -1),
        )
        return one + (
            (Amplitude("params_amplitude", "B", "loss at a million parameters, nats"),) * self.sizes
        )

    def bind(self, conditions: Conditions, steps: np.ndarray, tolerance: float = TOLERANCE) -> Basis:
        """Return the basis at `steps`."""
        path = to_path(conditions, steps, tolerance)
        log_area = np.log(path.area + self._missing_area(path))
        drops = find_drops(path.pieces, count_warmup=self.warmup == "rise")
        log_params = np.log(require_params(self.name, conditions) / PARAMS_UNIT) if self.sizes else 0.0
        count, fixed = len(self.nonlinear), self.decay_factor

        def basis(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            phi = np.ones((len(log_area), 4 if self.sizes else 3))
            slope = np.zeros((*phi.shape, count))
            phi[:, 1] = np.exp(-nonlinear[0] * log_area)
            slope[:, 1, 0] = -log_area * phi[:, 1]
            memory = 1 / (1 - fixed) if fixed is not None else nonlinear[1]
            annealed, by_memory = annealing_area(path.steps, drops, memory)
            phi[:, 2] = -annealed
            if fixed is None:
                slope[:, 2, 1] = -by_memory
            if self.sizes:
                beta, gamma = nonlinear[-2:]
                scale = np.exp(gamma * log_params)
                slope[:, 2, :] *= scale
                phi[:, 2] *= scale
                slope[:, 2, -1] = log_params * phi[:, 2]
                phi[:, 3] = np.exp(-beta * log_params)
                slope[:, 3, -2] = -log_params * phi[:, 3]
            return phi, slope

        def values(rows: np.ndarray) -> np.ndarray:
            phi = np.ones((len(rows), len(log_area), 4 if self.sizes else 3))
            phi[..., 1] = np.exp(-rows[:, :1] * log_area)
            memory = rows[:, 1] if fixed is None else np.full(len(rows), 1 / (1 - fixed))
            phi[..., 2] = -annealing_areas(path.steps, drops, memory)
            if self.sizes:
                phi[..., 2] *= np.exp(rows[:, -1:] * log_params)
                phi[..., 3] = np.exp(-rows[:, -2:-1] * log_params)
            return phi

        return Basis(basis, in_blocks(values, path.steps.size * drops.size.size))

    def _missing_area(self, path: Path) -> np.ndarray:
        """Area that the warm-up would have had at its peak LR, minus the one it had."""
        pieces = path.pieces
        if self.warmup != "peak" or not pieces.warm.any():
            return np.zeros(len(path.steps))
        top = max(pieces.last[pieces.warm][-1], pieces.first[min(int(pieces.warm.sum()), len(pieces.lr) - 1)])
        return pieces.integral(np.where(pieces.warm, top - pieces.lr, 0.0), path.steps)


def annealing_area(steps: np.ndarray, drops: Drops, memory: float) -> tuple[np.ndarray, np.ndarray]:
    """Annealing area S2 at each of n steps, and its derivative by the memory 1 / (1 - lambda).

    A node of m updates from `begin` that are done e = min(m, s - begin) far adds, per unit of LR,
    sum_k (1 - lambda^(s-k)) / (1 - lambda) = M (e - lambda^(s-begin-e+1) (1 - lambda^e) M) / m.
    """
    factor = 1 - 1 / memory
    seen, done, wait = _progress(steps, drops)
    late, whole = factor**wait, factor**done
    each = drops.size / drops.count
    total = (memory * done - memory**2 * late * (1 - whole)) * seen
    by_factor = wait * factor ** (wait - 1) * (1 - whole) - late * done * factor ** np.maximum(done - 1, 0)
    by_memory = (done - 2 * memory * late * (1 - whole) - by_factor) * seen
    return total @ each, by_memory @ each


def annealing_areas(steps: np.ndarray, drops: Drops, memories: np.ndarray) -> np.ndarray:
    """Annealing area S2 at each of n steps for each of m memories, shape (m, n); as `annealing_area`."""
    seen, done, wait = _progress(steps, drops)
    memory = memories[:, None, None]
    log_factor = np.log1p(-1 / memory)
    total = memory * done + memory**2 * np.exp(log_factor * wait) * np.expm1(log_factor * done)
    return (total * seen) @ (drops.size / drops.count)


def _progress(steps: np.ndarray, drops: Drops) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each node at each step: whether it has begun, updates done, and updates since the last fall inclusive."""
    elapsed = steps[:, None] - drops.begin
    done = np.clip(elapsed, 0.0, drops.count)
    seen = done > 0
    return seen, done, np.where(seen, elapsed - done + 1, 1.0)
