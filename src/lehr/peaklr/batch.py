"""The best batch size and how it moves: B_opt as a power of tokens (and size), from the same sweeps.

A group's loss at a batch size is the lowest over the LRs, by the valley through them; the best batch is the optimum of
the parabola in ln B through those (as B_opt ~ D^.57 of Step Law, arXiv 2503.04715, was found).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError
from lehr.peaklr.law import DRAWS, LrLaw, fit_lr_law
from lehr.peaklr.location import FORMS, formula, get_form, unidentified
from lehr.peaklr.optima import Optimum, covariates_of
from lehr.peaklr.table import SweepGroup, SweepTable
from lehr.peaklr.valley import NOISE, Valley, fit_valley


@dataclass(frozen=True)
class BatchPrediction:
    """A best batch size in tokens with its interval, and the measured ranges that the question leaves."""

    batch_tokens: float
    low: float
    high: float
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class BestBatchLaw:
    """How the best batch size moves; `trend` is a law whose value is a batch size in tokens."""

    trend: LrLaw

    @property
    def formula(self) -> str:
        """The law written out."""
        return formula(get_form(self.trend.form), self.trend.coefficients, self.trend.centre, "B")

    def predict(
        self, params: float, tokens: float, active: float | None = None, level: float = 0.9
    ) -> BatchPrediction:
        """Best batch size of a planned run; arguments and errors as of `LrLaw.predict`."""
        found = self.trend.predict(params, tokens, active=active, level=level)
        return BatchPrediction(found.lr, found.low, found.high, found.remarks)


def batch_valley(group: SweepGroup, noise: float = NOISE) -> Valley:
    """Fit the valley of the lowest loss over ln batch of one group; its `lr` is a batch size in tokens.

    Raises
    ------
    InputError
        If fewer than three batch sizes have LRs that enclose an optimum, or the best batch lies at an edge.
    """
    sizes, lows = [], []
    for batch in group.batches:
        part = group.at_batch(batch)
        try:
            valley = fit_valley(part.table.lr, part.table.loss, noise=noise, where=part.name)
        except InputError:
            continue  # its LRs enclose no optimum: the loss of that batch is not known
        sizes.append(batch)
        lows.append(valley.lowest_loss)
    if len(sizes) < 3:
        raise InputError(
            f"{group.name}: {len(sizes)} batch sizes have LRs that enclose an optimum, which is fewer than 3: "
            "run more batch sizes, or more LRs at each."
        )
    try:
        return fit_valley(
            np.array(sizes), np.array(lows), "parabola", noise, where=f"{group.name}, over batch sizes"
        )
    except InputError as error:
        raise InputError(str(error).replace("LRs", "batch sizes").replace("LR ", "batch size ")) from None


def fit_batch_law(
    table: SweepTable, draws: int = DRAWS, noise: float = NOISE
) -> tuple[BestBatchLaw, tuple[Optimum, ...], tuple[str, ...]]:
    """Fit how the best batch size moves with the tokens, and with the size where that is identified too.

    Returns
    -------
    The law, the best batch of every group (the `lr` of an `Optimum` is a batch size here), and why others have none.

    Raises
    ------
    InputError
        If no group tells a best batch.
    """
    found, refused = [], []
    for group in table.groups():
        try:
            valley = batch_valley(group, noise)
        except InputError as error:
            refused.append(str(error))
            continue
        found.append(
            Optimum(
                group.params,
                group.active,
                group.tokens,
                None,
                valley.lr,
                valley.deviation,
                valley.lowest_loss,
            )
        )
    if not found:
        raise InputError(f"no group tells its best batch size: {refused[0]}")
    logs = covariates_of(found)[0]
    form = next(name for name in ("size", "tokens", "constant") if unidentified(FORMS[name], logs) is None)
    return BestBatchLaw(fit_lr_law(found, form, draws)), tuple(found), tuple(refused)
