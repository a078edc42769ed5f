"""When to start the decay of a run in progress: what each start costs, and how soon a target is reached.

The fit is first updated with the run's log (`lehr.fit.update`); the LR is held until the decay starts.

*With a deadline* the best start has the lowest predicted loss at the deadline; starting later or
earlier costs nats. *With a target* the best start reaches it in the fewest updates in all; the
others cost updates. Decaying long before the target is near wastes progress at a low LR, and
decaying late wastes updates at a high one: both have a valley.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from lehr.anneal.in_progress import Best, Continuation, Decay, check_open
from lehr.errors import InputError, bad
from lehr.fit.pooling import total_of
from lehr.fit.result import FitResult
from lehr.fit.update import Updated, update
from lehr.predict import outside, planned
from lehr.quantiles import normal_below, normal_half
from lehr.runs.run import Run
from lehr.schedule.schedule import Schedule
from lehr.schedule.shapes import check_shape

SHAPES = ("linear", "sqrt")
WAITS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)  # of what is left: starts shown beside the best
HORIZON = 2  # times the planned length, or the updates done if that is more
DRAWS, GRID_OF_DRAWS = 40, 12  # draws of the updated fit, and starts tried for each to get the interval
SURE = 1e-3  # no chance is said to be closer to 0 or 1: the bands are not known that far out
HELD = 0.999  # of the peak: an LR below it counts as decaying


@dataclass(frozen=True)
class DecayAdvice:
    """When to start the decay.

    Parameters
    ----------
    run, now, loss : name of the run, its updates done and last logged loss.
    deadline_steps, target_loss, horizon_steps : what was asked; None where it was not.
    best : the best decay; where the target is not reached, that with the lowest loss at the horizon.
    reached : whether it reaches the target, by the prediction itself; None with a deadline.
    low, high : interval of the best start (deadline) or of the total updates needed (target);
        None where the target may not be reached within the horizon.
    probability : of reaching the target within the horizon; None with a deadline.
    options : decays that start now and at later points.
    planned : the run's own schedule, if it goes on beyond now.
    updated : the fit updated with the log.
    warnings : what the advice rests on beyond the data.
    """

    run: str
    now: int
    loss: float
    deadline_steps: int | None
    target_loss: float | None
    horizon_steps: int
    best: Decay
    reached: bool | None
    low: float | None
    high: float | None
    probability: float | None
    options: tuple[Decay, ...]
    planned: Decay | None
    updated: Updated
    warnings: tuple[str, ...]


def recommend_decay(
    result: FitResult, run: Run, *, deadline: int | None = None, target: float | None = None,
    horizon: int | None = None, shapes: Sequence[str] = SHAPES, final: float = 0.0,
    weight_decay: float | None = None, level: float = 0.9,
) -> DecayAdvice:  # fmt: skip
    """Say when to start the decay of `run`.

    Parameters
    ----------
    result : a fit of other runs; with draws its bands are complete.
    run : the log so far, with its planned schedule.
    deadline : updates at which training must end; by default the planned end, if there is no target.
    target : loss to reach with as few updates as possible.
    horizon : updates within which the target must be reached; by default twice the planned length.
    shapes : decay shapes to choose among.
    final : LR at the end of the decay.
    weight_decay : of the run, for laws that ask; by default what the run tells, or the fitted runs.
    level : probability of the intervals.

    Raises
    ------
    InputError
        If the law has no annealing term, the log is too short, both or neither of deadline and
        target are given (and no end is planned), or they lie behind the run.
    """
    check_question(result, deadline, target, shapes, level)
    now = int(run.step[-1])
    if target is None and deadline is None:
        if run.steps <= now:
            raise InputError(
                f"run {run.name!r} has no plan beyond step {now}: give a deadline (--deadline-steps) or a target "
                "(--target-loss)."
            )
        deadline = run.steps
    for name, value in (("deadline", deadline), ("horizon", horizon)):
        if value is not None and value <= now:
            raise bad(
                name, f"must lie beyond the {now} updates that run {run.name!r} has done", value,
                "give the updates of the whole run, past ones included",
            )  # fmt: skip
    if weight_decay is None:
        told = run.meta.get("weight_decay")
        weight_decay = float(told) if isinstance(told, (int, float)) else None
    conditions = planned(result, run.schedule, run.params, run.batch_tokens, weight_decay, total_of(run))
    updated = update(result, run, conditions, DRAWS)
    ahead = Continuation(updated.result, conditions, now, tuple(shapes), final, level)
    check_open(ahead, run.name)
    if target is not None:
        _check_target(ahead, run, target)
    if deadline is not None:
        answer = _by_deadline(ahead, deadline)
    else:
        answer = _to_target(ahead, float(target or 0.0), horizon or HORIZON * max(run.steps, now))
    own = _as_planned(ahead, None if deadline is None else answer.best)
    return DecayAdvice(
        run=run.name, now=now, loss=float(run.loss[-1]), deadline_steps=deadline, target_loss=target,
        horizon_steps=deadline or horizon or HORIZON * max(run.steps, now), **answer._asdict(), planned=own,
        updated=updated, warnings=_warnings(ahead, answer.best.steps, result),
    )  # fmt: skip


class _Answer(NamedTuple):
    """What the two questions have in common, as in `DecayAdvice`."""

    best: Decay
    reached: bool | None
    low: float | None
    high: float | None
    probability: float | None
    options: tuple[Decay, ...]


def check_question(
    result: FitResult, deadline: int | None, target: float | None, shapes: Sequence[str], level: float
) -> None:
    """Refuse what no run could answer, as `recommend_decay` does.

    Raises
    ------
    InputError
        If the law has no annealing term, both a deadline and a target are given, or one of the
        arguments is none of its kind.
    """
    if not result.get_law().needs_anneal:
        raise InputError(
            f"law {result.law} has no annealing term, so it cannot tell what a decay gains: fit one that has, "
            "such as weight_norm."
        )
    if not 0 < level < 1:
        raise bad("level", "must lie between 0 and 1", level, "use e.g. 0.9")
    if not shapes:
        raise bad("shapes", "must name at least one decay shape", tuple(shapes), "use e.g. linear")
    for shape in shapes:
        check_shape(shape)
    if target is None:
        return
    if deadline is not None:
        raise InputError(
            "a deadline and a target were given: ask for one of them; a horizon bounds the search for a target."
        )
    if not 0 < target < float("inf"):
        raise bad("target", "must be a loss above 0", target, "give nats per token, as the log has them")


def _check_target(ahead: Continuation, run: Run, target: float) -> None:
    """Refuse a target that the run has reached already."""
    loss = float(ahead.end(ahead.conditions.schedule.first(ahead.now))[0])
    if target >= loss:
        raise bad(
            "target", f"must lie below the loss that run {run.name!r} has at step {ahead.now} ({loss:.4f})", target,
            "it has been reached",
        )  # fmt: skip


def _by_deadline(ahead: Continuation, end: int) -> _Answer:
    """Best start for the lowest loss at `end`."""
    found = ahead.best(end)
    vectors = np.array(ahead.result.draws)
    starts = ahead.starts(end, found.shape, vectors, GRID_OF_DRAWS)
    low, high = np.quantile(starts, [(1 - ahead.level) / 2, (1 + ahead.level) / 2])
    options = tuple(
        ahead.decay(start, end, found.shape, max(ahead.loss(start, end, found.shape) - found.loss, 0.0))
        for start in _starts(ahead.now, end)
    )
    best = ahead.decay(found.start, end, found.shape, 0.0)
    return _Answer(best, None, float(min(low, best.start)), float(max(high, best.start)), None, options)


def _to_target(ahead: Continuation, target: float, horizon: int) -> _Answer:
    """Best start for reaching `target` in the fewest updates."""
    known = ahead.ends(horizon)
    last = known[horizon]
    farthest = ahead.decay(last.start, horizon, last.shape, None)
    half = farthest.final_loss_high - farthest.final_loss
    chance = normal_below((target - last.loss) / half * normal_half(ahead.level))
    chance = float(np.clip(chance, SURE, 1 - SURE))
    found = ahead.soonest(target, horizon, known)
    if found is None:
        options = _options(ahead, last, horizon, target, horizon)
        return _Answer(farthest, False, None, None, chance, options)
    end, start = found
    best = ahead.decay(start.start, end, start.shape, 0.0)
    half = best.final_loss_high - best.final_loss
    edges = [ahead.soonest(target + side * half, horizon, known) for side in (1, -1)]
    low, high = (float(edge[0]) if edge else None for edge in edges)
    return _Answer(best, True, low, high, chance, _options(ahead, start, end, target, horizon))


def _options(ahead: Continuation, best: Best, end: int, target: float, horizon: int) -> tuple[Decay, ...]:
    """From each start the shortest decay that reaches the target; where none does, the one to the horizon."""
    options = []
    for start in _starts(ahead.now, end):
        length = ahead.shortest(start, best.shape, target, horizon)
        cost = None if length is None else float(max(start + length - end, 0))
        options.append(ahead.decay(start, start + length if length else horizon, best.shape, cost))
    return tuple(options)


def _starts(now: int, end: int) -> list[int]:
    """Starts to show, from now on; each leaves at least one update."""
    return sorted({min(now + round(wait * (end - now)), end - 1) for wait in WAITS})


def _as_planned(ahead: Continuation, best: Decay | None) -> Decay | None:
    """The run's own schedule, if it goes on; its cost counts where it ends with the `best` of a deadline."""
    schedule = ahead.conditions.schedule
    if schedule.steps <= ahead.now:
        return None
    start = _last_held(schedule, ahead.now)
    own = ahead.describe(schedule, start, "planned", None)
    if best is None or best.steps != own.steps:
        return own
    return replace(own, cost=max(own.final_loss - best.final_loss, 0.0))


