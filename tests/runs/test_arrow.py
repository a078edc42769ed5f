"""Columns of numbers out of DuckDB, and tables read through them."""

import resource
import subprocess
import sys

import duckdb
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lehr.errors import InputError
from lehr.runs import duck
from lehr.runs.arrow import StreamError, read_numbers
from lehr.runs.readers import frame
from lehr.runs.readers.reading import check_file
from lehr.runs.run import Run
from lehr.schedule.families import constant


def test_values_and_gaps_over_many_blocks():
    query = """SELECT i::DOUBLE AS a, (CASE WHEN i % 7 <> 3 THEN i END)::DOUBLE AS b,
               (CASE WHEN i < 500000 THEN -i END)::DOUBLE AS c, (CASE WHEN i >= 300001 THEN i END)::DOUBLE AS d
               FROM range(600000) t(i)"""
    connection = duck.connect()
    a, b, c, d = read_numbers(connection.sql(query))
    i = np.arange(600_000)
    for column, wanted, present in (
        (a, i, i >= 0), (b, i, i % 7 != 3), (c, -i, i < 500_000), (d, i, i >= 300_001),
    ):  # fmt: skip
        assert np.array_equal(column.present, present)
        assert np.array_equal(column.values[present], wanted[present])
        assert np.isnan(column.values[~present]).all()
        assert not column.values.flags.writeable and column.values.base is None


@pytest.mark.parametrize("filled", ["NULL", "1", "'nan'", "'-inf'"])
def test_no_rows_one_row_and_odd_values(filled):
    connection = duck.connect()
    (none,) = read_numbers(connection.sql(f"SELECT ({filled})::DOUBLE AS x WHERE false"))
    assert none.values.shape == none.present.shape == (0,)
    (one,) = read_numbers(connection.sql(f"SELECT ({filled})::DOUBLE AS x"))
    wanted = float(filled.strip("'")) if filled != "NULL" else np.nan
    assert one.present.tolist() == [filled != "NULL"]
    assert np.array_equal(one.values, [wanted], equal_nan=True)


def test_an_engine_that_fails_on_the_way():
    query = "SELECT (CASE WHEN i < 400000 THEN '1' ELSE 'x' END)::DOUBLE AS a FROM range(500000) t(i)"
    connection = duck.connect()
    with pytest.raises((StreamError, duck.error_type()), match="Could not convert string 'x' to DOUBLE"):
        read_numbers(connection.sql(query))


CELLS = st.sampled_from(["", "1", "-2.5", "1e-3", "nan", "inf", "NaN", "None", "null", '"3"', '""', " 4", "5 ",
                         "+6", "0x1", "x", "1_0", "1,5", "true", "1e999", "1.7976931348623157e308",
                         ".5", "5.", "--1", "\x00", "é"])  # fmt: skip


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=12), st.sampled_from(["\n", "\r\n"]))
def test_both_ways_to_read_a_csv_file_agree(tmp_path_factory, rows, end):
    path = tmp_path_factory.getbasetemp() / "table.csv"
    path.write_bytes(end.join(["a,b", *(";".join(row).replace(";", ",") for row in rows)]).encode())
    try:
        opened = frame.open_frame(path)
    except InputError:  # no table, or ragged where DuckDB looks at once
        return
    fast = frame._plain_numbers(opened, [0, 1])
    try:
        slow = frame._any_numbers(opened, [0, 1])
    except InputError:
        assert fast is None  # what is refused is never read
        return
    if fast is not None:
        for one, other in zip(fast, slow, strict=True):
            assert np.array_equal(one.present, other.present)
            assert np.array_equal(one.values, other.values, equal_nan=True)


def test_a_bad_cell_far_down_is_named(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("step,loss\n" + "".join(f"{i},1.5\n" for i in range(300_000)) + "300000,oops\n300001,2\n")
    with pytest.raises(InputError, match=r"t\.csv, line 300002: column 'loss' must hold numbers, got 'oops'"):
        frame.fetch(frame.open_frame(path), ["step", "loss"])


def test_a_run_shares_arrays_that_nobody_can_write():
    step, loss = np.arange(5.0), np.ones(5)
    schedule = constant(steps=10, peak=1.0)
    copied = Run("a", schedule, step, loss)
    step[0] = 99
    assert copied.step[0] == 0
    for array in (step, loss):
        array.setflags(write=False)
    step = np.arange(5.0)
    step.setflags(write=False)
    shared = Run("a", schedule, step, loss)
    assert shared.step is step and shared.loss is loss
    view = np.ones(10)[:5]
    view.setflags(write=False)  # its base can be written
    assert Run("a", schedule, step, view).loss is not view
    assert shared.fingerprint() == copied.fingerprint()


MEMORY = """
import resource, sys
from pathlib import Path
from lehr.runs.readers.frame import fetch, open_frame
opened = open_frame(Path(sys.argv[1]))
fetch(open_frame(Path(sys.argv[2])), ["step", "loss"])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
cells = fetch(opened, ["step", "loss"])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, sum(c.values.nbytes for c in cells.values()))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
@pytest.mark.skipif(duckdb.__version__ < "2", reason="older DuckDBs hold more of a result")
def test_a_table_needs_the_memory_of_its_columns(tmp_path):
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss > 0
    large, small = tmp_path / "large.csv", tmp_path / "small.csv"
    block = "".join(f"{i},2.25\n" for i in range(100_000))
    large.write_text("step,loss\n" + block * 30)
    small.write_text("step,loss\n" + block)
    done = subprocess.run(
        [sys.executable, "-c", MEMORY, large, small], capture_output=True, text=True, check=True
    )
    grown, columns = map(int, done.stdout.split())
    assert columns == 3_000_000 * 16
    assert grown * 1024 < 2 * columns + 32e6


def test_large_files_are_for_readers_that_stream(tmp_path):
    path = tmp_path / "large.csv"
    with path.open("wb") as file:
        file.write(b"step,loss\n1,2\n")
        file.truncate(2 << 30)  # sparse
    assert check_file(path, streamed=True) == path
    with pytest.raises(InputError, match="must not exceed 1073741824 bytes, got 2147483648: log less often"):
        check_file(path)
    path.write_bytes(b'{"step": 1, "loss": 2}\n' * 4000)
    with path.open("ab") as file:
        file.truncate(2 << 30)
    with pytest.raises(InputError, match="must not exceed 1073741824 bytes"):
        frame.open_frame(path)
