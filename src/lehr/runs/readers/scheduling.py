"""The schedule of a log: given, written in its settings, or read off its LRs; whichever there are must agree.

An annealing law needs the LR of every update. So a log that begins late says too little, unless the schedule of the
run that it branched from tells what came before; and no interpolation can tell a warm-up that was not logged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from lehr.errors import InputError, bad
from lehr.runs.readers.reading import ReadOptions, deviation
from lehr.schedule.infer import Inference, infer
from lehr.schedule.long_logs import median_gap
from lehr.schedule.schedule import Schedule

TOLERANCE = 0.01  # of the peak: how far a given schedule may be from the logged LR


@dataclass(frozen=True, eq=False)
class LoggedLR:
    """LRs of a log, in its order.

    Parameters
    ----------
    step, lr : shape (n,).
    place : names the place of an entry in the log.
    in_order : picks the entries, by index, that make up the path to the end of training, with rising steps.
    """

    step: np.ndarray
    lr: np.ndarray
    place: Callable[[int], str]
    in_order: Callable[[], np.ndarray | slice]


def find_schedule(
    source: str, logged: LoggedLR | None, last: float, options: ReadOptions, report: list[str],
    told: Schedule | None = None,
) -> Schedule:  # fmt: skip
    """Return the schedule of a log.

    Parameters
    ----------
    source : the log, as messages name it.
    logged : its LRs, if it has any.
    last : step of its last loss.
    options : `schedule` is the given one; `past` that of the run it branched from.
    report : what was done is added to it.
    told : the schedule that the log's settings describe.

    Raises
    ------
    InputError
        If no schedule can be told, or the given one contradicts the LRs.
    """
    if logged is None or not logged.lr.size:
        return _unchecked(source, options, report, told)
    wrong = np.flatnonzero(~(np.isfinite(logged.lr) & (logged.lr >= 0)))
    if wrong.size:
        raise bad(
            f"{logged.place(int(wrong[0]))}: LR", "must be a finite number of at least 0",
            float(logged.lr[wrong[0]]), "mend the row, or leave the cell empty",
        )  # fmt: skip
    if options.schedule is not None:
        shift, error = misfit(options.schedule, logged)
        if (error > TOLERANCE).any():
            raise _contradiction(options.schedule, logged, shift, error)
        report.append(f"the given schedule agrees with the LR column within {error.max():.2g} of its peak")
        return options.schedule
    if told is not None:
        _, error = misfit(told, logged)
        if error.max() <= TOLERANCE:
            report.append(
                f"the schedule of the settings agrees with the logged LRs within {error.max():.2g} of its peak"
            )
            return told
        report.append(
            f"the schedule of the settings is up to {error.max():.2g} of its peak from the logged LRs: "
            "it was not used"
        )
    return _inferred(source, logged, last, options, report)


def misfit(schedule: Schedule, logged: LoggedLR) -> tuple[int, np.ndarray]:
    """Return the shift (0 or -1) that fits best, and |LR - schedule| / peak of each entry under it, shape (n,)."""
    # a log prints the LR of the update just done or of the next one: take what fits
    errors = {shift: deviation(schedule, logged.step, logged.lr, shift) for shift in (0, -1)}
    return min(errors.items(), key=lambda item: (int((item[1] > TOLERANCE).sum()), item[1].sum()))


def _unchecked(source: str, options: ReadOptions, report: list[str], told: Schedule | None) -> Schedule:
    if options.schedule is not None:
        report.append("the schedule was given; there is no LR column to check it against")
        return options.schedule
    if told is not None:
        report.append("the schedule is that of the settings; no LR was logged to check it against")
        return told
    raise InputError(
        f"{source} has no LR column: give the run's schedule with --schedule, "
        "or name the column with --column lr=NAME."
    )


def _contradiction(schedule: Schedule, logged: LoggedLR, shift: int, error: np.ndarray) -> InputError:
    row = int(np.flatnonzero(error > TOLERANCE)[0])
    uses = float(schedule.lr(np.array([int(logged.step[row]) + shift]))[0])
    return InputError(
        f"{logged.place(row)}: the logged LR {logged.lr[row]:.6g} at step {logged.step[row]:g} contradicts the given "
        f"schedule, which uses {uses:.6g} there (more than {TOLERANCE:.0%} of its peak apart): "
        "correct --schedule, or leave it out if the log starts at step 0."
    )


def _inferred(
    source: str, logged: LoggedLR, last: float, options: ReadOptions, report: list[str]
) -> Schedule:
    """Read the schedule off LRs that start at the start of training, or where a known past ends."""
    rows = logged.in_order()
    step, lr = logged.step[rows], logged.lr[rows]
    interval = median_gap(step) if step.size > 1 else 1.0
    begin = max(1.0, 1.5 * interval)
    late = step[0] > begin
    if late and (options.past is None or step[0] > options.past.steps + begin):
        raise InputError(
            f"{source} starts at step {step[0]:g}, so the LR of the updates before it is unknown: "
            "give the run's whole schedule with --schedule, or the run it branched from with --parent."
        )
    try:
        if late and options.past is not None:
            found = _with_past(options.past, step, lr, last, options.total_steps)
            report.append(
                f"updates before step {min(int(step[0]), options.past.steps)} have the LR of the run it branched from"
            )
        else:
            found = _infer(step, lr, last, options.total_steps)
    except InputError as error:
        raise InputError(f"{source}: {error}") from error
    report.append(
        f"schedule inferred from the LR column: {found.family}, largest deviation "
        f"{found.max_relative_error:.2g} of the peak; {found.note}"
    )
    return found.schedule


def _infer(step: np.ndarray, lr: np.ndarray, last: float, total: int | None) -> Inference:
    with np.errstate(over="ignore", invalid="ignore"):  # LRs that no training had
        found = infer(step, lr, total_steps=total)
        if found.schedule.steps < last:  # losses go on after the last logged LR
            found = infer(step, lr, total_steps=int(last))
    return found


def _with_past(past: Schedule, step: np.ndarray, lr: np.ndarray, last: float, total: int | None) -> Inference:
    """Infer from the past's LRs and the logged ones; these may be those of the next or of the last update."""
    begin = min(int(step[0]), past.steps)
    found = []
    for offset in (0, -1):
        before = np.arange(-offset, begin, dtype=float)
        whole = np.concatenate([past.lr(before.astype(int) + offset), lr])
        found.append(_infer(np.concatenate([before, step]), whole, last, total))
    return min(found, key=lambda each: each.max_relative_error)
