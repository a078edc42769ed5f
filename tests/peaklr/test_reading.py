"""Tables on disk: every format, the usual names, and errors that name file and line."""

import json

import duckdb
import numpy as np
import pytest

from lehr.errors import InputError
from lehr.peaklr.reading import USUAL_NAMES, load_sweep_table
from lehr.runs.run import Run
from lehr.runs.store import add_runs
from lehr.schedule.families import wsd

CSV = "lr,loss,N,D\n1e-3,3.0,1e8,1e9\n2e-3,nan,1e8,1e9\n4e-3,inf,1e8,1e9\n"
STEP_LAW = (
    "h,lr,bs,ti,loss,smooth loss,exp_name,D,N,D/N\n960,1e-3,32,100,3.1,3.0,first,6553600,214663680,.03\n"
    "960,2e-3,64,100,3.1,2.9,second,13107200,214663680,.06\n"
)


@pytest.fixture
def write(tmp_path):
    def made(text, name="sweep.csv"):
        path = tmp_path / name
        path.write_text(text)
        return path

    return made


def test_a_csv_with_usual_names(write):
    found = load_sweep_table(write(CSV))
    assert found.lr.tolist() == [1e-3, 2e-3, 4e-3]
    assert found.diverged.tolist() == [False, True, True]
    assert found.batch_tokens is None and found.active_params is None


def test_the_files_of_step_law(write):
    found = load_sweep_table(write(STEP_LAW), {"loss": "smooth loss"}, sequence_length=2048)
    assert found.loss.tolist() == [3.0, 2.9]
    assert found.batch_tokens.tolist() == [65536, 131072]
    assert found.names == ("sweep.csv: first", "sweep.csv: second")


def test_a_sequence_length_column_and_active_parameters(write):
    found = load_sweep_table(write("seq_len,lr,bs,loss,N,Na,D\n1024,1e-3,32,3,1e9,1e8,1e9\n"))
    assert found.batch_tokens.tolist() == [32768]
    assert found.active.tolist() == [1e8]


def test_a_batch_in_tokens_needs_no_sequence_length(write):
    found = load_sweep_table(write("lr,bs,batch_tokens,loss,N,D\n1e-3,32,5e5,3,1e9,1e9\n"))
    assert found.batch_tokens.tolist() == [5e5]


def test_parquet_and_json_lines(tmp_path):
    path = tmp_path / "sweep.parquet"
    duckdb.sql(
        f"COPY (SELECT 0.001 AS lr, 3.0 AS loss, 1e8 AS params, 1e9 AS tokens) TO '{path}' (FORMAT parquet)"
    )
    rows = tmp_path / "sweep.jsonl"
    rows.write_text(
        json.dumps({"peak_lr": 0.001, "final_loss": 3.0, "n_params": 1e8, "n_tokens": 1e9}) + "\n"
    )
    for file in (path, rows):
        assert load_sweep_table(file).params.tolist() == [1e8]
    assert len(load_sweep_table([path, rows])) == 2


def test_a_store_of_runs(tmp_path):
    runs = [
        Run(
            f"r{peak}", wsd(steps=100, peak=peak, warmup=10, decay=20), np.array([100]), np.array([3.0]), params=1e8,
            batch_tokens=1e5,
        )
        for peak in (1e-3, 2e-3)
    ]  # fmt: skip
    add_runs(tmp_path / "store", runs)
    found = load_sweep_table(tmp_path / "store")
    assert found.tokens.tolist() == [1e7, 1e7]
    assert found.lr.tolist() == [1e-3, 2e-3]


REFUSED = [
    (
        CSV.replace("2e-3,nan", "2e-3,"), {},
        "line 3: column 'loss' (loss) is empty: write nan if the run diverged, or remove the row.",
    ),
    (CSV.replace("2e-3,nan", ",nan"), {}, "line 3: column 'lr' (lr) is empty: fill it or remove the row."),
    (
        CSV.replace("4e-3,inf,1e8", "4e-3,inf,-1"), {},
        "line 4: column 'N' (params) must be above 0, got -1.0: mend the row or remove it.",
    ),
    (CSV.replace("1e-3,3.0", "inf,3.0"), {}, "line 2: column 'lr' (lr) must be above 0, got inf"),
    (CSV.replace("3.0", "three"), {}, "line 2: column 'loss' must hold numbers, got 'three': mend the cell"),
    (
        CSV.replace("N,D", "M,D"), {},
        "has no params column among 'lr', 'loss', 'M', 'D': name it with --column params=NAME.",
    ),
    (STEP_LAW, {}, "'loss', 'smooth loss' could each be the loss column: choose one with --column loss=NAME."),
    (
        STEP_LAW, {"columns": {"loss": "smooth loss"}},
        "the batch size in column 'bs' counts sequences, whose length is not known: give it with --sequence-length, or "
        "name a column in tokens with --column batch_tokens=NAME.",
    ),
    (
        STEP_LAW, {"columns": {"loss": "smooth loss"}, "sequence_length": 0},
        "sequence_length must be at least 1, got 0: give the tokens of a sequence.",
    ),
    (CSV, {"columns": {"size": "N"}}, "unknown column role 'size'"),
    (CSV, {"columns": {"loss": "lossy"}}, "'lossy': did you mean 'loss'"),
    ("lr,loss,N,D\n", {}, "has no row under its header: give one a training."),
]  # fmt: skip


@pytest.mark.parametrize(("text", "options", "message"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_bad_tables_are_refused_with_file_and_line(write, text, options, message):
    path = write(text)
    with pytest.raises(InputError) as caught:
        load_sweep_table(path, **options)
    assert message in str(caught.value)
    if "column role" not in message and "sequence_length" not in message:
        assert "sweep.csv" in str(caught.value)


def test_missing_files_and_no_files_are_refused(tmp_path):
    with pytest.raises(InputError, match="nowhere.csv"):
        load_sweep_table(tmp_path / "nowhere.csv")
    with pytest.raises(InputError, match="no table was named: give at least one"):
        load_sweep_table([])


def test_no_name_stands_for_two_roles():
    names = [name for usual in USUAL_NAMES.values() for name in usual]
    assert len(names) == len(set(names))
    assert all(name == name.lower() for name in names)
