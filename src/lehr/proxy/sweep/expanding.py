"""From a SWEEP.toml to its runs: the grid's combinations, checked and named, with the cooldowns of each."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from lehr.errors import InputError, bad, unknown
from lehr.proxy.config import TrainConfig
from lehr.proxy.sweep.placeholders import fill, names_in
from lehr.proxy.sweep.spec import MOST_RUNS, Cooldowns, SweepSpec
from lehr.schedule.families import wsd
from lehr.schedule.schedule import Schedule
from lehr.schedule.spec import parse, to_text

TABLES = ("model", "data", "optimizer", "training", "transfer")
LONGEST = 24  # characters of a value in a name


@dataclass(frozen=True)
class Point:
    """One combination of the grid, or one of the listed runs.

    Parameters
    ----------
    name : of the run.
    tables : those of `lehr train`, changed accordingly; the schedule is not filled in yet.
    values : placeholders.
    varied : what distinguishes it, by short name.
    cooldowns : what it says of cooldowns in place of the table that all share.
    """

    name: str
    tables: dict[str, Any]
    values: dict[str, Any]
    varied: dict[str, Any]
    cooldowns: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Life:
    """A run's schedule, and where it branches off.

    Parameters
    ----------
    name : of the run.
    plan : of the whole life.
    trunk : name of the run it branches from, None for none.
    branch_step : updates done there.
    keep : updates whose checkpoints its branches need.
    """

    name: str
    plan: Schedule
    trunk: str | None = None
    branch_step: int = 0
    keep: tuple[int, ...] = ()


def points(spec: SweepSpec, source: str) -> list[Point]:
    """All combinations of the grid, and the listed runs, each with each seed.

    Raises
    ------
    InputError
        If the grid has no or too many combinations, or varies what is no field and stands in no placeholder.
    """
    grid = {key: _listed(key, values, source) for key, values in _flat(spec.grid).items()}
    seeds = {"training.seed": spec.seeds} if spec.seeds else {}
    both = [key for key in seeds if key in grid]
    if both:
        raise InputError(f"{source}: seeds and grid.training.seed say the same: give one of them.")
    total = (math.prod(map(len, grid.values())) * bool(grid or not spec.runs) + len(spec.runs)) * len(
        spec.seeds or "1"
    )
    if total > MOST_RUNS:
        raise bad(f"{source}: the runs of the grid", f"must not exceed {MOST_RUNS}", total, "vary less")
    used = names_in(str(spec.training["schedule"])) | (
        names_in(spec.command.run) | names_in(spec.command.log or "") if spec.command else set()
    )
    found = []
    for number, chosen in enumerate(_combinations(spec, grid, source), start=1):
        for seed in itertools.product(*seeds.values()):
            given = dict(chosen) | dict(zip(seeds, seed, strict=True))
            found.append(_point(spec, given, used, number, source))
    return found


def _combinations(
    spec: SweepSpec, grid: Mapping[str, tuple[Any, ...]], source: str
) -> Iterator[dict[str, Any]]:
    if grid or not spec.runs:
        for values in itertools.product(*grid.values()):
            yield dict(zip(grid, values, strict=True))
    for table in spec.runs:
        yield _flat(table)


def _point(spec: SweepSpec, given: dict[str, Any], used: set[str], number: int, source: str) -> Point:
    own = given.pop("name", None)
    tables: dict[str, Any] = {
        name: _copy(getattr(spec, name)) for name in TABLES if getattr(spec, name) is not None
    }
    values = dict(spec.values)
    cooldowns: dict[str, Any] = {}
    for key, value in given.items():
        table, _, rest = key.partition(".")
        if rest and table == "cooldowns":
            cooldowns[rest] = value
        elif rest and table in TABLES:
            if spec.command and key not in ("training.schedule", "training.seed"):
                raise InputError(f"{source}: {key} says nothing to a [command]: vary a placeholder of it.")
            _put(tables.setdefault(table, {}), rest.split("."), value, f"{source}: {key}")
        else:
            if key not in used and not (spec.command and key in ("params", "params_total", "batch_tokens")):
                known = [*used, *(f"{name}.{field}" for name in ("model", "optimizer", "training") for field in
                                  _fields(name))]  # fmt: skip
                raise InputError(
                    f"{source}: the grid varies {key!r}, which is neither a field nor a placeholder that is used: "
                    f"{unknown('field', key, known)}"
                )
            values[key] = value
    for key, value in values.items():
        if not isinstance(value, str | int | float):
            raise bad(f"{source}: {key}", "must be text, a number or a truth value", value, "correct it")
    _check_finite({"values": values, **tables}, source)
    varied = _short(given)
    if own is None:
        name = "-".join([spec.name, *_labels(varied, number)])
    else:
        name = f"{own}-seed{given['training.seed']}" if len(spec.seeds) > 1 else str(own)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+=-]{0,199}", name):
        raise bad(f"{source}: name", "must be of letters, digits and . _ - + =", name, "rename the run")
    return Point(name, tables, values, varied, cooldowns)


def lives(spec: SweepSpec, point: Point, source: str) -> list[Life]:
    """The run of a point, and the cooldowns that branch from it.

    Raises
    ------
    InputError
        If the schedule lacks a value or cannot be parsed, or a cooldown does not fit the trunk.
    """
    where = f"{source}: run {point.name}"
    text = fill(str(point.tables["training"]["schedule"]), point.values, f"{where}: training.schedule")
    try:
        plan = parse(text)
    except InputError as error:
        raise InputError(f"{where}: training.schedule: {error}") from None
    cooldowns = _cooldowns(spec, point, where)
    if cooldowns is None:
        return [Life(point.name, plan)]
    forks = list(_forks(cooldowns, point.name, plan, where))
    keep = tuple(sorted({fork.branch_step for fork in forks}))
    return [Life(point.name, plan, keep=keep), *forks]


def _cooldowns(spec: SweepSpec, point: Point, where: str) -> Cooldowns | None:
    """The cooldowns of one trunk: the table that all share, changed by what the run says."""
    if not point.cooldowns:
        return spec.cooldowns
    common = spec.cooldowns.model_dump() if spec.cooldowns else {}
    try:
        return Cooldowns.model_validate(common | point.cooldowns)
    except ValidationError as error:
        errors = error.errors()
        first = next((each for each in errors if each["type"] == "extra_forbidden"), errors[0])
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "missing":
            raise InputError(f"{where}: cooldowns.{key} is missing: give it.") from None
        if first["type"] == "extra_forbidden":
            raise InputError(
                f"{where}: {unknown('key of [cooldowns]', key, Cooldowns.model_fields)}"
            ) from None
        rule = first["msg"].removeprefix("Input should be ")
        raise bad(f"{where}: cooldowns.{key}", f"must be {rule}", first["input"], "correct it") from None


def _forks(table: Cooldowns, trunk: str, plan: Schedule, where: str) -> Iterator[Life]:
    family, arguments = plan.call or ("", ())
    if family != "constant":
        raise bad(
            f"{where}: training.schedule", "must be constant(...) where [cooldowns] branch from it", to_text(plan),
            "give the trunk's schedule; the decays are the cooldowns'",
        )  # fmt: skip
    own: dict[str, Any] = {key: value for key, value in arguments if key not in ("steps", "peak")}
    warmup = int(own.get("warmup", 0))
    for end, ratio, shape in itertools.product(table.steps or (plan.steps,), table.ratios, table.shapes):
        decay = round(ratio * end)
        start = end - decay
        if not (max(warmup, 1) <= start <= plan.steps and decay >= 1):
            raise bad(
                f"{where}: the cooldown of ratio {ratio:g} that ends at step {end}",
                f"must begin after the warm-up, at step {max(warmup, 1)} or later, and within the trunk's {plan.steps} "
                "updates", start, "change cooldowns.ratios or cooldowns.steps",
            )  # fmt: skip
        name = f"{trunk}-r{ratio:g}" + (f"-{end}" if table.steps else "") + (
            f"-{shape.replace('(', '').replace(')', '')}" if len(table.shapes) > 1 else ""
        )  # fmt: skip
        try:
            life = wsd(
                steps=end, peak=plan.peak, decay=decay, shape=shape, final=table.final * plan.peak, **own
            )
        except InputError as error:
            raise InputError(f"{where}: cooldowns: {error}") from None
        yield Life(name, life, trunk, start)


def _listed(key: str, values: Any, source: str) -> tuple[Any, ...]:
    if not isinstance(values, tuple):
        raise bad(f"{source}: grid.{key}", "must be a list of values", values, "write it as [a, b, ...]")
    if not values:
        raise InputError(f"{source}: grid.{key} is empty, so that there is no run: give at least one value.")
    return values


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one with dotted keys, such as "model.width"; tables within lists are values."""
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _copy(value: Any) -> Any:
    return {key: _copy(each) for key, each in value.items()} if isinstance(value, dict) else value


