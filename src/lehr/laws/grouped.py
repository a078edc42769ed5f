"""Any law over runs of several data sets or validation splits: one shape, its own loss level and scale in each.

    L_d(s) = E_d + c_d (L(s) - L0),      c = 1 in the first data set

All terms of the law but the irreducible loss are shared up to one factor c_d: two parameters a data set.
Losses on two sets of text lie on such a line (loss-to-loss scaling, Brandfonbrener et al., arXiv 2411.12925, there
with an exponent near 1). By leaving data sets out, the line predicts a data set of which one run was
seen twice as well as a shift alone (docs/diary.md).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

import numpy as np

from lehr.errors import InputError, unknown
from lehr.laws.law import Amplitude, Basis, Conditions, Law, Parameter
from lehr.schedule.pieces import TOLERANCE

SCALE_SPREAD = 0.05  # of the prior of c_d around 1


@dataclass(frozen=True)
class Grouped:
    """`law` over the data sets `groups`, as runs name them; the first is the one that scales are relative to."""

    law: Law
    groups: tuple[str, ...]

    @property
    def name(self) -> str:
        """As the law."""
        return self.law.name

    @property
    def title(self) -> str:
        """As the law."""
        return self.law.title

    @property
    def reference(self) -> str:
        """As the law."""
        return self.law.reference

    @property
    def needs_anneal(self) -> bool:
        """As the law."""
        return self.law.needs_anneal

    @property
    def needs_sizes(self) -> bool:
        """As the law."""
        return self.law.needs_sizes

    @property
    def uses_weight_decay(self) -> bool:
        """As the law."""
        return self.law.uses_weight_decay

    @property
    def degenerate(self) -> str | None:
        """As the law."""
        return self.law.degenerate

    @property
    def nonlinear(self) -> tuple[Parameter, ...]:
        """The law's, then the scale of each data set but the first."""
        scales = (
            Parameter(
                f"scale_{tag}", "c", 0.4, 2.5, "size of all terms against those of the first data set",
                log=True, prior=(0.0, SCALE_SPREAD),
            )
            for tag in self._tags()
        )  # fmt: skip
        return (*self.law.nonlinear, *scales)

    @property
    def linear(self) -> tuple[Amplitude, ...]:
        """The law's, then the irreducible loss of each data set but the first."""
        first = self.law.linear[0]
        return (*self.law.linear, *(replace(first, name=f"{first.name}_{tag}") for tag in self._tags()))

    def _tags(self) -> list[str]:
        """The data sets but the first, as parts of names."""
        tags = [re.sub(r"\W+", "_", group.lower()).strip("_") or "unnamed" for group in self.groups[1:]]
        return [tag if tags.count(tag) == 1 else f"{tag}_{i + 2}" for i, tag in enumerate(tags)]

    def bind(self, conditions: Conditions, steps: np.ndarray, tolerance: float = TOLERANCE) -> Basis:
        """Return the basis at `steps`; needs the data set the loss is measured on."""
        group = find_group(self.groups, conditions.data)
        inner = self.law.bind(conditions, steps, tolerance)
        shape, terms = len(self.law.nonlinear), len(self.law.linear)
        others = len(self.groups) - 1

        def basis(nonlinear: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            inside, inside_slope = inner(nonlinear[:shape])
            phi = np.zeros((len(inside), terms + others))
            slope = np.zeros((*phi.shape, shape + others))
            phi[:, :terms], slope[:, :terms, :shape] = inside, inside_slope
            if group:
                scale = shape + group - 1
                slope[:, 1:terms, scale] = inside[:, 1:]
                slope[:, 1:terms, :shape] *= nonlinear[scale]
                phi[:, 1:terms] *= nonlinear[scale]
                phi[:, 0], phi[:, terms + group - 1] = 0.0, 1.0
            return phi, slope

        def values(rows: np.ndarray) -> np.ndarray:
            inside = inner.values(rows[:, :shape])
            phi = np.zeros((*inside.shape[:2], terms + others))
            phi[..., :terms] = inside
            if group:
                phi[..., 1:terms] *= rows[:, shape + group - 1, None, None]
                phi[..., 0], phi[..., terms + group - 1] = 0.0, 1.0
            return phi

        return Basis(basis, values)

    def of_group(self, vector: np.ndarray, data: str | None) -> np.ndarray:
        """Parameters of the plain law in one data set.

        Parameters
        ----------
        vector : of this law, nonlinear parameters then amplitudes; shape (..., K + L).
        data : the data set.
        """
        group = find_group(self.groups, data)
        shape, terms = len(self.law.nonlinear), len(self.law.linear)
        others = len(self.groups) - 1
        linear = vector[..., shape + others : shape + others + terms].copy()
        if group:
            linear *= vector[..., shape + group - 1, None]
            linear[..., 0] = vector[..., shape + others + terms + group - 1]
        return np.concatenate([vector[..., :shape], linear], axis=-1)


def find_group(groups: tuple[str, ...], data: str | None) -> int:
    """Index of a data set, named in full or by its part before the slash if that tells it.

    Raises
    ------
    InputError
        If none is named, or none or several have that name.
    """
    if data is None:
        raise InputError(
            f"the fit is of {len(groups)} data sets ({', '.join(groups)}): say on which the loss is asked for (--data)."
        )
    if data in groups:
        return groups.index(data)
    near = [i for i, group in enumerate(groups) if group.split("/")[0] == data]
    if len(near) != 1:
        raise unknown("data set of the fit", data, groups)
    return near[0]
