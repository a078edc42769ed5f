"""The command that writes the measured tables: markers, layout, and what it makes of odd findings."""

import pytest
from benchmarks.all_laws import DOCUMENT, percent, rewrite, tables

from lehr.laws import LAWS


def found(key):
    """Findings of two laws given against the order of the table, one without ratios, and a stack of both."""
    row = {"held_out_by_kind": {"run": 0.001, "horizon": 0.02}, "coverage_90": 0.914}
    return {
        "chosen": "weight_norm",
        "laws": {
            "tissue": {**row, "held_out_error": 0.0123, key: 0.0045, "ratio_mean_abs_error": None},
            "weight_norm": {**row, "held_out_error": 0.00123, key: 0.05, "ratio_mean_abs_error": 0.0364},
        },
        "stack": {
            "weights": {"weight_norm": 0.25, "tissue": 0.749, "one_power": 0.001}, "held_out_error": 0.002,
            "single_held_out_error": None, key: 0.003,
        },
    }  # fmt: skip


@pytest.fixture
def measured():
    protocols, sizes = ("three", "cosine-to-wsd", "wsd-to-cosine"), ("csv_25", "csv_100")
    return {
        "mpl": {protocol: {size: found("pred_e") for size in sizes} for protocol in protocols},
        "wsd": {train: found("final_mape") for train in ("three", "five")},
    }


def test_the_document_has_every_marker_and_is_stable(measured):
    text = DOCUMENT.read_text()
    once = rewrite(text, tables(measured))
    assert once != text and rewrite(once, tables(measured)) == once
    kept = text.partition("<!-- measured: main -->")[0]
    assert once.startswith(kept) and once.count("<!-- end -->") == text.count("<!-- end -->")
    assert all(table in once for table in tables(measured).values())


def test_the_document_names_every_law_of_one_size():
    text = DOCUMENT.read_text()
    assert all(f"`{name}`" in text for name, law in LAWS.items() if not law.needs_sizes)


def test_laws_are_in_the_order_of_the_table_with_hidden_and_test_errors(measured):
    lines = tables(measured)["main"].splitlines()
    assert lines[0] == "| law | MPL 25M | MPL 100M | 124M, three | 124M, five |"
    assert lines[2] == "| `weight_norm` |" + " 0.123 / 5.00 |" * 4
    assert lines[3] == "| `tissue` |" + " 1.23 / 0.450 |" * 4
    assert tables(measured)["single"].count("0.123 / 5.00") == 4


def test_what_is_absent_is_a_dash(measured):
    parts = tables(measured)
    assert parts["ratio"].splitlines()[2:] == [
        "| `weight_norm` | 0.036 | - | - | 91 |", "| `tissue` | - | - | - | 91 |"
    ]  # fmt: skip
    assert parts["kinds"].splitlines()[2] == "| `weight_norm` | 0.100 | - | 2.00 | - |"
    del measured["wsd"]["five"]["stack"]
    assert len(tables(measured)["stacks"].splitlines()) == len(parts["stacks"].splitlines()) - 1


def test_the_choice_stands_beside_the_smallest_errors(measured):
    line = tables(measured)["choice"].splitlines()[2]
    assert line == "| MPL 25M | `weight_norm` | 0.123 | 5.00 | `weight_norm` 0.123 | `tissue` 0.450 |"
    stack = tables(measured)["stacks"].splitlines()[2]
    assert stack == "| MPL 25M | 0.75 `tissue`, 0.25 `weight_norm` | 0.200 | - | 0.300 | 5.00 |"


@pytest.mark.parametrize("text", ["", "<!-- measured: x -->\na\n<!-- end -->\n" * 2])
def test_a_marker_must_be_there_once(text):
    with pytest.raises(SystemExit, match=r"must have the marker <!-- measured: x --> once, not [02] times"):
        rewrite(text, {"x": "table"})


def test_only_what_stands_between_the_markers_changes():
    text = "a\n<!-- measured: x -->\nold\n<!-- end -->\nb\n<!-- measured: y -->\nold\n<!-- end -->\n"
    new = rewrite(text, {"y": r"\1 new"})
    assert new == text.replace("y -->\nold", "y -->\n\\1 new")


def test_percentages_have_three_significant_places_or_so():
    row = {"a": 0.00004, "b": 0.00996, "c": 0.01, "d": 0.2, "e": None}
    assert [percent(row, key) for key in "abcdef"] == ["0.004", "0.996", "1.00", "20.00", "-", "-"]
