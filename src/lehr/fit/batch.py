"""How the batch changes the updates a loss takes: the critical batch and B_opt as power laws in the loss.

    S(B, L) = S_min(L) (1 + B_c(L) / (B - B_min(L))),    B_c(L) = c / L^alpha_B,    B_min = f B_c

S is the number of updates in which a run at batch B reaches the loss L at constant LR, and S_min what an
endless batch takes. With f = 0 it is the hyperbola of McCandlish et al., arXiv 1812.06162, eq. 2.11,
with the power law of Kaplan et al., arXiv 2001.08361, eq. 1.4. The batch B_min below which L is never
reached at this LR is that of arXiv 2601.05034; its three pieces (inverse linear, quadratic, linear)
are limits of this one form.

**B_opt(L)** is here the batch from which on S exceeds S_min by at most `TOLERANCE`:
B_opt = B_c (1 / tolerance + f). Curves of two batches above it lie on each other in updates up to
that share, so a law in updates holds for both. (arXiv 2601.05034 calls B_opt what takes fewest tokens,
B_c (f + sqrt f); updates still fall steeply there.)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from lehr.errors import bad

TOLERANCE = 0.05  # share of updates above the fewest up to which curves lie on each other
SAME = 0.01  # batches that differ by a smaller share are one batch


@dataclass(frozen=True)
class BatchLaw:
    """What runs at several batches say about the batch; made by `lehr.fit.batch_estimate.estimate_batch`.

    Parameters
    ----------
    critical_batch : B_c at `reference_loss`, tokens, as it fits best; see `kind` and `critical`.
    reference_loss : middle of the compared losses, nats per token.
    exponent : alpha_B; B_c goes as the loss to the power of minus it.
    floor : f = B_min / B_c; 0 where fewer than four batches were compared.
    kind : "measured"; "at_most" where no batch was slower than another beyond the noise; "at_least"
        where the updates fall as 1 / B throughout.
    losses : lowest and highest loss compared; outside them everything is extrapolated.
    batches : the batches compared, tokens, ascending.
    peak_lr, params : their common peak LR and number of parameters (None if they do not tell).
    misfit : root mean square of ln S about the form.
    levels : per loss compared: loss, S_min, and B_c fitted to that level alone.
    draws : bootstrap draws of (critical_batch, exponent, floor).
    warnings : what the estimate rests on beyond the data.
    """

    critical_batch: float
    reference_loss: float
    exponent: float
    floor: float
    kind: Literal["measured", "at_most", "at_least"]
    losses: tuple[float, float]
    batches: tuple[float, ...]
    peak_lr: float
    params: float | None
    misfit: float
    levels: tuple[tuple[float, float, float], ...]
    draws: tuple[tuple[float, float, float], ...]
    warnings: tuple[str, ...] = ()

    def critical(self, loss: float) -> float:
        """B_c at `loss`, tokens: without a floor a run at it takes twice the fewest updates.

        Unless `kind` is "measured" this is the bound that 95 % of the draws keep.
        """
        if self.kind == "measured":
            return self.critical_batch * (self.reference_loss / _positive(loss, "loss")) ** self.exponent
        return float(np.quantile(self._drawn(loss), 0.95 if self.kind == "at_most" else 0.05))

    def optimal(self, loss: float, tolerance: float = TOLERANCE) -> float:
        """B_opt at `loss`, tokens: from it on updates exceed the fewest by at most the share `tolerance`.

        Unless `kind` is "measured" this is a bound, as for `critical`.

        Raises
        ------
        InputError
            If a value is not above 0.
        """
        return self.critical(loss) * (1 / _positive(tolerance, "tolerance") + self.floor)

    def interval(self, loss: float, tolerance: float = TOLERANCE, level: float = 0.9) -> tuple[float, float]:
        """Interval of B_opt at `loss` that holds the share `level` of the draws, tokens.

        Where B_opt is only bounded, the other end is 0 or infinite.
        """
        if not 0 < level < 1:
            raise bad("level", "must lie between 0 and 1", level, "use e.g. 0.9")
        floor = np.array(self.draws)[:, 2]
        values = self._drawn(loss) * (1 / _positive(tolerance, "tolerance") + floor)
        low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2])
        return (
            0.0 if self.kind == "at_most" else float(low),
            float("inf") if self.kind == "at_least" else float(high),
        )

    def exponent_interval(self, level: float = 0.9) -> tuple[float, float]:
        """Interval of `exponent` that holds the share `level` of the draws."""
        low, high = np.quantile(np.array(self.draws)[:, 1], [(1 - level) / 2, (1 + level) / 2])
        return float(low), float(high)

    def updates_ratio(self, loss: float, batch: float, other: float) -> float:
        """Updates in which `batch` reaches `loss` over those of `other`, both in tokens.

        Infinite where only `batch` lies below B_min, 0 where only `other` does, NaN where both do.
        """
        mine, theirs = (1 + self._excess(loss, b) for b in (batch, other))
        return float("nan") if mine == theirs == float("inf") else mine / theirs

    def _excess(self, loss: float, batch: float) -> float:
        """S / S_min - 1."""
        critical = self.critical(loss)
        room = _positive(batch, "batch") - self.floor * critical
        return critical / room if room > 0 else float("inf")

    def _drawn(self, loss: float) -> np.ndarray:
        critical, exponent = np.array(self.draws).T[:2]
        return critical * (self.reference_loss / _positive(loss, "loss")) ** exponent


def _positive(value: float, name: str) -> float:
    if not 0 < value < float("inf"):
        unit = {"loss": "nats per token", "tolerance": "a share, such as 0.05"}.get(name, "tokens")
        raise bad(name, "must be a finite number above 0", value, f"give it in {unit}")
    return value


def distinct(batches: Iterable[float]) -> tuple[float, ...]:
    """Batches in ascending order, those within `SAME` of a smaller one left out."""
    found: list[float] = []
    for batch in sorted(batches):
        if not found or batch > found[-1] * (1 + SAME):
            found.append(batch)
    return tuple(found)
