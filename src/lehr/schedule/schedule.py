"""The schedule: a frozen value that says which LR each update uses.

**The step convention of the whole project.** A schedule of T updates gives `lr[k]` for
k = 0 .. T-1; update k uses `lr[k]`. "Loss at step s" is measured after s updates, so under
`lr[0] .. lr[s-1]`; areas at s sum over k < s. Importers and exporters translate every foreign
convention to this one.

A schedule is a row of segments. A segment of n updates runs from `start` to `end` along a
shape (`lehr.schedule.shapes`): update j of it (j = 0 .. n-1) sits at x = (j + phase) / span. With
phase 0 its first update still uses `start` (a decay); with phase 1 its last one reaches `end`
(a warm-up that wastes no update). A table segment lists its values. Cost is by segment, not
by step: a million updates of WSD are three segments.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from lehr.errors import bad
from lehr.schedule import showing
from lehr.schedule.shapes import EXPONENTIAL, between, check_shape

Call = tuple[str, tuple[tuple[str, object], ...]]


@dataclass(frozen=True)
class Segment:
    """`steps` updates from LR `start` towards `end` along `shape`; see the module's text."""

    steps: int
    start: float
    end: float
    shape: str = "linear"
    phase: float = 0.0
    span: float = 0.0

    def __post_init__(self) -> None:
        """Check every field; a span of 0 stands for `steps`."""
        if self.steps != int(self.steps) or self.steps < 1:
            raise bad("segment steps", "must be a whole number of at least 1", self.steps, "drop it")
        for name, value in (("start", self.start), ("end", self.end)):
            check_lr(f"segment {name}", value)
        check_shape(self.shape)
        if self.shape == EXPONENTIAL and not (self.start > 0 and self.end > 0):
            raise bad(
                "final", "must be above 0 for an exponential decay", min(self.start, self.end),
                "give a small final LR, such as a hundredth of the peak, or use another shape",
            )  # fmt: skip
        object.__setattr__(self, "steps", int(self.steps))
        object.__setattr__(self, "span", float(self.span or self.steps))
        last = (self.steps - 1 + self.phase) / self.span
        if not (self.phase >= 0 and self.span > 0 and last <= 1 + 1e-12):
            raise bad("segment phase", "must keep progress within [0, 1]", self.phase, "use 0 or 1")

    @property
    def flat(self) -> bool:
        """Whether every update of the segment uses the same LR."""
        return self.start == self.end

    def lr(self, j: np.ndarray) -> np.ndarray:
        """LR of update `j` (0-based, may be fractional) of this segment."""
        if self.flat:
            return np.full(np.shape(j), self.start)
        return between(self.shape, (np.asarray(j) + self.phase) / self.span, self.start, self.end)

    def cut(self, first: int, steps: int) -> Segment:
        """Return the part of `steps` updates that begins at update `first`."""
        if self.flat:
            return Segment(steps, self.start, self.end)
        return Segment(steps, self.start, self.end, self.shape, self.phase + first, self.span)


@dataclass(frozen=True, eq=False)
class Table:
    """A segment given value by value: `values[j]` is the LR of its update j."""

    values: np.ndarray

    def __post_init__(self) -> None:
        """Check the values and freeze a copy of them."""
        values = np.array(self.values, dtype=float)
        if values.ndim != 1 or not values.size:
            rule = "must be a non-empty row of numbers"
            raise bad("LR values", rule, values.shape, "give one LR an update")
        broken = np.flatnonzero(~(np.isfinite(values) & (values >= 0)))
        if broken.size:
            check_lr(f"LR value {broken[0]}", float(values[broken[0]]))
        values.setflags(write=False)
        object.__setattr__(self, "values", values)

    @property
    def steps(self) -> int:
        """Number of updates."""
        return len(self.values)

    @property
    def flat(self) -> bool:
        """Whether every update of the segment uses the same LR."""
        return bool(np.all(self.values == self.values[0]))

    def lr(self, j: np.ndarray) -> np.ndarray:
        """LR of update `j`; between two updates, the straight line between them."""
        return np.interp(j, np.arange(self.steps), self.values)

    def cut(self, first: int, steps: int) -> Table:
        """Return the part of `steps` updates that begins at update `first`."""
        return Table(self.values[first : first + steps])

    def __eq__(self, other: object) -> bool:
        """Equal when every value is."""
        return isinstance(other, Table) and np.array_equal(self.values, other.values)

    def __hash__(self) -> int:
        """Hash of the values."""
        return hash(self.values.tobytes())


