"""Published laws of the peak LR (and batch size), as data: one row a law, with its units, batch rule and range.

A law is a product of powers, or Kaplan's line in ln N. Laws of which only the exponents are established need an anchor,
a measured optimum that they carry over; with an anchor every law is also given as a ratio, which is free of its units
and prefactor. Laws with a batch rule of their own hold at that batch size: where the planned one differs, that is
remarked.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from lehr.errors import bad

COMPUTE_PER_TOKEN = 6.0  # floating-point operations per active parameter and token, attention left out
OTHER_BATCH = 1.5  # factor between a planned batch and a law's own that is remarked


@dataclass(frozen=True)
class Power:
    """`prefactor` x params^a tokens^b compute^c activation^d; a prefactor of None is not established."""

    prefactor: float | None
    params: float = 0.0
    tokens: float = 0.0
    compute: float = 0.0
    activation: float = 0.0

    def value(self, planned: Planned, of_total: bool) -> float:
        """Evaluate it; with a prefactor of 1 where none is established."""
        logs = (
            self.params * math.log(planned.params if of_total else planned.used)
            + self.tokens * math.log(planned.tokens)
            + self.compute * math.log(planned.compute)
            + self.activation * math.log(planned.used / planned.params)
        )
        return (1.0 if self.prefactor is None else self.prefactor) * math.exp(logs)


@dataclass(frozen=True)
class LogLine:
    """`level` - `slope` ln params."""

    level: float
    slope: float
    prefactor = 1.0

    def value(self, planned: Planned, of_total: bool) -> float:
        """Evaluate it; not above 0 for sizes far out."""
        return self.level - self.slope * math.log(planned.params if of_total else planned.used)


@dataclass(frozen=True)
class PublishedLaw:
    """A law as published.

    Parameters
    ----------
    name : short name.
    source : arXiv number and place.
    certainty : of its numbers: "seen" at the source or its own repository, "seen in" another work, "memory".
    lr : peak LR.
    batch : batch size in tokens that goes with it, if the law has a rule.
    batch_rule : what the LR holds for, in words.
    of_total : whether N counts all experts; else those that a token passes through.
    params_unit : what N counts, in words.
    ranges : smallest and largest of params, tokens or compute (6 N D) that were measured, where established.
    remark : what else a reader must know.
    """

    name: str
    source: str
    certainty: str
    lr: Power | LogLine
    batch: Power | None
    batch_rule: str
    params_unit: str
    of_total: bool = False
    ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    remark: str = ""


_NO_EMBEDDING = "parameters without embeddings"
LAWS: dict[str, PublishedLaw] = {
    law.name: law
    for law in (
        PublishedLaw(
            "kaplan", "arXiv 2001.08361, as printed by arXiv 2503.04715", "seen in Step Law's table",
            LogLine(3.239e-3, 1.395e-4), None, "none", _NO_EMBEDDING, ranges={"params": (1e3, 1.5e9)},
            remark="range from memory; the line turns negative at 1.2e10 parameters; dense models",
        ),
        PublishedLaw(
            "deepseek", "arXiv 2401.02954", "seen in arXiv 2609.08690; Step Law's table prints .3188",
            Power(0.3118, compute=-0.1250), Power(0.2920, compute=0.3271), "its own B(C)",
            "C from non-embedding operations a token; 6 N D here, without attention", ranges={"compute": (1e17, 2e19)},
            remark="definition of C and range from memory; multi-step schedule, dense models",
        ),
        PublishedLaw(
            "step_law", "arXiv 2503.04715", "seen, with its data", Power(1.79, params=-0.713, tokens=0.307),
            Power(0.58, tokens=0.571), "its own B(D)", f"{_NO_EMBEDDING}; all experts of MoE", of_total=True,
            ranges={"params": (2.1e8, 1.1e9), "tokens": (4e9, 1e11)}, remark="cosine decay to a fixed final LR of 1e-5",
        ),
        PublishedLaw(
            "porian", "arXiv 2406.19146, as printed by arXiv 2503.04715", "seen in Step Law's table",
            Power(3.7, params=-0.36), Power(0.7576, params=0.703), "its own B(N); unit of B in the table not stated, "
            "taken as tokens", "parameters", ranges={"params": (5e6, 9e8)},
            remark="along 20 tokens a parameter or so; dense models; range from a summary",
        ),
        PublishedLaw(
            "ant_moe", "arXiv 2609.08690", "seen", Power(0.8343, compute=-0.1385, activation=0.1361),
            Power(6.4765, tokens=0.5181, activation=-0.0841), "its own B(D, A)",
            "C from non-embedding operations a token; 6 N_active D here; A = active / all parameters",
            remark="Muon, WSD with 10 % decay: an LR of another optimiser than AdamW; the only law with sparsity",
        ),
        PublishedLaw(
            "bjorck", "arXiv 2409.19913", "exponents seen in a summary; the constant's unit is not established",
            Power(None, params=-0.23, tokens=-0.32), None, "batch held fixed", "parameters",
            remark="exponents only: needs an anchor",
        ),
        PublishedLaw(
            "set_lr", "arXiv 2601.05049, eq. 6", "seen; units of N and D are not established",
            Power(None, params=-0.2219, tokens=-0.3509), None, "batch held fixed", "parameters",
            ranges={"params": (0.0, 1.2e10), "tokens": (0.0, 5e11)},
            remark="exponents only: needs an anchor; WSD, MoE models, standard initialisation",
        ),
        PublishedLaw(
            "convex", "arXiv 2602.07145; arXiv 2501.18965", "seen in a summary",
            Power(None, tokens=-0.5), None, "batch held fixed", "not used", ranges={"params": (7.4e7, 1.3e10)},
            remark="exponents only: needs an anchor of the same size",
        ),
    )
}  # fmt: skip


@dataclass(frozen=True)
class Planned:
    """A run to which laws are put: all parameters, tokens, active parameters and batch (tokens), if told."""

    params: float
    tokens: float
    active: float | None = None
    batch: float | None = None

    def __post_init__(self) -> None:
        """Check the counts."""
        for name in ("params", "tokens", "active", "batch"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise bad(name, "must be above 0", value, "give a finite count")
        if self.active is not None and self.active > self.params:
            raise bad(
                "active", f"must not exceed the {self.params:g} parameters", self.active, "swap the two"
            )

    @property
    def used(self) -> float:
        """Parameters that a token passes through."""
        return self.active or self.params

    @property
    def compute(self) -> float:
        """Floating-point operations of the training."""
        return COMPUTE_PER_TOKEN * self.used * self.tokens


@dataclass(frozen=True)
class Anchor:
    """A measured optimum that laws are carried over from: its LR, and the run it was measured on."""

    lr: float
    run: Planned

    def __post_init__(self) -> None:
        """Check the LR."""
        if not 0 < self.lr < math.inf:
            raise bad("anchor's LR", "must be above 0", self.lr, "give a measured best peak LR")


@dataclass(frozen=True)
class PublishedLr:
    """What a published law says of a planned run.

    Parameters
    ----------
    name : of the law.
    lr : as published; None if that needs an anchor or is not above 0.
    anchored_lr : the anchor's LR times the law's ratio; None without an anchor.
    batch : batch size in tokens by the law's own rule; None if it has none.
    outside : covariates outside the measured range, in words.
    remarks : the law's own, and how the planned batch size differs from its.
    """

    name: str
    lr: float | None
    anchored_lr: float | None
    batch: float | None
    outside: tuple[str, ...]
    remarks: tuple[str, ...]


def published_lrs(
    params: float, tokens: float, active: float | None = None, batch: float | None = None,
    anchor: Anchor | None = None,
) -> tuple[PublishedLr, ...]:  # fmt: skip
    """Peak LR of a planned run by every published law, in the order of `LAWS`.

    Parameters
    ----------
    params : all parameters but embeddings.
    tokens : tokens it trains on.
    active : parameters a token passes through; None for a dense model.
    batch : tokens of one update, to be compared with the laws' own.
    anchor : a measured optimum, for the laws of which only exponents are established.

    Raises
    ------
    InputError
        If a count is not above 0, or more parameters are active than there are.
    """
    planned = Planned(params, tokens, active, batch)
    return tuple(apply_law(law, planned, anchor) for law in LAWS.values())


def apply_law(law: PublishedLaw, planned: Planned, anchor: Anchor | None = None) -> PublishedLr:
    """Put one law to a planned run; errors as of `published_lrs`."""
    value = law.lr.value(planned, law.of_total)
    own = None if law.batch is None else law.batch.value(planned, law.of_total)
    anchored = None
    if anchor is not None:
        there = law.lr.value(anchor.run, law.of_total)
        anchored = anchor.lr * value / there if value > 0 and there > 0 else None
    remarks = [law.remark] if law.remark else []
    if value <= 0:
        remarks.append("gives no LR above 0 here")
    if (
        own is not None
        and planned.batch is not None
        and abs(math.log(planned.batch / own)) > math.log(OTHER_BATCH)
    ):
        remarks.append(f"holds at its own batch of {own:.3g} tokens, not at {planned.batch:.3g}")
    return PublishedLr(
        law.name, None if law.lr.prefactor is None or value <= 0 else value, anchored, own, outside_of(law, planned),
        tuple(remarks),
    )  # fmt: skip


def outside_of(law: PublishedLaw, planned: Planned) -> tuple[str, ...]:
    """Covariates of a planned run that lie outside of the range that a law was measured on."""
    values = {
        "params": planned.params if law.of_total else planned.used,
        "tokens": planned.tokens,
        "compute": planned.compute,
    }
    return tuple(
        f"{name} {values[name]:.3g} outside {low:.3g} to {high:.3g}"
        for name, (low, high) in law.ranges.items()
        if not low <= values[name] <= high
    )
