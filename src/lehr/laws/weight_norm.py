"""The weight-norm law: an LR acts relative to the norm that the weights have grown to, and to the curvature.

    dW = (eta - K W) eta dt,   W(0) = W0                      squared norm of the weights
    r  = eta / sqrt(W)                                        effective LR: turn of the weights an update
    dh = k (eta - h) r dt,     h(0) = .03                     LR that the curvature is used to
    tau(s)   = sum_{t<s} r                                    effective time
    sigma(s) = sum_{t<s} r / h                                clock of the noise
    L(s) = L0 + A tau(s)^-alpha + B sum_{t<s} r_t h_t^-e (1 + C (sigma(s) - sigma(t)))^-beta (r / h)_t

eta is LR / 1e-3 and t counts 10,000 updates, so that parameters of different data sets compare.

For a reader who knows Tissue's law: there is no annealing term. The second term is the loss of a
run without noise, the third the noise that the LR keeps up, which relaxes as later updates go by.
What is new are the two slow states that set the pace of both:

* The norm. Under AdamW each update adds a random step of about the LR to the weights and takes
  LR x weight decay of them away, so their squared norm tends to LR / (2 weight decay) within
  1 / (2 LR weight decay) updates: 5,000 at an LR of 1e-3 and a weight decay of .1. Layers behind a
  normalisation turn by LR / norm an update. Hence within a run, where the norm hardly moves,
  progress and noise are linear in the LR, while across runs of different peaks they grow only as
  about its square root. K is 20 x weight decay (in the units above): known, not fitted.
* The curvature. It adapts until LR x curvature is back at a constant (edge of stability), within
  a thousand updates or two: after a drop of the LR the noise relaxes in proportion to the LR at first,
  later as fast as ever. Where the curvature is used to a high LR, the same step makes less noise.

The exponents 1/2 of W, 1 of h in sigma and 1 of the LR, and K are theory. Set free one by one in fits
to 12 or to 79 runs of one model, they come back within .1 (the pace of h within .2). W0, k, e, C and beta
come out alike on models of 25M to 208M parameters, batches of 0.1M and 0.5M tokens and three data
sets, hence the priors, without which one or two curves do not tell k, C and beta apart. alpha falls
with the size of the model, from about .6 to .4.

Data it needs: runs of at least two schedules, at one or more peak LRs (a single annealed run does,
by the priors). Tell it the weight decay: one wrong by a factor of three triples the residual.
An LR of 0 moves nothing, a last-moment drop hardly relaxes anything; but thousands of updates at a
thousandth of the peak still gain .003. Known failures: the first 2,000 to 4,000 updates, where
runs of one configuration differ by more than .1 %; long decays at a high LR end .1 to .2 % too low,
so the optimal annealing ratio grows a little too fast with the peak LR (off by .03 on average); models
trained far beyond their capacity gain less from annealing than the law says; loss lost for good to
instability at an LR too high; optimisers other than AdamW, or with a weight decay that the LR does not
multiply.

Reference: lehr's own. Norm dynamics: van Laarhoven (arXiv 1706.05350), Kosson et al. (arXiv 2305.17212).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.laws.chinchilla import IRREDUCIBLE
from lehr.laws.kernels import Place, integrate_twice
from lehr.laws.law import Amplitude, Basis, Conditions, Parameter, to_path
from lehr.laws.norm_states import States, solve, to_knots
from lehr.schedule.pieces import TOLERANCE

REFERENCE_LR = 1e-3
REFERENCE_STEPS = 1e4
BLOCK = 64  # points evaluated together: keeps the matrices in the cache
WEIGHT_DECAY = 0.1  # of AdamW, where a run does not say

# centres from seven models (33M to 208M, two data sets) that no benchmark tests; see docs/diary.md, step 4
_PARAMETERS = (
    Parameter("exponent", "alpha", 0.05, 1.5, "exponent of effective time", prior=(0.48, 0.06)),
    Parameter(
        "initial_norm", "W0", 0.005, 3.0, "squared norm at the start, LR 1e-3 squared x 10,000 updates",
        log=True, prior=(float(np.log(0.10)), 0.5),
    ),
    Parameter(
        "curvature_rate", "k", 0.3, 200.0, "rate at which the curvature adapts, per effective time",
        log=True, prior=(float(np.log(5.4)), 0.8),
    ),
    Parameter(
        "noise_exponent", "e", -0.2, 0.6, "noise falls as the LR that the curvature is used to, ^-e",
        prior=(0.113, 0.03),
    ),
    Parameter(
        "rate", "C", 30.0, 1e5, "onset of the relaxation of noise, per unit of its clock",
        log=True, prior=(float(np.log(1700.0)), 0.7),
    ),
    Parameter(
        "relaxation_exponent", "beta", 1.01, 1.9, "exponent of the relaxation",
        log=True, prior=(float(np.log(1.13)), 0.06),
    ),
)  # fmt: skip


@dataclass(frozen=True)
class WeightNorm:
    """The weight-norm law; the weight decay is that of each run, .1 where it does not say."""

    name: str = "weight_norm"
    title: str = "Weight norm: the LR acts relative to the grown norm of the weights and the curvature"
    reference: str = "lehr"
    needs_anneal: bool = True
    uses_weight_decay: bool = True
    needs_sizes: bool = False
    degenerate: str | None = None
    nonlinear: tuple[Parameter, ...] = _PARAMETERS
    linear: tuple[Amplitude, ...] = (
        IRREDUCIBLE,
        Amplitude("amplitude", "A", "loss at an effective time of 1, nats"),
        Amplitude("noise_amplitude", "B", "noise gained in a unit of its clock if none relaxed, nats"),
    )

    def bind(self, conditions: Conditions, steps: np.ndarray, tolerance: float = TOLERANCE) -> Basis:
        """Return the basis function at `steps`."""
        path = to_path(conditions, steps, tolerance)
        decay = WEIGHT_DECAY if conditions.weight_decay is None else conditions.weight_decay
        forget = 2 * REFERENCE_LR * REFERENCE_STEPS * decay
        knots = to_knots(path.pieces, tolerance, forget, REFERENCE_LR, REFERENCE_STEPS)
        place = Place.of(path.steps, knots.start, knots.count)
        early, late = place.done - 0.5 * place.done**2, 0.5 * place.done**2

        def clock(left: np.ndarray, right: np.ndarray) -> np.ndarray:
            """Integral up to each point of a rate that is straight within each part; (n,)."""
            return early @ (knots.span * left) + late @ (knots.span * right)

        def basis(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            exponent, start, adapt, calm, rate, relax = nonlinear
            states = solve(knots, start, adapt)
            tau = np.maximum(clock(states.speed, states.speed_end), 1e-100)
            phi, slope = np.ones((len(tau), 3)), np.zeros((len(tau), 3, 6))
            phi[:, 1] = tau**-exponent
            slope[:, 1, 0] = -np.log(tau) * phi[:, 1]
            slope[:, 1, 1] = -exponent * phi[:, 1] / tau * clock(states.speed_by, states.speed_end_by)
            sigma = clock(states.tempo, states.tempo_end)
            moved = [clock(states.tempo_by[:, j], states.tempo_end_by[:, j]) for j in range(2)]
            sources = _sources(states, calm)
            for first in range(0, len(sigma), BLOCK):
                rows = slice(first, first + BLOCK)
                seen = place.passed[rows]
                phi[rows, 2], slope[rows, 2, 1:] = _noise(
                    seen, sigma[rows], [m[rows] for m in moved], states, sources, (rate, relax)
                )
            return phi, slope

        return basis


Sources = tuple[np.ndarray, np.ndarray, tuple[np.ndarray, np.ndarray]]


def _noise(
    seen: np.ndarray, sigma: np.ndarray, sigma_by: list[np.ndarray], states: States, sources: Sources,
    kernel: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Noise at n points and its slopes by W0, k, e, C and beta, shape (n, 5).

    `seen` (n, P + 1) tells which knots lie before each point, `sigma` (n,) where it is on the noise's clock.
    """
    jump, bend, by = sources
    total = np.concatenate([[0.0], np.cumsum(states.tick)])
    far = integrate_twice(np.where(seen, sigma[:, None] - total, 0.0), *kernel)
    slope = np.empty((len(sigma), 5))
    slope[:, :3] = far.once @ by[0] + far.twice @ by[1]
    slope[:, 3] = far.once_by_rate @ jump + far.twice_by_rate @ bend
    slope[:, 4] = far.once_by_exponent @ jump + far.twice_by_exponent @ bend
    # slope of the noise by its distance to each knot, 0 for knots not yet passed
    pull = np.where(seen, far.kernel * jump + far.once * bend, 0.0)
    for j in range(2):
        total_by = np.concatenate([[0.0], np.cumsum(states.tick_by[:, j])])
        slope[:, j] += sigma_by[j] * pull.sum(axis=1) - pull @ total_by
    return far.once @ jump + far.twice @ bend, slope


