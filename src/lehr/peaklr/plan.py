"""The next runs of a planned sweep, what is known of the target's LR so far, and whether to stop."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, bad
from lehr.peaklr.law import LrPrediction
from lehr.peaklr.levels import levels_of
from lehr.peaklr.plan_question import FEWEST, PlanQuestion, trunk_flops, trunk_numbers
from lehr.peaklr.posterior import Posterior, fit_posterior
from lehr.peaklr.prior import Prior, make_prior
from lehr.peaklr.propose import may_run, propose
from lehr.peaklr.table import SweepTable, merge
from lehr.peaklr.valley import NEAR, WILD
from lehr.quantiles import normal_half

ROUNDS = 8  # looks at the results that the budget is spread over
MOST_AT_ONCE = 64  # runs
LEVEL = 0.9
FAR_TARGET = 10.0  # times beyond the runs, which is remarked
SURPRISING = 3.0  # standard deviations of the prior
SCATTERED = 4.0  # variance of the results about the surface, in units of that expected


@dataclass(frozen=True)
class PlannedRun:
    """A run to do: a trunk at constant LR from which it cools down.

    Parameters
    ----------
    params, active, tokens, batch : of the run; `active` is `params` if dense, the batch None if not told.
    lr : peak LR.
    trunk : number of the trunk; runs of one size, batch and LR share it.
    branch : tokens at which the cooldown begins; 0 where runs share no trunk.
    flops : that it adds.
    """

    params: float
    active: float
    tokens: float
    batch: float | None
    lr: float
    trunk: int
    branch: float
    flops: float


@dataclass(frozen=True)
class Plan:
    """What to do next.

    Parameters
    ----------
    runs : the next ones, by trunk; empty where the sweep should stop.
    stop : why it should: "budget", "tolerance", "interval" or "exhausted"; None while it should not.
    reason : the same in words; empty while it should not.
    prediction : best peak LR of the target by now, with the interval of its own optimum.
    law_low, law_high : interval of the law's own error alone.
    excess, excess_after : expected loss by that error now, and after the runs (or the best that were left), nats.
    done_runs, done_flops : so far.
    flops : of `runs`.
    grid_runs, grid_flops : of all sizes, tokens, batches and LRs, runs that share no trunk.
    remarks : what to be wary of.
    """

    runs: tuple[PlannedRun, ...]
    stop: str | None
    reason: str
    prediction: LrPrediction
    law_low: float
    law_high: float
    excess: float
    excess_after: float
    done_runs: int
    done_flops: float
    flops: float
    grid_runs: int
    grid_flops: float
    remarks: tuple[str, ...] = ()


def plan_runs(
    question: PlanQuestion, results: SweepTable | None = None, at_once: int | None = None, seed: int = 0
) -> Plan:
    """Propose the next runs by what those done told.

    Parameters
    ----------
    question : what is planned.
    results : runs that ended; None at the beginning.
    at_once : number of runs to propose, at least `FEWEST`; default a `ROUNDS`-th of the budget.
    seed : of the draws over which gains are averaged.

    Raises
    ------
    InputError
        If results are of no size, number of tokens or batch of the plan, or contradict each other.
    """
    if at_once is not None and at_once < FEWEST:
        raise bad(
            "at_once", f"must be at least {FEWEST}: one run alone tells no optimum", at_once, "ask for more"
        )
    prior = make_prior(question.cells(), question.prior, question.target, question.prior_factor)
    done = None if results is None else check_results(question, results)
    posterior = fit_posterior(prior, done)
    candidates = question.candidates(prior, posterior)
    spent = _spent(question, done)
    left = question.budget - spent
    if question.budget_runs is not None:
        most = min(at_once or max(question.fewest, math.ceil(question.budget / ROUNDS)), int(max(left, 0)))
        room = left
    else:
        most = at_once or MOST_AT_ONCE
        room = left if at_once else min(left, max(question.cheapest, question.budget / ROUNDS))
    costs = question.costs(candidates, done)
    found = propose(posterior, done, candidates, question.target, costs, room, most, seed)
    affordable = bool(np.any(may_run(done, candidates) & (costs([]) <= left)))
    excess = posterior.expected_excess(question.target)
    after = posterior.expected_excess(question.target, found.variance)
    half = _half(posterior, question)
    stop, reason = _stop(question, found.picked, affordable, excess - after, math.exp(half))
    prediction = posterior.predict(question.target, LEVEL)
    picked = () if stop else found.picked
    runs = planned_runs(question, candidates, done, picked)
    grid = question.candidates(prior)
    return Plan(
        runs, stop, reason, prediction, prediction.lr * math.exp(-half), prediction.lr * math.exp(half), excess, after,
        0 if done is None else len(done), question.flops(done), sum(run.flops for run in runs), len(grid),
        sum(trunk_flops(n, [d], 1.0) for n, d in zip(grid.active.tolist(), grid.tokens.tolist(), strict=True)),
        _remarks(question, prior, posterior),
    )  # fmt: skip


def _spent(question: PlanQuestion, done: SweepTable | None) -> float:
    """Cost of the runs done, in the unit of the budget."""
    if question.budget_runs is not None:
        return 0.0 if done is None else float(len(done))
    return question.flops(done)


def _half(posterior: Posterior, question: PlanQuestion) -> float:
    """Half of the interval of ln LR by the law's own error."""
    return normal_half(LEVEL) * math.sqrt(posterior.variance(question.target))


