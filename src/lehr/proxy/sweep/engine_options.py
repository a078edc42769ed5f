"""What a sweep's file says of clusters: the tables `[engine.slurm]` and `[engine.ray]`. They are no part of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, ValidationError, model_validator

from lehr.errors import InputError
from lehr.proxy.config import Count, Part, Positive, read_toml

EARLY = 60  # seconds by which Slurm may send a signal too soon
Word = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[^\s]+$")]


class SlurmOptions(Part):
    """How a worker's job is asked for; `[engine.slurm]`.

    Parameters
    ----------
    partition, account, qos, constraint : as sbatch has them.
    time_limit : of a job, as sbatch has it ("4:00:00", or minutes).
    nodes : of a job; with more than one the worker is on the first, and its command starts the others (srun).
    gpus_per_node, cpus : of a job; cpus of its task, which are also its threads.
    memory : of a node, as sbatch has it ("32G").
    notice : seconds before the time limit at which the worker is told to save and go.
    setup : lines of shell before the worker begins, such as "module load cuda".
    options : further options of sbatch, each of the form --name=value.
    poll : seconds between two questions to Slurm.
    """

    partition: Word | None = None
    account: Word | None = None
    qos: Word | None = None
    constraint: Word | None = None
    time_limit: Annotated[str, Field(pattern=r"^[0-9]+(-[0-9]+)?(:[0-9]+){0,2}$")] | None = None
    nodes: Count = 1
    gpus_per_node: Count | None = None
    cpus: Count = 1
    memory: Annotated[str, Field(pattern=r"^[0-9]+[KMGT]?$")] | None = None
    notice: Count = 120
    setup: tuple[str, ...] = ()
    options: tuple[Annotated[str, Field(pattern=r"^--[a-z][a-z-]*(=.*)?$")], ...] = ()
    poll: Positive = 10.0

    @model_validator(mode="after")
    def _time_to_work(self) -> Self:
        limit = _seconds(self.time_limit) if self.time_limit else 0
        if 0 < limit <= self.notice + EARLY:
            raise ValueError(
                f"a job of time_limit {self.time_limit} would be told to save as soon as it begins: Slurm may tell it "
                f"{EARLY} s before its notice of {self.notice} s; ask for more time, or for less notice"
            )
        return self


def _seconds(limit: str) -> int:
    """Seconds of a time as sbatch has it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S."""
    days, dash, rest = limit.rpartition("-")
    fields = [int(field) for field in rest.split(":")]
    if dash or len(fields) == 3:
        hours, minutes, seconds = (fields + [0, 0])[:3]
    else:
        hours, minutes, seconds = 0, *(fields + [0])[:2]
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + seconds


class RayOptions(Part):
    """Where a Ray cluster is, and what a worker takes of it; `[engine.ray]`.

    Parameters
    ----------
    address : HOST:PORT of its head; "auto" (the default) for the one that RAY_ADDRESS names or that runs here.
    cpus, gpus : of a worker; a run's threads are as many as its cpus. By default a GPU where the cluster has any.
    memory : bytes that a worker reserves.
    resources : further resources of the cluster, by name.
    """

    address: Word = "auto"
    cpus: Count = 1
    gpus: Annotated[float, Field(ge=0)] | None = None
    memory: Count | None = None
    resources: dict[str, Positive] = {}


class EngineOptions(Part):
    """The tables below `[engine]`, by engine."""

    slurm: SlurmOptions = SlurmOptions()
    ray: RayOptions = RayOptions()


def load_engine_options(path: Path) -> EngineOptions:
    """Read the tables `[engine.slurm]` and `[engine.ray]` of a TOML file, whatever else it holds.

    Raises
    ------
    InputError
        If the file is missing or no TOML, or a key is unknown or wrong; the message names file and key.
    """
    tables = read_toml(path).get("engine", {})
    try:
        return EngineOptions.model_validate(tables)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(["engine", *(str(part) for part in first["loc"])])
        rule = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{path}: {where}: {rule}, got {first['input']!r}: correct it.") from None
