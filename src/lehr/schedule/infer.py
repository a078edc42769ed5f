"""From a logged LR column to the family and arguments that made it.

A row at step s shows `lr[s + offset]`: with offset 0 the LR of the update that comes next, with
offset -1 the LR of the update just made. A row that would show `lr[T]`, past the last update,
says nothing about any update and is left out; so is a last row of LR 0 after a run that did not
decay, which some loggers write. Rows before update 0, and rows without a finite LR, are left out
too; of rows with the same step the last in the log counts.

Places of turns are whole updates: each family is fitted with real ones, rounded, and the
neighbours are tried. Of the families that fit about equally well the one with the fewest and
roundest arguments wins. What a log cannot show (a warm-up before its first row, an end after its
last one, the start of a straight decay that the first row is already in) is assumed and noted.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import numpy as np

from lehr.errors import InputError
from lehr.schedule._candidates import Arguments, Guess, Rows, digits, falls, one_cycle, plateaus, short
from lehr.schedule._fall_fit import POWER
from lehr.schedule._logged import check_offset, clean, extent_of, rows_of
from lehr.schedule.families import FAMILIES
from lehr.schedule.long_logs import MANY, telling, with_neighbours, worst_rows
from lehr.schedule.schedule import Schedule
from lehr.schedule.shapes import EXPONENTIAL, SHAPES

GOOD = 1e-3  # largest error of a family that is believed, as a fraction of the peak
MOST_LISTED = 5_000_000  # updates of a schedule that is kept LR by LR
EXACT = 1e-9
ROUNDS = 6  # a long log is fitted with more of its rows so many times
COMPLEXITY = {"constant": 0, "cosine": 0, "wsd": 1, "one_cycle": 1, "multistep": 2}
REALS = ("peak", "final", "start", "warmup_start")


@dataclass(frozen=True)
class Inference:
    """A schedule that explains logged LRs.

    Parameters
    ----------
    schedule : the schedule.
    family : its family; from_array if no family fits.
    max_relative_error : largest |schedule - logged| over the rows used, over the highest LR.
    offset : a row at step s shows `lr[s + offset]`.
    note : how well it fits, and what was assumed.
    """

    schedule: Schedule
    family: str
    max_relative_error: float
    offset: int
    note: str


@dataclass(frozen=True)
class _Fit:
    """A guess that was built and compared with all rows."""

    family: str
    schedule: Schedule
    error: float
    rows: Rows

    @property
    def arguments(self) -> Arguments:
        """Arguments of the family that differ from their defaults."""
        return dict(self.schedule.call[1]) if self.schedule.call else {}

    @property
    def shape(self) -> str:
        """Shape of the fall, empty if there is none."""
        plain = {"wsd": "linear", "cosine": "cosine", "one_cycle": "cosine"}.get(self.family, "")
        return str(self.arguments.get("shape", plain))

    @property
    def figures(self) -> int:
        """Digits of the arguments that were fitted: of two equal fits the rounder one is right."""
        values = [value for name, value in self.arguments.items() if name != "milestones"]
        flat = [v for value in values for v in (value if isinstance(value, tuple) else (value,))]
        return sum(digits(v) for v in flat if isinstance(v, int | float))


def infer(
    step: np.ndarray, lr: np.ndarray, *, total_steps: int | None = None, offset: int | None = None,
    warmup: Mapping[str, float] | None = None,
) -> Inference:  # fmt: skip
    """Find the schedule behind logged LRs.

    Parameters
    ----------
    step, lr : logged steps and LRs, shape (n,), in any order.
    total_steps : length of training T; None takes it from the shape where that tells it, else
        the last logged step stands for it.
    offset : 0 or -1 (see the module's text); None tries both and takes -1 only if that fits
        better, or as well with rounder arguments.
    warmup : the arguments warmup, warmup_start and warmup_phase, if the log starts after the
        warm-up and they are known.

    Raises
    ------
    InputError
        If the rows are malformed, or if no family fits and the rows do not cover the run.
    """
    step, lr = clean(step, lr, warmup)
    shifts = [check_offset(shift) for shift in ((0, -1) if offset is None else (offset,))]
    extent = extent_of(step, total_steps)
    every = np.arange(0)  # stands for all rows
    kept = telling(lr) if len(lr) > MANY else every
    for left in range(ROUNDS, -1, -1):
        some = kept if len(kept) and left else slice(None)
        fits = _search([rows_of(step[some], lr[some], extent, shift, warmup) for shift in shifts])
        best = min((fit.error for fit in fits), default=1.0)
        if best > GOOD:
            break
        close = [fit for fit in fits if fit.error <= max(3 * best, EXACT)]
        chosen = min(close, key=_order)
        error, rows = _against_all(chosen, step, lr) if len(kept) and left else (chosen.error, every)
        if error <= max(3 * chosen.error, EXACT):
            note = _note(replace(chosen, error=error), close, total_steps, offset)
            return Inference(chosen.schedule, chosen.family, error, chosen.rows.offset, note)
        kept = np.union1d(kept, with_neighbours(rows, len(lr)))
    return _interpolate(rows_of(step, lr, extent, shifts[0], warmup))


def _search(views: list[Rows]) -> list[_Fit]:
    """Fit every view of the rows; what is costly or odd only as far as nothing else is exact."""
    fits: list[_Fit] = []
    for rows in views:
        exact = [fit.shape for fit in fits if fit.error <= EXACT]
        fits += _fits(rows, [shape for shape in (*SHAPES, EXPONENTIAL) if shape in exact or not exact])
    uncut = [rows for rows in views if rows.lr[-1] == 0 and len(rows.k) > 2]
    for rows in uncut if _worst(fits) else ():
        fits += _fits(replace(rows, k=rows.k[:-1], lr=rows.lr[:-1], cut=True), (*SHAPES, EXPONENTIAL))
    for rows in views if _worst(fits) else ():
        fits += [fit for guess in falls(rows, POWER) if (fit := _judge(guess, rows))]
    return fits


def _worst(fits: list[_Fit]) -> bool:
    """Whether no fit is as close as six printed digits allow."""
    return min((fit.error for fit in fits), default=1.0) > 1e-6


def _fits(rows: Rows, shapes: Sequence[str]) -> list[_Fit]:
    guesses = chain(plateaus(rows), *(falls(rows, shape) for shape in shapes), one_cycle(rows))
    return [fit for guess in guesses if (fit := _judge(guess, rows))]


def _order(fit: _Fit) -> tuple[float, ...]:
    complexity = 3 if fit.shape.startswith(POWER) else COMPLEXITY[fit.family]
    return fit.rows.cut, complexity, fit.figures, -fit.rows.offset, fit.error


def _against_all(fit: _Fit, step: np.ndarray, lr: np.ndarray) -> tuple[float, np.ndarray]:
    """Largest error of a fit to some of the rows over all of them, as `_try` has it; and rows that are far off."""
    rows, schedule = fit.rows, fit.schedule
    limit = min(rows.steps or rows.done + 1, schedule.steps) - rows.offset
    used = slice(*np.searchsorted(step, [-rows.offset, limit]).tolist())
    if rows.cut:
        used = slice(used.start, min(used.stop, len(step) - 1))
    peak = float(lr.max())

    def error(steps: np.ndarray, values: np.ndarray) -> np.ndarray:
        return np.abs(schedule.lr(steps.astype(np.int64) + rows.offset) - values) / peak

    return worst_rows(step, lr, used, error)


def _judge(guess: Guess, rows: Rows) -> _Fit | None:
    """Build the guess, shorten its real arguments as far as the rows allow; None if it is unfit."""
    family, arguments = guess
    schedule, error = _try(family, arguments, rows)
    if schedule is None or error > GOOD:
        return None
    margin = min(max(2 * error, rows.grain), 1e-6)
    allowed = max(2 * error, rows.grain)
    for name, value in _shortened(arguments, margin):
        shorter, new = _try(family, arguments | {name: value}, rows)
        if shorter is not None and new <= allowed:
            arguments, schedule, error = arguments | {name: value}, shorter, new
    return _Fit(family, schedule, error, rows)


def _shortened(arguments: Arguments, margin: float) -> Iterator[tuple[str, object]]:
    tolerance = margin * arguments["peak"]
    for name in REALS:
        if name in arguments:
            yield name, short(arguments[name], tolerance)
    if "factors" in arguments:
        yield "factors", [short(factor, margin) for factor in arguments["factors"]]
    shape = arguments.get("shape", "")
    if shape.startswith(POWER):
        power = float(shape[len(POWER) + 1 : -1])
        for tolerance in (1e-6, 1e-4, 1e-2):  # the last that fits counts
            yield "shape", f"{POWER}({short(power, tolerance)!r})"


def _try(family: str, arguments: Arguments, rows: Rows) -> tuple[Schedule | None, float]:
    """Return the schedule and its largest error over the highest LR."""
    try:
        schedule = FAMILIES[family](**arguments)
    except InputError:
        return None, 1.0
    used = rows.k < schedule.steps
    gap = np.abs(schedule.lr(rows.k[used]) - rows.lr[used])
    return schedule, float(gap.max() / rows.lr.max())


def _interpolate(rows: Rows) -> Inference:
    """Straight lines between the rows, where they cover the run."""
    first, last = int(rows.k[0]), int(rows.k[-1])
    if first > rows.gap:
        raise InputError(
            f"no family of schedules fits the logged LR within {GOOD:g} of its peak, and the LR before the first"
            f" row (step {first - rows.offset}) is unknown: give the schedule with --schedule, or log from the start."
        )
    if rows.length - 1 > last + rows.gap:
        raise InputError(
            f"no family of schedules fits the logged LR within {GOOD:g} of its peak, and the LR after the last"
            f" row (step {last - rows.offset}) of {rows.length} updates is unknown: give the schedule with --schedule."
        )
    if rows.length > MOST_LISTED:
        raise InputError(
            f"no family of schedules fits the logged LR within {GOOD:g} of its peak, and {rows.length} updates are too"
            f" many to list (more than {MOST_LISTED}): give the schedule with --schedule."
        )
    values = np.interp(np.arange(rows.length), rows.k, rows.lr)
    slope = (rows.lr[1] - rows.lr[0]) / (rows.k[1] - rows.k[0])
    values[:first] = np.maximum(rows.lr[0] + slope * (np.arange(first) - first), 0.0)[: len(values)]
    jump = float(np.abs(np.diff(rows.lr)).max() / rows.lr.max())
    note = (
        f"no family fits within {GOOD:g} of the peak: straight lines between the rows, the largest step"
        f" between two of them being {jump:.2g} of the peak"
    )
    return Inference(FAMILIES["from_array"](values=values), "from_array", 0.0, rows.offset, note + ".")


def _note(fit: _Fit, close: list[_Fit], total: int | None, offset: int | None) -> str:
    """Say how well the schedule fits and what the log did not show."""
    rows, said = fit.rows, [f"{fit.family} is within {fit.error:.1e} of the peak at every row"]
    others = [other.figures for other in close if other.rows.offset != rows.offset]
    if offset is None and others:
        why = "its arguments are rounder" if fit.figures < min(others) else "it is the usual one"
        said.append(f"offsets 0 and -1 fit equally well: {rows.offset} is taken, {why}")
    elif offset is None:
        said.append(f"offset {rows.offset} fits better than the other")
    if rows.cut:
        said.append("the last row, of LR 0, is left out")
    if total is None:
        said.append(f"the length was not given and is taken to be {fit.schedule.steps} updates")
    if rows.k[0] > 0 and rows.top == 0 and rows.warmup is None:
        seen = "its length is taken from the cosine" if fit.arguments.get("warmup") else "none is assumed"
        said.append(f"the log starts at update {rows.k[0]}, so a warm-up before it is not seen: {seen}")
        if fit.family == "wsd" and rows.lr[0] < fit.schedule.peak * (1 - 1e-9):
            begin = fit.schedule.steps - int(fit.arguments["decay"])
            said.append(f"the log starts within the decay, taken to begin at update {begin}")
    if fit.family == "multistep" and rows.gap > 1:
        said.append("a jump between two rows is placed at the roundest update between them")
    if rows.top == 1 and fit.arguments.get("warmup"):
        said.append("only one row shows the warm-up, whose length and start it cannot both tell")
    if rows.k[-1] + rows.gap < fit.schedule.steps - 1:
        said.append(f"nothing is logged after update {rows.k[-1]}")
    return "; ".join(said) + "."
