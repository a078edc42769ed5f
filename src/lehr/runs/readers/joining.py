"""Logs of one run, from several files, as one log.

A run that was resumed, requeued or saved in chunks leaves one file a part. The parts are put one after another, by
the time of their first entry where all tell it, else by their first step; which of the entries led to the end of
training is settled later, as for a file with several segments (`lehr.runs.clean.stitch`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from lehr.errors import InputError, bad
from lehr.runs.readers.raw import Log, Series

_ALIKE = ("axis", "parent", "branch_step")


def join_logs(logs: Iterable[Log]) -> tuple[Log, ...]:
    """Return one log for each run, in the order of their first parts.

    Runs of one name get the end of their origins before it, as much as tells them apart.

    Raises
    ------
    InputError
        If parts of one run differ in their axis or parent, naming both files.
    """
    parts: dict[tuple[str, str], list[Log]] = {}
    for log in logs:
        parts.setdefault((log.name, log.origin), []).append(log)
    origins: dict[str, list[str]] = {}
    for name, origin in parts:
        origins.setdefault(name, []).append(origin)
    joined = [each[0] if len(each) == 1 else _joined(each) for each in parts.values()]
    return tuple(
        log if len(origins[log.name]) == 1 else replace(log, name=_told_apart(log, origins[log.name]))
        for log in joined
    )


def _told_apart(log: Log, origins: list[str]) -> str:
    """Put the last parts of the log's origin before its name, as many as no other origin ends in."""
    mine = log.origin.split("/")
    others = [origin.split("/") for origin in origins if origin != log.origin]
    depth = next((n for n in range(1, len(mine)) if all(o[-n:] != mine[-n:] for o in others)), len(mine))
    return "/".join([*mine[-depth:], log.name])


def _joined(logs: list[Log]) -> Log:
    for log in logs[1:]:
        for field in _ALIKE:
            if getattr(log, field) != getattr(logs[0], field):
                raise bad(
                    f"{log.source}: {field} of run {log.name!r}",
                    f"must be that in {logs[0].source}, {getattr(logs[0], field)!r}", getattr(log, field),
                    "give the files of different runs names of their own with --name, one import each",
                )  # fmt: skip
    begins = [_begin(log) for log in logs]
    timed = all(time is not None for time, _, _ in begins)
    keys = [(time if timed and time is not None else 0.0, first, last) for time, first, last in begins]
    ordered = [logs[index] for index in sorted(range(len(logs)), key=keys.__getitem__)]
    if not timed:
        for before, after in pairwise(ordered):
            _check_same_run(before, after)
    names = dict.fromkeys(name for log in ordered for name in log.series)
    config = {key: value for log in ordered for key, value in log.config.items()}
    last = ordered[-1]
    what = f"{len(logs)} files are parts of {last.name!r}, in this order: " + ", ".join(
        Path(log.source).name for log in ordered
    )
    return replace(
        last,
        source=f"{ordered[0].source} and {len(logs) - 1} more",
        order="oldest-first",
        locate=None,
        series={name: _one([log.series[name] for log in ordered if name in log.series]) for name in names},
        config=config,
        roles={key: value for log in ordered for key, value in log.roles.items()},
        bits=frozenset().union(*(log.bits for log in ordered)),
        schedule=next((log.schedule for log in reversed(ordered) if log.schedule is not None), None),
        total_steps=next((log.total_steps for log in reversed(ordered) if log.total_steps), None),
        batch_tokens=next((log.batch_tokens for log in reversed(ordered) if log.batch_tokens), None),
        params=next((log.params for log in reversed(ordered) if log.params), None),
        params_total=next((log.params_total for log in reversed(ordered) if log.params_total), None),
        report=(what, *dict.fromkeys(line for log in ordered for line in log.report)),
    )


def _check_same_run(before: Log, after: Log) -> None:
    """Refuse parts that begin alike and then differ: without times they may as well be two runs."""
    for name in before.series.keys() & after.series.keys():
        one, two = before.series[name], after.series[name]
        if one.step.size and two.step.size and one.step[0] == two.step[0] and one.value[0] != two.value[0]:
            raise InputError(
                f"{before.source} and {after.source} both begin at step {one.step[0]:g}, with {name} {one.value[0]:g} "
                f"and {two.value[0]:g}: they are not parts of one run {after.name!r}: give them names of their own."
            )


def _begin(log: Log) -> tuple[float | None, float, float]:
    """Time of the first entry, None where it is not told; first and last step."""
    filled = [series for series in log.series.values() if series.step.size]
    if not filled:
        return (None, 0.0, 0.0)
    times = [float(s.time.min()) for s in filled if s.time is not None and np.isfinite(s.time).all()]
    time = min(times) if len(times) == len(filled) else None
    return (time, min(float(s.step[0]) for s in filled), max(float(s.step[-1]) for s in filled))


def _one(parts: list[Series]) -> Series:
    times = [part.time for part in parts if part.time is not None]
    return Series(
        np.concatenate([part.step for part in parts]),
        np.concatenate([part.value for part in parts]),
        np.concatenate(times) if len(times) == len(parts) else None,
    )