def _stop(
    question: PlanQuestion, picked: tuple[int, ...], affordable: bool, gain: float, factor: float
) -> tuple[str | None, str]:
    """Tell whether to stop, by a word and in words."""
    unit = "runs" if question.budget_runs is not None else "FLOPs"
    if not affordable:
        return (
            "budget",
            f"the budget of {question.budget:.4g} {unit} is spent: what is left pays for no further run",
        )
    if not picked:
        return "exhausted", "no run of the plan that may still be done tells more of the target"
    if question.within is not None and factor <= question.within:
        return "interval", f"the law's LR is known to a factor of {factor:.3g} at {LEVEL:.0%}, as asked"
    if gain < question.tolerance:
        return "tolerance", (
            f"the next {len(picked)} runs are expected to lower the excess loss by {max(gain, 0):.2g} nats, less than "
            f"the tolerance of {question.tolerance:g}"
        )
    return None, ""


def planned_runs(
    question: PlanQuestion, candidates: SweepTable, done: SweepTable | None, picked: tuple[int, ...]
) -> tuple[PlannedRun, ...]:
    """Lay the runs picked out by trunk, shortest first, each charged with what it adds."""
    if not picked:
        return ()
    chosen = candidates.select(np.array(picked))
    batch = np.zeros(len(chosen)) if chosen.batch_tokens is None else chosen.batch_tokens
    order = np.lexsort((chosen.tokens, chosen.lr, batch, chosen.active, chosen.params))
    chosen = chosen.select(order)
    runs = chosen if done is None else merge([done, chosen])
    trunk, first = trunk_numbers(runs), len(runs) - len(chosen)
    labels: dict[int, int] = {}
    out = []
    for row in range(first, len(runs)):
        before = runs.tokens[:row][trunk[:row] == trunk[row]].tolist()
        size, tokens = float(runs.active[row]), float(runs.tokens[row])
        flops = trunk_flops(size, [*before, tokens], question.cooldown)
        flops -= trunk_flops(size, before, question.cooldown) if before else 0.0
        out.append(
            PlannedRun(
                float(runs.params[row]), size, tokens,
                None if runs.batch_tokens is None else float(runs.batch_tokens[row]), float(runs.lr[row]),
                labels.setdefault(int(trunk[row]), len(labels) + 1), (1 - question.cooldown) * tokens, flops,
            )
        )  # fmt: skip
    return tuple(out)


