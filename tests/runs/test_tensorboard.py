import json
import math
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.protobuf_writer import part, varint

from lehr.errors import InputError
from lehr.runs.readers import tensorboard, tfrecord
from lehr.runs.readers.crc import masked_crc32c, masked_crc32c_of

VERSION = bytes([0x09]) + struct.pack("<d", 1.5) + bytes([0x1A, 13]) + b"brain.Event:2"
SCALARS = b"scalars"


def metadata(plugin, content=b""):
    return part(9, part(1, part(1, plugin) + (part(2, content) if content else b"")))


def simple(tag, value):
    return part(1, part(1, tag) + b"\x15" + struct.pack("<f", value))


def tensor(tag, data, plugin=None):
    return part(1, part(1, tag) + part(8, data) + (metadata(plugin) if plugin else b""))


def event(*values, step=0, time=2.0):
    head = b"\x09" + struct.pack("<d", time)
    return head + (b"\x10" + varint(step) if step else b"") + part(5, b"".join(values))


def record(data):
    size = struct.pack("<Q", len(data))
    return size + struct.pack("<I", masked_crc32c(size)) + data + struct.pack("<I", masked_crc32c(data))


def sample():
    """Events of every layout that the reader tells apart."""
    float32 = bytes([8, 1, 18, 0])
    return [
        VERSION,
        event(simple(b"train_loss", 3.5)),
        event(simple(b"train_loss", 3.25), step=300),
        event(tensor(b"new", float32 + part(4, struct.pack("<f", 0.5)), SCALARS), step=1, time=4.0),
        event(tensor(b"new", float32 + part(5, struct.pack("<f", 0.25))), step=2, time=5.0),
        event(simple(b"train_loss", math.nan), simple(b"other", 7.0), step=301, time=6.0),
        event(tensor(b"double", bytes([8, 2]) + part(6, struct.pack("<d", 0.1))), step=-5),
        event(part(1, part(1, b"image") + part(4, b"....")), step=9),
        event(tensor(b"lr/text_summary", bytes([8, 7]) + part(8, b"0.25"), b"text")),
    ]


@pytest.fixture
def write(tmp_path):
    def write_(*events, tail=b"", folder="a run"):
        path = tmp_path / folder / "events.out.tfevents.1.host"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"".join(record(data) for data in events) + tail)
        return path

    return write_


def only(path):
    assert tensorboard.sniff(path)
    (log,) = tensorboard.logs(path)
    return log


def test_every_layout_of_a_scalar(write):
    log = only(write(*sample()))
    assert log.name == "a run"
    assert list(log.series) == ["train_loss", "new", "other", "double"]
    loss = log.series["train_loss"]
    assert loss.step.tolist() == [0, 300, 301]
    assert loss.value[:2].tolist() == [3.5, 3.25]
    assert math.isnan(loss.value[2])
    assert loss.time.tolist() == [2.0, 2.0, 6.0]
    assert log.series["new"].value.tolist() == [0.5, 0.25]
    assert log.series["new"].time.tolist() == [4.0, 5.0]
    assert (log.series["double"].step.tolist(), log.series["double"].value.tolist()) == ([-5.0], [0.1])
    assert log.config == {"lr": 0.25}
    assert log.report == ("1 values are no scalars (images, histograms, graphs) and were left out",)


NUMBERS = {
    "half": bytes([8, 19]) + part(13, varint(int(np.float16(0.5).view(np.uint16)))),
    "half, in one piece": bytes([8, 19]) + part(4, np.float16(0.5).tobytes()),
    "bfloat16": bytes([8, 14]) + part(13, varint(0x3F00)),
    "bfloat16, in one piece": bytes([8, 14]) + part(4, bytes([0, 0x3F])),
    "double, in one piece": bytes([8, 2]) + part(4, struct.pack("<d", 0.5)),
    "double, not packed": bytes([8, 2, 0x31]) + struct.pack("<d", 0.5),
    "float, not packed": bytes([8, 1, 0x2D]) + struct.pack("<f", 0.5),
}


@pytest.mark.parametrize("kind", NUMBERS)
def test_numbers_of_tensors(write, kind):
    log = only(write(VERSION, event(tensor(b"x", NUMBERS[kind]), step=1)))
    assert log.series["x"].value.tolist() == [0.5]


