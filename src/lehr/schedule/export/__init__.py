"""Exporters: a schedule for a framework, one file each. Adding one: one file, one line in `EXPORTERS`.

A file has `settings(schedule)`, the framework's own arguments at their nearest, or `code(schedule)`, a
snippet that follows the schedule exactly, or both. Each models the framework's own step convention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from lehr.errors import InputError, unknown
from lehr.schedule.export import csv, deepspeed, hf, megatron, olmo_core, optax, torch, torchtitan
from lehr.schedule.export.export import Export
from lehr.schedule.schedule import Schedule

FORMS = ("auto", "settings", "code")
Make = Callable[[Schedule], Export]


@dataclass(frozen=True)
class Exporter:
    """What a framework can be given: code, and its own settings if it has any for schedules."""

    code: Make
    settings: Make | None = None


EXPORTERS: dict[str, Exporter] = {
    "torch": Exporter(torch.code),
    "hf": Exporter(hf.code, hf.settings),
    "megatron": Exporter(megatron.code, megatron.settings),
    "torchtitan": Exporter(torchtitan.code, torchtitan.settings),
    "olmo-core": Exporter(olmo_core.code, olmo_core.settings),
    "optax": Exporter(optax.code),
    "deepspeed": Exporter(deepspeed.code, deepspeed.settings),
    "csv": Exporter(csv.code),
}


def export(schedule: Schedule, framework: str, form: str = "auto") -> Export:
    """Write `schedule` for a framework.

    Parameters
    ----------
    schedule : the schedule.
    framework : a name in `EXPORTERS`.
    form : "settings", the framework's own arguments; "code", a snippet; "auto", the settings where they say
        the schedule exactly, else code, with the nearest settings beside it.

    Raises
    ------
    InputError
        If a name is unknown, the framework has no settings for schedules, or the schedule cannot be exported.
    """
    if framework not in EXPORTERS:
        raise unknown("framework", framework, EXPORTERS)
    if form not in FORMS:
        raise unknown("form of an export", form, FORMS)
    exporter = EXPORTERS[framework]
    if form == "settings" and exporter.settings is None:
        raise InputError(f"{framework} has no settings for schedules, only code: leave the form at auto.")
    own = exporter.settings(schedule) if exporter.settings and form != "code" else None
    if own and (own.exact or form == "settings"):
        return own
    return replace(exporter.code(schedule), nearest=own)
