"""The Forward-Momentum law: LR sum, size, and an Adam-style momentum of the LR's falls.

    L(s) = L0 + A S^-alpha_S + B N^-alpha_N - C M
    m_k = .9 m_{k-1} + .1 d_k,  v_k = .999 v_{k-1} + .001 d_k^2,  d_k = lr_{k-1} - lr_k
    M(s) = sum_{k<s} mhat_k / (sqrt(scale vhat_k + eps) + eps),  scale 1e5, eps 1e-8

**Sign.** The paper's text writes + lambda_M M with lambda_M below 0; its code, and lehr, - C M with
C at least 0. **Bias correction.** The released code divides by 1 - beta^(i+1) after i updates;
so does lehr. **Grid.** The code runs over the logged rows with d_i = (lr_{i-1} - lr_i) times the
gap between rows, so M depends on how often the log was written; lehr's default runs over every
update (falls from the peak on), and `grid="logged"` is the code's form, which also takes
S_i = S_{i-1} + lr_i (step_i - step_{i-1}) with S_0 = lr_0 step_0.

Data it needs: runs of at least two schedules. Known failures: where sqrt(scale v) exceeds eps, M
does not depend on the size of the fall, only on how many updates it takes; per update and at
small LR it is a clipped, scaled Tissue area with lambda .9. Hence it is degenerate: keeping the LR high but
falling a little at every update pays, and so do appended updates at LR 0.

Reference: arXiv 2512.13705 (AAAI 2026) and its released code; formulas in words of our own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lehr.laws.chinchilla import IRREDUCIBLE, PARAMS_UNIT, require_params
from lehr.laws.kernels import Drops, find_drops
from lehr.laws.law import Amplitude, Basis, Conditions, Parameter, to_path
from lehr.schedule.pieces import TOLERANCE

DEGENERATE = "appending updates at LR 0 lowers its loss, and it counts in how many updates the LR falls, hardly how far"
BETA1, BETA2, EPS, SCALE = 0.9, 0.999, 1e-8, 1e5
EXACT, GROWTH = 80, 1.3  # updates of a stretch summed one by one, then growth of the gaps


@dataclass(frozen=True)
class ForwardMomentum:
    """The Forward-Momentum law; `sizes` adds the term in N."""

    name: str = "forward_momentum"
    grid: Literal["update", "logged"] = "update"
    sizes: bool = False
    title: str = "Forward-Momentum: LR sum minus an Adam-style momentum of the falls"
    reference: str = "arXiv 2512.13705"
    needs_anneal: bool = True
    uses_weight_decay: bool = False
    degenerate: str | None = DEGENERATE

    @property
    def needs_sizes(self) -> bool:
        """Whether the term in N is on."""
        return self.sizes

    @property
    def nonlinear(self) -> tuple[Parameter, ...]:
        """The exponents; bounds are the released code's, lowered from .1 to .05."""
        alpha = Parameter("exponent", "alpha_S", 0.05, 2.0, "exponent of the LR sum")
        size = Parameter("params_exponent", "alpha_N", 0.02, 1.5, "exponent of N")
        return (alpha, size) if self.sizes else (alpha,)

    @property
    def linear(self) -> tuple[Amplitude, ...]:
        """Irreducible loss, amplitude, annealing gain and, with sizes, the amplitude of N."""
        one = (
            IRREDUCIBLE,
            Amplitude("amplitude", "A", "loss at an LR sum of 1, nats"),
            Amplitude("annealing_gain", "C", "loss removed by a momentum sum of 1, nats", -1),
        )
        return one + (
            (Amplitude("params_amplitude", "B", "loss at a million parameters, nats"),) * self.sizes
        )

    def bind(self, conditions: Conditions, steps: np.ndarray, tolerance: float = TOLERANCE) -> Basis:
        """Return the basis at `steps`; with `grid="logged"` they are the rows of the log."""
        path = to_path(conditions, steps, tolerance)
        if self.grid == "logged":
            last = np.minimum(path.steps.astype(int), conditions.schedule.steps - 1)
            area, momentum = logged_features(path.steps, conditions.schedule.lr(last))
        else:
            area, momentum = path.area, momentum_sum(path.steps, find_drops(path.pieces))
        log_area = np.log(area)
        log_params = np.log(require_params(self.name, conditions) / PARAMS_UNIT) if self.sizes else 0.0

        def basis(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            phi = np.ones((len(log_area), 3 + self.sizes))
            slope = np.zeros((*phi.shape, 1 + self.sizes))
            phi[:, 1] = np.exp(-nonlinear[0] * log_area)
            slope[:, 1, 0] = -log_area * phi[:, 1]
            phi[:, 2] = -momentum
            if self.sizes:
                phi[:, 3] = np.exp(-nonlinear[1] * log_params)
                slope[:, 3, 1] = -log_params * phi[:, 3]
            return phi, slope

        def values(rows: np.ndarray) -> np.ndarray:
            phi = np.ones((len(rows), len(log_area), 3 + self.sizes))
            phi[..., 1] = np.exp(-rows[:, :1] * log_area)
            phi[..., 2] = -momentum
            if self.sizes:
                phi[..., 3] = np.exp(-rows[:, 1:] * log_params)
            return phi

        return Basis(basis, values)


def logged_features(step: np.ndarray, lr: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """S and M of the released code over logged rows.

    Parameters
    ----------
    step, lr : shape (n,), the rows.

    Returns
    -------
    S and M, each of shape (n,).
    """
    gap = np.diff(step)
    area = lr[0] * step[0] + np.concatenate([[0.0], np.cumsum(lr[1:] * gap)])
    fall = -np.diff(lr) * gap
    mean = square = 0.0
    total = np.zeros(len(step))
    for i, value in enumerate(fall, start=1):
        mean = BETA1 * mean + (1 - BETA1) * value
        square = BETA2 * square + (1 - BETA2) * value * value
        corrected = SCALE * square / (1 - BETA2 ** (i + 1))
        total[i] = total[i - 1] + mean / (1 - BETA1 ** (i + 1)) / (np.sqrt(corrected + EPS) + EPS)
    return area, total


def momentum_sum(steps: np.ndarray, drops: Drops) -> np.ndarray:
    """M over every update, at each of n steps.

    Between changes of the fall's rate m and v relax geometrically, so each stretch is summed exactly
    over its first `EXACT` updates and by the trapezoid rule over growing gaps after them.
    """
    if not len(drops.begin):
        return np.zeros(len(steps))
    begin, count, fall = _stretches(drops, float(steps.max()))
    growths = max(0, int(np.ceil(np.log(count.max() / EXACT) / np.log(GROWTH))))
    grown = np.round(EXACT * GROWTH ** np.arange(1, growths + 1))
    grid = np.concatenate([np.arange(EXACT + 1.0), grown])
    mean, square = _states(count, fall)
    j = np.minimum(grid, count[:, None])
    m = fall[:, None] + (mean - fall)[:, None] * BETA1 ** np.minimum(j, 400)
    v = (fall**2)[:, None] + (square - fall**2)[:, None] * BETA2 ** np.minimum(j, 40000)
    order = begin[:, None] + j  # update i of training, 0-based, is corrected by 1 - beta^(i + 1)
    # beyond these counts both corrections are 1 to the last digit, and the powers underflow slowly
    whole1, whole2 = 1 - BETA1 ** np.minimum(order, 400), 1 - BETA2 ** np.minimum(order, 40000)
    rate = m / whole1 / (np.sqrt(SCALE * np.maximum(v, 0) / whole2 + EPS) + EPS)
    gap = np.diff(j, axis=1)
    # sum over updates a+1 .. b of a straight line from rate(a) to rate(b)
    added = gap * 0.5 * (rate[:, 1:] + rate[:, :-1]) + 0.5 * (gap > 0) * (rate[:, 1:] - rate[:, :-1])
    inner = np.concatenate([np.zeros((len(begin), 1)), np.cumsum(added, axis=1)], axis=1)
    offset = np.concatenate([[0.0], np.cumsum(inner[:-1, -1])])
    return np.interp(steps, (begin[:, None] + j).ravel(), (offset[:, None] + inner).ravel())


def _stretches(drops: Drops, end: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Cut time from the first fall to `end` into stretches of constant fall: begin, count, fall."""
    stop = drops.begin + drops.count
    after = np.append(drops.begin[1:], max(end, stop[-1]))
    begin = np.ravel(np.column_stack([drops.begin, stop]))
    count = np.ravel(np.column_stack([drops.count, after - stop]))
    fall = np.ravel(np.column_stack([drops.size / drops.count, np.zeros(len(stop))]))
    return begin[count > 0], count[count > 0], fall[count > 0]


def _states(count: np.ndarray, fall: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values of m and v at the start of each stretch."""
    mean, square = np.zeros(len(count)), np.zeros(len(count))
    keep1, keep2 = BETA1**count, BETA2**count
    for i in range(1, len(count)):
        f = fall[i - 1]
        mean[i] = f + (mean[i - 1] - f) * keep1[i - 1]
        square[i] = f * f + (square[i - 1] - f * f) * keep2[i - 1]
    return mean, square
