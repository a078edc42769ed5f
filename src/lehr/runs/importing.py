"""What an import would add to a store: logs found, read, joined, and linked to what they branched from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lehr.errors import InputError, bad
from lehr.runs.branches import find_branches
from lehr.runs.discovery import find_logs
from lehr.runs.parents import resolve_parents
from lehr.runs.readers import read_all
from lehr.runs.readers.reading import Reading, ReadOptions
from lehr.runs.run import Run
from lehr.runs.store import is_store, list_runs, load_runs

MOST_NAMED = 5  # files in a sentence


@dataclass(frozen=True)
class Import:
    """Runs that are ready to be stored.

    Parameters
    ----------
    runs : with their parents.
    reports : by name, what was recognised, joined, corrected and dropped.
    remarks : what concerns several of them, or files that were not read.
    """

    runs: tuple[Run, ...]
    reports: Mapping[str, tuple[str, ...]]
    remarks: tuple[str, ...]


def prepare(
    paths: Sequence[Path | str], store: Path | str, options: ReadOptions | None = None, *, format: str = "auto",
    parent: str | None = None, branch_step: int | None = None, meta: Mapping[str, str | float | int] | None = None,
    skip_unreadable: bool = False,
) -> Import:  # fmt: skip
    """Read logs for a store; nothing is written.

    Parameters
    ----------
    paths : files, folders or patterns, see `lehr.runs.discovery.find_logs`.
    store : where parents are looked for; need not exist.
    options : how to read the logs.
    format : of all logs, or "auto".
    parent, branch_step : of all runs read. A log that begins late, and whose LRs are logged, takes its past from
        `parent`, if that is stored.
    meta : said of all runs read.
    skip_unreadable : leave out logs that cannot be read and say so, in place of refusing the import.

    Raises
    ------
    InputError
        If a log cannot be read, names repeat, or a branch contradicts its parent.
    """
    options = options or ReadOptions()
    if parent is not None and branch_step and options.past is None and is_store(store):
        options = _with_past(options, store, parent, branch_step)
    found = find_logs(paths, format)
    remarks = _of_others(found.others)
    readings = list(_read(found.logs, options, skip_unreadable, remarks))
    if not readings:
        raise InputError("none of the logs could be read: " + "; ".join(remarks))
    runs = [replace(reading.run, meta={**reading.run.meta, **(meta or {})}) for reading in readings]
    _check_names(runs, readings)
    if parent is not None or branch_step is not None:
        runs = [_branch(run, parent, branch_step) for run in runs]
    branched, told = find_branches(runs)
    remarks += told
    stored = _relatives(store, branched)
    _, family = resolve_parents([*stored, *branched])
    reports = {run.name: reading.report for run, reading in zip(branched, readings, strict=True)}
    return Import(branched, reports, (*remarks, *family))


def _with_past(options: ReadOptions, store: Path | str, parent: str, branch_step: int) -> ReadOptions:
    if parent not in {record["name"] for record in list_runs(store)}:
        return options
    past = load_runs(store, [parent])[parent].schedule
    if branch_step > past.steps:
        raise bad(
            "--branch-step", f"must lie within the {past.steps} updates of {parent!r}", branch_step,
            "correct it or --parent",
        )  # fmt: skip
    return replace(options, past=past.first(branch_step))


def _of_others(others: Sequence[Path]) -> list[str]:
    if not others:
        return []
    named = ", ".join(path.name for path in others[:MOST_NAMED])
    more = f" and {len(others) - MOST_NAMED} more" if len(others) > MOST_NAMED else ""
    return [f"{len(others)} files are no logs: {named}{more}"]


def _read(
    logs: Sequence[tuple[Path, str]], options: ReadOptions, skip: bool, remarks: list[str]
) -> Iterable[Reading]:
    """Read logs by format, so that parts of one run are joined; one by one where unreadable ones are skipped."""
    by_format: dict[str, list[Path]] = {}
    for path, name in logs:
        by_format.setdefault(name, []).append(path)
    for name, paths in by_format.items():
        try:
            yield from read_all(paths, options, name)
            continue
        except InputError as error:
            if not skip:
                if len(logs) > 1:
                    raise InputError(
                        f"{error} Nothing was imported; --skip-unreadable leaves such logs out."
                    ) from error
                raise
        good = []
        for path in paths:
            try:
                read_all([path], options, name)
                good.append(path)
            except InputError as error:
                remarks.append(f"left out: {error}")
        if good:
            yield from read_all(good, options, name)


def _check_names(runs: Sequence[Run], readings: Sequence[Reading]) -> None:
    sources: dict[str, str] = {}
    for run, reading in zip(runs, readings, strict=True):
        source = str(reading.run.meta.get("source", ""))
        if run.name in sources:
            raise InputError(
                f"two runs are called {run.name!r}, in {sources[run.name]} and {source}: "
                "import one of them with a --name of its own."
            )
        sources[run.name] = source


def _branch(run: Run, parent: str | None, branch_step: int | None) -> Run:
    """Return the run as a branch, without the points up to there."""
    own = run.step > (branch_step if branch_step is not None else -1)
    return replace(run, parent=parent, branch_step=branch_step, step=run.step[own], loss=run.loss[own])


def _relatives(store: Path | str, runs: Sequence[Run]) -> list[Run]:
    """Return the stored ancestors and children of runs, so that they can be checked against each other."""
    if not is_store(store):
        return []
    records = {str(record["name"]): record for record in list_runs(store)}
    names = {run.name for run in runs}
    wanted: dict[str, None] = {}
    for run in runs:
        parent = run.parent
        while parent is not None and parent in records and parent not in names and parent not in wanted:
            wanted[parent] = None
            parent = records[parent]["parent"]
    wanted |= {
        name: None for name, record in records.items() if record["parent"] in names and name not in names
    }
    return list(load_runs(store, wanted)) if wanted else []