def _sources(states: States, calm: float) -> Sources:
    """What enters at each of P + 1 knots: jumps and bends of the noise injected per tick.

    Also their slopes by W0, k and e, each of shape (P + 1, 3).
    """
    level, level_by = _level(states.speed, states.speed_by, states.used, states.used_by, calm)
    end, end_by = _level(states.speed_end, states.speed_end_by, states.used_end, states.used_end_by, calm)
    ticks = np.where(states.tick > 1e-12, states.tick, np.inf)
    incline = (end - level) / ticks
    tick_by = np.column_stack([states.tick_by, np.zeros(len(ticks))])
    incline_by = (end_by - level_by - incline[:, None] * tick_by) / ticks[:, None]
    zero, zeros = np.zeros(1), np.zeros((1, 3))
    jump = np.concatenate([level, zero]) - np.concatenate([zero, end])
    jump_by = np.concatenate([level_by, zeros]) - np.concatenate([zeros, end_by])
    bend = np.concatenate([incline, zero]) - np.concatenate([zero, incline])
    bend_by = np.concatenate([incline_by, zeros]) - np.concatenate([zeros, incline_by])
    # nothing is injected after the last knot, and nothing lies beyond it
    jump[-1], bend[-1], jump_by[-1], bend_by[-1] = 0.0, 0.0, 0.0, 0.0
    return jump, bend, (jump_by, bend_by)


def _level(
    speed: np.ndarray, speed_by: np.ndarray, used: np.ndarray, used_by: np.ndarray, calm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Noise injected per tick, r h^-e, and its slopes by W0, k and e; (P,) and (P, 3)."""
    quiet = used**-calm
    level = speed * quiet
    by = np.column_stack([speed_by * quiet, np.zeros_like(level), -np.log(used) * level])
    by[:, :2] -= (calm * level / used)[:, None] * used_by
    return level, by
