"""Of every format a small sample, whole, cut off at every byte, and what once broke a reader."""

import random
from pathlib import Path

import pytest

from lehr.errors import InputError
from lehr.runs.readers import FORMATS, detect, read_all

SAMPLES = Path(__file__).parent / "samples"
MOST = 4096  # bytes of a sample
FILES = sorted(path for path in SAMPLES.rglob("*") if path.is_file())
FILE_FORMATS = [name for name, known in FORMATS.items() if not (known.folder or known.address)]


def name_of(path):
    return path.relative_to(SAMPLES).as_posix()


def read_or_refuse(path, format):
    """Runs of a file, or None if it is refused; anything else is a fault."""
    try:
        return read_all([path], format=format)
    except InputError as error:
        assert str(path) in str(error) or path.name in str(error)
        return None


@pytest.mark.parametrize("format", FILE_FORMATS)
def test_every_format_has_a_sample_that_is_told_by_its_content(format):
    whole = [path for path in FILES if path.parent.name == format and not path.name.startswith("fault-")]
    assert whole
    for path in whole:
        assert path.stat().st_size <= MOST
        assert detect(path) == format


@pytest.mark.parametrize("path", [p for p in FILES if not p.name.startswith("fault-")], ids=name_of)
def test_cut_off_at_every_byte_it_is_refused_or_read_in_part(path, tmp_path):
    data = path.read_bytes()
    cut = tmp_path / path.name
    for size in range(1, len(data)):
        cut.write_bytes(data[:size])
        for known in FORMATS.values():
            known.sniff(cut)
        read_or_refuse(cut, path.parent.name)


@pytest.mark.parametrize("path", [p for p in FILES if p.name.startswith("fault-")], ids=name_of)
def test_what_once_broke_a_reader_does_so_no_more(path):
    read_or_refuse(path, path.parent.name)


@pytest.mark.parametrize("format", FILE_FORMATS)
def test_bytes_at_random_are_refused(format, tmp_path):
    path = tmp_path / "x"
    for size in (1, 7, 100, 5000):
        path.write_bytes(random.Random(size).randbytes(size))
        read_or_refuse(path, format)
