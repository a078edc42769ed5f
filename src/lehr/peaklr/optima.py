"""The best LR of every group of a sweep, each by its own valley: what a law of the optimum is fitted to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError
from lehr.peaklr.levels import levels_of
from lehr.peaklr.table import SweepGroup, SweepTable
from lehr.peaklr.valley import NEAR, NOISE, WILD, check_repeats, fit_valley


@dataclass(frozen=True)
class Optimum:
    """A measured best LR.

    Parameters
    ----------
    params, active, tokens, batch_tokens : of the group; `active` is `params` if dense, the batch None if not known.
    lr : of the lowest loss.
    deviation : standard deviation of its logarithm.
    loss : the lowest loss, nats per token.
    low, high : interval of `lr`, if told.
    """

    params: float
    active: float
    tokens: float
    batch_tokens: float | None
    lr: float
    deviation: float
    loss: float
    low: float | None = None
    high: float | None = None


def measure_optima(
    table: SweepTable, form: str = "asymmetric", noise: float = NOISE, by_batch: bool = False
) -> tuple[tuple[Optimum, ...], tuple[str, ...]]:
    """Fit the valley of every group, at its best batch size, or at each.

    Returns
    -------
    The optima, and why each other group has none.

    Raises
    ------
    InputError
        If runs of one group, batch size and LR differ by what is no noise: they differ in what the table does not tell.
    """
    check_unmixed(table)
    found, refused = [], []
    groups: Sequence[SweepGroup] = table.groups(by_batch)
    for group in groups:
        try:
            best = group.best_batch()
            valley = fit_valley(best.table.lr, best.table.loss, form, noise, where=best.name)
        except InputError as error:
            refused.append(str(error))
            continue
        found.append(
            Optimum(
                group.params, group.active, group.tokens, best.batch_tokens, valley.lr, valley.deviation,
                valley.lowest_loss, valley.low, valley.high,
            )
        )  # fmt: skip
    return tuple(found), tuple(refused)


def check_unmixed(table: SweepTable) -> None:
    """Refuse a table whose runs must differ in what it does not tell; errors as of `measure_optima`."""
    ended = np.flatnonzero(~table.diverged)
    if not ended.size:
        return
    group, level = table.group_numbers(by_batch=True)[ended], levels_of(table.lr[ended])
    loss = table.loss[ended]
    lowest = np.full(int(group.max()) + 1, np.inf)
    np.minimum.at(lowest, group, loss)
    order = np.lexsort((loss, level, group))
    one, other = order[:-1], order[1:]
    repeated = (group[one] == group[other]) & (level[one] == level[other])
    wild = repeated & (loss[other] > loss[one] * (1 + WILD)) & (loss[one] < lowest[group[one]] + NEAR)
    if wild.any():
        at = np.flatnonzero(group == group[one[wild][0]])
        part = SweepGroup(table.select(ended[at]))
        check_repeats(part.table.lr, part.table.loss, part.name)


def covariates_of(
    optima: Sequence[Optimum],
) -> tuple[dict[str, np.ndarray], dict[str, float], dict[str, tuple[float, float]]]:
    """Logarithms of the covariates over their geometric means, those means, and the ranges."""
    if not optima:
        raise InputError("there is no optimum to fit a law to: give groups whose LRs enclose one.")
    values = {
        "params": [o.active for o in optima], "tokens": [o.tokens for o in optima],
        "sparsity": [o.params / o.active for o in optima],
    }  # fmt: skip
    batches = [o.batch_tokens for o in optima if o.batch_tokens is not None]
    if len(batches) == len(optima):
        values["batch"] = batches
    centre = {name: float(np.exp(np.mean(np.log(column)))) for name, column in values.items()}
    logs = {name: np.log(np.array(column) / centre[name]) for name, column in values.items()}
    return logs, centre, {name: (float(min(column)), float(max(column))) for name, column in values.items()}
