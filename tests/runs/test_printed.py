import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.runs.readers import printed

PATTERN = {
    "row": printed.entry(
        b" loss ", rb"step (?P<step>\d+) loss (?P<loss>" + printed.NUMBER + rb")(?: lr (?P<lr>\S+))?;"
    )
}


@pytest.fixture
def write(tmp_path):
    def to(content, name="a.log"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to


def test_colours_prefixes_and_progress_bars_are_looked_through(write):
    path = write(
        b"0: \x1b[31mstep 1\x1b[0m loss \x1b]0;title\x072.5;\r\n[rank3]: 2026-01-01 INFO step 2 loss nan lr 1e-3;\n"
        b" 50%|##   | 3/6\rstep 3 loss 2.25; 60%|##\rstep 4 loss -inf;\nstep 5 loss 1.2\nstep 6 loss 1e-2;\n"
    )
    report = []
    found = printed.find(path, PATTERN, report)["row"]
    assert found.values["step"].tolist() == [1, 2, 3, 4, 6]
    assert found.values["loss"].tolist() == pytest.approx([2.5, np.nan, 2.25, -np.inf, 0.01], nan_ok=True)
    assert found.line.tolist() == [1, 2, 3, 3, 5]
    assert found.present["lr"].tolist() == [False, True, False, False, False]
    series = found.series("lr", found.values["step"] - 1)
    assert (series.step.tolist(), series.value.tolist(), series.line.tolist()) == ([1], [0.001], [2])
    assert report == []


def test_a_last_line_without_an_end_is_left_out_and_told(write):
    report = []
    found = printed.find(write("step 1 loss 2;\nstep 2 loss 3;"), PATTERN, report)["row"]
    assert found.values["step"].tolist() == [1]
    assert report == [
        "line 2, the last, has no line end (14 bytes, 'step 2 loss 3;'): it may have been cut off and was left out"
    ]


@given(
    st.lists(
        st.sampled_from(["step 1 loss 2;", "\x1b[3m", "x" * 40, "\n", "\r", " ", "é", "\r\n"]), max_size=60
    ),
    st.integers(1, 64),
)
def test_chunks_of_any_size_are_the_same_lines(tmp_path_factory, parts, size):
    path = tmp_path_factory.mktemp("chunks") / "a.log"
    data = "".join(parts).encode() + b"\n"
    path.write_bytes(data)
    some = list(printed.chunks(path, size))
    assert b"".join(chunk.data for chunk in some) == printed.clean(data)
    assert [chunk.line for chunk in some] == [
        1 + sum(c.data.count(b"\n") for c in some[:n]) for n in range(len(some))
    ]
    assert all(chunk.data.endswith(b"\n") for chunk in some)


def test_a_line_without_an_end_is_cut_in_bounded_pieces(write, monkeypatch):
    monkeypatch.setattr(printed, "LONGEST_LINE", 100)
    path = write("10%|#  \rstep 1 loss 2; " * 100 + "\n")
    pieces = list(printed.chunks(path, 64))
    assert max(len(chunk.data) for chunk in pieces) <= 100 + 2 * 64
    assert len(printed.find(path, PATTERN, [], 64)["row"]) == 100  # cut at returns, so within no entry
    assert [len(chunk.data) for chunk in printed.chunks(write("y" * 130 + "\n"), 64)] == [128, 3]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("None", None), ("True", True), ("1_000", "1_000"), ("12", 12), ("-3", -3), ("1e-4", 1e-4), (".5", 0.5),
        ("'cosine'", "cosine"), ("nan", "nan"), ("[1, 2]", "[1, 2]"), ("9" * 40, 1e40), ("1e999", "1e999"),
    ],
)  # fmt: skip
def test_settings_are_scalars(text, value):
    assert printed.scalar(text) == value
    assert type(printed.scalar(text)) is type(value)


def test_numbers_with_thousands_and_names_of_runs(tmp_path):
    assert printed.number_of("1,234,567") == 1234567
    assert printed.number_of("many") is None
    assert printed.run_name(tmp_path / "run-7" / "main.log") == "run-7"
    assert printed.run_name(tmp_path / "run-7" / "pretrain.log") == "pretrain"


def test_numbers_written_for_people():
    texts = [b"1.31M", b"1,234", b"3e-05", b"999", b"2K", b"infE", b"nan", None, b"1.5B"]
    expected = [1.31e6, 1234, 3e-5, 999, 2000, np.inf, np.nan, np.nan, 1.5e9]
    assert printed.as_numbers(texts).tolist() == pytest.approx(expected, nan_ok=True, rel=0, abs=0)


def test_texts_of_the_beginning(write):
    path = write("lr = 1\n" * 5)
    assert printed.texts(path, {"lr": re.compile(rb"lr = (\d)")}, most=2) == {"lr": ["1", "1"]}
    assert printed.texts(write("lr"), {"lr": re.compile(rb"lr = (\d)")}) == {"lr": []}


def test_the_beginning_and_the_end_tell_a_format(write):
    path = write(b"a" * printed.HEAD + b"b" * printed.TAIL + b"\x1b[1mc\n")
    head = printed.peek(path)
    assert head.startswith(b"a")
    assert head.endswith(b"bc\n")
    assert len(head) <= printed.HEAD + printed.TAIL + 1


def test_what_cannot_be_read(tmp_path, write):
    with pytest.raises(InputError, match="is empty"):
        printed.find(write(""), PATTERN, [])
    error = printed.nothing_found(tmp_path / "x.log", "nanoGPT", "iter 0: loss 1.0")
    assert "x.log holds no training line of nanoGPT, such as 'iter 0: loss 1.0': give the output" in str(
        error
    )


def test_entries_are_found_line_by_line():
    entry = printed.entry(b"b", rb"(?<!x)(a+)b(?=\n)")
    assert [match.span() for match in entry.matches(b"ab\nxab\nab ab\n\nc\naab\n")] == [
        (0, 2),
        (10, 12),
        (16, 19),
    ]
    assert entry.within(b"ab\n")
    assert not entry.within(b"a\nb")
    several = printed.entry(b"k", rb"k(\d)")
    assert [match[1] for match in several.matches(b"k1 k2\nk3\nk4")] == [b"1", b"2", b"3", b"4"]
