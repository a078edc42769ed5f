"""The promises of SECURITY.md about files: bounds, what is opened, what is written, settings that are literals."""

import gzip
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import zipfile
from contextlib import closing
from pathlib import Path

import pytest

from lehr.errors import InputError
from lehr.runs import discovery
from lehr.runs.readers import FORMATS, databases, detect, frame, mlflow_sqlite, read_all
from lehr.runs.readers.beside import parse_table
from lehr.schedule.spec import parse

ROOT = Path(__file__).resolve().parents[2]
SRC, SAMPLES = ROOT / "src", ROOT / "tests" / "runs" / "samples"
PROMISES = (ROOT / "SECURITY.md").read_text()


# files


@pytest.mark.parametrize("kind", ["gzip", "zip"])
def test_compressed_files_are_refused_unopened(tmp_path, kind):
    path, rows = tmp_path / "log.csv", b"step,lr,loss\n" + b"1,0.1,2.5\n" * 2_000_000
    if kind == "gzip":
        path.write_bytes(gzip.compress(rows, 9))
    else:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("log.csv", rows)
    assert path.stat().st_size < len(rows) / 200
    with pytest.raises(InputError, match="is not a log of a known format .* uncompressed"):
        detect(path)
    for name, known in FORMATS.items():
        if not (known.folder or known.address):
            with pytest.raises(InputError):
                read_all([path], format=name)


def test_parquet_with_rows_without_end_is_refused(tmp_path, monkeypatch):
    import duckdb

    path = tmp_path / "bomb.parquet"
    duckdb.sql(f"COPY (SELECT 1 AS step, 2.5 AS loss FROM range(60000000)) TO '{path}' (FORMAT parquet)")
    assert path.stat().st_size < 1_000_000
    with pytest.raises(InputError, match=r"bomb\.parquet has 60000000 rows, more than 50000000"):
        read_all([path])
    monkeypatch.setattr(frame, "MOST_ROWS", 60_000_000)
    assert frame.open_frame(path).names == ("step", "loss")


def test_updates_without_end_are_refused(tmp_path):
    """A row far away under LRs of no known shape would ask for a list of all LRs between."""
    path = tmp_path / "far.csv"
    for last in (6_000_000, 10**12, 10**18):
        path.write_text(f"step,lr,loss\n0,1e-3,3\n1,3e-3,2.9\n2,1e-3,2.8\n5,7e-4,2.7\n{last},1e-5,2.5\n")
        with pytest.raises(InputError, match=r"are too many to list \(more than 5000000\)|steps below 2\^53"):
            read_all([path])


def test_a_database_whose_pages_repeat_is_refused(tmp_path):
    """A page for two rows, named as each of its parent's children, would be read again and again."""
    path = tmp_path / "mlflow.db"
    shutil.copy(SAMPLES / "mlflow" / "mlflow.db", path)
    with closing(sqlite3.connect(path)) as connection:
        (run,) = connection.execute("SELECT run_uuid FROM runs").fetchone()
        rows = [("loss", 2.5, at, run, at, 0) for at in range(20_000)]
        connection.executemany("INSERT INTO metrics VALUES (?, ?, ?, ?, ?, ?)", rows)
        connection.commit()
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'metrics'").fetchone()
    data, size = bytearray(path.read_bytes()), 512
    begin = (root - 1) * size
    assert data[begin] == 5  # an inner page of a table
    cells = int.from_bytes(data[begin + 3 : begin + 5], "big")
    places = [int.from_bytes(data[begin + 12 + 2 * at :][:2], "big") for at in range(cells)]
    for place in places:
        data[begin + place : begin + place + 4] = data[begin + places[0] : begin + places[0] + 4]
    path.write_bytes(data)
    with pytest.raises(
        InputError, match=r"mlflow\.db is damaged \(a page of it is used twice\): copy it again"
    ):
        list(mlflow_sqlite.logs(path))


def test_work_for_a_database_is_bounded(monkeypatch):
    monkeypatch.setattr(databases, "STEPS", 1000)
    monkeypatch.setattr(databases, "MOST_STEPS", 20_000)
    with pytest.raises(InputError, match=r"mlflow\.db is damaged or cut off \(interrupted\)"):
        with databases.opened(SAMPLES / "mlflow" / "mlflow.db") as connection:
            connection.execute(
                "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r) SELECT max(n) FROM r"
            )


