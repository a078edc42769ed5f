"""A log that grows, is rotated, cut, absent or half written: its whole lines so far, and the file left alone."""

import json
import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.runs.following import Followed, look, read_followed, read_growing
from lehr.runs.readers.reading import ReadOptions

HEADER = "step,lr,loss\n"
JOINED = ReadOptions(segments=True, order="oldest-first")


def rows(first, last, loss=3.0):
    return "".join(f"{step},0.001,{loss + 1 / step!r}\n" for step in range(first, last + 1))


def follow(path, *texts):
    """Look after each text was put in place of the file; None for no file."""
    seen = None
    for text in texts:
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
        seen = look(path, seen)
    return seen


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.csv"


def content(seen):
    return seen.content.decode()


def test_a_log_that_grows(log):
    seen = follow(log, HEADER, HEADER + rows(1, 3), HEADER + rows(1, 9))
    assert content(seen) == HEADER + rows(1, 9)
    assert not seen.cut_line and seen.past == b""


@pytest.mark.parametrize("half", ["7", "7,0.0", "7,0.001,3.1", "7,0.001,3.142857142857143"])
def test_a_line_without_its_end_waits(log, half):
    seen = follow(log, HEADER + rows(1, 6) + half)
    assert content(seen) == HEADER + rows(1, 6) and seen.cut_line
    log.write_text(HEADER + rows(1, 7))
    assert content(look(log, seen)) == HEADER + rows(1, 7)


def test_a_header_without_its_end_is_nothing_yet(log):
    assert follow(log, "step,lr,lo") == Followed(cut_line=True)


@pytest.mark.parametrize("begin", [HEADER, ""], ids=["header again", "no header"])
@pytest.mark.parametrize("between", [(), (None,), ("",), (HEADER,), ("7,0.0",)], ids=repr)
def test_a_rotated_log_goes_on(log, begin, between):
    seen = follow(log, HEADER + rows(1, 6), *between, begin + rows(7, 9), begin + rows(7, 12))
    assert content(seen) == HEADER + rows(1, 12)


def test_rotations_repeat(log):
    seen = follow(log, HEADER + rows(1, 3), rows(4, 5), HEADER + rows(6, 9), None, rows(10, 11))
    assert content(seen) == HEADER + rows(1, 11)


def test_a_file_that_keeps_its_last_rows_only(log):
    """A sliding window: what the window repeats is kept once."""
    seen = follow(log, *(HEADER + rows(i, i + 5) for i in range(1, 40, 2)))
    assert content(seen) == HEADER + rows(1, 44)


def test_a_log_cut_back_to_a_checkpoint_counts_as_it_is(log):
    seen = follow(log, HEADER + rows(1, 9), HEADER + rows(1, 5))
    assert content(seen) == HEADER + rows(1, 5)
    log.write_text(HEADER + rows(1, 5) + rows(6, 8, loss=2.0))
    assert content(look(log, seen)) == HEADER + rows(1, 5) + rows(6, 8, loss=2.0)


def test_a_run_begun_anew_replaces_the_old_one_when_it_is_read(log):
    seen = follow(log, HEADER + rows(1, 9), HEADER + rows(1, 4, loss=2.0))
    run = read_followed(seen, log, JOINED)[0].run
    assert run.step.tolist() == [1, 2, 3, 4] and run.loss[0] == 3.0


def test_a_restart_goes_back_some_steps(log):
    seen = follow(log, HEADER + rows(1, 9), rows(6, 8, loss=2.0))
    run = read_followed(seen, log, JOINED)[0].run
    assert run.step.tolist() == list(range(1, 9))
    assert run.loss[4] == 3.2 and run.loss[5] == pytest.approx(2 + 1 / 6)


def test_other_columns_begin_a_new_log(log):
    seen = follow(log, HEADER + rows(1, 9), "iter,loss,lr\n1,3.0,0.001\n")
    assert content(seen) == "iter,loss,lr\n1,3.0,0.001\n"


def test_absent_and_empty_files_leave_what_was_seen(log):
    assert look(log) == Followed()
    seen = follow(log, HEADER + rows(1, 4))
    log.write_text("")
    assert look(log, seen) == seen
    log.unlink()
    assert look(log, seen) == seen


@pytest.mark.parametrize("mark", [",", "\t", ";", "|"])
def test_every_delimiter_of_tables(log, mark):
    seen = follow(log, (HEADER + rows(1, 3)).replace(",", mark), rows(4, 5).replace(",", mark))
    assert content(seen) == (HEADER + rows(1, 5)).replace(",", mark)


