"""What the tests of readers of printed logs share: any cut and any bytes."""

import random

import pytest

from lehr.errors import InputError


def check_any_cut(reader, path, whole):
    """A log cut at any byte is a shorter log, or says that its last line was left out, or is refused."""
    path.write_bytes(whole)
    (full,) = reader.logs(path)
    read = 0
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        reader.sniff(path)
        try:
            (log,) = reader.logs(path)
        except InputError as error:
            assert path.name in str(error)
            continue
        read += 1
        for name, series in log.series.items():
            expected = full.series[name].value[: len(series.value)]
            assert series.value.tolist() == pytest.approx(expected.tolist(), nan_ok=True, rel=0, abs=0)
        assert whole[:size].endswith(b"\n") or any("has no line end" in sentence for sentence in log.report)
    assert read > 0


def check_any_bytes(reader, path, content, whole):
    """Random bytes, and a log with random bytes changed, raise nothing but an InputError."""
    if isinstance(content, int):
        r, data = random.Random(content), bytearray(whole)
        for _ in range(r.randint(1, 40)):
            data[r.randrange(len(data))] = r.choice(b"0129:. \n\r{}[]|'eE-+%,=*/step iter\xff\x1b")
        content = bytes(data)
    path.write_bytes(content)
    reader.sniff(path)
    try:
        list(reader.logs(path))
    except InputError as error:
        assert path.name in str(error)