@pytest.mark.parametrize(
    ("data", "value"),
    [(bytes([8, 9]) + part(10, varint(-3)), -3.0), (bytes([8, 3]) + part(4, struct.pack("<i", 7)), 7.0),
     (bytes([8, 3]) + part(7, varint(7)), 7.0), (bytes([8, 3, 0x38]) + varint(7), 7.0)],
)  # fmt: skip
def test_whole_numbers_of_tensors(write, data, value):
    assert only(write(VERSION, event(tensor(b"x", data)))).series["x"].value.tolist() == [value]


def test_a_tensor_of_several_numbers_or_another_plugin_is_no_scalar(write):
    two = bytes([8, 1]) + part(5, struct.pack("<2f", 0.5, 1.0))
    one = bytes([8, 1, 18, 0]) + part(5, struct.pack("<f", 0.5))
    log = only(write(VERSION, event(tensor(b"pair", two)), event(tensor(b"other", one, b"mesh"))))
    assert not log.series
    assert "1 values are no scalars" in log.report[0]


def test_every_point_is_kept_in_the_order_of_the_file(write):
    steps = [*range(0, 3000, 10), *range(1500, 30_000, 10)]  # a restart from 1500
    log = only(
        write(VERSION, *(event(simple(b"x", step / 4), step=step, time=i) for i, step in enumerate(steps)))
    )
    series = log.series["x"]
    assert series.step.tolist() == steps
    assert series.value.tolist() == [step / 4 for step in steps]
    assert series.time.tolist() == list(range(len(steps)))


def test_files_of_many_chunks(write, monkeypatch):
    monkeypatch.setattr(tfrecord, "CHUNK", 64)
    path = write(*sample(), *(event(simple(b"x", step), step=step) for step in range(40)))
    in_chunks = only(path)
    monkeypatch.undo()
    whole = only(path)
    assert in_chunks.report == whole.report
    for name, series in whole.series.items():
        np.testing.assert_array_equal(in_chunks.series[name].value, series.value)
        np.testing.assert_array_equal(in_chunks.series[name].step, series.step)


def test_hparams_and_the_texts_of_a_trainer_are_settings(write):
    def entry(name, value):
        return part(1, part(1, name) + part(2, value))

    session = (
        entry(b"lr", b"\x11" + struct.pack("<d", 1e-3))
        + entry(b"opt", part(3, b"adamw"))
        + entry(b"fp16", b"\x20\x01")
    )
    hparams = part(1, part(1, b"_hparams_/session_start_info") + metadata(b"hparams", part(3, session)))
    arguments = json.dumps({"max_steps": 100, "optim_args": {"betas": [0.9, 0.95]}}).encode()
    texts = [
        tensor(b"args/text_summary", bytes([8, 7]) + part(8, arguments), b"text"),
        tensor(b"train_iters/text_summary", bytes([8, 7]) + part(8, b"1000"), b"text"),
    ]
    log = only(write(VERSION, event(hparams), *(event(text) for text in texts)))
    assert log.config == {
        "lr": 1e-3, "opt": "adamw", "fp16": True, "max_steps": 100, "optim_args.betas.0": 0.9,
        "optim_args.betas.1": 0.95, "train_iters": 1000,
    }  # fmt: skip
    assert log.report == ("events.out.tfevents.1.host holds no scalars",)


def test_cut_off_anywhere_is_told_and_keeps_what_is_whole(write):
    events = sample()
    whole = write(*events).read_bytes()
    ends = np.cumsum([len(record(data)) for data in events]).tolist()
    full = only(write(*events))
    path = write()
    for size in range(1, len(whole)):
        path.write_bytes(whole[:size])
        if size < ends[0]:
            with pytest.raises(InputError, match="is not an event file: its first record is cut off"):
                tensorboard.logs(path)
            continue
        (log,) = tensorboard.logs(path)
        begun = max(end for end in ends if end <= size)
        if begun == size:
            assert not any("cut off" in line for line in log.report)
        else:
            assert log.report[0] == (
                f"the record at byte {begun} is cut off: the last {size - begun} bytes of {path.name} were not read"
            )
        for name, series in log.series.items():
            np.testing.assert_array_equal(series.value, full.series[name].value[: series.value.size])
        points = sum(series.step.size for series in log.series.values())
        assert points == [0, 1, 2, 3, 4, 6, 7, 7, 7][ends.index(begun)]