def _check_finite(value: Any, source: str, prefix: str = "") -> None:
    """Refuse numbers that are not finite, wherever they stand."""
    if isinstance(value, dict):
        for key, each in value.items():
            _check_finite(each, source, f"{prefix}.{key}" if prefix else key)
    elif isinstance(value, tuple):
        for each in value:
            _check_finite(each, source, prefix)
    elif isinstance(value, float) and not math.isfinite(value):
        raise bad(f"{source}: {prefix}", "must be finite", value, "correct it")


def _put(table: dict[str, Any], keys: list[str], value: Any, where: str) -> None:
    for key in keys[:-1]:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise InputError(f"{where}: {key} is no table: correct the field.")
    table[keys[-1]] = value


def _fields(name: str) -> list[str]:
    part = TrainConfig.model_fields[name].annotation
    return list(getattr(part, "model_fields", ()))


def _short(given: Mapping[str, Any]) -> dict[str, Any]:
    """What varies, by the last part of its key where that is unique."""
    last = [key.rpartition(".")[2] for key in given]
    return {
        (short if last.count(short) == 1 else key.replace(".", "_")): value
        for (key, value), short in zip(given.items(), last, strict=True)
    }


def _labels(varied: Mapping[str, Any], number: int) -> list[str]:
    """Parts of a name; what cannot be written shortly is told by the number of the combination."""
    labels, long = [], False
    for key, value in varied.items():
        text = repr(value) if isinstance(value, int | float) else value if isinstance(value, str) else ""
        if re.fullmatch(rf"[A-Za-z0-9._+-]{{1,{LONGEST}}}", text):
            labels.append(f"{key}{text}")
        else:
            long = True
    return [*labels, *([str(number)] if long else [])]
