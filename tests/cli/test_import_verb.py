"""`lehr import`: folders, dry runs, parts of one run, and what is told of them."""

from pathlib import Path

SAMPLES = Path(__file__).parents[1] / "runs" / "samples"


def test_a_dry_run_says_all_and_writes_nothing(lehr, logs, tmp_path):
    store = tmp_path / "s"
    outcome = lehr("import", logs, "--into", store, "--dry-run")
    assert outcome.code == 0, outcome.err
    assert len(outcome.out.splitlines()) == len(list(logs.glob("*.csv")))
    assert "format: table, by named columns" in outcome.err
    assert f"dry run: nothing was written to {store}" in outcome.err
    assert not store.exists()
    found = lehr("import", logs, "--into", store, "--dry-run", "--json").json
    assert found["dry_run"] is True and not store.exists()
    assert {"name", "points", "steps", "peak_lr", "schedule", "parent", "branch_step", "report"} == set(
        found["runs"][0]
    )
    stored = lehr("import", logs, "--into", store, "--json").json
    assert stored["runs"] == found["runs"]
    assert {run["name"] for run in lehr("runs", store, "--json").json["runs"]} == {
        r["name"] for r in found["runs"]
    }


def test_an_unreadable_log_refuses_all_unless_it_is_left_out(lehr, logs, tmp_path):
    late = tmp_path / "late.csv"
    late.write_text("step,lr,loss\n500,1e-3,3\n510,1e-3,2.9\n520,1e-3,2.8\n")
    said = lehr("import", logs, late, "--into", tmp_path / "s").refused()
    assert "late.csv starts at step 500" in said and "--skip-unreadable leaves such logs out" in said
    assert not (tmp_path / "s").exists()
    outcome = lehr("import", logs, late, "--into", tmp_path / "s", "--skip-unreadable")
    assert outcome.code == 0
    assert "left out: " in outcome.err and "late.csv starts at step 500" in outcome.err


def test_a_log_that_megatron_printed(lehr, tmp_path):
    store = tmp_path / "s"
    outcome = lehr(
        "import", SAMPLES / "megatron" / "pretrain.log", "--into", store, "--split", "train", "--name", "mine"
    )
    assert outcome.code == 0, outcome.err
    assert "format: megatron, by Megatron-LM's lines" in outcome.err
    (run,) = lehr("runs", store, "--json").json["runs"]
    assert run["name"] == "mine" and run["split"] == "train"


def test_units_and_averages_that_the_log_hides(lehr, tmp_path):
    path = tmp_path / "r.csv"
    path.write_text("step,lr,val/bpb\n" + "".join(f"{s},1e-3,{1 + 1 / (s + 1)}\n" for s in range(20)))
    command = ("import", path, "--into", tmp_path / "s")
    assert "val/bpb of 'r' is in bits per byte" in lehr(*command).refused()
    outcome = lehr(*command, "--bytes-per-token", 4, "--window", 5)
    assert "bits per byte x ln 2 x 4 bytes a token" in outcome.err
    assert "means over 5 updates, put at their middle" in outcome.err
    assert "unknown split 'test'" in lehr(*command, "--split", "test").refused()


def test_a_name_keeps_to_its_line(lehr, logs, tmp_path):
    log = next(iter(logs.glob("*.csv")))
    outcome = lehr("import", log, "--into", tmp_path / "s", "--name", "a\nb\x1b[31m")
    assert outcome.out.startswith("a?b?[31m: ") and outcome.out.count("\n") == 1
