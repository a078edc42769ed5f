"""Folders, patterns and parents: what an import would add, and what it leaves out."""

import numpy as np
import pytest

from lehr.errors import InputError
from lehr.runs.discovery import find_logs
from lehr.runs.importing import prepare
from lehr.runs.readers.reading import ReadOptions
from lehr.runs.store import add_runs, load_runs
from lehr.schedule.families import constant, wsd

TRUNK = constant(steps=1000, peak=1e-3, warmup=100)
COOL = wsd(steps=1000, peak=1e-3, warmup=100, decay=200)


def write(path, steps, schedule=TRUNK, lower=0.0, header="step,lr,loss"):
    path.parent.mkdir(parents=True, exist_ok=True)
    steps = np.asarray(steps)
    rows = zip(
        steps.tolist(),
        schedule.lr(steps).tolist(),
        (3 + 5 / np.sqrt(steps + 10) - lower).tolist(),
        strict=True,
    )
    path.write_text(header + "\n" + "".join(f"{s},{lr!r},{loss!r}\n" for s, lr, loss in rows))
    return path


@pytest.fixture
def folder(tmp_path):
    top = tmp_path / "logs"
    write(top / "trunk.csv", range(0, 1000, 10))
    write(top / "deep" / "other.csv", range(0, 1000, 10), COOL, 0.1)
    (top / "config.json").write_text('{"a": 1}')
    (top / "notes.txt").write_text("hello\n")
    (top / "empty").touch()
    (top / "table.csv").write_text("a,b\n1,2\n")
    return top


def test_a_folder_is_every_log_below_it(folder, tmp_path):
    ready = prepare([folder], tmp_path / "s")
    assert [run.name for run in ready.runs] == ["trunk", "other"]
    assert ready.remarks[0] == "4 files are no logs: config.json, empty, notes.txt, table.csv"
    assert not (tmp_path / "s").exists()


def test_patterns(folder, tmp_path):
    assert [path.name for path, _ in find_logs([f"{folder}/**/*.csv"]).logs] == ["other.csv", "trunk.csv"]
    assert len(find_logs([folder / "trunk.csv", f"{folder}/t*.csv"]).logs) == 1
    with pytest.raises(InputError, match=r"nothing matches .*x\*: check the pattern"):
        find_logs([f"{folder}/x*"])


def test_what_is_named_must_be_a_log(folder, monkeypatch):
    with pytest.raises(InputError, match=r"notes\.txt is not a log of a known format"):
        find_logs([folder / "notes.txt"])
    with pytest.raises(InputError, match=r"nope does not exist"):
        find_logs([folder / "nope"])
    (folder / "deep" / "other.csv").unlink()
    with pytest.raises(InputError, match=r"deep holds no log of a known format \(0 files looked at\)"):
        find_logs([folder / "deep"])
    with pytest.raises(InputError, match=r"holds no log of lehr \(5 files looked at\)"):
        find_logs([folder], "lehr")
    monkeypatch.setattr("lehr.runs.discovery.MOST", 3)
    with pytest.raises(InputError, match="must not exceed 3, got 'more than 3': give smaller folders"):
        find_logs([folder])


def test_an_unreadable_log_refuses_the_import_or_is_left_out_and_told(folder, tmp_path):
    write(folder / "late.csv", range(500, 1000, 10))
    with pytest.raises(
        InputError, match=r"late\.csv starts at step 500.*Nothing was imported; --skip-unreadable"
    ):
        prepare([folder], tmp_path / "s")
    ready = prepare([folder], tmp_path / "s", skip_unreadable=True)
    assert sorted(run.name for run in ready.runs) == ["other", "trunk"]
    assert any(
        line.startswith("left out: ") and "late.csv starts at step 500" in line for line in ready.remarks
    )
    with pytest.raises(InputError, match="none of the logs could be read: left out:"):
        prepare([folder / "late.csv"], tmp_path / "s", skip_unreadable=True)


def test_files_under_one_name_are_parts_of_one_run(tmp_path):
    parts = [write(tmp_path / "1.csv", range(0, 600, 10)), write(tmp_path / "2.csv", range(550, 1000, 10))]
    ready = prepare(parts[::-1], tmp_path / "s", ReadOptions(name="whole"))
    (run,) = ready.runs
    assert run.step.tolist() == list(range(0, 1000, 10))
    assert "2 files are parts of 'whole', in this order: 1.csv, 2.csv" in ready.reports["whole"]
    assert any(
        "5 of 105 points dropped because a later segment covers them" in x for x in ready.reports["whole"]
    )


