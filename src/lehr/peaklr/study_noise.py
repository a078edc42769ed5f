"""How far one final loss of a study lies from what its LR and its seed's level say, by valleys of several seeds.

A seed moves all losses of a valley alike, which moves no optimum; what is left over when that level and the mean over
seeds at each LR are taken out is noise. Models of one size are noisy alike whatever the rule of transfer, and larger
ones less so than small ones; but a few seeds tell a variance badly. So the variance of a level is its own, pooled with
that of the whole study as if that had been found at the level with `WORTH` degrees of freedom; levels of one seed are
given the study's, and `lehr.peaklr.valley.NOISE` stands where nothing was repeated.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from lehr.peaklr.study_table import StudyRow
from lehr.peaklr.valley import NOISE

WORTH = 4.0  # as the known noise of a valley is worth (`lehr.peaklr.valley`); fixed beforehand


@dataclass(frozen=True)
class Noise:
    """Standard deviation of a final loss about the level of its seed, as a share of the loss.

    Parameters
    ----------
    study : of all repeated valleys together.
    own : of levels with repeated seeds, by axis and level.
    """

    study: float
    own: Mapping[tuple[str, int], float]

    def at(self, axis: str, level: int) -> float:
        """The noise at a level of an axis."""
        return self.own.get((axis, level), self.study)


def measure_noise(rows: Iterable[StudyRow]) -> Noise:
    """Measure the noise of one study by all of its trainings."""
    valleys: dict[tuple[str, int, str], list[StudyRow]] = {}
    for row in rows:
        valleys.setdefault((row.axis, row.level, row.rule), []).append(row)
    squares: dict[tuple[str, int], float] = {}
    freedom: dict[tuple[str, int], int] = {}
    for (axis, level, _), valley in valleys.items():
        table = _by_seed(valley)
        if min(table.shape) < 2:
            continue
        share = table / table.mean()
        left = share - share.mean(axis=0) - share.mean(axis=1, keepdims=True) + 1
        squares[axis, level] = squares.get((axis, level), 0.0) + float(np.sum(left**2))
        freedom[axis, level] = freedom.get((axis, level), 0) + (table.shape[0] - 1) * (table.shape[1] - 1)
    if not freedom:
        return Noise(NOISE, {})
    whole = sum(squares.values()) / sum(freedom.values())
    own = {at: math.sqrt((squares[at] + WORTH * whole) / (freedom[at] + WORTH)) for at in freedom}
    return Noise(math.sqrt(whole), own)


def _by_seed(rows: Sequence[StudyRow]) -> np.ndarray:
    """Losses of a valley, (LRs, seeds), of the LRs at which every seed ended."""
    losses = {(row.lr, row.seed): row.loss for row in rows if not math.isnan(row.loss)}
    seeds = sorted({seed for _, seed in losses})
    whole = [lr for lr in sorted({lr for lr, _ in losses}) if all((lr, seed) in losses for seed in seeds)]
    return np.array([[losses[lr, seed] for seed in seeds] for lr in whole]).reshape(len(whole), len(seeds))
