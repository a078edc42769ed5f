"""Runs that could be added within a budget: single WSD runs, and trunks with cooldowns that branch from them.

Cooldowns are cheap: those of ratios .2 and .6 that end at the same step cost 1.6 times that many
updates with their trunk, and 2 times as runs of their own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from lehr.errors import bad
from lehr.fit.result import Domain
from lehr.schedule.families import constant, wsd
from lehr.schedule.schedule import Schedule
from lehr.schedule.spec import to_text

RATIOS = (0.0, 0.1, 0.2, 0.4, 0.6, 0.8)  # of single runs; 0 is a constant LR
COOLDOWNS = ((0.2, 0.6), (0.1, 0.3, 0.6))  # ratios of the cooldowns of one trunk, all ending at one step
SHARES = (1.0, 0.5, 0.25)  # of the budget that a plan costs
SHORTER = 8  # runs more than so many times shorter than the planned one are tried with the whole budget only
ALIKE = 1.1  # peak LRs closer than this factor are tried as one
SHORTEST = 50  # updates; shorter runs than these tell nothing


@dataclass(frozen=True)
class Part:
    """One run of a plan.

    Parameters
    ----------
    schedule : of its whole life, the trunk's past included.
    first : updates that are the trunk's; its own come later. 0 for a run of its own.
    """

    schedule: Schedule
    first: int = 0


@dataclass(frozen=True)
class Plan:
    """Runs to be added together; `cost` is in updates to train, the trunk's counted once."""

    parts: tuple[Part, ...]

    @property
    def cost(self) -> int:
        """Updates to train."""
        return sum(part.schedule.steps - part.first for part in self.parts)

    @property
    def specs(self) -> tuple[str, ...]:
        """Text of each schedule, as `--schedule` takes it."""
        return tuple(to_text(part.schedule) for part in self.parts)


def make_plans(domain: Domain, steps: int, peak: float, budget: int) -> tuple[Plan, ...]:
    """Plans of at most `budget` updates towards a run of `steps` updates at `peak`.

    Their peak LRs are those of the fitted runs (lowest and highest), that of the planned run and a half of it;
    none is longer than the planned run.

    Raises
    ------
    InputError
        If the budget has no room for a run, or the peak LR is not above 0.
    """
    if not 0 < peak < math.inf:
        raise bad("peak", "must be above 0", peak, "give the peak LR of the planned run")
    warmup = max(1, domain.warmup)
    least = max(SHORTEST, 4 * warmup, 2 * domain.burn_in)
    if budget < least:
        raise bad(
            "budget",
            f"must be at least {least} updates, four times the warm-up and twice the burn-in",
            budget,
            "allow a longer run",
        )
    plans = []
    for lr in _apart([domain.peak_lr[0], domain.peak_lr[1], peak, peak / 2]):
        for share in SHARES:
            shortest = least if share == 1 else max(least, steps / SHORTER)
            length = min(_round(share * budget), steps)
            if length >= shortest:
                plans += [_single(length, lr, warmup, ratio) for ratio in RATIOS]
            for ratios in COOLDOWNS:
                end = min(_round(share * budget / (1 - min(ratios) + sum(ratios))), steps)
                if end * (1 - max(ratios)) >= 2 * warmup and end >= shortest:
                    plans.append(_trunk(end, lr, warmup, ratios))
    return tuple({plan.specs: plan for plan in plans if plan.cost <= budget}.values())


def _single(steps: int, peak: float, warmup: int, ratio: float) -> Plan:
    if not ratio:
        return Plan((Part(constant(steps=steps, peak=peak, warmup=warmup)),))
    return Plan((Part(wsd(steps=steps, peak=peak, warmup=warmup, decay=round(ratio * steps))),))


def _trunk(end: int, peak: float, warmup: int, ratios: tuple[float, ...]) -> Plan:
    decays = [round(ratio * end) for ratio in ratios]
    trunk = Part(constant(steps=end - min(decays), peak=peak, warmup=warmup))
    cooldowns = [Part(wsd(steps=end, peak=peak, warmup=warmup, decay=d), end - d) for d in decays]
    return Plan((trunk, *cooldowns))


def _apart(rates: list[float]) -> list[float]:
    """The given LRs, later ones that nearly equal an earlier one left out, in increasing order."""
    kept: list[float] = []
    for rate in rates:
        if all(abs(math.log(rate / other)) > math.log(ALIKE) for other in kept):
            kept.append(rate)
    return sorted(kept)


def _round(steps: float) -> int:
    """`steps` with two digits, rounded down."""
    unit = 10 ** max(0, int(math.log10(max(steps, 1))) - 1)
    return int(steps // unit) * unit
