"""SWEEP.toml: what is common to all runs, what the grid varies, which cooldowns are forked; checked when read.

The tables `[model]`, `[data]`, `[optimizer]`, `[training]` and `[transfer]` are those of `lehr train`. Beside them:

- `[grid]`: lists by field, such as `model.width` or `training.seed`, or by a name of one's own that stands as a
  {placeholder} in the schedule or the command; every combination is a run.
- `[[runs]]`: further runs, each a table of fields and placeholders.
- `[values]`: placeholders that all runs share. `seeds`: of the initial weights, each run with each.
- `[cooldowns]`: every run is a trunk of constant LR, from which cooldowns branch.
- `[command]`: the user's own training in place of lehr's. `[budget]`: what may not be exceeded.
- `[engine.slurm]`, `[engine.ray]`: what a worker takes of a cluster (`lehr.proxy.sweep.engine_options`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import Field, ValidationError, model_validator

from lehr.errors import InputError, unknown
from lehr.proxy.config import Count, Part, Positive, read_toml
from lehr.proxy.sweep.engine_options import EngineOptions, RayOptions, SlurmOptions

MOST_RUNS = 100_000
Table = dict[str, Any]


class Cooldowns(Part):
    """Decays forked from every trunk; `[cooldowns]`.

    Parameters
    ----------
    ratios : annealing ratios, decaying updates over all.
    steps : updates of the whole life at which decays end; by default the trunk's.
    shapes : of the decays.
    final : LR at the end, as a share of the peak.
    """

    ratios: Annotated[tuple[Annotated[float, Field(gt=0, lt=1)], ...], Field(min_length=1)]
    steps: tuple[Count, ...] = ()
    shapes: Annotated[tuple[str, ...], Field(min_length=1)] = ("linear",)
    final: Annotated[float, Field(ge=0, lt=1)] = 0.0


class Command(Part):
    """The user's own training; `[command]`.

    Parameters
    ----------
    run : the command with {placeholders}, split into words as a shell would, but run without one.
    log : its log, with placeholders such as "{out}/metrics.jsonl"; by default the only log in {out}.
    code : files and folders whose content belongs to the run's identity.
    resume : whether a further go gets the {out} of the one before, because the command goes on from there.
    grace : seconds it may take to save and end when it is told to stop, before it is killed.
    environment : variables beside those that are there.
    """

    run: Annotated[str, Field(min_length=1)]
    log: str | None = None
    code: tuple[str, ...] = ()
    resume: bool = False
    grace: Positive = 10.0
    environment: dict[str, str] = {}


class Budget(Part):
    """What a sweep may cost at most; `[budget]`.

    Parameters
    ----------
    runs, flops : in all; more are refused before anything runs.
    hours_a_run : of one go; a run that takes longer counts as failed.
    deaths : workers that may die in a run without getting further, before it counts as failed.
    """

    runs: Count | None = None
    flops: Positive | None = None
    hours_a_run: Positive | None = None
    deaths: Count = 5


class SweepSpec(Part):
    """The file; see the module's text.

    Parameters
    ----------
    name : of the sweep; names of runs begin with it.
    """

    name: Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    model: Table | None = None
    data: Table | None = None
    optimizer: Table | None = None
    training: Table = {}
    transfer: Table | None = None
    values: Table = {}
    grid: Table = {}
    runs: tuple[Table, ...] = ()
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = ()
    cooldowns: Cooldowns | None = None
    command: Command | None = None
    budget: Budget = Budget()
    engine: EngineOptions = EngineOptions()

    @model_validator(mode="after")
    def _tables_of_its_kind(self) -> Self:
        if "schedule" not in self.training:
            raise ValueError(
                'training.schedule is missing: give a spec such as "constant(steps=2000, peak={peak_lr})"'
            )
        given = [
            name for name in ("model", "data", "optimizer", "transfer") if getattr(self, name) is not None
        ]
        if self.command is not None and given:
            raise ValueError(
                f"[{given[0]}] says nothing to a [command]: put what it needs into [values] and its placeholders"
            )
        if self.command is None and self.model is None:
            raise ValueError("[model] is missing: give it, or the [command] that trains")
        return self


TABLES: dict[str, type[Part]] = {
    "cooldowns": Cooldowns, "command": Command, "budget": Budget, "engine": EngineOptions,
    "engine.slurm": SlurmOptions, "engine.ray": RayOptions,
}  # fmt: skip


def load_sweep(path: Path | str) -> SweepSpec:
    """Read a SWEEP.toml.

    Raises
    ------
    InputError
        If the file is missing, no TOML, or a key is unknown, missing or wrong; the message names file and key.
    """
    return make_sweep(read_toml(Path(path)), str(path))


def make_sweep(values: Table, source: str) -> SweepSpec:
    """Check the tables of a SWEEP.toml; raises as `load_sweep` does, naming `source`."""
    try:
        return SweepSpec.model_validate(values)
    except ValidationError as error:
        raise _refused(error, source) from None


def _refused(error: ValidationError, source: str) -> InputError:
    found = error.errors()
    first = next((each for each in found if each["type"] == "extra_forbidden"), found[0])
    where = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        owner = ".".join(str(part) for part in first["loc"][:-1])
        keys = TABLES.get(owner, SweepSpec).model_fields
        return InputError(
            f"{source}: {unknown(f'key of [{owner}]' if owner else 'key', str(first['loc'][-1]), keys)}"
        )
    if first["type"] == "missing":
        return InputError(f"{source}: {where} is missing: give it.")
    rule = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    if first["type"] == "value_error":
        return InputError(f"{source}: {rule}.")
    return InputError(f"{source}: {where} must be {rule}, got {first['input']!r}: correct it.")