def test_json_lines(log):
    lines = [json.dumps({"step": step, "lr": 1e-3, "loss": 3.0}) + "\n" for step in range(1, 9)]
    seen = follow(log, "".join(lines[:4]) + '{"step": 5, "l', "".join(lines[:5]), "".join(lines[5:]))
    assert content(seen) == "".join(lines)
    assert look(log, Followed()).content == "".join(lines[5:]).encode()


@pytest.mark.parametrize(
    "document",
    [b'{"config": {}, "history": {}}', b'{\n "config": {},\n "history": {}\n}\n', b'[{"step": 1}]', b"PAR1\n\x00\n",
     b'{"config": {}, "history": {}}\n', b'{"step": 1, "lo'],
)  # fmt: skip
def test_files_that_are_not_lines_count_as_a_whole(log, document):
    log.write_bytes(document)
    seen = look(log, Followed(b"old", b"older\n", b"step\n"))
    assert seen == Followed(current=document) and seen.content == document


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.data())
def test_whatever_the_moments_the_whole_log_is_seen(tmp_path_factory, data):
    """Looks at random moments of a log written in random pieces and rotated now and then."""
    path = tmp_path_factory.mktemp("log") / "log.csv"
    last = data.draw(st.integers(2, 30))
    text, seen, present, done = HEADER + rows(1, last), None, "", 0
    while done < len(text):
        size = data.draw(st.integers(1, 40))
        present += text[done : done + size]
        done = min(done + size, len(text))
        path.write_text(present)
        look_now, ends = data.draw(st.booleans()), text[done - 1] == "\n"
        if look_now or done == len(text):
            seen = look(path, seen)
            if ends and data.draw(st.booleans()) and done > len(HEADER) and seen.current.count(b"\n") > 1:
                present = ""  # rotated right after a look: nothing was missed
    assert content(seen) == text


def test_reading_leaves_the_file_alone_and_takes_no_lock(log, monkeypatch):
    log.write_text(HEADER + rows(1, 9) + "10,0.0")
    log.chmod(0o444)
    before = log.stat(), log.read_bytes(), sorted(os.listdir(log.parent))
    opened = []
    genuine = os.open

    def spy(path, flags, *rest, **more):
        if str(path) == str(log):
            opened.append(flags)
        return genuine(path, flags, *rest, **more)

    monkeypatch.setattr(os, "open", spy)
    read_growing(log, JOINED)
    after = log.stat(), log.read_bytes(), sorted(os.listdir(log.parent))
    assert (after[0].st_mtime_ns, *after[1:]) == (before[0].st_mtime_ns, *before[1:])
    assert opened == [os.O_RDONLY | os.O_NONBLOCK]


def test_a_growing_log_is_read_up_to_its_last_whole_line(log):
    log.write_text(HEADER + rows(1, 9) + "10,0.001,3.")
    reading = read_growing(log, JOINED)[0]
    assert reading.run.step[-1] == 9 and reading.run.name == "log" and reading.run.meta["source"] == "log.csv"
    assert reading.report[-1] == "the last line has no end yet and was left out"
    log.write_text(HEADER + rows(1, 9))
    assert "the last line" not in read_growing(log, JOINED)[0].report[-1]


def test_errors_name_the_log_and_not_the_copy(log, tmp_path):
    log.write_text(HEADER + "1,0.001,x\n")
    with pytest.raises(InputError, match=rf"^{log}, line 2: column 'loss' must hold numbers"):
        read_growing(log, JOINED)
    with pytest.raises(InputError, match=rf"^{tmp_path / 'none'} does not exist"):
        read_growing(tmp_path / "none", JOINED)


def test_what_is_no_log_is_refused_without_waiting(tmp_path):
    with pytest.raises(
        InputError, match=rf"^{tmp_path} is not a regular file: give the log that training writes\.$"
    ):
        look(tmp_path)
    if not hasattr(os, "mkfifo"):
        pytest.skip("the system has no pipes with names")
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    caught = []

    def attempt():
        try:
            look(pipe)
        except InputError as error:
            caught.append(str(error))

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(10)
    assert caught == [f"{pipe} is not a regular file: give the log that training writes."]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_log_that_may_not_be_read_is_refused(log):
    log.write_text(HEADER)
    log.chmod(0)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\): check its permissions\.$"):
        look(log)
