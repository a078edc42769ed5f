"""TensorBoard event files, `events.out.tfevents.*`: every scalar of one writer.

A file holds what one process wrote into one folder; a folder is a run, and its name the run's (with the name of the
folder above for such as `version_0`). A process that
resumes the training writes another file there: a log of the same name, told apart by its times. All points are
read, also those that a restart made obsolete, and none is sampled.

TensorBoard knows nothing of what a step counts: `conventions` tells what the frameworks mean by it. Texts (as
torch's `add_text`) and hparams are settings. Reading stops at the first record that is cut off, as in a run
that goes on, or that does not agree with its checksum; what stands before is kept, and the report tells where
and how much was left. Both checksums of every record are checked, but for records above 64 MB, which are
passed over unread and counted.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from lehr.errors import InputError
from lehr.runs.readers import conventions, settings
from lehr.runs.readers.event_columns import Numbers, columns
from lehr.runs.readers.event_values import Event, Value, parse_event, plugin_of
from lehr.runs.readers.protobuf import Malformed, parts
from lehr.runs.readers.raw import Log, Series
from lehr.runs.readers.reading import ReadOptions, check_file
from lehr.runs.readers.settings import Scalar
from lehr.runs.readers.tfrecord import Records, is_record, records

_TEXT = "/text_summary"  # what torch's add_text puts behind a tag
# folders that say nothing of the run: Lightning's version_0, Megatron's and torchtitan's, TensorFlow's
_USUAL = re.compile(r"version_\d+|tensorboard(_logs)?|tb|logs?|runs|train|val|validation|eval")
# texts that the Trainer of transformers writes: its own arguments and the model's configuration
_HF_TEXTS = ("args", "model_config")


def sniff(path: Path) -> bool:
    """Whether a file begins with the record that every event file begins with."""
    with path.open("rb") as file:
        head = file.read(256)
    # the version event: a time, then perhaps a step of 0, then "brain.Event:N"
    return head[12:13] == b"\x09" and b"brain.Event:" in head[20:60] and is_record(head)


def logs(path: Path, options: ReadOptions | None = None) -> tuple[Log, ...]:
    """Read an event file as one log.

    Raises
    ------
    InputError
        If it is no event file, or its first records are damaged.
    """
    check_file(path, streamed=True)
    if not sniff(path):
        raise _no_event_file(path)
    scalars = _Scalars(path)
    for found in records(path):
        scalars.add(found)
    config = scalars.config
    meaning = conventions.interpret(conventions.counted_by_litgpt(scalars.series()), config)
    report = (*scalars.report(), *meaning.report)
    return (
        Log(
            source=str(path), name=_name(path), series=meaning.series, config=config,
            roles=meaning.roles, bits=meaning.bits, batch_tokens=meaning.batch_tokens, report=report,
        ),
    )  # fmt: skip


def _name(path: Path) -> str:
    """Name the run as its folder; with the folder above where it is called as in every run."""
    folder = path.absolute().parent
    names = (folder.parent.name, folder.name) if _USUAL.fullmatch(folder.name) else (folder.name,)
    return "/".join(name for name in names if name) or path.stem


def _no_event_file(path: Path) -> InputError:
    return InputError(
        f"{path} is not an event file: its first record is cut off, damaged, or does not say brain.Event: "
        "give a file events.out.tfevents.*."
    )


class _Scalars:
    """What has been read of an event file so far."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config: dict[str, Scalar] = {}
        self.stopped = ""
        self.large = self.skipped = 0
        self._tags = Numbers()
        self._plugins: dict[int, str] = {}
        self._plugin_of: dict[bytes, str] = {}
        self._parts: list[list[np.ndarray]] = []
        self._records = self.points = 0

    def add(self, found: Records) -> None:
        """Take what a chunk of records holds."""
        usual = columns(found, self._tags)
        for tag, metadata in usual.metadata:
            self._take_plugin(tag, metadata)
        rows = []
        for place in usual.rest.tolist():
            begin = int(found.start[place])
            event = self._event(found.data[begin : begin + int(found.size[place])], begin - 12, found)
            self.skipped += event.skipped
            for value in event.values:
                if self._take(value):
                    rows.append((place, self._tags[value.tag], event.step, value.number, event.time))
        part = [usual.record, usual.tag, usual.step, usual.value, usual.time]
        if rows:
            other = [np.array(column) for column in zip(*rows, strict=True)]
            part = [np.concatenate(pair) for pair in zip(part, other, strict=True)]
            order = np.argsort(part[0], kind="stable")
            part = [column[order] for column in part]
        self._parts.append(part[1:])
        self.points += part[0].size
        self.large += found.large
        self._records += found.start.size
        if found.stopped and not self._records:
            raise _no_event_file(self.path)
        if found.stopped:
            self.stopped = f"{found.stopped}: the last {found.left} bytes of {self.path.name} were not read"

    def series(self) -> dict[str, Series]:
        """Return the scalars by tag, in the order of the file."""
        tag, *numbers = zip(*self._parts, strict=True)
        self._parts = []  # as large as what comes of it
        number = np.concatenate(tag)
        order = np.argsort(number, kind="stable")
        # one column after the other, and views of it by tag: a long log is held once
        step, value, time = (np.concatenate(column)[order].astype(float, copy=False) for column in numbers)
        ends = np.cumsum(np.bincount(number, minlength=len(self._tags))).tolist()
        out = {}
        for name, place in self._tags.items():
            rows = slice(ends[place - 1] if place else 0, ends[place])
            if rows.start < rows.stop and self._plugins.get(place, "scalars") in ("scalars", ""):
                out[name.decode("utf-8", errors="replace")] = Series(step[rows], value[rows], time[rows])
        return out

    def report(self) -> list[str]:
        """Say what was left out."""
        told = [self.stopped] if self.stopped else []
        if self.large:
            told.append(f"{self.large} records above 64 MB were passed over")
        if self.skipped:
            told.append(
                f"{self.skipped} values are no scalars (images, histograms, graphs) and were left out"
            )
        if not self.points:
            told.append(f"{self.path.name} holds no scalars")
        return told

    def _event(self, data: bytes, offset: int, found: Records) -> Event:
        try:
            return parse_event(data)
        except Malformed as error:
            raise InputError(
                f"{self.path}, the record at byte {found.begin + offset}: not an event, though its checksum "
                f"agrees ({error}): the file was written by another tool; give one of TensorBoard's."
            ) from None

    def _take(self, value: Value) -> bool:
        """Keep settings; return whether the value is a scalar."""
        if value.plugin:
            self._plugins.setdefault(self._tags[value.tag], value.plugin)
        name = value.tag.decode("utf-8", errors="replace")
        if value.hparams:
            self._keep(dict(value.hparams))
        elif value.string is not None:
            self._keep(_settings(name.removesuffix(_TEXT), value.string.decode("utf-8", errors="replace")))
        return value.number is not None

    def _keep(self, found: dict[str, Scalar]) -> None:
        if len(self.config) < settings.MOST:
            self.config |= found

    def _take_plugin(self, tag: int, metadata: bytes) -> None:
        if metadata not in self._plugin_of:
            try:
                self._plugin_of[metadata] = plugin_of(parts(metadata, 9)[-1])
            except Malformed:
                self._plugin_of[metadata] = ""
        if self._plugin_of[metadata]:
            self._plugins.setdefault(tag, self._plugin_of[metadata])


def _settings(name: str, text: str) -> dict[str, Scalar]:
    found = settings.of_text("" if name in _HF_TEXTS else name, text)
    return {key: value for key, value in found.items() if key}
