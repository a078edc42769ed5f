"""Which runs to do next: those that are expected to lower the excess loss at the target the most for their cost.

Runs are picked one after another. What a run tells does not depend on the loss it will have but on where it lies on its
valley: a first run of a cell only fixes the cell's lowest loss, two on its flanks tell the optimum. So pairs of one
cell are weighed beside single runs, and as the optimum is not known, the gain is averaged over draws of what it may be
(expected reduction of the variance of a linearised model: Chaloner & Verdinelli, Statistical Science 10, 1995).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lehr.peaklr.posterior import FLAT, Posterior, bottoms_of, scatter_at, slots_of
from lehr.peaklr.prior import location_slope, slopes_of
from lehr.peaklr.published import Planned
from lehr.peaklr.surface import NOISE_FACTOR
from lehr.peaklr.table import SweepTable, merge
from lehr.peaklr.valley import FORM_ERROR, NOISE

DRAWS = 12
LEVEL = 2.5  # nats: loss at the bottom where none is known yet, of which the noise is a share

Costs = Callable[[list[int]], np.ndarray]
"""What each run would cost after the runs picked so far, shape (n,)."""


@dataclass(frozen=True)
class Proposal:
    """Runs picked.

    Parameters
    ----------
    picked : their numbers among the candidates, in the order of their use.
    cost : of all, in the unit of the costs.
    variance : of ln LR_opt at the target after them, by the error of the law alone.
    """

    picked: tuple[int, ...]
    cost: float
    variance: float


def propose(
    posterior: Posterior, done: SweepTable | None, candidates: SweepTable, target: Planned, costs: Costs, budget: float,
    most: int | None = None, seed: int = 0,
) -> Proposal:  # fmt: skip
    """Pick the next runs.

    Parameters
    ----------
    posterior : what is known, by the runs `done`.
    done : runs that ended; None at the beginning.
    candidates : runs that could be done; their losses are not read. None is proposed that is done already, nor at or
        above an LR that diverged at its size and batch.
    target : the run whose LR is asked for.
    costs : of the candidates.
    budget : what the runs picked may cost together.
    most : number of runs at most.
    seed : of the draws.
    """
    design = _Design(posterior, done, candidates, target, seed)
    before = design.variance()
    picked: list[int] = []
    spent = 0.0
    while most is None or len(picked) < most:
        cost = costs(picked)
        room = len(candidates) if most is None else most - len(picked)
        best = design.best(cost, budget - spent, pairs=room > 1)
        if not best:
            break
        for number in best:
            spent += float(costs(picked)[number])
            picked.append(number)
            design.take(number)
    # draws differ in their linearisation: only the ratio is taken from them
    return Proposal(tuple(picked), spent, posterior.variance(target) * design.variance() / before)


class _Design:
    """Covariances of the parameters, and slopes of the runs left, for draws of the parameters.

    Runs lie in arrays (draws, cells, slots): those done first, then the candidates.
    """

    def __init__(
        self,
        posterior: Posterior,
        done: SweepTable | None,
        candidates: SweepTable,
        target: Planned,
        seed: int,
    ) -> None:
        unseen = SweepTable(
            candidates.lr, np.full(len(candidates), np.nan), candidates.params, candidates.tokens,
            candidates.active_params, candidates.batch_tokens,
        )  # fmt: skip
        runs = unseen if done is None else merge([done, unseen])
        first = 0 if done is None else len(done)
        cell = runs.group_numbers(by_batch=True)
        slot = slots_of(cell)
        self.place = list(zip(cell.tolist(), slot.tolist(), strict=True))
        shape = (int(cell.max()) + 1, int(slot.max()) + 1)
        self.open = np.zeros(shape, dtype=bool)
        self.open[cell[first:], slot[first:]] = may_run(done, candidates)
        self.number = np.full(shape, -1)
        self.number[cell, slot] = np.arange(cell.size) - first
        level = LEVEL if done is None or done.diverged.all() else float(np.nanmin(done.loss))
        self._linearise(posterior, runs, (cell, slot), target, NOISE_FACTOR * NOISE * level, seed)
        for place in self.place[:first]:
            self._condition(place)
        self.place = self.place[first:]

    def _linearise(
        self, posterior: Posterior, runs: SweepTable, at_slots: tuple[np.ndarray, np.ndarray], target: Planned,
        base: float, seed: int,
    ) -> None:  # fmt: skip
        """Slopes and noise of all runs at draws of the parameters."""
        prior, lr, logs = posterior.prior, np.log(runs.lr), posterior.prior.logs(runs)
        generator = np.random.default_rng(seed)
        draws = generator.multivariate_normal(posterior.mean, posterior.covariance, DRAWS, method="eigh")
        cell, slot = at_slots
        shape = self.open.shape
        self.sigma = np.repeat(posterior.covariance[None], DRAWS, axis=0)
        self.slope = np.zeros((DRAWS, *shape, posterior.mean.size))
        self.spread = np.zeros((DRAWS, *shape, shape[1]))
        ask = prior.logs_of(target)
        self.ask = np.stack([location_slope(prior, at, ask) for at in draws])
        self.bend = np.array([prior.bend(at, ask)[0] for at in draws])
        every, bottom = np.arange(shape[1]), bottoms_of(runs)
        for draw, at in enumerate(draws):
            self.slope[draw, cell, slot] = prior.jacobian(at, logs, lr)
            shift = np.zeros(shape)
            shift[cell, slot] = scatter_at(bottom) * slopes_of(prior, at, logs, lr)
            noise = np.ones(shape)
            noise[cell, slot] = base**2 + (FORM_ERROR * (prior.height(at, logs, lr) + bottom)) ** 2
            self.spread[draw] = FLAT**2 + shift[:, :, None] * shift[:, None, :]
            self.spread[draw][:, every, every] += noise

    def variance(self) -> float:
        """Mean over the draws of the variance at the target, by the curvature there."""
        at = np.einsum("mp,mpq,mq->m", self.ask, self.sigma, self.ask)
        return float(self.bend @ at / self.bend.sum())

    def best(self, cost: np.ndarray, budget: float, pairs: bool) -> list[int]:
        """Numbers of the one or two runs of the largest gain for their cost; none if none helps or can be paid."""
        toward = np.einsum("mpq,mq->mp", self.sigma, self.ask)
        gain = np.einsum("mcsp,mp->mcs", self.slope, toward)
        total = self.spread + (self.slope @ self.sigma[:, None]) @ self.slope.swapaxes(2, 3)
        price = np.where(self.open, cost[self.number], np.inf)
        own = np.einsum("mcss->mcs", total)
        own = np.where(self.open, own, 1.0)
        weight = self.bend / self.bend.sum()
        single = np.einsum("m,mcs->cs", weight, np.where(self.open, gain**2 / own, 0.0))
        single = np.where(price <= budget, single / price, 0.0)
        place = np.unravel_index(int(np.argmax(single)), single.shape)
        chosen, value = [int(self.number[place])], float(single[place])
        if pairs:
            both = price[:, :, None] + price[:, None, :]
            both[:, np.arange(price.shape[1]), np.arange(price.shape[1])] = np.inf
            open_pair = np.isfinite(both) & (both <= budget)
            one, other = gain[..., :, None], gain[..., None, :]
            across = own[..., :, None] * own[..., None, :] - total**2
            double = (
                one**2 * own[..., None, :] - 2 * one * other * total + other**2 * own[..., :, None]
            ) / np.where(open_pair & (across > 0), across, np.inf)
            double = np.where(open_pair, np.einsum("m,mcst->cst", weight, double) / both, 0.0)
            found = np.unravel_index(int(np.argmax(double)), double.shape)
            if double[found] > value:
                chosen = [int(self.number[found[0], found[1]]), int(self.number[found[0], found[2]])]
                value = float(double[found])
        return chosen if value > 0 else []

    def take(self, number: int) -> None:
        """Count a candidate as run."""
        cell, slot = self.place[number]
        slope = self.slope[:, cell, slot]
        across = np.einsum("mpq,mq->mp", self.sigma, slope)
        total = self.spread[:, cell, slot, slot] + np.einsum("mp,mp->m", slope, across)
        self.sigma = self.sigma - across[:, :, None] * across[:, None, :] / total[:, None, None]
        self._condition((cell, slot))
        self.open[cell, slot] = False

    def _condition(self, place: tuple[int, int]) -> None:
        """Take out of the other runs of a cell what they share with one of it."""
        cell, slot = place
        spread = self.spread[:, cell]
        share = spread[:, :, slot] / spread[:, slot, slot][:, None]
        self.slope[:, cell] -= share[:, :, None] * self.slope[:, cell, slot][:, None, :]
        self.spread[:, cell] = spread - share[:, :, None] * spread[:, None, slot, :]
        # the run itself has nothing left to tell
        self.spread[:, cell, slot, slot] = 1.0


def may_run(done: SweepTable | None, candidates: SweepTable) -> np.ndarray:
    """Which candidates are neither done nor at or above an LR that diverged at their size and batch, shape (n,)."""
    if done is None:
        return np.ones(len(candidates), dtype=bool)
    runs = merge([done, candidates])
    first = len(done)
    level = np.round(np.log(runs.lr) / np.log(1.05)).astype(int)
    cell = runs.group_numbers(by_batch=True)
    seen = set(zip(cell[:first].tolist(), level[:first].tolist(), strict=True))
    fresh = np.array(
        [pair not in seen for pair in zip(cell[first:].tolist(), level[first:].tolist(), strict=True)]
    )
    lowest = np.full(len(candidates), np.inf)
    trunk = trunks_of(runs)
    for number in np.flatnonzero(done.diverged):
        same = trunk[first:] == trunk[number]
        lowest[same] = np.minimum(lowest[same], done.lr[number])
    return fresh & (candidates.lr < lowest * 0.99)


def trunks_of(runs: SweepTable) -> np.ndarray:
    """Number of the size and batch that each run has, shape (n,)."""
    same = SweepTable(
        runs.lr, runs.loss, runs.params, np.ones(len(runs)), runs.active_params, runs.batch_tokens, runs.names
    )
    return same.group_numbers(by_batch=True)
