"""Files of W&B that are cut off, damaged or made of anything: what is whole is kept, and the rest is told."""

import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.protobuf_writer import part
from tests.runs.wandb_journal import HEADER, history, item, journal, read_one, rows, run

from lehr.errors import InputError
from lehr.runs.readers import leveldb_log, wandb_offline


@pytest.fixture
def load(tmp_path):
    def load_(*records, content=None):
        return read_one(tmp_path / "run-abc123.wandb", journal(*records) if content is None else content)

    return load_


def test_cut_off_anywhere_is_told_and_keeps_what_is_whole(load, tmp_path):
    records = [run(lr=1), *rows(4, text='"t"')]
    whole = journal(*records)
    ends = [len(journal(*records[:count])) for count in range(len(records) + 1)]
    path = tmp_path / "cut.wandb"
    for size in range(1, len(whole) + 1):
        path.write_bytes(whole[:size])
        if size < 7:
            assert not wandb_offline.sniff(path)
            with pytest.raises(InputError, match="is not a file of W&B: it does not begin with :W&B"):
                wandb_offline.logs(path)
            continue
        (log,) = wandb_offline.logs(path)
        begun = max(end for end in ends if end <= size)
        cut = (
            f"the record at byte {begun} is cut off: the last {size - begun} bytes of cut.wandb were not read"
        )
        assert (cut in log.report) == (begun != size)
        kept = max(0, ends.index(begun) - 1)
        assert sum(series.value.size for series in log.series.values()) == kept
        assert ("the file holds no history" in log.report) == (not kept)


def test_cut_off_in_a_later_block(load):
    whole = journal(run(), *rows(1000))
    assert len(whole) > 2 * leveldb_log.BLOCK
    for size in range(leveldb_log.BLOCK - 75, leveldb_log.BLOCK + 75, 6):
        log = load(content=whole[:size])
        told = [line for line in log.report if "cut off" in line]
        assert log.series["loss"].value.size > 300
        begun = int(told[0].split()[4]) if told else size
        assert (len(journal(run(), *rows(log.series["loss"].value.size)))) == begun


def test_a_damaged_record_ends_the_reading_and_is_told(load):
    records = [run(), *rows(50)]
    whole = journal(*records)
    begin, end = (len(journal(*records[:count])) for count in (20, 21))
    for at in (*range(begin, begin + 8), end - 1):
        damaged = bytearray(whole)
        damaged[at] ^= 0x41
        log = load(content=bytes(damaged))
        assert log.series["loss"].value.size == 19
        assert log.report[0].startswith(f"the record at byte {begin} ")
        assert log.report[0].endswith(
            f"the last {len(whole) - begin} bytes of run-abc123.wandb were not read"
        )
    for kind, reason in ((3, "has no first piece"), (4, "has no first piece")):
        piece = struct.pack("<IHB", zlib.crc32(bytes([kind]) + b"x"), 1, kind) + b"x"
        assert reason in load(content=whole + piece).report[0]
    first = struct.pack("<IHB", zlib.crc32(b"\x02x"), 1, 2) + b"x"
    assert "has no last piece" in load(content=whole + first + whole[7:]).report[0]


@pytest.mark.parametrize(
    "item_",
    [
        b"",
        b"\x12",
        b"\x12\x01",
        b"\x12\x01k",
        b"\x12\x01k\x82",
        b"\x12\x01k\x82\x01",
        b"\x12\x01k\x82\x01\x02",
    ],
)
def test_items_of_no_layout(load, item_):
    row = b"\x08\x01" + part(2, part(1, item("_step", "0")) + part(1, item_) + part(1, item("loss", "2.5")))
    try:
        log = load(row)
    except InputError as error:
        assert "not a record of W&B" in str(error)
    else:
        assert log.series["loss"].value.tolist() == [2.5]
        assert log.report[0] == "1 values of the history are no numbers and were left out"


def test_what_is_no_record(load):
    with pytest.raises(
        InputError, match=r"the record at byte 7: not a record of W&B, .* \(a field has wire type 3\)"
    ):
        load(b"\x08\x01\x12\x02\x0b\x00")


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutations_raise_nothing_else(tmp_path_factory, data):
    records = [
        bytearray(record)
        for record in (run(lr=1, opt={"a": [1]}), *rows(3, text='{"a": 1}'), history(4, False, 5, x="1"))
    ]
    for _ in range(data.draw(st.integers(0, 3))):
        record = records[data.draw(st.integers(0, len(records) - 1))]
        record[data.draw(st.integers(0, len(record) - 1))] = data.draw(st.integers(0, 255))
    for record in data.draw(st.lists(st.sampled_from(records), max_size=2)):
        begin = data.draw(st.integers(0, len(record)))
        del record[begin : begin + data.draw(st.integers(0, 5))]
    whole = bytearray(journal(*(bytes(record) for record in records)))
    for _ in range(data.draw(st.integers(0, 1))):
        whole[data.draw(st.integers(7, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("mutated") / "run-x.wandb"
    path.write_bytes(whole)
    try:
        (log,) = wandb_offline.logs(path)
    except InputError:
        return
    assert all(np.isfinite(series.step).all() for series in log.series.values())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_raise_nothing_else(tmp_path_factory, content, framed):
    path = tmp_path_factory.mktemp("random") / "run-x.wandb"
    path.write_bytes(journal(content) if framed else HEADER + content)
    try:
        wandb_offline.logs(path)
    except InputError:
        assert framed
