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
from lehr.laws.kernels import Place, edge_weights, integrals, integrate_twice, running_sum
from lehr.laws.law import Amplitude, Basis, Conditions, Parameter, in_blocks, to_path
from lehr.laws.norm_states import States, differentiate, solve, to_knots
from lehr.schedule.pieces import TOLERANCE

REFERENCE_LR = 1e-3
REFERENCE_STEPS = 1e4
BLOCK = 64  # points evaluated together: keeps the matrices in the cache
Sources = tuple[np.ndarray, np.ndarray]  # jumps and bends
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
        """Return the basis at `steps`."""
        path = to_path(conditions, steps, tolerance)
        decay = WEIGHT_DECAY if conditions.weight_decay is None else conditions.weight_decay
        forget = 2 * REFERENCE_LR * REFERENCE_STEPS * decay
        knots = to_knots(path.pieces, tolerance, forget, REFERENCE_LR, REFERENCE_STEPS)
        place = Place.of(path.steps, knots.start, knots.count)
        halves = place.done - 0.5 * place.done**2, 0.5 * place.done**2

        def clock(left: np.ndarray, right: np.ndarray) -> np.ndarray:
            """Integral up to each point of a rate that is straight within each part; (..., P) -> (..., n)."""
            return (knots.span * left) @ halves[0].T + (knots.span * right) @ halves[1].T

        def basis(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            exponent, start, adapt, calm, rate, relax = nonlinear
            states = solve(knots, start, adapt)
            slopes = differentiate(knots, states, start, adapt)
            tau = np.maximum(clock(states.speed, states.speed_end), 1e-100)
            phi, slope = np.ones((len(tau), 3)), np.zeros((len(tau), 3, 6))
            phi[:, 1] = tau**-exponent
            slope[:, 1, 0] = -np.log(tau) * phi[:, 1]
            slope[:, 1, 1] = -exponent * phi[:, 1] / tau * clock(slopes.speed, slopes.speed_end)
            sigma = clock(states.tempo, states.tempo_end)
            moved = clock(slopes.tempo.T, slopes.tempo_end.T)
            sources = _sources(states, calm)
            sources_by = _sources_by(states, slopes, calm)
            for first in range(0, len(sigma), BLOCK):
                rows = slice(first, first + BLOCK)
                phi[rows, 2], slope[rows, 2, 1:] = _noise(
                    place.passed[rows], (sigma[rows], moved[:, rows]), (states.tick, slopes.tick),
                    (sources, sources_by), (rate, relax),
                )  # fmt: skip
            return phi, slope

        def values(rows: np.ndarray) -> np.ndarray:
            exponent, start, adapt, calm, rate, relax = rows.T
            states = solve(knots, start, adapt)
            phi = np.ones((len(rows), len(path.steps), 3))
            phi[..., 1] = np.maximum(clock(states.speed, states.speed_end), 1e-100) ** -exponent[:, None]
            sigma = clock(states.tempo, states.tempo_end)
            jump, bend = _sources(states, calm[:, None])
            total, kernel = running_sum(states.tick)[:, None, :], (rate[:, None, None], relax[:, None, None])
            for first in range(0, len(path.steps), BLOCK):
                at = slice(first, first + BLOCK)
                since = np.where(place.passed[at], sigma[:, at, None] - total, 0.0)
                once, twice = integrals(since, *kernel)
                phi[:, at, 2] = (once @ jump[..., None] + twice @ bend[..., None])[..., 0]
            return phi

        return Basis(basis, in_blocks(values, min(len(path.steps), BLOCK) * (len(knots.start) + 1)))


def _noise(
    seen: np.ndarray, sigma: tuple[np.ndarray, np.ndarray], tick: tuple[np.ndarray, np.ndarray],
    sources: tuple[Sources, tuple[np.ndarray, np.ndarray]], kernel: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Noise at n points and its slopes by W0, k, e, C and beta, shape (n, 5).

    `seen` (n, P + 1) tells which knots lie before each point; `sigma` where it is on the noise's clock, (n,), and its
    slopes, (2, n); `tick` and `sources` come with their slopes too.
    """
    (jump, bend), (jump_by, bend_by) = sources
    far = integrate_twice(np.where(seen, sigma[0][:, None] - running_sum(tick[0]), 0.0), *kernel)
    slope = np.empty((len(seen), 5))
    slope[:, :3] = far.once @ jump_by + far.twice @ bend_by
    slope[:, 3] = far.once_by_rate @ jump + far.twice_by_rate @ bend
    slope[:, 4] = far.once_by_exponent @ jump + far.twice_by_exponent @ bend
    # slope of the noise by its distance to each knot, 0 for knots not yet passed
    pull = np.where(seen, far.kernel * jump + far.once * bend, 0.0)
    slope[:, :2] += sigma[1].T * pull.sum(axis=1)[:, None] - pull @ running_sum(tick[1].T).T
    return far.once @ jump + far.twice @ bend, slope


def _sources(states: States, calm: np.ndarray) -> Sources:
    """What enters at each of P + 1 knots: jumps and bends of the noise injected per tick, (..., P + 1)."""
    level, end = states.speed * states.used**-calm, states.speed_end * states.used_end**-calm
    incline = (end - level) / _lasting(states.tick)
    none = np.zeros((*level.shape[:-1], 1))
    jump = np.concatenate([level, none], axis=-1) - np.concatenate([none, end], axis=-1)
    bend = edge_weights(incline)
    # nothing is injected after the last knot, and nothing lies beyond it
    jump[..., -1], bend[..., -1] = 0.0, 0.0
    return jump, bend


def _lasting(tick: np.ndarray) -> np.ndarray:
    """The ticks of parts, infinite where there is next to none."""
    return np.where(tick > 1e-12, tick, np.inf)


def _sources_by(states: States, slopes: States, calm: float) -> Sources:
    """Slopes of the `_sources` by W0, k and e, each of shape (P + 1, 3)."""
    level, level_by = _level(states.speed, slopes.speed, states.used, slopes.used, calm)
    end, end_by = _level(states.speed_end, slopes.speed_end, states.used_end, slopes.used_end, calm)
    ticks = _lasting(states.tick)
    incline = (end - level) / ticks
    tick_by = np.column_stack([slopes.tick, np.zeros(len(ticks))])
    incline_by = (end_by - level_by - incline[:, None] * tick_by) / ticks[:, None]
    zeros = np.zeros((1, 3))
    jump_by = np.concatenate([level_by, zeros]) - np.concatenate([zeros, end_by])
    bend_by = np.concatenate([incline_by, zeros]) - np.concatenate([zeros, incline_by])
    jump_by[-1], bend_by[-1] = 0.0, 0.0
    return jump_by, bend_by


def _level(
    speed: np.ndarray, speed_by: np.ndarray, used: np.ndarray, used_by: np.ndarray, calm: float
) -> tuple[np.ndarray, np.ndarray]:
    """Noise injected per tick, r h^-e, and its slopes by W0, k and e; (P,) and (P, 3)."""
    quiet = used**-calm
    level = speed * quiet
    by = np.column_stack([speed_by * quiet, np.zeros_like(level), -np.log(used) * level])
    by[:, :2] -= (calm * level / used)[:, None] * used_by
    return level, by
