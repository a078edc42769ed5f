"""MLflow's file store."""

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runs.broken_files import mutations, read_all

from lehr.errors import InputError
from lehr.runs.readers import mlflow_files

# ---- the file store


def folder_of(path, run="r1", name="fox", **metrics):
    """A run's folder with the texts of its metrics."""
    place = path / run
    for kind in ("metrics", "params", "tags"):
        (place / kind).mkdir(parents=True, exist_ok=True)
    (place / "meta.yaml").write_text(
        f"artifact_uri: file:///x\nexperiment_id: '7'\nlifecycle_stage: active\nrun_id: {run}\n"
        f"run_name: {name}\ntags: []\n"
    )
    for key, text in metrics.items():
        file = place / "metrics" / key.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return place


def test_every_run_of_a_store(tmp_path):
    store = tmp_path / "mlruns"
    (store / "7").mkdir(parents=True)
    (store / "7" / "meta.yaml").write_text("experiment_id: '7'\nname: Default\n")
    one = folder_of(
        store / "7",
        "r1",
        train__loss="1000 3.5 1\n2000 nan 2\n2500 inf 3 data 1a2b\n",
        old="5 1.5\n6 2.5\n",
        none="",
    )
    (one / "params" / "lr").write_text("0.001")
    (one / "params" / "note").write_text("a\nb")
    two = folder_of(store / "7", "r2", "fox", lr="1 0.5 1\n")
    (two / "tags" / "mlflow.runName").write_text("hen")
    gone = folder_of(store / "7", "r3", lr="1 0.5 1\n")
    (gone / "meta.yaml").write_text((gone / "meta.yaml").read_text().replace("active", "deleted"))
    folder_of(store / ".trash", "r4", lr="1 0.5 1\n")
    folder_of(store / "7", "r5", "empty")
    for folder in (store, store / "7", one):
        assert mlflow_files.sniff_folder(folder)
    assert not mlflow_files.sniff_folder(gone)
    assert not mlflow_files.sniff_folder(tmp_path / "none")
    assert not mlflow_files.sniff_folder(one / "metrics")
    logs = {log.name: log for log in mlflow_files.logs(store)}
    assert sorted(logs) == ["fox", "hen"]
    log = logs["fox"]
    loss = log.series["train/loss"]
    assert (loss.step.tolist(), loss.time.tolist(), loss.line.tolist()) == ([1, 2, 3], [1, 2, 2.5], [1, 2, 3])
    assert np.array_equal(loss.value, [3.5, np.nan, np.inf], equal_nan=True)
    assert log.series["old"].step.tolist() == [0, 0]
    assert dict(log.config) == {"lr": 0.001, "note": "a\nb"}
    assert log.report == (
        "old: 2 lines have no step: they were taken as at step 0, as MLflow does",
        "logged without steps: old",
    )
    assert [log.name for log in mlflow_files.logs(one)] == ["fox"]


def test_runs_of_one_name_are_told_apart(tmp_path):
    folder_of(tmp_path, "r1" * 16, lr="1 0.5 1\n")
    folder_of(tmp_path, "r2" * 16, lr="1 0.5 1\n")
    assert [log.name for log in mlflow_files.logs(tmp_path)] == ["fox-r1r1r1r1", "fox-r2r2r2r2"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3\n1 2 3 4\n", "line 2 must have 2, 3 or 5 fields, as timestamp value step, got 4"),
        ("1 2 3\n\n1 x 3\n", "line 3: value must be a number, got 'x': mend or remove the line"),
        ("1 2 1e400\n", "line 1: step must be finite, got inf"),
        ("1 2 nan\n", "line 1: step must be finite, got nan"),
        ("t 2 3\n", "line 1: timestamp must be a number, got 't'"),
        ("1 2 " + "3" * 99 + "\n", "line 1: step must be a number, got '3333"),
        ("", "has no run with a metric: log some first"),
    ],
)
def test_malformed_metrics(tmp_path, text, message):
    with pytest.raises(InputError, match=message) as caught:
        list(mlflow_files.logs(folder_of(tmp_path, loss=text)))
    assert "r1" in str(caught.value)


def test_folders_that_are_no_runs(tmp_path):
    with pytest.raises(InputError, match="has no run of MLflow: give mlruns, or the folder of a run in it"):
        list(mlflow_files.logs(tmp_path))


def test_links_are_not_followed(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("1 2 3\n")
    place = folder_of(tmp_path / "s", loss="1 2 3\n")
    os.symlink(secret, place / "metrics" / "linked")
    assert sorted(next(iter(mlflow_files.logs(place))).series) == ["loss"]


@settings(max_examples=60, deadline=None)
@given(content=mutations(b"1000 3.5 1\n2000 nan 2\n2500 inf 3 data 1a2b\n") | st.binary(max_size=60))
def test_noise_in_a_metric(tmp_path_factory, content):
    read_all(mlflow_files.logs, folder_of(tmp_path_factory.getbasetemp() / "noisy", loss=content))


def test_a_metric_cut_at_every_byte(tmp_path):
    text = "1000 3.5 1\n2000 nan 2\n2500 1.25 3\n"
    for length in range(len(text)):
        found, _ = read_all(mlflow_files.logs, folder_of(tmp_path, loss=text[:length]))
        if found is None:
            assert "\n" not in text[:length]
            continue
        assert found[0].series["loss"].step.size == text[:length].count("\n")
        assert text[:length].endswith("\n") or "the last line is cut off" in found[0].report[0]