BESIDE = [
    ("trainer-state/trainer_state.json", "config.json"), ("json-lines/metrics.jsonl", "config.yaml"),
    ("lightning/metrics.csv", "hparams.yaml"), ("table/trunk.csv", "meta.yaml"), ("torchtitan/train.log", "a.toml"),
    ("nanogpt/gpt.log", "a.py"), ("table/trunk.csv", "log.csv"), ("mlflow/mlflow.db", "mlflow.db-journal"),
    ("trackio/tiny.db", "tiny.db-wal"),
]  # fmt: skip


def test_pipes_and_circles_do_not_hang(tmp_path):
    """Everything at once, in a process that can be stopped: nothing of it opens a pipe."""
    for place, (sample, beside) in enumerate(BESIDE):
        folder = tmp_path / "logs" / str(place)
        folder.mkdir(parents=True)
        shutil.copy(SAMPLES / sample, folder)
        os.mkfifo(folder / beside)
        for link in ("one", "two", "three"):
            (folder / link).symlink_to(".")
        (folder / "device").symlink_to("/dev/zero")
    code = (
        "import sys\nfrom lehr.runs.importing import prepare\n"
        "for given in sys.argv[1:]:\n"
        "    try:\n        print(len(prepare([given], 'none').runs))\n"
        "    except ValueError as error:\n        print(error)\n"
    )
    given = [*sorted((tmp_path / "logs").iterdir()), tmp_path / "logs" / "2" / "**" / "*.csv"]
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, given)], capture_output=True, text=True, timeout=120,
        env={**os.environ, "PYTHONPATH": str(SRC)}, check=True,
    )  # fmt: skip
    lines = done.stdout.splitlines()
    assert lines[:7] == ["1"] * 7
    for line in lines[7:9]:
        assert re.search(r"mlflow\.db-journal|tiny\.db-wal", line) and "is no regular file: remove it" in line
    assert lines[9:] == ["1"]


def test_patterns_find_what_a_shell_finds_but_for_links(tmp_path, monkeypatch):
    for name in ("a/x.csv", "a/b/y.csv", "z.csv", "run-1/m.csv", ".hidden/k.csv", "[o]dd/m.csv"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "a" / "up").symlink_to("..")
    monkeypatch.chdir(tmp_path)
    deep = ["[o]dd/m.csv", "a/b/y.csv", "a/x.csv", "run-1/m.csv", "z.csv"]
    assert sorted(discovery._matching("**/*.csv")) == deep
    assert sorted(discovery._matching(f"{tmp_path}/**/*.csv")) == [f"{tmp_path}/{name}" for name in deep]
    assert discovery._matching("a/**") == {"a/"}  # a folder stands for all below it
    assert discovery._matching("run-*/**/m.csv") == {"run-1/m.csv"}
    assert discovery._matching("run-**/m.csv") == {"run-1/m.csv"}
    assert discovery._matching("a/**/b/*.csv") == {"a/b/y.csv"}
    monkeypatch.setattr(discovery, "MOST", 2)
    with pytest.raises(InputError, match=r"the folders below \. must not exceed 2, got 'more than 2'"):
        discovery._matching("**/*.csv")


def test_reading_writes_nothing(tmp_path):
    for path in SAMPLES.iterdir():
        shutil.copytree(path, tmp_path / path.name)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for name in FORMATS:
        for path in sorted((tmp_path / name).glob("[!f]*")):
            try:
                read_all([path])
            except InputError:
                continue
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('x')", "(lambda: 1)()", "{'a': open('/etc/passwd')}", "[" * 131072, "-" * 131071 + "1",
        "a" + ".a" * 60000, "{1:" * 40000, "9" * 131072, "1<" * 60000 + "1", '{"a":' * 100_000, "1 if 1 else " * 9000,
    ],
    ids=lambda text: text[:9],
)  # fmt: skip
def test_settings_are_literals_or_nothing(text):
    assert parse_table(text) is None


def test_a_schedule_as_text_is_no_program():
    for text in (
        "__import__('os').system('x')",
        "wsd(steps=(lambda: 1)())",
        "open('/etc/passwd')",
        "constant(" * 9999,
    ):
        with pytest.raises(InputError):
            parse(text)
