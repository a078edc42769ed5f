"""Tables that cannot be read: the message names the file, the line, the rule and the remedy."""

import pytest
from tests.runs.tables import csv, one, plain, rows

from lehr.errors import InputError
from lehr.runs import duck
from lehr.runs.readers import detect, read


@pytest.fixture
def log(tmp_path):
    return csv(tmp_path / "run.csv", plain(rows()))


def test_line_numbers_skip_blank_lines(tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("step,lr,loss\n\n0,1e-3,3\n\n\n10,1e-3,abc\n")
    with pytest.raises(
        InputError, match=r"r\.csv, line 6: column 'loss' must hold numbers, got 'abc': mend the cell"
    ):
        one(path)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            "step,lr,loss\n0,-1e-3,3\n10,1e-3,3\n",
            r"line 2: LR must be a finite number of at least 0, got -0\.001",
        ),
        ("step,lr,loss\n0,1e-3,3\n10,nan,3\n", "line 3: LR must be a finite number of at least 0, got nan"),
        (
            "step,lr,loss\n0,1e-3,3\n10.5,1e-3,3\n",
            r"line 3: step must be a whole number of updates.*got 10\.5",
        ),
        ("step,lr,loss\n0,1e-3,3\n,1e-3,3\n", "line 3: step must be a whole number of updates"),
        ("step,lr,loss\n-5,1e-3,3\n", "line 2: step must be a whole number of updates, 0 or more, got -5"),
        ("step,lr\n0,1\n", "has no loss column among 'step', 'lr': name it with --column loss=NAME"),
        ("loss,lr\n1,1\n", "has no step column among 'loss', 'lr': name it with --column step=NAME"),
        ("step,lr,loss\n", "no row has a number as its loss"),
        ("step,lr,loss\n0,1,\n1,1,nan\n", "no row has a number as its loss: name another column"),
        ("step,lr,loss\n0,1,-2\n", "no loss of .r. is a finite number above 0: give the loss in nats"),
        ("0,1,2\n1,1,2\n", "line 1 holds no column names: add a header line"),
        (
            "step,lr,loss\n0,1,2\n1,1\n",
            "line 3 cannot be read as a table .Expected Number of Columns: 3 Found: 2",
        ),
        ("step,lr,loss\n0,1e-3,3\n10,1e-3,2\n", "at least 3 different steps"),
        ("step,lr,loss\n" + "0,1,2\n" * 50 + "1,1,2,3\n", "line 52 cannot be read as a table .Expected"),
        ("hello world\nno table\n", r"is not a log of a known format \(lehr, tensorboard.*\): give CSV"),
        ('{"step": ' + "9" * 5000 + "}\n", "the first line is not readable .Exceeds the limit"),
        ('{"step": 1, "loss": \n', "the first line is not valid JSON"),
        ('{"step":0,"lr":1,"loss":3}\n{"step":1,"lr":1,"loss":\n', "cannot be read as a table"),
        (
            '{"step":0,"lr":1,"loss":3}\n{"step":1,"lr":1,"loss":"x"}\n',
            r"line 2: column 'loss' must hold.*got '\"x\"'",
        ),
    ],
)
def test_bad_tables(tmp_path, body, text):
    path = tmp_path / "r.log"
    path.write_text(body)
    with pytest.raises(InputError, match=text) as caught:
        one(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "body", [b"\0\1\2" * 9, b"\x1f\x8bgzip,\n1,2", b"PAR1 garbage", b"step,loss,lr\n1,\xff\xfe,1\n"]
)
def test_bytes_that_are_no_table(tmp_path, body):
    path = tmp_path / "r.bin"
    path.write_bytes(body)
    with pytest.raises(InputError, match=r"r\.bin"):
        one(path)


def test_a_table_is_refused_by_name_too(tmp_path):
    path = tmp_path / "r.txt"
    path.write_text("hello\n")
    with pytest.raises(InputError, match="is not a table: give CSV or TSV"):
        read(path, format="table")
    with pytest.raises(InputError, match="unknown log format 'tabel': did you mean 'table'"):
        read(path, format="tabel")


def test_files_that_cannot_be_logs(tmp_path, log, monkeypatch):
    with pytest.raises(InputError, match=r"nope\.csv does not exist: check its name"):
        one(tmp_path / "nope.csv")
    with pytest.raises(InputError, match="is a folder: give the log files in it"):
        detect(tmp_path)
    (tmp_path / "empty.csv").touch()
    with pytest.raises(InputError, match=r"empty\.csv is empty"):
        one(tmp_path / "empty.csv")
    with pytest.raises(InputError, match="is not a regular file"):
        detect("/dev/null")
    monkeypatch.setattr("lehr.runs.readers.reading.SIZE_LIMIT", 100)
    with pytest.raises(
        InputError, match=r"the size of .*run\.csv must not exceed 100 bytes, got \d+: log less often"
    ):
        one(log)


def test_json_nested_too_deep(tmp_path):
    path = tmp_path / "deep.json"
    path.write_text('{"step": ' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(InputError, match="first line is nested too deep"):
        one(path)
    rest = tmp_path / "later.jsonl"
    rest.write_text('{"step":0,"lr":1,"loss":3}\n{"step":' + "[" * 100_000 + "]" * 100_000 + "}\n")
    with pytest.raises(InputError, match=r"later\.jsonl is nested too deep \(more than 500 levels\)"):
        one(rest)
    rest.write_text("".join(f'{{"step":{i},"lr":1,"loss":3,"say":"[[{{"}}\n' for i in range(999)))
    assert one(rest).run.step.size == 999


def test_a_column_of_another_type(tmp_path):
    path = tmp_path / "t.parquet"
    sql = "SELECT range AS step, 1.0 AS lr, TIMESTAMP '2020-01-01' AS loss, 3.0 AS ok FROM range(5)"
    connection = duck.connect()
    connection.sql(sql).write_parquet(str(path))
    with pytest.raises(
        InputError, match="column 'loss' holds TIMESTAMP, not numbers: choose another with --column"
    ):
        one(path)
    assert one(path, columns={"loss": "ok"}).run.step.size == 5


def test_row_of_a_parquet_file_is_named(tmp_path):
    path = tmp_path / "t.parquet"
    connection = duck.connect()
    connection.sql("SELECT range AS step, -1.0 AS lr, 3.0 AS loss FROM range(5)").write_parquet(str(path))
    with pytest.raises(InputError, match=r"t\.parquet, row 1: LR must be"):
        one(path)