def test_a_damaged_record_ends_the_reading_and_is_told(write):
    events = [VERSION, *(event(simple(b"x", step), step=step) for step in range(1, 100))]
    path = write(*events)
    whole, size = path.read_bytes(), len(record(events[1]))
    begin = len(record(VERSION)) + 40 * size
    for at in (0, 5, 8, 11, 12, 20, size - 4, size - 1):
        damaged = bytearray(whole)
        damaged[begin + at] ^= 0x40
        path.write_bytes(damaged)
        (log,) = tensorboard.logs(path)
        assert log.series["x"].step.tolist() == list(range(1, 41))
        assert log.report == (
            f"the record at byte {begin} does not agree with its checksum: the last {59 * size} bytes of "
            f"{path.name} were not read",
        )
    path.write_bytes(whole + bytes(5000))  # what a crash of the machine leaves
    assert "does not agree with its checksum: the last 5000 bytes" in only(path).report[0]


@pytest.mark.parametrize(
    ("folder", "name"), [("version_3", "{}/version_3"), ("tb", "{}/tb"), ("version_x", "version_x")]
)
def test_names_of_folders(write, tmp_path, folder, name):
    assert only(write(VERSION, folder=folder)).name == name.format(tmp_path.name)


def test_a_large_record_is_passed_over(write, monkeypatch):
    monkeypatch.setattr(tfrecord, "LARGEST", 1000)
    monkeypatch.setattr(tfrecord, "CHUNK", 500)
    image = event(part(1, part(1, b"image") + part(4, bytes(5000))))
    log = only(write(VERSION, event(simple(b"x", 1)), image, event(simple(b"x", 2), step=1)))
    assert log.series["x"].value.tolist() == [1, 2]
    assert log.report == ("1 records above 64 MB were passed over",)


def test_what_is_no_event_file(write, tmp_path):
    path = write(event(simple(b"x", 1)))
    assert not tensorboard.sniff(path)
    with pytest.raises(InputError, match="is not an event file: .* give a file events.out.tfevents"):
        tensorboard.logs(path)
    path = write(VERSION, b"\x0b\x00")
    with pytest.raises(
        InputError, match=r"the record at byte 40: not an event, .* \(a field has wire type 3\)"
    ):
        tensorboard.logs(path)
    with pytest.raises(InputError, match="does not exist"):
        tensorboard.logs(tmp_path / "none")


def test_megatron(write):
    rows = [
        (b"lm loss", 9.0),
        (b"learning-rate", 0.5),
        (b"lm loss vs samples", 9.0),
        (b"lm loss validation", 8.0),
    ]
    log = only(write(VERSION, *(event(simple(tag, value), step=10) for tag, value in rows)))
    assert {name: series.step.tolist() for name, series in log.series.items()} == {
        "lm loss": [9], "learning-rate": [10], "lm loss validation": [10],
    }  # fmt: skip
    assert log.roles == {"train": "lm loss", "val": "lm loss validation", "lr": "learning-rate"}
    assert log.report[:2] == (
        "logged by Megatron-LM, as its names tell",
        "1 metrics on another axis were left out (* vs samples)",
    )