def check_results(question: PlanQuestion, results: SweepTable) -> SweepTable:
    """Refuse results that do not belong to the plan or contradict each other; drop a batch that does not vary."""
    if question.batches and results.batch_tokens is None:
        raise InputError("the plan has batch sizes but the results tell none: give their column.")
    if question.active and results.active_params is None:
        raise InputError("the plan has active parameters but the results tell none: give their column.")
    told = [
        ("size", results.params, question.params, "--params"),
        ("number of tokens", results.tokens, question.tokens, "--tokens"),
    ]
    if question.active:
        told.append(("active size", results.active, question.active, "--active-params"))
    if question.batches and results.batch_tokens is not None:
        told.append(("batch size", results.batch_tokens, question.batches, "--batch"))
    elif results.batch_tokens is not None and np.unique(levels_of(results.batch_tokens)).size > 1:
        raise InputError("the results have several batch sizes: list them (--batch), and that of the target.")
    for name, values, planned, option in told:
        off = np.abs(np.log(values[:, None] / np.array(planned))).min(axis=1) > np.log(1.02)
        if off.any():
            row = int(np.argmax(off))
            listed = ", ".join(f"{value:.4g}" for value in planned)
            raise InputError(
                f"{results.names[row]}: its {name} {values[row]:.4g} is none of the plan's ({listed}): "
                f"add it to {option} or leave the row out."
            )
    if not question.active and results.active_params is not None and np.any(results.active < results.params):
        raise InputError(
            "the results have active parameters but the plan tells none: give them (--active-params)."
        )
    kept = SweepTable(
        results.lr, results.loss, results.params, results.tokens, results.active_params if question.active else None,
        results.batch_tokens if question.batches else None, results.names,
    )  # fmt: skip
    _check_repeats(kept)
    return kept


def _check_repeats(results: SweepTable) -> None:
    """Refuse runs of one cell and LR that differ by more than noise, where that matters."""
    cell, level = results.group_numbers(by_batch=True), levels_of(results.lr)
    for number in np.unique(cell):
        rows = np.flatnonzero((cell == number) & np.isfinite(results.loss))
        rows = rows[np.lexsort((results.loss[rows], level[rows]))]
        for one, other in zip(rows[:-1], rows[1:], strict=True):
            low, high = results.loss[one], results.loss[other]
            if (
                level[one] == level[other]
                and high > low * (1 + WILD)
                and low < results.loss[rows].min() + NEAR
            ):
                raise InputError(
                    f"{results.names[one]} and {results.names[other]} have one size, number of tokens, batch and LR "
                    f"{results.lr[one]:.4g} but end at {low:.4f} and {high:.4f} nats, which is no noise: leave one out."
                )


def _remarks(question: PlanQuestion, prior: Prior, posterior: Posterior) -> tuple[str, ...]:
    """What to be wary of."""
    out = []
    target = question.target
    for name, values, value in (
        ("size", question.active or question.params, target.used), ("tokens", question.tokens, target.tokens),
    ):  # fmt: skip
        if value > FAR_TARGET * max(values):
            out.append(
                f"{name} of the target: {value / max(values):.0f} times the largest of the plan, far out for any law"
            )
    if posterior.runs:
        place = prior.logs_of(question.target)
        moved = float(prior.location(posterior.mean, place)[0] - prior.location(prior.mean, place)[0])
        before = fit_posterior(prior, None).variance(question.target)
        if abs(moved) > SURPRISING * math.sqrt(before):
            out.append(
                f"the results put the LR {math.exp(abs(moved)):.2g} times "
                f"{'above' if moved > 0 else 'below'} the prior's"
            )
        if posterior.misfit > SCATTERED:
            out.append(
                f"the results scatter {math.sqrt(posterior.misfit):.1f} times as widely about one surface as final "
                "losses do: look for runs that differ in another setting"
            )
    return tuple(out)
