"""Folders and several files at once: whatever lies in them is read, refused or passed over."""

import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.broken_files import mutations

from lehr.errors import InputError
from lehr.runs.importing import prepare
from lehr.runs.readers import FORMATS, read_all
from lehr.runs.readers.reading import ReadOptions

SAMPLES = Path(__file__).parent / "samples"
WHOLE = {
    format: next(path for path in sorted((SAMPLES / format).iterdir()) if path.stat().st_size <= 4096)
    for format in (
        "tensorboard",
        "wandb-offline",
        "trainer-state",
        "wandb-export",
        "megatron",
        "json-lines",
        "table",
    )
}
META = b"run_id: r\nexperiment_id: '0'\nlifecycle_stage: active\nrun_name: tiny\n"
PLACES = ("meta.yaml", "0/meta.yaml", "0/r/meta.yaml", "0/r/metrics/loss", "0/r/metrics/lr", "0/r/metrics/a/b",
          "0/r/params/x", "0/r/tags/mlflow.runName", "metrics/loss", ".trash/r/meta.yaml")  # fmt: skip
CONTENTS = st.one_of(
    st.sampled_from(
        [META, b"0 2.5 0\n1 2.25 1\n", b"0 1e-3 0\n0 1e-3 1\n", b"1 nan 1", b"", b"x\n", b"1 2 1e400\n"]
    ),
    st.binary(max_size=60),
    st.binary(max_size=20).map(lambda end: META + end),
)


@given(st.dictionaries(st.sampled_from(PLACES), CONTENTS, max_size=8))
@settings(max_examples=150, deadline=None)
def test_any_folder_of_mlflow(tmp_path_factory, files):
    top = tmp_path_factory.mktemp("mlruns")
    for place, content in files.items():
        (top / place).parent.mkdir(parents=True, exist_ok=True)
        (top / place).write_bytes(content)
    assert FORMATS["mlflow-files"].sniff(top) in (True, False)
    try:
        readings = read_all([top], format="mlflow-files")
    except InputError as error:
        assert top.name in str(error) or "'tiny'" in str(error)
    else:
        assert readings


def contents(format):
    """Strategy: a sample of a format, whole or broken."""
    data = WHOLE[format].read_bytes()
    return st.just(data) | mutations(data)


FORMAT = st.sampled_from(sorted(WHOLE))


@given(st.lists(FORMAT.flatmap(lambda f: st.tuples(st.just(f), contents(f))), max_size=4))
@settings(max_examples=40, deadline=None)
def test_any_folder_of_broken_logs(tmp_path_factory, logs):
    """Logs of several formats, some of them broken, in one import that leaves out what cannot be read."""
    top = tmp_path_factory.mktemp("logs")
    for number, (format, data) in enumerate(logs):
        (top / f"{number}").mkdir()
        (top / f"{number}" / WHOLE[format].name).write_bytes(data)
    try:
        ready = prepare([top], top / "store", skip_unreadable=True)
    except InputError as error:
        assert str(error)
    else:
        assert ready.runs
        assert {run.name for run in ready.runs} == set(ready.reports)


@given(FORMAT.flatmap(lambda f: st.tuples(st.just(f), contents(f), contents(f))))
@settings(max_examples=40, deadline=None)
def test_any_parts_of_one_run(tmp_path_factory, logs):
    """Copies of one log, whole or broken, given as parts of one run."""
    format, *parts = logs
    top = tmp_path_factory.mktemp("parts")
    paths = [top / f"{number}-{WHOLE[format].name}" for number in range(len(parts))]
    for path, data in zip(paths, parts, strict=True):
        path.write_bytes(data)
    try:
        (reading,) = read_all(paths, ReadOptions(name="whole", segments=True), format)
    except InputError as error:
        assert top.name in str(error) or "whole" in str(error)
    else:
        assert reading.run.name == "whole"


LINES = {
    "nanotron": "job.out",
    "torchtitan": "train.log",
    "json-lines": "metrics.jsonl",
    "olmo-core-console": "olmo.log",
}


@pytest.mark.parametrize("format", LINES)
@pytest.mark.parametrize("share", [0.4, 0.6])
def test_a_log_in_two_files_is_the_log(tmp_path, format, share):
    path = SAMPLES / format / LINES[format]
    lines = path.read_bytes().splitlines(keepends=True)
    cut = round(share * len(lines)) // 3 * 3  # OLMo-core's entries have three lines
    paths = [tmp_path / "b-first.log", tmp_path / "a-second.log"]
    paths[0].write_bytes(b"".join(lines[:cut]))
    paths[1].write_bytes(b"".join(lines[cut:]))
    (whole,) = read_all([path], ReadOptions(name="x"))
    for given_order in (paths, paths[::-1]):
        (parts,) = read_all(given_order, ReadOptions(name="x"))
        assert parts.run.step.tolist() == whole.run.step.tolist()
        assert parts.run.loss.tolist() == whole.run.loss.tolist()
        assert parts.run.schedule.to_array().tolist() == whole.run.schedule.to_array().tolist()
        assert any(
            line.startswith("2 files are parts of 'x', in this order: b-first.log") for line in parts.report
        )


def test_links_to_logs_and_to_nothing(tmp_path):
    folder = tmp_path / "logs"
    folder.mkdir()
    shutil.copy(SAMPLES / "table" / "trunk.csv", folder)
    (folder / "gone.csv").symlink_to("nowhere.csv")
    (folder / "itself.csv").symlink_to("itself.csv")
    ready = prepare([folder], tmp_path / "store")
    assert [run.name for run in ready.runs] == ["trunk"]
    assert ready.remarks[0] == "2 files are no logs: gone.csv, itself.csv"
