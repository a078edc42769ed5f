"""Families and arguments that may have made a logged LR: one function a kind of schedule.

Each yields (family, arguments) pairs; `lehr.schedule.infer` builds, judges and ranks them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np

from lehr.schedule._fall_fit import POWER, Curve, Fall, fit_fall
from lehr.schedule.shapes import EXPONENTIAL, SHAPES, between

EQUAL = 1e-9  # two logged LRs this close, as a fraction of the highest, are the same
SLIDING_BEGIN = ("linear", EXPONENTIAL, POWER)  # the rest of such a fall is a fall of the same shape
SLIDING_END = ("linear", "sqrt", "square", EXPONENTIAL)  # so is the first part of such a one
MAX_PLATEAUS = 50

Arguments = dict[str, Any]
Guess = tuple[str, Arguments]


@dataclass(frozen=True, eq=False)
class Rows:
    """Logged LRs `lr` of updates `k`, both of shape (n,), `k` increasing, n at least 2.

    Parameters
    ----------
    steps : length of the schedule, None if not known.
    done : number of updates that the log shows were made: `steps` if not known otherwise.
    gap : usual distance between two rows.
    warmup : warm-up arguments that the caller knows, None if not.
    offset : a row at step s shows `lr[s + offset]`.
    cut : whether a last row of LR 0 was left out.
    """

    k: np.ndarray
    lr: np.ndarray
    steps: int | None
    done: int
    gap: int
    warmup: Mapping[str, float] | None
    offset: int = 0
    cut: bool = False

    @cached_property
    def top(self) -> int:
        """Row that ends the rise at the start of the log: 0 if it does not rise."""
        falls = np.flatnonzero(np.diff(self.lr) <= EQUAL * self.lr.max())
        return int(falls[0]) if falls.size else len(self.k) - 1

    @cached_property
    def grain(self) -> float:
        """Relative error of the logged numbers: many loggers keep single precision only."""
        return 1e-7 if np.array_equal(self.lr, self.lr.astype(np.float32)) else 1e-10

    @property
    def length(self) -> int:
        """Length of the schedule as far as known."""
        return self.steps or self.done


def plateaus(rows: Rows) -> Iterator[Guess]:
    """Constant LR, or a few drops or jumps (multistep), after a warm-up."""
    k, lr = rows.k[rows.top :], rows.lr[rows.top :]
    jumps = np.flatnonzero(np.abs(np.diff(lr)) > EQUAL * rows.lr.max()) + 1
    edges = np.concatenate([[0], jumps, [len(k)]])
    peak = float(lr[0])
    if not peak or len(jumps) > MAX_PLATEAUS or (len(jumps) and np.diff(edges).min() < 2):
        return
    common = {"steps": rows.length, "peak": peak}
    for warmup in warmups(rows, peak):
        if not len(jumps):
            yield "constant", common | warmup
            continue
        milestones = [roundest(int(k[j - 1]) + 1, int(k[j])) for j in jumps]
        factors = [float(lr[j]) / peak for j in jumps]
        yield "multistep", common | {"milestones": milestones, "factors": factors} | warmup


def falls(rows: Rows, shape: str) -> Iterator[Guess]:
    """One fall along `shape` at the end: wsd, or cosine where it follows the warm-up at once."""
    held = rows.top + 1 < len(rows.k) and rows.lr[rows.top + 1] >= rows.lr[rows.top] * (1 - EQUAL)
    if np.sum(rows.lr[rows.top :] < rows.lr[rows.top] * (1 - EQUAL)) < (4 if shape == POWER else 2):
        return
    for ends in _ends(rows, shape):
        fall = _later_fall(rows, shape, ends)
        for warmup in warmups(rows, fall.peak) if fall else ():
            yield from _named(rows, shape, fall, warmup)
        if rows.top == 0 or held or rows.warmup is not None:
            continue
        begins = _spread(rows.k[rows.top - 1] + 1, rows.k[rows.top + 1], 5)
        # One row below the peak tells the start of the warm-up only if the fall tells its end.
        starts = [True] if rows.top > 1 else [False] if shape in SLIDING_BEGIN else [False, True]
        for phase, free_start in product((1.0, 0.0), starts):
            curve = Curve(rows.k, rows.lr, shape, phase, free_start)
            fall = fit_fall(curve, begins, ends, _powers(shape))
            if fall:
                warmup = {
                    "warmup": int(fall.begin),
                    "warmup_start": max(fall.start, 0.0),
                    "warmup_phase": phase,
                }
                yield from _named(rows, shape, fall, warmup)


def one_cycle(rows: Rows) -> Iterator[Guess]:
    """Half a cosine up, half a cosine down."""
    if rows.top < 2 or rows.top + 2 >= len(rows.k):
        return
    begins = _spread(rows.k[rows.top - 1], rows.k[rows.top + 1], 5)
    ends = [rows.steps - 1.0] if rows.steps else _spread(rows.k[-1], 2 * rows.k[-1], 8)
    fall = fit_fall(Curve(rows.k, rows.lr, "cosine", 0.0, arch=True), begins, ends)
    if fall:
        steps, warmup = rows.steps or int(fall.end) + 1, int(fall.begin) + 1
        start, final = max(fall.start, 0.0), max(fall.final, 0.0)
        yield (
            "one_cycle",
            {"steps": steps, "peak": fall.peak, "warmup": warmup, "start": start, "final": final},
        )


def warmups(rows: Rows, peak: float) -> list[Arguments]:
    """Warm-up arguments that explain the rows below `peak` at the start of the log."""
    if rows.warmup is not None:
        return [dict(rows.warmup)]
    k, lr = rows.k[: rows.top], rows.lr[: rows.top]
    low = lr < peak * (1 - EQUAL)
    k, lr = k[low], lr[low]
    if not len(k):
        return [{}]
    found = []
    for phase in (1.0, 0.0):
        for length in _warmup_lengths(rows, k, lr, peak, phase):
            x = (k + phase) / length
            start = float(np.sum((lr - peak * x) * (1 - x)) / max(np.sum((1 - x) ** 2), 1e-30))
            if start > -1e-6 * peak:
                found.append({"warmup": length, "warmup_start": max(start, 0.0), "warmup_phase": phase})
    return found


def _warmup_lengths(rows: Rows, k: np.ndarray, lr: np.ndarray, peak: float, phase: float) -> list[int]:
    """Whole lengths near the place where the rising rows reach the peak."""
    least, most = int(k[-1]) + 1, int(rows.k[rows.top]) + int(phase)
    if len(k) > 1:
        slope, level = np.polyfit(k, lr, 1)
        centre = (peak - level) / slope + phase
    elif lr[0] > 0:  # one row: only a start of 0 can be told from it
        centre = (k[0] + phase) * peak / lr[0]
    else:
        centre = roundest(least, most) if phase == 0 else -1.0
    if not np.isfinite(centre):  # of an LR that is next to nothing
        return []
    near = {round(float(centre)) + shift for shift in (-1, 0, 1)}
    return sorted(length for length in near if least <= length <= most)


def _later_fall(rows: Rows, shape: str, ends: list[float]) -> Fall | None:
    """Return the fall of the rows after the rise, whose begin may lie before the first of them."""
    curve = Curve(rows.k[rows.top :], rows.lr[rows.top :], shape)
    first = float(curve.k[0])
    below = curve.k[np.argmax(curve.lr < curve.lr.max() * (1 - EQUAL))]
    seen = curve.lr[1] >= curve.lr[0] * (1 - EQUAL)
    lowest = first if seen or rows.top or shape in SLIDING_BEGIN else 0.0
    ahead = np.geomspace(rows.gap / 8, max(below - lowest, rows.gap), 16)
    begins = np.unique(np.clip(below - ahead, lowest, below)).tolist()
    fall = fit_fall(curve, begins, ends, _powers(shape))
    if seen or rows.top or shape not in SLIDING_BEGIN:
        return fall
    # The log starts within the fall: where the fall began cannot be told from such a shape.
    known = int((rows.warmup or {}).get("warmup", 0))
    earliest = max(int(first) - rows.gap, known)
    begin = known if earliest == known or not first else roundest(earliest, int(first))
    if begin > first:
        return fall
    branch = fit_fall(curve, [float(begin)], ends, _powers(shape))
    return branch if branch and (not fall or branch.error <= max(2 * fall.error, EQUAL)) else fall


def _named(rows: Rows, shape: str, fall: Fall | None, warmup: Arguments) -> Iterator[Guess]:
    """Arguments of the family that holds such a fall."""
    if not fall:
        return
    begin, end, final = int(fall.begin), int(fall.end), max(fall.final, 0.0)
    length = warmup.get("warmup", 0)
    unseen = rows.top == 0 and rows.warmup is None and begin <= rows.k[0] + rows.gap
    if shape == "cosine" and (begin == length or unseen):
        steps = rows.steps or (end if rows.done <= end <= rows.done + rows.gap else rows.done)
        rest = {} if end == steps else {"cycle": end}
        yield "cosine", {"steps": steps, "peak": fall.peak, "warmup": begin, "final": final} | warmup | rest
    if rows.steps is None and shape in SLIDING_END:
        end, final = _slide(rows, shape, fall)
    if begin < length or end < rows.done or end != (rows.steps or end):
        return
    name = f"power({fall.power!r})" if shape == POWER else shape
    yield (
        "wsd",
        {"steps": end, "peak": fall.peak, "decay": end - begin, "shape": name, "final": final} | warmup,
    )


def _slide(rows: Rows, shape: str, fall: Fall) -> tuple[int, float]:
    """Choose the end of a fall that may be longer than the log, and the LR that it ends at.

    All ends fit equally: the last logged step is taken unless a final LR of at most two digits,
    0 before all, is reached before the next row is due.
    """
    ends = np.arange(rows.done, rows.done + min(rows.gap, 10_000) + 1)
    x = (ends - fall.begin) / (fall.end - fall.begin)
    if shape == EXPONENTIAL:
        finals = between(EXPONENTIAL, x, fall.peak, max(fall.final, 1e-300))
    else:
        finals = fall.final + (fall.peak - fall.final) * SHAPES[shape](x)
    best, end, final = 99, rows.done, max(float(finals[0]), 0.0)
    for place, value in zip(ends.tolist(), finals.tolist(), strict=True):
        near = short(value, 1e-7 * fall.peak)
        figures = min(digits(near), digits(short(value / fall.peak, 1e-7)))
        if value > -1e-7 * fall.peak and figures <= 2 and 3 * figures + digits(place) < best:
            best, end, final = 3 * figures + digits(place), place, max(near, 0.0)
    return end, final


def _ends(rows: Rows, shape: str) -> list[list[float]]:
    """Starting values for the end of the fall; more than one where the rows can tell it."""
    later = _spread(rows.k[-1], rows.k[-1] + 4.0 * np.ptp(rows.k[rows.top :]), 9)
    if rows.steps and shape == "cosine":
        return [[float(rows.steps)], [0.5 * (float(rows.k[0]) + float(rows.k[-1])), *later]]
    if rows.steps or shape in SLIDING_END:
        return [[float(rows.length)]]
    return [later]


def _powers(shape: str) -> list[float]:
    return [0.4, 0.7, 1.5, 2.0, 3.0, 5.0] if shape == POWER else [1.0]


def _spread(low: float, high: float, count: int) -> list[float]:
    return np.linspace(low, high, count).tolist() if high > low else [float(low)]


def roundest(low: int, high: int) -> int:
    """Return the whole number in [low, high] with the most zeros at its end, the last of them.

    >>> roundest(7937, 8064), roundest(20051, 20100)
    (8000, 20100)
    """
    unit = 10 ** len(str(high))
    while high // unit * unit < low:
        unit //= 10
    return high // unit * unit


def short(value: float, tolerance: float) -> float:
    """Return the number of fewest digits that lies within `tolerance` of `value`.

    >>> short(0.00030000000000000003, 1e-12), short(1e-20, 1e-12)
    (0.0003, 0.0)
    """
    if abs(value) <= tolerance:
        return 0.0
    tries = (float(f"{value:.{count}e}") for count in range(16))
    return next((near for near in tries if abs(near - value) <= tolerance), value)


def digits(value: float) -> int:
    """Count the significant digits of `value`: 0 for 0, 1 for 3e-4, 3 for 2160."""
    mantissa = f"{abs(value):.11e}".split("e")[0]
    return len(mantissa.replace(".", "").rstrip("0"))
