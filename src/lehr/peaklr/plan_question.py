"""What a sweep is planned for: the runs that could be done, what they cost, the target and the budget.

Runs of one size, batch and LR are cooldowns from one trunk at constant LR (WSD): annealed from several points of it
they tell the loss at several numbers of tokens for little more than the longest costs. So n sizes, C_D numbers of
tokens and C_eta LRs cost O(n C_D C_eta) runs in place of the O(n^3) of a grid (arXiv 2601.05049).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, bad, unknown
from lehr.peaklr.levels import levels_of
from lehr.peaklr.location import VARIED
from lehr.peaklr.posterior import Posterior
from lehr.peaklr.prior import PRIOR_FACTOR, Prior
from lehr.peaklr.propose import Costs
from lehr.peaklr.published import COMPUTE_PER_TOKEN, LAWS, Planned
from lehr.peaklr.table import SweepTable, merge

FARTHEST = 100.0  # times beyond the largest run that a target may lie
SAME = 1.02
REACH = 4  # steps of the LR on either side of the prior that make the full grid
FEWEST = 3  # runs for each thing that varies
COOLDOWN = 0.2


@dataclass(frozen=True)
class PlanQuestion:
    """A sweep to plan.

    Parameters
    ----------
    params : sizes that can be trained, parameters but embeddings, of all experts.
    tokens : numbers of tokens that they can be trained on.
    target : the planned run whose peak LR is asked for.
    budget_runs, budget_flops : what all runs may cost, those done included; one of the two.
    batches : batch sizes that can be used, tokens; empty if all runs and the target share one.
    active : parameters a token passes through, for each of `params`; empty if dense.
    prior : name of a published law, or the LR held best at the target.
    prior_factor : by which the prior may be wrong, one standard deviation.
    cooldown : share of a run that its cooldown takes; 1 if runs share no trunk, as under a cosine.
    lr_step : factor between neighbouring LRs.
    tolerance : stop where the next runs are expected to lower the excess loss by less, nats.
    within : stop where the LR is known to this factor either way, by the interval of the law's own error; None: never.

    Raises
    ------
    InputError
        If a number makes no sense, the budget buys too little, or no such sweep can tell of the target.
    """

    params: tuple[float, ...]
    tokens: tuple[float, ...]
    target: Planned
    budget_runs: int | None = None
    budget_flops: float | None = None
    batches: tuple[float, ...] = ()
    active: tuple[float, ...] = ()
    prior: str | float = "deepseek"
    prior_factor: float = PRIOR_FACTOR
    cooldown: float = COOLDOWN
    lr_step: float = math.sqrt(2)
    tolerance: float = 1e-4
    within: float | None = None

    def __post_init__(self) -> None:
        """Check every number, the target and the budget."""
        self._check_lists()
        self._check_numbers()
        self._check_target()
        self._check_budget()

    def _check_lists(self) -> None:
        for name, values in (
            ("params", self.params),
            ("tokens", self.tokens),
            ("batch", self.batches),
            ("active", self.active),
        ):
            if not values and name in ("params", "tokens"):
                raise bad(name, "must list what can be run", values, "give one value or more")
            for value in values:
                if not 0 < value < math.inf:
                    raise bad(name, "must be above 0", value, "give finite counts")
            if name != "active" and values and np.unique(levels_of(np.array(values))).size < len(values):
                raise bad(name, "must differ by 2 % or more", values, "give each once")
        if self.active and len(self.active) != len(self.params):
            raise bad(
                "active", f"must pair with the {len(self.params)} sizes", self.active, "give one for each"
            )
        for size, used in zip(self.params, self.active, strict=False):
            if used > size:
                raise bad("active", f"must not exceed the {size:g} parameters", used, "swap the two lists")

    def _check_numbers(self) -> None:
        if isinstance(self.prior, str):
            known = [name for name, law in LAWS.items() if law.lr.prefactor is not None]
            if self.prior not in LAWS:
                raise unknown("published law", self.prior, known)
            if self.prior not in known:
                raise bad(
                    "prior",
                    "must be a law that gives an LR by itself",
                    self.prior,
                    "give an LR, or " + known[0],
                )
        elif not 0 < self.prior < math.inf:
            raise bad("prior", "must be above 0", self.prior, "give the LR that you would take")
        for name, value, low, high in (
            ("prior_factor", self.prior_factor, 1.5, 100.0), ("lr_step", self.lr_step, 1.05, 4.0),
            ("within", 2.0 if self.within is None else self.within, 1.01, 100.0),
        ):  # fmt: skip
            if not low <= value <= high:
                raise bad(name, f"must be a factor of {low:g} to {high:g}", value, "give one")
        if not 0 < self.cooldown <= 1:
            raise bad(
                "cooldown",
                "must be a share of a run, above 0 and at most 1",
                self.cooldown,
                "give one such as 0.2",
            )
        if not 0 < self.tolerance < 1:
            raise bad("tolerance", "must lie between 0 and 1 nats", self.tolerance, "give one such as 1e-4")

    def _check_target(self) -> None:
        asked = (
            ("size", self.active or self.params, self.target.used),
            ("number of tokens", self.tokens, self.target.tokens),
            ("batch size", self.batches, self.target.batch),
        )
        for name, values, value in asked:
            if value is None:
                if len(values) > 1:
                    raise InputError(
                        "the plan has several batch sizes: give that of the target (--target-batch)."
                    )
                continue
            if name == "batch size" and not values:
                raise bad("batch of the target", "needs those of the runs", value, "give them (--batch)")
            low, high = min(values), max(values)
            if not low / FARTHEST <= value <= high * FARTHEST:
                raise bad(
                    f"{name} of the target", f"must lie within {FARTHEST:g} times of {low:.3g} to {high:.3g}", value,
                    "plan larger runs, or ask for a nearer target",
                )  # fmt: skip
            if high / low < VARIED and not high / SAME <= value <= low * SAME:
                raise InputError(
                    f"all runs of the plan share one {name}, {high:.3g}, but the target has {value:.3g}: they cannot "
                    f"tell how the LR moves with it; give another {name} {VARIED:g} times as large or more."
                )

    def _check_budget(self) -> None:
        if (self.budget_runs is None) == (self.budget_flops is None):
            raise InputError("give one budget, in runs or in FLOPs (--budget-runs or --budget-flops).")
        budget = self.budget
        if not 0 < budget < math.inf:
            raise bad("budget", "must be above 0", budget, "give what all runs may cost")
        if self.budget_runs is not None and budget < self.fewest:
            raise bad(
                "budget_runs", f"must be at least {self.fewest}, {FEWEST} and {FEWEST} for each of size, tokens and "
                "batch that varies", self.budget_runs, "give more, or let less vary",
            )  # fmt: skip
        if self.budget_flops is not None and budget < self.cheapest:
            raise bad(
                "budget_flops", f"must be at least {self.cheapest:.3g}, the cost of the {self.fewest} cheapest runs "
                "that tell anything", self.budget_flops, "give more, or smaller sizes and fewer tokens",
            )  # fmt: skip

    @property
    def budget(self) -> float:
        """What all runs may cost, in runs or FLOPs."""
        return float((self.budget_flops if self.budget_runs is None else self.budget_runs) or 0)

    @property
    def fewest(self) -> int:
        """Runs without which the target's LR is the prior's."""
        lists = (self.active or self.params, self.tokens, self.batches)
        return FEWEST * (1 + sum(len(values) > 1 and max(values) / min(values) >= VARIED for values in lists))

    @property
    def cheapest(self) -> float:
        """FLOPs of the cheapest such runs: three LRs where all is least, and at the next of each that varies."""
        used, tokens = sorted(self.active or self.params), sorted(self.tokens)
        pieces = [(used[0], (tokens[:2]))] + [(used[1], tokens[:1])] * (len(used) > 1)
        pieces += [(used[0], tokens[:1])] * (len(self.batches) > 1)
        return FEWEST * sum(trunk_flops(size, counts, self.cooldown) for size, counts in pieces)

    def cells(self) -> SweepTable:
        """All sizes, numbers of tokens and batch sizes once, at an LR of 1."""
        sizes = list(zip(self.params, self.active or self.params, strict=True))
        rows = list(itertools.product(sizes, self.tokens, self.batches or (1.0,)))
        size, tokens, batch = zip(*rows, strict=True)
        params, active = np.array(size).T
        ones = np.ones(len(rows))
        return SweepTable(
            ones, ones * np.nan, params, np.array(tokens), active if self.active else None,
            np.array(batch) if self.batches else None,
        )  # fmt: skip

    def candidates(self, prior: Prior, posterior: Posterior | None = None) -> SweepTable:
        """All runs that could be done: every cell at `REACH` steps of the LR about its prior, and its likely best.

        All LRs are on one ladder through the prior's at the target, so that trunks are shared.
        """
        cells, step = self.cells(), math.log(self.lr_step)
        logs = prior.logs(cells)
        anchor = float(prior.location(prior.mean, prior.logs_of(self.target))[0])
        places = [prior.location(prior.mean, logs)]
        if posterior is not None:
            places.append(prior.location(posterior.mean, logs))
        rung = np.round((np.stack(places) - anchor) / step).astype(int)
        low, high = rung.min(axis=0) - REACH, rung.max(axis=0) + REACH
        row = np.repeat(np.arange(len(cells)), high - low + 1)
        place = np.concatenate([np.arange(a, b + 1) for a, b in zip(low, high, strict=True)])
        runs = cells.select(row)
        return SweepTable(
            np.exp(anchor + place * step),
            runs.loss,
            runs.params,
            runs.tokens,
            runs.active_params,
            runs.batch_tokens,
        )

    def costs(self, candidates: SweepTable, done: SweepTable | None) -> Costs:
        """Cost of every candidate, after those done and those picked: 1, or the FLOPs that it adds to its trunk."""
        if self.budget_runs is not None:
            return lambda _: np.ones(len(candidates))
        runs = candidates if done is None else merge([done, candidates])
        trunk, first = trunk_numbers(runs), len(runs) - len(candidates)

        def cost(picked: list[int]) -> np.ndarray:
            reached = np.zeros(int(trunk.max()) + 1)
            for number in [*range(first), *(first + number for number in picked)]:
                reached[trunk[number]] = max(reached[trunk[number]], runs.tokens[number])
            further = np.maximum(candidates.tokens - reached[trunk[first:]], 0.0)
            updates = (1 - self.cooldown) * further + self.cooldown * candidates.tokens
            return COMPUTE_PER_TOKEN * candidates.active * updates

        return cost

    def flops(self, runs: SweepTable | None) -> float:
        """FLOPs of runs as cooldowns from shared trunks."""
        if runs is None:
            return 0.0
        trunk = trunk_numbers(runs)
        return sum(
            trunk_flops(
                float(runs.active[trunk == number][0]), runs.tokens[trunk == number].tolist(), self.cooldown
            )
            for number in np.unique(trunk)
        )


def trunk_flops(active: float, tokens: list[float], cooldown: float) -> float:
    """FLOPs of a trunk with a cooldown to each of `tokens`: 6 N tokens, the trunk up to where the last one branches."""
    return COMPUTE_PER_TOKEN * active * ((1 - cooldown) * max(tokens) + cooldown * sum(tokens))


def trunk_numbers(runs: SweepTable) -> np.ndarray:
    """Number of the trunk of each run, shape (n,): runs of one size, batch and LR share it."""
    columns = [runs.active, runs.params, runs.lr]
    if runs.batch_tokens is not None:
        columns.append(runs.batch_tokens)
    keys = np.stack([levels_of(column) for column in columns], axis=1)
    return np.unique(keys, axis=0, return_inverse=True)[1].reshape(-1)
