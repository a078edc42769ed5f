"""A run: a schedule, the losses seen under it, and what was trained.

Stored losses are as logged, in nats per token; smoothing and thinning are later, explicit steps.
A cooldown run has a parent and a branch step: its schedule is that of its whole life, the
parent's past included, while its points are its own, so that no loss is counted twice.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from lehr.errors import InputError, bad, unknown
from lehr.runs import showing
from lehr.schedule.schedule import Schedule, Table

_PART = 1 << 18


@dataclass(frozen=True, eq=False)
class Run:
    """One training run.

    Parameters
    ----------
    name : unique within a `RunSet`.
    schedule : LR of every update from 0, a parent's included.
    step : shape (n,), whole numbers of updates done, strictly increasing, at most T.
    loss : shape (n,), nats per token measured after `step` updates, finite and above 0.
    parent : name of the run it branched from, if any.
    branch_step : updates done when it branched; its own points come later.
    params : number of parameters N that size laws use: non-embedding; for MoE, active.
    params_total : all parameters.
    batch_tokens : tokens of one update.
    meta : anything else worth keeping (data set, split, source): JSON scalars.

    Raises
    ------
    InputError
        Naming the run, the rule broken and the value.
    """

    name: str
    schedule: Schedule
    step: np.ndarray
    loss: np.ndarray
    parent: str | None = None
    branch_step: int | None = None
    params: float | None = None
    params_total: float | None = None
    batch_tokens: float | None = None
    meta: Mapping[str, str | float | int | bool | None] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the points and freeze them."""
        where = f"run {self.name!r}:"
        step, loss = _own(self.step), _own(self.loss)
        if step.ndim != 1 or step.shape != loss.shape:
            raise bad(
                f"{where} loss", f"must pair with the {step.shape} steps", loss.shape, "give one an entry"
            )
        if not step.size:
            raise InputError(f"{where} it has no loss; give at least one logged loss.")
        if not _whole(step) or step[0] < 0 or np.any(step[1:] <= step[:-1]):
            place = int(np.argmax(np.concatenate([[step[0] < 0], step[1:] <= step[:-1]])))
            raise bad(
                f"{where} steps", "must be whole numbers that strictly increase", float(step[place]),
                "join the segments of a resumed log with lehr.runs.clean.stitch",
            )  # fmt: skip
        if step[-1] > self.schedule.steps:
            raise bad(
                f"{where} last step", f"must not exceed the schedule's {self.schedule.steps} updates",
                int(step[-1]), "give the schedule of the whole run",
            )  # fmt: skip
        wrong = np.flatnonzero(~(np.isfinite(loss) & (loss > 0)))
        if wrong.size:
            raise bad(
                f"{where} loss at step {int(step[wrong[0]])}", "must be a finite number above 0",
                float(loss[wrong[0]]), "drop such rows with lehr.runs.clean.drop_broken",
            )  # fmt: skip
        if (self.parent is None) != (self.branch_step is None):
            raise bad(
                f"{where} parent and branch_step", "go together", (self.parent, self.branch_step), "give both"
            )
        for name in ("params", "params_total", "batch_tokens"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise bad(f"{where} {name}", "must be above 0", value, "give a count or leave it out")
        for array in (step, loss):
            array.setflags(write=False)
        object.__setattr__(self, "step", step)
        object.__setattr__(self, "loss", loss)
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    def __repr__(self) -> str:
        return f"<Run {showing.run_in_words(self)}>"

    def _repr_html_(self) -> str:
        """The run as notebooks show it."""
        return showing.run_html(self)

    def __reduce__(self) -> tuple[Any, ...]:
        values = {part.name: getattr(self, part.name) for part in fields(self)}
        return _remake, ({**values, "meta": dict(self.meta)},)  # a read-only view does not pickle

    @property
    def steps(self) -> int:
        """Number of updates T of its schedule."""
        return self.schedule.steps

    @property
    def final_loss(self) -> float:
        """Loss at its last point."""
        return float(self.loss[-1])

    def select(self, mask: np.ndarray) -> Run:
        """Return the run with only the points where `mask` (shape (n,)) is true."""
        return replace(self, step=self.step[mask], loss=self.loss[mask])

    def fingerprint(self) -> str:
        """Hash of everything a fit depends on; equal runs have equal fingerprints."""
        digest = hashlib.sha256()
        for part in self.schedule.segments:
            if isinstance(part, Table):
                digest.update(part.values.data)
            else:
                # as floats: equal numbers have one hash, whether they came as int, float or NumPy's
                numbers = tuple(map(float, (part.steps, part.start, part.end, part.phase, part.span)))
                digest.update(repr((numbers, part.shape)).encode())
        for array in (self.step, self.loss):
            digest.update(array.data)  # in place: a run may have many millions of points
        sizes = (self.params, self.batch_tokens, self.branch_step)
        digest.update(repr(tuple(None if size is None else float(size) for size in sizes)).encode())
        return digest.hexdigest()[:16]


def _own(values: np.ndarray) -> np.ndarray:
    """The values as an array that nobody else can write: themselves if that is so already, else a copy."""
    array = values if isinstance(values, np.ndarray) else None
    if array is not None and array.dtype == float and array.base is None and not array.flags.writeable:
        return array
    return np.array(values, dtype=float)


def _whole(values: np.ndarray) -> bool:
    """Whether all are whole numbers; looked at in parts, so that a long run is not copied."""
    parts = (values[begin : begin + _PART] for begin in range(0, len(values), _PART))
    return all(np.array_equal(part, np.floor(part)) for part in parts)


def _remake(values: dict[str, Any]) -> Run:
    return Run(**values)


class RunSet:
    """A frozen collection of runs with unique names, in order.

    Raises
    ------
    InputError
        If two runs share a name.
    """

    def __init__(self, runs: Iterable[Run]) -> None:
        self._runs: dict[str, Run] = {}
        for run in runs:
            if run.name in self._runs:
                raise bad("run names", "must be unique", run.name, "rename one of the two")
            self._runs[run.name] = run

    def __repr__(self) -> str:
        return f"<RunSet of {showing.set_in_words(self)}>"

    def _repr_html_(self) -> str:
        """The runs as notebooks show them."""
        return showing.set_html(self)

    def __len__(self) -> int:
        return len(self._runs)

    def __iter__(self) -> Iterator[Run]:
        return iter(self._runs.values())

    def __contains__(self, name: str) -> bool:
        return name in self._runs

    def __getitem__(self, name: str) -> Run:
        """Return the run called `name`; an unknown name raises with the nearest one."""
        if name not in self._runs:
            raise unknown("run", name, self._runs)
        return self._runs[name]

    @property
    def names(self) -> tuple[str, ...]:
        """Names in order."""
        return tuple(self._runs)

    def only(self, names: Iterable[str]) -> RunSet:
        """Return the named runs, in the order given."""
        return RunSet(self[name] for name in names)

    def without(self, names: Iterable[str]) -> RunSet:
        """Return all runs but the named ones."""
        dropped = {self[name].name for name in names}
        return RunSet(run for run in self if run.name not in dropped)

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """Steps and losses of a run's whole life: its ancestors' points up to each branch, then its own."""
        run, steps, losses = self[name], [], []
        limit = np.inf
        seen: set[str] = set()
        while True:
            mask = run.step <= limit
            steps.append(run.step[mask])
            losses.append(run.loss[mask])
            seen.add(run.name)
            if run.parent is None or run.parent not in self or run.parent in seen:
                break
            limit = min(limit, float(run.branch_step or 0))
            run = self[run.parent]
        return np.concatenate(steps[::-1]), np.concatenate(losses[::-1])
