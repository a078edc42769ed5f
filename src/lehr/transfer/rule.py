"""What a rule of transfer is: exponents of ratios, for every group of parameters and every quantity, and its limits.

A value of the target is the base's times ratio ** exponent for every exponent that the rule names, so that every
rule is the identity where the target is the base.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lehr.transfer.roles import Group
from lehr.transfer.sizes import RatioName, Ratios

Powers = Mapping[RatioName, float]  # exponents by the name of the ratio; {} is a constant


@dataclass(frozen=True)
class Row:
    """Exponents for one group of parameters.

    Parameters
    ----------
    init : of the standard deviation of the initial weights.
    lr : of the LR.
    weight_decay : of AdamW's coefficient, as PyTorch has it: an update takes LR times coefficient of the weight.
    epsilon : of Adam's epsilon.
    """

    init: Powers = field(default_factory=dict)
    lr: Powers = field(default_factory=dict)
    weight_decay: Powers = field(default_factory=dict)
    epsilon: Powers = field(default_factory=dict)


@dataclass(frozen=True)
class Horizon:
    """How a longer training or a larger batch acts on every group alike.

    Parameters
    ----------
    source : where it is from.
    lr, weight_decay, epsilon : exponents, as in a row.
    one_minus_beta : exponents of 1 - beta1 and of 1 - beta2.
    """

    source: str
    lr: Powers
    weight_decay: Powers = field(default_factory=dict)
    epsilon: Powers = field(default_factory=dict)
    one_minus_beta: Powers = field(default_factory=dict)

    @property
    def covers(self) -> frozenset[RatioName]:
        """Ratios that it says something of."""
        return frozenset(
            name
            for powers in (self.lr, self.weight_decay, self.epsilon, self.one_minus_beta)
            for name in powers
        )


@dataclass(frozen=True)
class Rule:
    """One rule of transfer.

    Parameters
    ----------
    name : by which it is asked for.
    summary, source : in a sentence; where it is from.
    certainty : how sure it is that this is what the source says.
    rows : of every group that the rule knows.
    residual, attention, output : exponents of the factors of the forward pass.
    horizon : the name in `lehr.transfer.tables.HORIZONS` of what it says on training tokens and batch; None if nothing.
    cautions : by ratio, what to be told where that ratio is not 1.
    largest : ratio of parameters up to which the source measured; None where that was not found.
    untied : why it needs a head of its own; empty where it does not.
    """

    name: str
    summary: str
    source: str
    certainty: str
    rows: Mapping[Group, Row]
    residual: Powers = field(default_factory=dict)
    attention: Powers = field(default_factory=lambda: {"head_width": -0.5})
    output: Powers = field(default_factory=dict)
    horizon: str | None = None
    cautions: Mapping[RatioName, str] = field(default_factory=dict)
    largest: float | None = None
    untied: str = ""


@dataclass(frozen=True)
class Factor:
    """What a base value is multiplied by, and the ratios that made it, in words."""

    value: float = 1.0
    why: str = ""

    def __mul__(self, other: Factor) -> Factor:
        """Both."""
        return Factor(self.value * other.value, ", ".join(filter(None, (self.why, other.why))))


def factor(powers: Powers, over: Ratios, group: Group | None = None, inverse: bool = False) -> Factor:
    """Multiply ratio ** exponent over `powers`, for a parameter of `group`; or divide by them."""
    value, parts = 1.0, []
    for name, exponent in powers.items():
        ratio, power = over.of(name, group), -exponent if inverse else exponent
        value *= math.pow(ratio, power)
        parts.append(f"{name} {ratio:.4g} ^ {power:g}")
    return Factor(value, ", ".join(parts))
