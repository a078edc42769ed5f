"""Local files of W&B runs, `wandb/offline-run-*/run-ID.wandb` and `wandb/run-*/run-ID.wandb`: the whole history.

The file is a header (":W&B", a magic number, a version) and a journal of LevelDB (see `leveldb_log`) of protobuf
messages `Record` (`wandb/proto/wandb_internal.proto`): 2 history {1 item {1 key, 2 nested_key, 16 value_json}, 2 step},
5 config {1 update, 2 remove}, 12 metric {1 name, 4 step_metric}, 17 run {1 run_id, 4 config, 8 display_name,
18 resumed, 23 branch_point}. Summaries, console output and system metrics are passed over. Every row is there: what
the servers sample is their answer, not the run.

Reading stops before a record that is cut off, as in a run that goes on, or that does not agree with its checksum;
what stands before is kept, and the report tells where and how much was left.
"""

from __future__ import annotations

import struct
from array import array
from pathlib import Path

import numpy as np

from lehr.errors import InputError
from lehr.runs.readers import settings
from lehr.runs.readers.leveldb_log import Journal
from lehr.runs.readers.protobuf import BYTES, FIXED64, VARINT, Malformed, fields, parts, signed, text, varint
from lehr.runs.readers.raw import Log
from lehr.runs.readers.reading import ReadOptions, check_file
from lehr.runs.readers.settings import Scalar
from lehr.runs.readers.wandb_rows import Column, meaning_of

HEADER = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
_HISTORY, _CONFIG, _METRIC, _RUN = 2, 5, 12, 17
_KEYS = {0x12: _HISTORY, 0x2A: _CONFIG, 0x62: _METRIC}  # of those below 16, by their first byte
_QUOTED = {b'"NaN"': float("nan"), b'"Infinity"': float("inf"), b'"-Infinity"': float("-inf")}


def sniff(path: Path) -> bool:
    """Whether a file begins as W&B's do."""
    with path.open("rb") as file:
        return file.read(len(HEADER)) == HEADER


def logs(path: Path, options: ReadOptions | None = None) -> tuple[Log, ...]:
    """Read a local file of W&B as one log.

    Raises
    ------
    InputError
        If it is no such file, or holds something else than the records of a run.
    """
    check_file(path, streamed=True)
    if not sniff(path):
        raise InputError(
            f"{path} is not a file of W&B: it does not begin with :W&B; give a file run-ID.wandb."
        )
    run, journal = _Run(), Journal(path, len(HEADER))
    for offset, data in journal:
        try:
            run.add(data)
        except Malformed as error:
            raise InputError(
                f"{path}, the record at byte {offset}: not a record of W&B, though its checksum agrees ({error}): "
                "the file was written by another tool or a later version; export the run as CSV or Parquet."
            ) from None
    report = []
    if journal.stopped:
        report.append(f"{journal.stopped}: the last {journal.left} bytes of {path.name} were not read")
    if journal.large:
        report.append(f"{journal.large} records above 64 MB were passed over")
    report += run.report()
    columns = {name: column for name, column in run.columns().items() if column.row.size}
    meaning = meaning_of(columns, run.rows, run.config, run.declared)
    return (
        Log(
            source=str(path), name=run.name or run.id or path.stem, origin=run.id, series=meaning.series,
            config=run.config, roles=meaning.roles, bits=meaning.bits, batch_tokens=meaning.batch_tokens,
            report=(*report, *meaning.report),
        ),
    )  # fmt: skip


