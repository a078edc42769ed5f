"""Readers: one file a format, found by content. Adding a format is one file and one line here.

A reader gives logs as their tool wrote them (`lehr.runs.readers.raw`), which are joined and made into runs in the
same way for all; or, where a format says more than that value can hold, runs.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lehr.errors import InputError, bad, unknown
from lehr.runs.readers import (
    hf_console,
    json_lines,
    lehr_log,
    lightning_csv,
    litgpt_console,
    llmc,
    megatron,
    mlflow_files,
    mlflow_sqlite,
    modded_nanogpt,
    nanochat,
    nanogpt,
    nanotron,
    olmo_console,
    table,
    tensorboard,
    torchtitan,
    trackio,
    trainer_state,
    wandb_export,
    wandb_json,
    wandb_offline,
    wandb_online,
)
from lehr.runs.readers.assemble import assemble
from lehr.runs.readers.joining import join_logs
from lehr.runs.readers.raw import Log
from lehr.runs.readers.reading import Reading, ReadOptions, check_file


@dataclass(frozen=True)
class Format:
    """A log format.

    Parameters
    ----------
    sniff : tells it by content.
    why : what it is told by.
    logs : reads the logs in a file.
    read : reads runs instead, for a format with rules of its own.
    folder : its logs are folders, not files.
    address : its logs are on a server; `sniff` tells by the address alone.
    order : of the segments of its logs, see `Log`; "oldest-first" where the tool only ever appends.
    """

    sniff: Callable[[Path], bool]
    why: str
    logs: Callable[[Path, ReadOptions], Iterable[Log]] | None = None
    read: Callable[[Path, ReadOptions | None], tuple[Reading, ...]] | None = None
    folder: bool = False
    address: bool = False
    order: str = "auto"


_APPENDS = "oldest-first"  # the order of a tool that only ever writes at the end of its file

# asked in this order: the first that recognises a file reads it
FORMATS: dict[str, Format] = {
    "lehr": Format(lehr_log.sniff, "a header line of lehr's own run log", read=lehr_log.read),
    "tensorboard": Format(tensorboard.sniff, "records of events", logs=tensorboard.logs, order=_APPENDS),
    "wandb-offline": Format(
        wandb_offline.sniff, "W&B's file header", logs=wandb_offline.logs, order=_APPENDS
    ),
    "wandb": Format(
        lambda path: wandb_online.sniff(str(path)),
        "an address that begins with wandb:",
        logs=lambda path, options: wandb_online.logs_of(str(path)),
        address=True,
    ),
    "mlflow": Format(mlflow_sqlite.sniff, "the tables of MLflow's database", logs=mlflow_sqlite.logs),
    "mlflow-files": Format(
        mlflow_files.sniff_folder, "the folders of MLflow's file store", logs=mlflow_files.logs, folder=True
    ),
    "trackio": Format(trackio.sniff, "the tables of Trackio's database", logs=trackio.logs),
    "trainer-state": Format(trainer_state.sniff, "a log_history of Trainer", logs=trainer_state.logs),
    "wandb-json": Format(wandb_json.sniff, "one JSON object with config and history", read=wandb_json.read),
    "wandb-export": Format(wandb_export.sniff, "W&B's names of columns", logs=wandb_export.logs),
    "megatron": Format(megatron.sniff, "Megatron-LM's lines", logs=megatron.logs, order=_APPENDS),
    "torchtitan": Format(torchtitan.sniff, "torchtitan's lines", logs=torchtitan.logs, order=_APPENDS),
    "nanotron": Format(nanotron.sniff, "nanotron's lines", logs=nanotron.logs, order=_APPENDS),
    "nanogpt": Format(nanogpt.sniff, "nanoGPT's lines", logs=nanogpt.logs, order=_APPENDS),
    "nanochat": Format(nanochat.sniff, "nanochat's lines", logs=nanochat.logs, order=_APPENDS),
    "modded-nanogpt": Format(
        modded_nanogpt.sniff, "modded-nanogpt's lines", logs=modded_nanogpt.logs, order=_APPENDS
    ),
    "llm.c": Format(llmc.sniff, "llm.c's lines", logs=llmc.logs, order=_APPENDS),
    "litgpt-console": Format(
        litgpt_console.sniff, "LitGPT's lines", logs=litgpt_console.logs, order=_APPENDS
    ),
    "olmo-core-console": Format(
        olmo_console.sniff, "OLMo-core's lines", logs=olmo_console.logs, order=_APPENDS
    ),
    "trainer-console": Format(hf_console.sniff, "dictionaries of Trainer", logs=hf_console.logs),
    "json-lines": Format(
        json_lines.sniff, "names of lingua, OLMo-core or Levanter", logs=json_lines.logs, order=_APPENDS
    ),
    "lightning": Format(
        lightning_csv.sniff, "sorted names, a step and empty cells", logs=lightning_csv.logs, order=_APPENDS
    ),
    "table": Format(table.sniff, "named columns", logs=table.logs, order="ask"),
}


def detect(path: Path | str) -> str:
    """Name the format of a log from its content.

    >>> "wandb-offline" in FORMATS
    True

    Raises
    ------
    InputError
        If the file is missing, empty, too large, or of no known format.
    """
    path = Path(path)
    online = _among(path, address=True)
    if online is not None:
        return online
    if path.is_dir():
        name = _among(path, folder=True)
        if name is None:
            raise InputError(f"{path} is a folder: give the log files in it.")
        return name
    check_file(path, streamed=True)  # each reader checks what it holds in memory
    name = _among(path)
    if name is None:
        raise InputError(
            f"{path} is not a log of a known format ({', '.join(FORMATS)}): "
            "give CSV or TSV with a header line, Parquet, JSON-lines or a tracker's own file, uncompressed."
        )
    return name


def _among(path: Path, *, folder: bool = False, address: bool = False) -> str | None:
    """Name of the format of a kind of source, None if it is of none."""
    kind = (folder, address)
    return next((n for n, f in FORMATS.items() if (f.folder, f.address) == kind and f.sniff(path)), None)


def read(path: Path | str, options: ReadOptions | None = None, format: str = "auto") -> tuple[Reading, ...]:
    """Read every run in a log, as `read_all`."""
    return read_all([Path(path)], options, format)


def read_all(
    paths: Sequence[Path | str], options: ReadOptions | None = None, format: str = "auto"
) -> tuple[Reading, ...]:
    """Read every run in several logs; logs of one run, by its name, are joined.

    Parameters
    ----------
    paths : files, folders of a format that is one, or addresses.
    options : how to read them; a `name` makes all of them parts of one run.
    format : a name in `FORMATS`, or "auto".

    Raises
    ------
    InputError
        If the format is unknown, a file cannot be read as it, or a pattern of `options.runs` matches nothing.
    """
    options = options or ReadOptions()
    if format != "auto" and format not in FORMATS:
        raise unknown("log format", format, ["auto", *FORMATS])
    logs: dict[str, list[Log]] = {}
    readings: list[Reading] = []
    for path in map(Path, paths):
        name = detect(path) if format == "auto" else format
        known = FORMATS[name]
        if known.logs is None:
            readings += known.read(path, options) if known.read else ()
        else:
            found = [_told(log, name, path) for log in known.logs(path, options)]
            if not found:
                raise InputError(f"{path} ({name}) holds no run: give a log with at least one metric.")
            logs.setdefault(name, []).extend(_of_one_name(found, path, options))
    chosen = _chosen([log.name for each in logs.values() for log in each], options)
    for each in logs.values():
        for log in join_logs(log for log in each if log.name in chosen):
            readings.append(assemble(log, options))
    return tuple(readings)


def _told(log: Log, name: str, path: Path) -> Log:
    """Say of a log what its reader leaves to its format and place."""
    order = FORMATS[name].order if log.order == "auto" else log.order
    origin = log.origin or path.absolute().parent.as_posix()
    return replace(
        log, order=order, origin=origin, report=(f"format: {name}, by {FORMATS[name].why}", *log.report)
    )


def _of_one_name(logs: list[Log], path: Path, options: ReadOptions) -> list[Log]:
    """Return the logs of a file under the name that was given, if one was."""
    if options.name is None:
        return logs
    picked = [log for log in logs if log.name in _chosen([each.name for each in logs], options)]
    if len({log.name for log in picked}) > 1:
        raise bad(
            "--name", "names one run", f"{path}, which has {len(picked)}", "choose one of them with --run"
        )
    return [replace(log, name=options.name, origin="") for log in picked]


def _chosen(names: Sequence[str], options: ReadOptions) -> set[str]:
    """Names that a pattern of `options.runs` matches; all without patterns, or once they are renamed."""
    if not options.runs or set(names) == {options.name}:
        return set(names)
    for pattern in options.runs:
        if names and not any(fnmatch.fnmatchcase(name, pattern) for name in names):
            raise unknown("run in the logs", pattern, names)
    return {name for name in names if any(fnmatch.fnmatchcase(name, p) for p in options.runs)}
