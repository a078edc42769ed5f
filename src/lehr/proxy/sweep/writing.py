"""A SWEEP.toml for runs that a plan asks for, checked by what reads it before it is written."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lehr.errors import InputError
from lehr.files import write_atomic
from lehr.proxy.sweep.base import Base
from lehr.proxy.sweep.jobs import Plan
from lehr.proxy.sweep.placeholders import names_in
from lehr.proxy.sweep.planning import plan_sweep
from lehr.proxy.sweep.spec import make_sweep

TO_FILL_IN = """# fill in your training command, with the placeholders of docs/sweeps.md and of [[runs]];
# its runs are whole ones: a command that can go on from a trunk names {{parent_out}} in a --base of its own
# run = "python train.py --schedule {{schedule_torch}} --seed {{seed}}{size} --out {{out}}"
# log = "{{out}}/metrics.jsonl"
"""


@dataclass(frozen=True)
class Entry:
    """A run of the file, or a trunk with its cooldowns.

    Parameters
    ----------
    name : of the run.
    fields : fields of `lehr train` by dotted name, and placeholders.
    ratios : shares of a run that its cooldowns take; empty for a run by itself.
    ends : updates of the whole life at which the cooldowns end, each with each ratio.
    """

    name: str
    fields: Mapping[str, Any]
    ratios: tuple[float, ...] = ()
    ends: tuple[int, ...] = ()


@dataclass(frozen=True)
class Draft:
    """What a file is to say.

    Parameters
    ----------
    name : of the sweep.
    base : what all runs share.
    schedule : spec, with placeholders that every entry gives.
    entries : the runs.
    about : lines that say where it came from.
    values : placeholders that all runs share, beside those of the base.
    """

    name: str
    base: Base
    schedule: str
    entries: tuple[Entry, ...]
    about: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


def check_free(path: Path) -> None:
    """Refuse a place that is taken, before anything is computed.

    Raises
    ------
    InputError
        If there is a file, or no folder for it.
    """
    if path.exists() or path.is_symlink():
        raise InputError(f"{path} exists: name another file, or remove it.")
    if not path.parent.is_dir():
        raise InputError(f"the folder of {path} does not exist: create it first.")


def sweep_name(path: Path) -> str:
    """Name of a sweep after its file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:60] or "sweep"


def write_sweep(path: Path, draft: Draft) -> Plan | None:
    """Write the file; return its plan, None where the command is left for the user to fill in.

    Raises
    ------
    InputError
        If the place is taken, the base lacks what the runs need, or runs would be the same to the base's command.
    ResultError
        If it cannot be written.
    """
    check_free(path)
    text = sweep_text(draft)
    plan = None
    if draft.base.source:
        plan = plan_sweep(make_sweep(tomllib.loads(text), str(path)), str(path)).plan
        wanted = sum(1 + len(entry.ratios) * len(entry.ends) for entry in draft.entries)
        if len(plan.jobs) != wanted:
            raise InputError(
                f"{draft.base.source}: {wanted} runs are planned, but only {len(plan.jobs)} differ in what the "
                "command is told: name what varies in it, such as {params} and {schedule_torch}."
            )
    write_atomic(path, text)
    return plan


def sweep_text(draft: Draft) -> str:
    """The file's text."""
    base = draft.base
    parts = ["".join(f"# {_one_line(line)}\n" for line in draft.about) + f"name = {_value(draft.name)}"]
    tables = {key: value for key, value in base.tables.items() if key != "name"}
    training: dict[str, Any] = {"schedule": draft.schedule}
    if base.config is not None:
        training |= {k: v for k, v in tables.pop("training").items() if k not in ("schedule", "keep", "seed")}
        parts[0] += f"\nseeds = [{base.config.training.seed}]"
    else:
        parts[0] += "\nseeds = [0]"
    values = {**tables.pop("values", {}), **draft.values}
    if not base.source:
        named = any("params" in entry.fields for entry in draft.entries)  # of several sizes
        parts.append("[command]\n" + TO_FILL_IN.format(size=" --params {params}" if named else "").rstrip())
    for name, table in tables.items():
        parts.append(_table(name, table))
    parts.append(_table("training", training))
    if base.warmup is None and "warmup" in names_in(draft.schedule):
        parts.append("[values]\n# warmup = 500   # fill in: updates of warm-up, 0 for none"
                     + "".join(f"\n{_key(k)} = {_value(v)}" for k, v in values.items()))  # fmt: skip
    elif values:
        parts.append(_table("values", values))
    parts += [_entry(entry) for entry in draft.entries]
    return "\n\n".join(parts) + "\n"


def _entry(entry: Entry) -> str:
    lines = ["[[runs]]", f"name = {_value(entry.name)}"]
    lines += [f"{'.'.join(map(_key, key.split('.')))} = {_value(v)}" for key, v in entry.fields.items()]
    if entry.ratios:
        lines += [f"cooldowns.ratios = {_value(entry.ratios)}", f"cooldowns.steps = {_value(entry.ends)}"]
    return "\n".join(lines)


def _table(name: str, table: Mapping[str, Any]) -> str:
    """A table, those within it after its own keys."""
    own = [f"{_key(key)} = {_value(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    inner = [_table(f"{name}.{_key(k)}", value) for k, value in table.items() if isinstance(value, Mapping)]
    return "\n\n".join(["\n".join([f"[{name}]", *own]), *inner])


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _text(key)


def _value(value: Any) -> str:
    """A value as TOML writes it; `repr` gives every float back."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(k)} = {_value(v)}" for k, v in value.items()) + " }"
    if isinstance(value, Sequence):
        return f"[{', '.join(_value(each) for each in value)}]"
    raise InputError(f"a sweep's file holds no dates, got {value}: leave it out.")


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _one_line(text: str) -> str:
    """Text without what could end a comment or steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)
