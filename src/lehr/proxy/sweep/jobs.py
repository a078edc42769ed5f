"""One run of a sweep, its address by content, and the plan: the file in a sweep's folder that lists them.

An address is a hash of what decides the curve: the configuration (the name aside, the parent by its own address), the
data and, if asked for, the version of the training's code. Runs of one address are one run, which is trained once.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lehr.errors import InputError
from lehr.files import write_atomic

VERSION = 1
PLAN = "plan.jsonl"


@dataclass(frozen=True)
class Job:
    """A run that is to be trained.

    Parameters
    ----------
    name : unique in its sweep.
    address : by content; the name of its folder.
    kind : "train", lehr's own training; "command", the user's; "fit", a part of a comparison of laws.
    payload : what the kind needs: tables of a `TrainConfig`, or a command with its values.
    schedule : spec of the whole life.
    steps, branch_step : updates of the whole life, and of the parent's past.
    parent : address of the run it branches from.
    flops : of its own updates; None where it is not known.
    memory : bytes it is estimated to need; None likewise.
    facts : scalars that the table of results shows: seed, sizes, and what the grid varies.
    """

    name: str
    address: str
    kind: str
    payload: Mapping[str, Any]
    schedule: str
    steps: int
    branch_step: int = 0
    parent: str | None = None
    flops: float | None = None
    memory: int | None = None
    facts: Mapping[str, str | float | int | bool] = field(default_factory=dict)

    @property
    def updates(self) -> int:
        """Updates of its own."""
        return self.steps - self.branch_step

    @property
    def cost(self) -> float:
        """FLOPs of an update; 0 where they are not known."""
        return (self.flops or 0.0) / self.updates


@dataclass(frozen=True)
class Plan:
    """The runs of a sweep, parents before their branches.

    Parameters
    ----------
    name : of the sweep.
    code : version of the training's code when it was planned.
    jobs : the runs.
    hours_a_run : most hours of one go of a run; None for no limit.
    deaths : how many workers may die in a run, without progress, before it counts as failed.
    """

    name: str
    code: str
    jobs: tuple[Job, ...]
    hours_a_run: float | None = None
    deaths: int = 5


def address_of(content: Mapping[str, Any]) -> str:
    """Hash of what decides a curve: 20 hexadecimal digits.

    >>> address_of({"a": 1, "b": 2}) == address_of({"b": 2, "a": 1})
    True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:20]


def write_plan(folder: Path, plan: Plan) -> None:
    """Write the plan into a sweep's folder, in place of the one before.

    Raises
    ------
    ResultError
        If the disk refuses.
    """
    header = {"lehr_sweep": VERSION, **{key: value for key, value in vars(plan).items() if key != "jobs"}}
    lines = [json.dumps(header), *(json.dumps(asdict(job), allow_nan=False) for job in plan.jobs)]
    write_atomic(folder / PLAN, "\n".join(lines) + "\n")


def read_plan(folder: Path) -> Plan:
    """Read the plan of a sweep's folder.

    Raises
    ------
    InputError
        If there is none, or it is damaged; the message names the line.
    """
    path = folder / PLAN
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError:
        raise InputError(f"{folder} holds no sweep: begin one with `lehr sweep run SWEEP.toml`.") from None
    except UnicodeDecodeError:
        raise _damaged(path, 1) from None
    values = _object(lines[0] if lines else "", path, 1)
    if values.pop("lehr_sweep", None) != VERSION:
        raise InputError(f"{path} is no plan of version {VERSION}: `lehr sweep run` writes it anew.")
    jobs = []
    for number, value in enumerate(_objects(lines[1:], path), start=2):
        try:
            jobs.append(Job(**value))
        except TypeError:
            raise _damaged(path, number) from None
    try:
        return Plan(jobs=tuple(jobs), **values)
    except TypeError:
        raise _damaged(path, 1) from None


def find_jobs(plan: Plan, names: Sequence[str]) -> list[Job]:
    """Runs by their names, patterns of them, or addresses; all without any.

    Raises
    ------
    InputError
        If one matches nothing.
    """
    from fnmatch import fnmatchcase

    from lehr.errors import unknown

    if not names:
        return list(plan.jobs)
    chosen: dict[str, Job] = {}
    for name in names:
        found = [job for job in plan.jobs if fnmatchcase(job.name, name) or job.address == name]
        if not found:
            raise unknown(f"run of sweep {plan.name!r}", name, [job.name for job in plan.jobs])
        chosen |= {job.address: job for job in found}
    return list(chosen.values())


def _objects(lines: Sequence[str], path: Path) -> list[dict[str, Any]]:
    """The lines from the second on, read at once; one by one where that fails, so that the wrong one is named."""
    try:
        values = json.loads(f"[{','.join(lines)}]")
    except (ValueError, RecursionError):
        values = []
    if len(values) == len(lines) and all(isinstance(value, dict) for value in values):
        return list(values)
    return [_object(line, path, number) for number, line in enumerate(lines, start=2)]


def _object(line: str, path: Path, number: int) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        raise _damaged(path, number) from None
    if not isinstance(value, dict):
        raise _damaged(path, number)
    return value


def _damaged(path: Path, number: int) -> InputError:
    return InputError(
        f"{path}, line {number} is damaged: `lehr sweep run` writes it anew, no result is lost."
    )
