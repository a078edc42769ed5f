"""CSV out and in: the same numbers back, and each mistake with its line."""

import pytest
from hypothesis import given, settings
from tests.export_cases import schedules

from lehr.errors import InputError
from lehr.schedule.export import export
from lehr.schedule.export.csv import read


@settings(max_examples=50, deadline=None)
@given(schedules)
def test_the_same_lrs_come_back_bit_for_bit(schedule):
    again = read(export(schedule, "csv").text, "a.csv")
    assert again.to_array().tolist() == schedule.to_array().tolist()


def test_lines_may_end_in_any_way():
    assert read("update,lr\r\n0,1\r\n1, 5e-1", "a.csv").to_array().tolist() == [1.0, 0.5]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.csv line 1 must be the header 'update,lr', got '': write a row an update."),
        (
            "step,lr\n0,1\n",
            "a.csv line 1 must be the header 'update,lr', got 'step,lr': write a row an update.",
        ),
        ("update,lr\n", "a.csv has no update after its header: write a row an update."),
        (
            "update,lr\n1,1\n",
            "a.csv line 2 must be update 0, got '1,1': list every update in order, the first is 0.",
        ),
        (
            "update,lr\n0,1\n0,1\n",
            "a.csv line 3 must be update 1, got '0,1': list every update in order, the first is 0.",
        ),
        ("update,lr\n0,x\n", "a.csv line 2 must hold an LR, got '0,x': write it as a number, such as 3e-4."),
        ("update,lr\n0\n", "a.csv line 2 must hold an LR, got '0': write it as a number, such as 3e-4."),
        (
            "update,lr\n0,1\n1,-2\n",
            "a.csv line 3 must hold a finite LR of at least 0, got '1,-2': give the LR of that update.",
        ),
        (
            "update,lr\n0,nan\n",
            "a.csv line 2 must hold a finite LR of at least 0, got '0,nan': give the LR of that update.",
        ),
    ],
)
def test_mistakes_are_shown_with_their_line(text, message):
    with pytest.raises(InputError) as refused:
        read(text, "a.csv")
    assert str(refused.value) == message