class _Run:
    """What has been read of a run so far."""

    def __init__(self) -> None:
        self.id = self.name = ""
        self.rows = 0
        self.config: dict[str, Scalar] = {}
        self.declared: list[str] = []
        self._told: list[str] = []
        self._other = 0
        self._columns: dict[bytes, tuple[array[int], array[float]]] = {}
        self._known: dict[
            bytes, tuple[array[int], array[float], bool]
        ] = {}  # columns by how their items begin

    def add(self, record: bytes) -> None:
        """Take a record, if it is of a kind that tells something."""
        # a number, then the one message: most are summaries and are passed over at once
        at = varint(record, 1)[1] if record[:1] == b"\x08" else 0
        if at < len(record) and record[at] < 0x80 and record[at] not in _KEYS:
            return
        for number, kind, _, data in fields(record):
            if kind != BYTES:
                continue
            if number == _HISTORY:
                self._history(data)
            elif number == _CONFIG:
                self._configure(data)
            elif number == _METRIC:
                metric = text(data, 4)
                if metric and metric not in self.declared:
                    self.declared.append(metric)
            elif number == _RUN:
                self._begin(data)

    def columns(self) -> dict[str, Column]:
        """Return the numbers of the history by key."""
        out = {}
        for key, (rows, values) in self._columns.items():
            row, value = np.array(rows, dtype=np.int64), np.array(values, dtype=float)
            last = np.diff(row, append=-1) != 0  # of two values of a row the last is the one that W&B shows
            out[key.decode("utf-8", errors="replace")] = Column(row[last], value[last])
        return out

    def report(self) -> list[str]:
        """Say what the records tell besides numbers, and what was left out."""
        told = [*self._told]
        if self._other:
            told.append(f"{self._other} values of the history are no numbers and were left out")
        if not self.rows:
            told.append("the file holds no history")
        return told

    def _history(self, data: bytes) -> None:
        """Take a row; items that begin as an earlier one did without a parse of their fields."""
        at, end, row, known = 0, len(data), self.rows, self._known
        stepped = False
        while at + 4 < end and data[at] == 0x0A and data[at + 1] < 128:
            close, ahead = at + 2 + data[at + 1], at + 6 + data[at + 3]
            column = known.get(data[at + 2 : ahead])  # its key, the length of that, and the tag of its value
            if column is None or not ahead < close <= end or data[ahead] != close - ahead - 1:
                if close > end:
                    raise Malformed("an item reaches beyond its row")
                stepped |= self._item(data[at + 2 : close])
            else:
                try:
                    column[1].append(float(data[ahead + 1 : close]))
                    column[0].append(row)
                    stepped |= column[2]
                except ValueError:
                    stepped |= self._item(data[at + 2 : close])
            at = close
        for number, kind, _, inner in fields(data[at:]):
            if number == 1 and kind == BYTES:
                stepped |= self._item(inner)
            elif number == 2 and kind == BYTES and not stepped:
                numbers = [value for field, wire, value, _ in fields(inner) if field == 1 and wire == VARINT]
                self._take(b"_step", str(signed(numbers[-1]) if numbers else 0).encode())
        self.rows += 1

    def _item(self, item: bytes) -> bool:
        """Take an item of any layout; return whether it is `_step`."""
        keys, value = _key_and_value(item)
        key = b".".join(keys)
        if self._take(key, value) and len(keys) == 1 and len(key) < 128:
            for tag in (b"\x12", b"\x0a"):
                self._known[tag + bytes([len(key)]) + key + b"\x82\x01"] = (
                    *self._columns[key],
                    key == b"_step",
                )
        return key == b"_step"

    def _take(self, key: bytes, value: bytes) -> bool:
        """Keep a value of the present row if it is a number; return whether it is."""
        try:
            number = float(value)
        except ValueError:
            if value[:1] == b"{":
                self._nested(key, value)
                return False
            if value not in _QUOTED:
                self._other += 1
                return False
            number = _QUOTED[value]
        rows, values = self._columns.setdefault(key, (array("q"), array("d")))
        rows.append(self.rows)
        values.append(number)
        return True

    def _nested(self, key: bytes, value: bytes) -> None:
        """Keep the numbers of a nested value under joined keys; media are objects with a `_type`."""
        found = settings.flat(settings.from_json(value.decode("utf-8", errors="replace")))
        numbers = {name: part for name, part in found.items() if type(part) in (int, float)}
        if "_type" in found or not numbers:
            self._other += 1
            return
        for name, part in numbers.items():
            self._take(key + b"." + name.encode(), repr(part).encode())

    def _configure(self, data: bytes) -> None:
        for field, kind, _, inner in fields(data):
            if kind != BYTES or field not in (1, 2) or len(self.config) > settings.MOST:
                continue
            keys, value = _key_and_value(inner)
            name = b".".join(keys).decode("utf-8", errors="replace")
            if name.startswith("_wandb"):
                continue
            for old in [key for key in self.config if key == name or key.startswith(name + ".")]:
                del self.config[old]
            if field == 1:
                self.config |= settings.of_json(name, value.decode("utf-8", errors="replace"))

    def _begin(self, data: bytes) -> None:
        """Take a RunRecord: who the run is, and where it came from."""
        self.id, self.name = text(data, 1) or self.id, text(data, 8) or self.name
        for config in parts(data, 4):
            self._configure(config)
        resumed = [value for field, kind, value, _ in fields(data) if field == 18 and kind == VARINT]
        if any(resumed):
            self._say(f"the run {self.id} was resumed")
        for point in parts(data, 23):
            values = [inner for field, kind, _, inner in fields(point) if field == 2 and kind == FIXED64]
            at = struct.unpack("<d", values[-1])[0] if values else 0.0
            self._say(
                f"the run {self.id} was forked from the run {text(point, 1)} at {text(point, 3)} {at:g}"
            )

    def _say(self, line: str) -> None:
        if line not in self._told:
            self._told.append(line)


def _key_and_value(item: bytes) -> tuple[list[bytes], bytes]:
    """Return the keys and the JSON text of a HistoryItem or ConfigItem."""
    plain, nested, value = b"", [], b""
    for field, kind, _, inner in fields(item):
        if field == 1 and kind == BYTES:
            plain = inner
        elif field == 2 and kind == BYTES:
            nested.append(inner)
        elif field == 16 and kind == BYTES:
            value = inner
    return nested or [plain], value