@dataclass(frozen=True)
class Schedule:
    """The LR of every update of a training run.

    Parameters
    ----------
    segments : the parts in order, warm-up included.
    call : family and arguments that made it, for its text; not part of its identity.
    """

    segments: tuple[Segment | Table, ...]
    call: Call | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        """Refuse a schedule without updates."""
        if not self.segments:
            raise bad("a schedule", "must have at least one update", 0, "give steps of 1 or more")

    def __repr__(self) -> str:
        return f"<Schedule {showing.in_words(self)}>"

    def _repr_html_(self) -> str:
        """The schedule as notebooks show it."""
        return showing.to_html(self)

    @cached_property
    def steps(self) -> int:
        """Number of updates T."""
        return sum(part.steps for part in self.segments)

    @cached_property
    def starts(self) -> np.ndarray:
        """Index of each segment's first update, then T: one entry more than segments; read-only."""
        starts = np.concatenate([[0], np.cumsum([part.steps for part in self.segments])])
        starts.setflags(write=False)
        return starts

    @cached_property
    def peak(self) -> float:
        """The highest LR that any update uses."""
        return max(
            float(part.values.max()) if isinstance(part, Table)
            else float(np.max(part.lr(np.array([0, part.steps - 1]))))
            for part in self.segments
        )  # fmt: skip

    def lr(self, updates: np.ndarray) -> np.ndarray:
        """LR that the given updates use.

        Parameters
        ----------
        updates : whole numbers in [0, T), any shape.

        Returns
        -------
        LRs of the same shape.

        Raises
        ------
        InputError
            If an update lies outside [0, T).
        """
        updates = np.asarray(updates)
        if updates.size and (updates.min() < 0 or updates.max() >= self.steps):
            wrong = updates.min() if updates.min() < 0 else updates.max()
            rule = f"must lie in 0 .. {self.steps - 1}"
            raise bad("update", rule, int(wrong), "ask for an update of the run")
        starts = self.starts
        where = np.searchsorted(starts, updates, side="right") - 1
        out = np.empty(updates.shape)
        for index in np.unique(where):
            mask = where == index
            out[mask] = self.segments[index].lr(updates[mask] - starts[index])
        return out

    def to_array(self) -> np.ndarray:
        """LR of all T updates, shape (T,)."""
        return np.concatenate([part.lr(np.arange(part.steps)) for part in self.segments])

    def first(self, steps: int) -> Schedule:
        """Return the schedule of the first `steps` updates."""
        if not 0 < steps <= self.steps:
            raise bad("steps", f"must lie in 1 .. {self.steps}", steps, "cut within the schedule")
        if steps == self.steps:
            return self
        parts, left = [], steps
        for part in self.segments:
            take = min(left, part.steps)
            if take:
                parts.append(part if take == part.steps else part.cut(0, take))
            left -= take
        return Schedule(tuple(parts))

    def scaled(self, factor: float) -> Schedule:
        """Return the schedule with every LR multiplied by `factor`, above 0."""
        if not (np.isfinite(factor) and factor > 0):
            raise bad("factor", "must be a finite number above 0", factor, "give the ratio of two peak LRs")
        return Schedule(
            tuple(
                Table(part.values * factor) if isinstance(part, Table)
                else replace(part, start=part.start * factor, end=part.end * factor)
                for part in self.segments
            )
        )  # fmt: skip

    def then(self, other: Schedule) -> Schedule:
        """Return this schedule followed by `other`."""
        return Schedule(self.segments + other.segments)


def check_lr(name: str, value: float) -> float:
    """Return `value` if it can be an LR: a finite number of at least 0."""
    if not (np.isfinite(value) and value >= 0):
        raise bad(name, "must be a finite number of at least 0", value, "give the LR the optimiser used")
    return float(value)
