"""The Multi-Power Law: every fall of the LR gives its own power-law relaxation of the loss.

    L(s) = L0 + A S(s)^-alpha - B sum_k (lr_{k-1} - lr_k) G(lr_k^-gamma (S(s) - S(k)))
    G(x) = 1 - (1 + C x)^-beta,          S(s) = sum_{j<s} lr_j, warm-up included

The sum runs over the updates after the warm-up, from the peak on. The released code sums the
rise of the warm-up as well: a constant B * peak once it has relaxed, which its published L0 is
net of; `warmup="rise"` reproduces that. Ablations of the paper are the other values of `form`:
"no_gamma" (gamma = 0), "exponential" (G = 1 - exp(-C x), gamma = 0: MEL), "steps" (G of the
number of updates since: SPL) and "linear" (G = 1: LLDL). Its "OPL" is the law one_power.

Data it needs: runs of at least two schedules, with falls at several heights of the LR. Known
failures: C, beta and gamma are poorly identified together (published values of C differ tenfold
at equal accuracy); L0 and alpha drift from short curves; it has no effect of the peak LR: scaling a
schedule up always lowers the loss. A fall in one jump relaxes at the rate of the LR it ends at, so that stairs
beat every smooth decay, and at gamma near 1 or above a jump to an LR of almost 0 beats them by hundredths.

Reference: Luo et al., arXiv 2503.12811, eq. 2 and table 3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lehr.laws.chinchilla import IRREDUCIBLE
from lehr.laws.kernels import DropView, exponential_kernel, find_drops, power_kernel, view_drops
from lehr.laws.law import Amplitude, Basis, Conditions, Parameter, in_blocks, to_path
from lehr.laws.tissue import DEGENERATE
from lehr.schedule.pieces import TOLERANCE

FLOOR = 1e-10  # the LR below which lr^-gamma is not let grow, as in the released code


@dataclass(frozen=True)
class MultiPower:
    """The Multi-Power Law; `form` picks an ablation, `warmup="rise"` the released code's sum."""

    name: str = "multi_power"
    form: Literal["full", "no_gamma", "exponential", "steps", "linear"] = "full"
    warmup: Literal["ignore", "rise"] = "ignore"
    title: str = "Multi-Power: a power-law relaxation after every fall of the LR"
    reference: str = "Luo et al., arXiv 2503.12811, eq. 2"
    needs_anneal: bool = True
    uses_weight_decay: bool = False
    needs_sizes: bool = False

    @property
    def degenerate(self) -> str | None:
        """The ablations without the LR sum collapse: what relaxes by the update relaxes at LR 0 too."""
        return DEGENERATE if self.form in ("linear", "steps") else None

    @property
    def nonlinear(self) -> tuple[Parameter, ...]:
        """The parameters of the chosen form."""
        alpha = Parameter("exponent", "alpha", 0.05, 2.0, "exponent of the LR sum")
        low, high = (1e-6, 1.0) if self.form == "steps" else (1e-3, 1e4)
        rate = Parameter("rate", "C", low, high, "relaxation rate per unit of scaled LR sum", log=True)
        beta = Parameter("relaxation_exponent", "beta", 0.05, 5.0, "exponent of the relaxation", log=True)
        gamma = Parameter("lr_exponent", "gamma", -0.5, 1.5, "how much slower high LRs relax")
        return {
            "full": (alpha, rate, beta, gamma),
            "no_gamma": (alpha, rate, beta),
            "exponential": (alpha, rate),
            "steps": (alpha, rate, beta),
            "linear": (alpha,),
        }[self.form]

    @property
    def linear(self) -> tuple[Amplitude, ...]:
        """Irreducible loss, amplitude and annealing gain."""
        return (
            IRREDUCIBLE,
            Amplitude("amplitude", "A", "loss at an LR sum of 1, nats"),
            Amplitude("annealing_gain", "B", "loss removed in the end by a fall of the LR by 1, nats", -1),
        )

    def bind(self, conditions: Conditions, steps: np.ndarray, tolerance: float = TOLERANCE) -> Basis:
        """Return the basis at `steps`."""
        path = to_path(conditions, steps, tolerance)
        drops = find_drops(path.pieces, count_warmup=self.warmup == "rise")
        view = view_drops(path, drops)
        log_area = np.log(path.area)
        log_lr = np.log(np.maximum(drops.lr, FLOOR))
        since = view.waited if self.form == "steps" else view.elapsed
        count = len(self.nonlinear)

        def basis(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            phi, slope = np.ones((len(log_area), 3)), np.zeros((len(log_area), 3, count))
            phi[:, 1] = np.exp(-nonlinear[0] * log_area)
            slope[:, 1, 0] = -log_area * phi[:, 1]
            phi[:, 2], slope[:, 2, 1:] = self._gain(nonlinear[1:], view, since, log_lr)
            return phi, slope

        def values(rows: np.ndarray) -> np.ndarray:
            phi = np.ones((len(rows), len(log_area), 3))
            phi[..., 1] = np.exp(-rows[:, :1] * log_area)
            phi[..., 2] = (view.amount * self._relaxed(rows[:, 1:], since, log_lr)).sum(axis=-1)
            return phi

        return Basis(basis, in_blocks(values, view.amount.size))

    def _relaxed(self, shapes: np.ndarray, since: np.ndarray, log_lr: np.ndarray) -> np.ndarray:
        """Minus the relaxed share of each drop at each point for m rows of the form's parameters, (m, n, drops)."""
        if self.form == "linear":
            return np.full((len(shapes), 1, 1), -1.0)
        rate = shapes[:, 0, None, None]
        if self.form == "exponential":
            return np.expm1(-rate * since)
        if self.form == "full":
            rate = rate * np.exp(-shapes[:, 2, None] * log_lr)[:, None, :]
        return np.expm1(-shapes[:, 1, None, None] * np.log1p(rate * since))

    def _gain(
        self, shape: np.ndarray, view: DropView, since: np.ndarray, log_lr: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Minus the relaxed drop at each point, and its derivatives by the form's own parameters."""
        total = view.amount.sum(axis=1)
        if self.form == "linear":
            return -total, np.zeros((len(total), 0))
        if self.form == "exponential":
            kernel, by_rate = exponential_kernel(since, shape[0])
            return _dot(view.amount, kernel) - total, _dot(view.amount, by_rate)[:, None]
        gamma = shape[2] if self.form == "full" else 0.0
        scaled = since * np.exp(-gamma * log_lr)
        kernel, by_rate, by_exponent = power_kernel(scaled, shape[0], shape[1])
        slopes = [_dot(view.amount, by_rate), _dot(view.amount, by_exponent)]
        if self.form == "full":
            # d kernel / d scaled = (rate / scaled) d kernel / d rate; d scaled / d gamma = -log_lr scaled
            slopes.append(-shape[0] * _dot(view.amount * log_lr, by_rate))
        return _dot(view.amount, kernel) - total, np.stack(slopes, axis=1)


def _dot(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Sum the product over nodes: (n, m), (n, m) -> (n,)."""
    return np.einsum("nm,nm->n", weights, values)
