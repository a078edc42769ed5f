"""Parts of one run, from several files, are one log."""

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.runs.readers.joining import join_logs
from lehr.runs.readers.raw import Log, Series


def part(source, steps, *, name="run", shift=0.0, time=None, **values):
    step = np.asarray(steps, dtype=float)
    when = None if time is None else time + np.arange(step.size)
    return Log(source, name, {"loss": Series(step, 3 + 1 / (step + 1) + shift, when)}, **values)


def test_parts_without_times_are_put_by_their_first_step():
    (log,) = join_logs([part("b.log", range(50, 100)), part("a.log", range(60), config={"x": 1})])
    assert log.series["loss"].step.tolist() == [*range(60), *range(50, 100)]
    assert log.order == "oldest-first"
    assert log.source == "a.log and 1 more"
    assert log.config == {"x": 1}
    assert log.report[0] == "2 files are parts of 'run', in this order: a.log, b.log"


def test_times_tell_the_order_where_all_have_them():
    early, late = part("z", range(50, 60), time=5.0), part("a", range(40), time=100.0)
    (log,) = join_logs([late, early])
    assert log.series["loss"].step[0] == 50
    assert log.series["loss"].time[0] == 5
    (mixed,) = join_logs([late, part("z", range(50, 60))])
    assert mixed.series["loss"].step[0] == 0
    assert mixed.series["loss"].time is None


def test_runs_of_other_names_stay_apart():
    logs = join_logs([part("a", range(5)), part("b", range(5), name="other")])
    assert [log.name for log in logs] == ["run", "other"]


def test_copies_of_one_beginning_are_parts_and_different_runs_are_not():
    (log,) = join_logs([part("b", range(100)), part("a", range(50))])
    assert log.series["loss"].step.size == 150
    with pytest.raises(InputError) as caught:
        join_logs([part("a", range(50)), part("b", range(100), shift=0.1)])
    assert str(caught.value) == (
        "a and b both begin at step 0, with loss 4 and 4.1: they are not parts of one run 'run': "
        "give them names of their own."
    )
    # times say that the second took the first one's place
    assert join_logs([part("a", range(50), time=0.0), part("b", range(100), shift=0.1, time=60.0)])


def test_parts_that_contradict_each_other():
    with pytest.raises(InputError) as caught:
        join_logs([part("a", range(5)), part("b", range(5, 9), axis="tokens")])
    assert (
        "b: axis of run 'run' must be that in a, 'updates', got 'tokens': give the files of different"
        in str(caught.value)
    )


def test_runs_of_one_name_and_different_origins_get_their_ends():
    logs = join_logs(
        [
            part("1", range(5), origin="/x/a/logs"), part("2", range(5), origin="/x/b/logs"),
            part("3", range(5, 9), origin="/x/b/logs"), part("4", range(5), name="other", origin="id7"),
        ]
    )  # fmt: skip
    assert [(log.name, log.series["loss"].step.size) for log in logs] == [
        ("a/logs/run", 5), ("b/logs/run", 9), ("other", 5),
    ]  # fmt: skip


def test_times_that_some_entries_lack_order_nothing():
    late = part("b", range(50, 90), time=0.0)
    late.series["loss"].time[:] = np.nan
    (log,) = join_logs([late, part("a", range(60), time=1.0)])
    assert log.series["loss"].step[0] == 0
