"""What the verbs share: JSON, tables, patterns of names, progress."""

import json
import math
import sys

import pytest

from lehr.cli.common import clean, match_names, print_json, progress, table
from lehr.errors import InputError

# what the verbs share


def test_json_has_null_for_what_is_not_finite(capsys):
    print_json({"a": math.nan, "b": [math.inf, 1.5], 3: (-math.inf,)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "3": [None]}


def test_control_characters_in_names_do_not_reach_the_terminal(lehr, tmp_path):
    assert clean("a\x1b[31mb\x07\u202ec\nd") == "a?[31mb??c\nd"
    (tmp_path / "log.csv").write_text("step,loss\n3200,3.0\n4000,2.9\n")
    common = (
        "--into",
        tmp_path / "s",
        "--schedule",
        "constant(steps=4000, peak=1e-3)",
        "--name",
        "red\x1b[31m",
    )
    outcome = lehr("import", tmp_path / "log.csv", *common)
    assert outcome.code == 0
    for text in (outcome.out, outcome.err, lehr("runs", tmp_path / "s").out):
        assert "\x1b" not in text
    assert lehr("runs", tmp_path / "s", "--json").json["runs"][0]["name"] == "red\x1b[31m"


def test_table_aligns_the_first_column_left_and_the_rest_right():
    assert table(("a", "bb"), [("xyz", "1"), ("u", "100")]) == "a     bb\nxyz    1\nu    100"


def test_names_match_patterns_in_their_own_order():
    names = ["b1", "a1", "a2"]
    assert match_names(["a*", "b1"], names) == names
    assert match_names([], names) == []
    with pytest.raises(InputError, match=r"unknown run 'a3': did you mean 'a\d'\? Known: a1, a2, b1"):
        match_names(["a1", "a3"], names)


def test_progress_is_silent_unless_stderr_is_a_terminal(capsys, monkeypatch):
    with progress(2, "fitting") as step:
        step("one")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress(2, "fitting") as step:
        step("one\x1b")
        step("two")
    shown = capsys.readouterr()
    assert shown.out == "" and "\x1b[31m" not in shown.err