def _last_held(schedule: Schedule, now: int) -> int:
    """Step from `now` on at which the LR leaves its highest value for good; its end if it never does."""
    low, high = now, schedule.steps - 1
    while True:
        probe = np.unique(np.linspace(low, high, 1000).astype(int))
        lr = schedule.lr(probe)
        last = int(np.flatnonzero(lr >= lr.max() * (1 - 1e-9))[-1])
        if last == len(probe) - 1:
            return schedule.steps
        if probe[last + 1] - probe[last] == 1:
            return int(probe[last])
        low, high = int(probe[last]), int(probe[last + 1])


def _warnings(ahead: Continuation, end: int, before: FitResult) -> tuple[str, ...]:
    schedule = ahead.conditions.schedule
    notes = list(ahead.result.warnings[len(before.warnings) :])
    done = replace(ahead.conditions, schedule=schedule.first(ahead.now))
    notes += outside(ahead.result, done, np.array([float(end)]))
    peak = done.schedule.peak
    if ahead.held < HELD * peak:
        notes.append(
            f"the LR at step {ahead.now} is {ahead.held:g}, below the run's peak of {peak:g}: it is held or "
            "decays from there."
        )
    if ahead.result.get_law().degenerate:
        notes.append(f"law {ahead.result.law} is degenerate: {ahead.result.get_law().degenerate}.")
    if before.status == "not_converged":
        notes.append("the fit did not converge: fit again with more starts or more runs.")
    return tuple(notes)