def test_numbers_that_are_not_numbers_do_not_disturb(write):
    signalling = part(1, part(1, b"x") + b"\x15" + b"\x01\x00\xa0\x7f")
    assert math.isnan(only(write(VERSION, event(signalling))).series["x"].value[0])


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_mutations_raise_nothing_else(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("mutated") / "events"
    events = [bytearray(item) for item in sample()]
    for _ in range(data.draw(st.integers(0, 3))):
        item = events[data.draw(st.integers(1, len(events) - 1))]
        item[data.draw(st.integers(0, len(item) - 1))] = data.draw(st.integers(0, 255))
    for item in data.draw(st.lists(st.sampled_from(events[1:]), max_size=2)):
        begin = data.draw(st.integers(0, len(item)))
        del item[begin : begin + data.draw(st.integers(0, 5))]
    whole = bytearray(b"".join(record(bytes(item)) for item in events))
    for _ in range(data.draw(st.integers(0, 1))):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(whole)
    tensorboard.sniff(path)
    try:
        (log,) = tensorboard.logs(path)
    except InputError:
        return
    assert all(np.isfinite(series.step).all() for series in log.series.values())


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.booleans())
def test_random_bytes_raise_nothing_else(tmp_path_factory, content, framed):
    path = tmp_path_factory.mktemp("random") / "events"
    path.write_bytes(record(VERSION) + record(content) if framed else b"." + content)
    tensorboard.sniff(path)
    try:
        tensorboard.logs(path)
    except InputError:
        return
    assert framed


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(max_size=5),
            st.integers(-(2**53), 2**53),
            st.floats(width=32),
            st.floats(allow_nan=False),
            st.booleans(),
        ),
        max_size=20,
    )
)
def test_what_is_written_is_read(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("round") / "events"
    content = [VERSION]
    for tag, step, value, time, modern in rows:
        name = b"t" + tag.encode()
        number = bytes([8, 1, 18, 0]) + part(4, struct.pack("<f", value))
        content.append(
            event(tensor(name, number, SCALARS) if modern else simple(name, value), step=step, time=time)
        )
    path.write_bytes(b"".join(record(item) for item in content))
    (log,) = tensorboard.logs(path)
    wanted = {}
    for tag, step, value, time, _ in rows:
        wanted.setdefault("t" + tag, []).append((float(step), value, time))
    assert list(log.series) == list(wanted)
    for name, series in log.series.items():
        found = np.column_stack([series.step, series.value, series.time])
        np.testing.assert_array_equal(found, np.array(wanted[name]))


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(0, 5000), min_size=1, max_size=6), st.integers(0, 2**32 - 1))
def test_checksums_of_many_parts_are_those_of_each(sizes, seed):
    data = np.random.default_rng(seed).integers(0, 256, sum(sizes) + 1, dtype=np.uint8)
    size = np.array(sizes)
    start = np.cumsum(size) - size
    one_by_one = [masked_crc32c(data[a : a + n].tobytes()) for a, n in zip(start, size, strict=True)]
    assert masked_crc32c_of(data, start, size).tolist() == one_by_one


def test_what_tensorboard_itself_writes_and_reads(tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.compat.proto import event_pb2, summary_pb2
    from tensorboard.summary.writer.event_file_writer import EventFileWriter
    from tensorboard.util.tensor_util import make_tensor_proto

    writer = EventFileWriter(str(tmp_path / "run"))
    rng = np.random.default_rng(0)
    for step in range(3000):
        old = summary_pb2.Summary.Value(tag="train/loss", simple_value=rng.normal())
        new = summary_pb2.Summary.Value(tag="eval/loss", tensor=make_tensor_proto(np.float32(rng.normal())))
        new.metadata.plugin_data.plugin_name = "scalars"
        double = summary_pb2.Summary.Value(tag="lr", tensor=make_tensor_proto(rng.normal()))
        double.metadata.plugin_data.plugin_name = "scalars"
        for value in (old, new, double) if step % 3 == 0 else (old,):
            summary = summary_pb2.Summary(value=[value])
            writer.add_event(event_pb2.Event(wall_time=1e9 + rng.random(), step=step, summary=summary))
    writer.close()
    (path,) = (tmp_path / "run").iterdir()
    log = only(path)
    theirs = EventAccumulator(str(path), size_guidance={"scalars": 0, "tensors": 0})
    theirs.Reload()
    wanted = {
        tag: [(item.wall_time, item.step, item.value) for item in theirs.Scalars(tag)]
        for tag in theirs.Tags()["scalars"]
    }
    for tag in theirs.Tags()["tensors"]:
        wanted[tag] = [
            (item.wall_time, item.step, (item.tensor_proto.double_val or item.tensor_proto.float_val)[0])
            for item in theirs.Tensors(tag)
        ]
    assert set(log.series) == set(wanted) == {"train/loss", "eval/loss", "lr"}
    for tag, items in wanted.items():
        series = log.series[tag]
        np.testing.assert_array_equal(
            np.column_stack([series.time, series.step, series.value]), np.array(items)
        )
    assert (log.name, log.report) == ("run", ())
