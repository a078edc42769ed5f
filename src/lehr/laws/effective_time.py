"""The effective-time law: progress and noise follow a power of the LR, not the LR.

    tau(s) = sum_{k<s} eta_k^p,          eta = LR / 1e-3          effective time
    L(s)   = L0 + A tau(s)^-alpha + B noise(s)
    kernel="effective_time":  noise(s) = sum_{k<s} eta_k^q K(tau(s) - tau(k)) eta_k^p
    kernel="area":            noise(s) = sum_{k<s} eta_k^p K(S(s) - S(k)) eta_k,    S(s) = sum eta_k
    K(u)   = (1 + C u)^-beta

For a reader who knows Tissue's law: there is no annealing term. The second term is the loss of
a run without noise, whose clock ticks with eta^p: under AdamW p is about .8. The third is the
noise that a high LR keeps up; each update adds some, which relaxes as later updates go by. A
decay lowers the noise, with a lag, while it slows the clock; both have a price, so nothing is
gained by waiting at LR 0 and the best schedule is no last-moment drop.

Times are counted in 10,000 updates at an LR of 1e-3, so that parameters of different data sets
compare. The sums are taken as integrals over each piece of constant LR, in closed form: a law of
continuous time, which does not depend on how often the log was written.

Data it needs: runs of at least two schedules; for p and q apart, at two peak LRs, otherwise a
prior of p near .8 decides. Known failures: high LRs near instability lose more than it says;
within a run noise falls about linearly with the LR while across runs it grows only as its
power .3 to .4, so one q is a compromise.

Reference: lehr's own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from lehr.laws.chinchilla import IRREDUCIBLE
from lehr.laws.kernels import Place, edge_weights, power_kernel_area, power_kernel_integral
from lehr.laws.law import Amplitude, Basis, Conditions, Parameter, in_blocks, to_path
from lehr.schedule.pieces import TOLERANCE

REFERENCE_LR = 1e-3
REFERENCE_STEPS = 1e4


@dataclass(frozen=True)
class EffectiveTime:
    """The effective-time law, with the noise relaxing in effective time or in the LR sum."""

    name: str = "effective_time"
    kernel: Literal["effective_time", "area"] = "effective_time"
    title: str = "Effective time: progress and relaxing noise follow powers of the LR"
    reference: str = "lehr"
    needs_anneal: bool = True
    uses_weight_decay: bool = False
    needs_sizes: bool = False
    degenerate: str | None = None

    @property
    def nonlinear(self) -> tuple[Parameter, ...]:
        """Exponents and relaxation; the noise exponent q is free only with the kernel in effective time."""
        shared = (
            Parameter("exponent", "alpha", 0.05, 2.0, "exponent of effective time"),
            Parameter("clock_exponent", "p", 0.2, 1.4, "effective time passes as LR^p", prior=(0.8, 0.1)),
            Parameter("rate", "C", 1e-2, 1e4, "relaxation rate per 10,000 updates at LR 1e-3", log=True),
            Parameter("relaxation_exponent", "beta", 0.1, 6.0, "exponent of the relaxation", log=True),
        )
        noise = Parameter("noise_exponent", "q", -0.2, 2.0, "noise per unit of effective time goes as LR^q")
        return shared + ((noise,) if self.kernel == "effective_time" else ())

    @property
    def linear(self) -> tuple[Amplitude, ...]:
        """Irreducible loss, amplitude of progress and of noise."""
        return (
            IRREDUCIBLE,
            Amplitude("amplitude", "A", "loss at an effective time of 10,000 updates at LR 1e-3, nats"),
            Amplitude("noise_amplitude", "B", "noise gained in that time if none relaxed, nats"),
        )

    def bind(self, conditions: Conditions, steps: np.ndarray, tolerance: float = TOLERANCE) -> Basis:
        """Return the basis at `steps`."""
        path = to_path(conditions, steps, tolerance)
        eta = path.pieces.lr / REFERENCE_LR
        alive = eta > 0
        log_eta = np.log(np.where(alive, eta, 1.0))
        span = path.pieces.steps / REFERENCE_STEPS
        place = Place.of(path.steps, path.pieces.start, path.pieces.steps)
        area = place.distances(eta * span) if self.kernel == "area" else None
        count = len(self.nonlinear)

        def basis(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            exponent, clock, rate, relax = nonlinear[:4]
            speed = np.where(alive, np.exp(clock * log_eta), 0.0)
            tau, tau_slope = place.at(speed * span), place.at(log_eta * speed * span)
            tau = np.maximum(tau, 1e-300)
            phi, slope = np.ones((len(tau), 3)), np.zeros((len(tau), 3, count))
            phi[:, 1] = tau**-exponent
            slope[:, 1, 0] = -np.log(tau) * phi[:, 1]
            slope[:, 1, 1] = -exponent * phi[:, 1] / tau * tau_slope
            since = area if area is not None else place.distances(speed * span)
            level = speed if area is not None else np.where(alive, np.exp(nonlinear[4] * log_eta), 0.0)
            integral, kernel, by_rate, by_relax = power_kernel_integral(since, rate, relax)
            weight = edge_weights(level)
            phi[:, 2] = integral @ weight
            slope[:, 2, 2] = by_rate @ weight
            slope[:, 2, 3] = by_relax @ weight
            by_level = edge_weights(level * log_eta)
            if area is not None:
                slope[:, 2, 1] = integral @ by_level
            else:
                slope[:, 2, 1] = (kernel * place.distances(log_eta * speed * span)) @ weight
                slope[:, 2, 4] = integral @ by_level
            return phi, slope

        def values(rows: np.ndarray) -> np.ndarray:
            exponent, clock, rate, relax = (rows[:, j, None] for j in range(4))
            speed = np.where(alive, np.exp(clock * log_eta), 0.0)
            phi = np.ones((len(rows), len(path.steps), 3))
            phi[..., 1] = np.maximum(place.at(speed * span), 1e-300) ** -exponent
            since = area if area is not None else place.distances(speed * span)
            level = speed if area is not None else np.where(alive, np.exp(rows[:, 4:5] * log_eta), 0.0)
            integral = power_kernel_area(since, rate[..., None], relax[..., None])
            phi[..., 2] = (integral @ edge_weights(level)[..., None])[..., 0]
            return phi

        return Basis(basis, in_blocks(values, place.passed.size))
