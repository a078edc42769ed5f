"""Any law of one size, over runs of several sizes: its amplitudes become power laws in the number of parameters.

    n = N / 1e8
    L = E + F n^-g + sum_j (a_j n^(x_j)) basis_j(shape),         j over the base law's other amplitudes
    shape_i -> shape_i n^(d_i)                                    for the shape parameters named in `drift`

The shape of the curve is shared by all sizes. What is added to the base law is one amplitude (F) and the
exponents g, one x_j an amplitude and one d_i a drifting parameter. The loss that training does not remove,
E + F n^-g, and an amplitude in N are Chinchilla's and Tissue's forms (papers below); MPL's published fits
of three sizes move in the same way.

Two sizes tell the loss and the amplitudes of each but not the exponent g; few sizes tell the x_j badly.
Hence priors, from published fits alone:
g .15: .158 and .137 (arXiv 2408.11029, its two joint fits), .149 (L0 of arXiv 2503.12811 at 25M, 100M, 400M).
Amplitude .15 and noise .10: growth of A, taken at an LR sum of 10, by .12 to .19 and of B by .11 to .15 (2503.12811);
annealing gain of 2408.11029 by .05 to .12.
Which parameters drift was chosen by leaving sizes out (docs/diary.md): the weight-norm law's starting norm, with about
N^-.5, and nothing else; a drift of alpha, which falls with N where sizes are fitted apart, does not pay.

Models of experts: `experts=True` counts N = N_active^(1 - s) N_total^s, both without embeddings, so that a dense
model is its own size; s is one more parameter. The fit turns it on where the share of active parameters differs
among the runs, as otherwise s cannot be told from F. An effective number of parameters between active and total is
that of Clark et al. (arXiv 2202.01169), there with a slowly falling exponent. Prior .35: on the public
Step Law sweeps, eight final losses of two models of 2.15B parameters (188M and 590M active), put on the
size curve of its dense models, give .1 to .6, growing with the tokens seen (tests/laws/test_sized.py).

Data it needs: what the base law needs, and two sizes (three tell how the loss bends with N). Known failures: sizes
far outside the fitted ones, since E and g trade off; sizes whose LRs do not overlap leave the effect of N and
of the LR apart to the base law's form; other changes with the size (depth to width, batch) are not seen.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from lehr.errors import InputError, unknown
from lehr.laws.chinchilla import require_params
from lehr.laws.law import Amplitude, Basis, Conditions, Parameter
from lehr.schedule.pieces import TOLERANCE

REFERENCE_PARAMS = 1e8

_SIZE = Parameter(
    "params_exponent", "g", 0.02, 1.5, "exponent of N in the irreducible loss", prior=(0.15, 0.05)
)
_SHARE = Parameter(
    "total_share", "s", 0.0, 1.0, "weight of all parameters, against active ones, in a size",
    prior=(0.35, 0.15),
)  # fmt: skip
_GROWTH = {"amplitude": (0.15, 0.1)}  # priors of the growth of amplitudes by name; of any other:
_GROWTH_OF_NOISE = (0.1, 0.05)
_DRIFT = (0.0, 0.5)


@dataclass(frozen=True)
class Sized:
    """`base` over several sizes.

    Parameters
    ----------
    base : a law of one size; its first amplitude is the irreducible loss.
    name : name in the table of laws.
    drift : names of the base's nonlinear parameters (of positive value) that follow a power of N.
    experts : count sizes between active and total parameters, for models of experts.
    """

    base: Any  # a Law; options are read back from JSON by type, and a protocol is none
    name: str
    drift: tuple[str, ...] = ()
    experts: bool = False
    needs_sizes: bool = True

    def __post_init__(self) -> None:
        """Refuse a drift of what the base law does not have."""
        known = [p.name for p in self.base.nonlinear]
        for name in self.drift:
            if name not in known:
                raise unknown(f"parameter of law {self.base.name}", name, known)

    @property
    def title(self) -> str:
        """One line that says what it is."""
        return f"{self.base.title}; over sizes"

    @property
    def reference(self) -> str:
        """Where the base law and the terms in N come from."""
        return f"{self.base.reference}; N as in arXiv 2203.15556, eq. 2, and 2408.11029, eq. 8"

    @property
    def needs_anneal(self) -> bool:
        """As the base law."""
        return bool(self.base.needs_anneal)

    @property
    def uses_weight_decay(self) -> bool:
        """As the base law."""
        return bool(self.base.uses_weight_decay)

    @property
    def degenerate(self) -> str | None:
        """As the base law."""
        return None if self.base.degenerate is None else str(self.base.degenerate)

    @property
    def nonlinear(self) -> tuple[Parameter, ...]:
        """The base law's, the exponent of the size term, growths, drifts and perhaps the share of all parameters."""
        growths = (
            Parameter(
                f"{a.name}_growth", f"x_{a.symbol}", -1.0, 1.0, f"{a.symbol} grows as N to this",
                prior=_GROWTH.get(a.name, _GROWTH_OF_NOISE),
            )
            for a in self.base.linear[1:]
        )  # fmt: skip
        symbols = {p.name: p.symbol for p in self.base.nonlinear}
        drifts = (
            Parameter(
                f"{name}_growth", f"d_{symbols[name]}", -1.5, 1.5, f"{symbols[name]} grows as N to this",
                prior=_DRIFT,
            )
            for name in self.drift
        )  # fmt: skip
        return (*self.base.nonlinear, _SIZE, *growths, *drifts, *((_SHARE,) if self.experts else ()))

    @property
    def linear(self) -> tuple[Amplitude, ...]:
        """Irreducible loss, the size term, then the base law's other amplitudes, at 1e8 parameters."""
        size = Amplitude(
            "params_amplitude", "F", "loss that a model of 1e8 parameters has for its size, nats"
        )
        return (self.base.linear[0], size, *self.base.linear[1:])

    def bind(self, conditions: Conditions, steps: np.ndarray, tolerance: float = TOLERANCE) -> Basis:
        """Return the basis at `steps`; needs the number of parameters."""
        log_active = float(np.log(require_params(self.name, conditions) / REFERENCE_PARAMS))
        log_sparsity = _log_sparsity(self.name, conditions)
        inner = self.base.bind(conditions, steps, tolerance)
        names = [p.name for p in self.base.nonlinear]
        moved = [names.index(name) for name in self.drift]
        shape, terms = len(names), len(self.base.linear)  # counts, of the base law
        drifts = slice(shape + terms, shape + terms + len(moved))
        # the size term falls as the exponent g grows; the other terms rise with theirs
        signs = np.array([-1.0] + [1.0] * (terms - 1))

        def basis(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            log_size = log_active + (nonlinear[-1] * log_sparsity if self.experts else 0.0)
            here, factor = nonlinear[:shape].copy(), np.ones(shape)
            factor[moved] = np.exp(nonlinear[drifts] * log_size)
            here *= factor
            powers = nonlinear[shape : shape + terms] * signs
            scale = np.exp(powers * log_size)
            inside, inside_slope = inner(here)
            phi = np.empty((len(inside), terms + 1))
            slope = np.zeros((*phi.shape, len(nonlinear)))
            phi[:, 0], phi[:, 1], phi[:, 2:] = inside[:, 0], scale[0], inside[:, 1:] * scale[1:]
            slope[:, 2:, :shape] = inside_slope[:, 1:] * scale[1:, None] * factor
            by_log_size = np.zeros_like(phi)
            for j in range(terms):
                slope[:, j + 1, shape + j] = signs[j] * log_size * phi[:, j + 1]
                by_log_size[:, j + 1] = powers[j] * phi[:, j + 1]
            for j, i in enumerate(moved):
                by_log = slope[:, :, i] * nonlinear[i]
                slope[:, :, shape + terms + j] = by_log * log_size
                by_log_size += by_log * nonlinear[shape + terms + j]
            if self.experts:
                slope[:, :, -1] = by_log_size * log_sparsity
            return phi, slope

        def values(rows: np.ndarray) -> np.ndarray:
            log_size = log_active + (rows[:, -1:] * log_sparsity if self.experts else 0.0)
            here = rows[:, :shape].copy()
            here[:, moved] *= np.exp(rows[:, drifts] * log_size)
            scale = np.exp(rows[:, shape : shape + terms] * signs * log_size)
            inside = inner.values(here)
            phi = np.empty((*inside.shape[:2], terms + 1))
            phi[..., 0], phi[..., 1] = inside[..., 0], scale[:, :1]
            phi[..., 2:] = inside[..., 1:] * scale[:, None, 1:]
            return phi

        return Basis(basis, values)


def _log_sparsity(law: str, conditions: Conditions) -> float:
    """Log of all over active parameters; 0 for a dense model.

    Raises
    ------
    InputError
        If there are fewer parameters than active ones.
    """
    total, active = conditions.params_total, require_params(law, conditions)
    if total is None:
        return 0.0
    if total < active:
        raise InputError(
            f"law {law}: all parameters of a model of experts must be at least the active ones, "
            f"got {total:g} and {active:g}: give both without embeddings."
        )
    return float(np.log(total / active))