def test_two_runs_of_one_name_are_told_apart_by_their_folders(tmp_path):
    for folder in ("a", "b"):
        write(tmp_path / folder / "logs" / "run.csv", range(0, 1000, 10), lower=0.1 * (folder == "b"))
    ready = prepare([tmp_path], tmp_path / "s")
    assert [run.name for run in ready.runs] == ["a/logs/run", "b/logs/run"]
    with pytest.raises(InputError, match="both begin at step 0, .*not parts of one run 'x'"):
        prepare([tmp_path], tmp_path / "s", ReadOptions(name="x"))


def test_several_runs_in_one_table(tmp_path):
    steps = np.arange(0, 1000, 10)
    lines = ["run_name,step,lr,loss"]
    for name, schedule in (("a", TRUNK), ("b", COOL)):
        lines += [f"{name},{s},{lr!r},{3 + len(name) / (s + 1)!r}" for s, lr in
                  zip(steps.tolist(), schedule.lr(steps).tolist(), strict=True)]  # fmt: skip
    path = tmp_path / "many.csv"
    path.write_text("\n".join(lines) + "\n")
    ready = prepare([path], tmp_path / "s")
    assert {run.name: run.step.size for run in ready.runs} == {"a": 100, "b": 100}
    assert "2 runs, by column run_name" in ready.reports["a"]
    (only,) = prepare([path], tmp_path / "s", ReadOptions(runs=("b*",), name="mine")).runs
    assert only.name == "mine" and only.schedule.lr(np.array([999]))[0] < 1e-5
    with pytest.raises(
        InputError, match="--name names one run, got .*which has 2.*: choose one of them with --run"
    ):
        prepare([path], tmp_path / "s", ReadOptions(name="mine"))
    with pytest.raises(InputError, match="unknown run in the logs 'c'"):
        prepare([path], tmp_path / "s", ReadOptions(runs=("c",)))


def test_the_past_of_a_late_log_is_its_stored_parents(tmp_path):
    store = tmp_path / "s"
    add_runs(store, prepare([write(tmp_path / "trunk.csv", range(0, 1000, 10))], store).runs)
    late = write(tmp_path / "late.csv", range(810, 1000, 10), COOL)
    ready = prepare([late], store, parent="trunk", branch_step=800)
    add_runs(store, ready.runs)
    stored = load_runs(store)["late"]
    assert (stored.parent, stored.branch_step) == ("trunk", 800)
    assert np.abs(stored.schedule.lr(np.arange(990)) - COOL.lr(np.arange(990))).max() < 1e-9
    assert ready.remarks == ("1 branches linked to their parents",)
    with pytest.raises(
        InputError, match="--branch-step must lie within the 990 updates of 'trunk', got 2000"
    ):
        prepare([late], store, parent="trunk", branch_step=2000)
    with pytest.raises(InputError, match="starts at step 810, .*or the run it branched from with --parent"):
        prepare([late], store)


def test_the_128_public_runs(lehr_data):
    """No option set by hand; parents found; the LR of every logged step within a millionth."""
    import json

    folder = lehr_data / "wsd-runs"
    ready = prepare([folder], folder / "no-store")
    assert len(ready.runs) == len(list(folder.glob("*.json"))) >= 100
    assert ready.remarks == (
        f"{sum(run.parent is not None for run in ready.runs)} branches linked to their parents",
    )
    for run in ready.runs:
        history = json.loads((folder / str(run.meta["source"])).read_text())["history"]["train"]
        rows = [(s, lr) for s, lr in zip(history["iter"], history["train_lr"], strict=True) if lr is not None]
        step, lr = np.array(rows).T
        used = step < run.steps  # the LR logged after the last update is used by none
        assert run.schedule.lr(step[used].astype(int)) == pytest.approx(lr[used], rel=1e-6, abs=0)


def test_runs_on_a_server_are_read_by_their_address(tmp_path, monkeypatch):
    import sys
    from types import SimpleNamespace

    rows = [{"_step": s, "train/loss": 3 + 1 / (s + 1), "lr": 1e-3} for s in range(50)]
    run = SimpleNamespace(id="abc", name="fox", config={"seed": 1}, scan_history=lambda page_size: iter(rows))
    asked = []

    def runs(path):
        asked.append(path)
        return [run]

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(Api=lambda: SimpleNamespace(runs=runs)))
    ready = prepare(["wandb:team/project"], tmp_path / "s")
    assert asked == ["team/project"]
    assert [(each.name, each.step.size, each.meta["seed"]) for each in ready.runs] == [("fox", 50, 1)]
    assert "format: wandb, by an address that begins with wandb:" in ready.reports["fox"]
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="wandb"):
        prepare(["wandb:team/project"], tmp_path / "s")
