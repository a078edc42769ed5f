"""trainer_state.json of Hugging Face's Trainer, one in every checkpoint-N of an output folder.

Written by `TrainerState.save_to_json` (transformers/trainer_callback.py): one object with sorted keys, in it
`log_history`, the list of all rows logged so far: {"loss", "grad_norm", "learning_rate", "epoch", "step"} or
{"eval_loss", ..., "step"}. What the numbers mean is said in `hugging_face`. The files of several checkpoints
of one folder are parts of one run, named after the folder. `config.json` beside it, the model's own, is read
for its sizes and the version of Transformers; the training arguments are in a pickle and are not read.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from lehr.errors import InputError, bad
from lehr.runs.readers import sparse
from lehr.runs.readers.fields import mapping, parse_json
from lehr.runs.readers.hugging_face import lr_is_next, moved, totals
from lehr.runs.readers.json_stream import entries
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions, check_file

BATCH = 10_000  # rows made into columns at once
CONFIG_LIMIT = 1 << 22  # bytes of a model's config.json
_CHECKPOINT = re.compile(r"checkpoint-\d+\Z")
_TRIAL = re.compile(r"run-\w+\Z")
_ROLES = {"train": "loss", "val": "eval_loss", "lr": "learning_rate", "tokens": "num_input_tokens_seen"}
_LEFT = frozenset(("log_history", "stateful_callbacks", "trial_params"))

Config = dict[str, str | float | int | bool | None]


def sniff(path: Path) -> bool:
    """Whether a file is one JSON object with a log_history and a global_step near its start."""
    with path.open("rb") as file:
        head = file.read(1 << 16)
    begins = head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"{"
    return begins and b'"global_step"' in head and re.search(rb'"log_history"\s*:\s*\[', head) is not None


def logs(path: Path, options: ReadOptions | None = None) -> Iterator[Log]:
    """Read the run of a checkpoint.

    Raises
    ------
    InputError
        Naming the file, and the line or row that is malformed or has no step.
    """
    del options
    where = str(check_file(path, streamed=True))
    state: dict[str, object] = {}
    columns, lines = sparse.Columns(), [np.zeros(0, dtype=np.int64)]

    def history() -> Iterator[tuple[object, int]]:
        for key, value, line in entries(path, "log_history"):
            if key == "log_history" and value is not None:
                yield value, line
            else:
                state[key] = value

    told, rows = history(), 0
    while batch := list(itertools.islice(told, BATCH)):
        places = np.arange(rows, rows + len(batch))
        checked = [
            mapping(row, f"{where}, line {line}: log_history[{place}]")
            for (row, line), place in zip(batch, places, strict=True)
        ]
        columns.add(checked, places)
        lines.append(np.array([line for _, line in batch]))
        rows += len(batch)
    if not rows:
        raise InputError(f"{where}: log_history has no row yet: wait for the first log of the training.")
    found = columns.columns()
    if "step" not in found:
        raise bad(
            f"{where}: log_history", "must have rows with a step", sorted(found),
            "give the file as the Trainer wrote it",
        )  # fmt: skip
    series, lost = sparse.series(found, "step", where, line_of=np.concatenate(lines))
    report = [f"{rows} rows of log_history", *columns.told()]
    if lost:
        report.append(f"{lost} values are in rows without a step and were left out")
    config = _config(path, state)
    config |= totals(series)  # of the whole training, logged after it
    after, why = lr_is_next(config.get("transformers_version"), state, series.get("learning_rate"))
    if "learning_rate" in series:
        report.append(why)
    if "loss" in series:
        report.append("loss is the mean since the log before: each stands at the middle of its updates")
    series = moved(series, "loss", "learning_rate", after)
    yield Log(
        source=where, name=_name(path), origin=_output(path).as_posix(), series=series, config=config,
        roles=_roles(series), total_steps=_total(config), report=tuple(report),
    )  # fmt: skip


def _roles(series: Mapping[str, Series]) -> dict[str, str]:
    """Metrics by role; where evaluations are of several named sets, only one that is alone is the val loss."""
    roles = {role: name for role, name in _ROLES.items() if name in series}
    named = [name for name in series if re.fullmatch(r"eval_.+_loss", name)]
    if "val" not in roles and len(named) == 1:
        roles["val"] = named[0]
    return roles


def _total(config: Config) -> int | None:
    steps = config.get("max_steps")
    return steps if isinstance(steps, int) and not isinstance(steps, bool) and steps > 0 else None


def _output(path: Path) -> Path:
    """Return the output folder: the one that holds the checkpoints, or the file itself."""
    folder = path.absolute().parent
    return folder.parent if _CHECKPOINT.match(folder.name) else folder


def _name(path: Path) -> str:
    """Name of the output folder."""
    folder = _output(path)
    if _TRIAL.match(folder.name) and folder.parent.name:  # of a search: output/run-0/checkpoint-N
        return f"{folder.parent.name}/{folder.name}"
    return folder.name or path.stem


def _config(path: Path, state: dict[str, object]) -> Config:
    """Scalars of the state, and of the model's config beside it under "model."."""
    config: Config = {
        key: value
        for key, value in state.items()
        if key not in _LEFT and (value is None or isinstance(value, str | int | float))
    }
    beside = path.parent / "config.json"
    try:
        fit = beside.is_file() and beside.stat().st_size <= CONFIG_LIMIT
        text = beside.read_text(encoding="utf-8", errors="replace") if fit else ""
    except OSError:
        return config
    try:
        model = mapping(parse_json(text, str(beside)), str(beside))
    except InputError:  # some other file: the log is whole without it
        return config
    for key, value in model.items():
        if isinstance(value, str | int | float):
            config["transformers_version" if key == "transformers_version" else f"model.{key}"] = value
    return config
