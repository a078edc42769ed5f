"""Every verb has help; those from logs to a recommendation print what they should, and keep the keys of their JSON."""

import pytest

from lehr import __version__
from lehr.runs.store import load_runs
from lehr.schedule.spec import parse

PLAN = "wsd(steps=4000, peak=1e-3, warmup=200, decay=800)"
VERBS = (
    "demo",
    "import",
    "runs",
    "fit",
    "predict",
    "recommend",
    "report",
    "optimize",
    "ratio-law",
    "merge",
    "export",
    "branch",
    "transfer",
    "train",
    "coord-check",
    "diagnose",
    "studio",
    "peak-lr",
    "sweep",
)
PEAK_LR_VERBS = tuple(
    f"peak-lr {verb}" for verb in ("plan", "fit", "predict", "horizon", "published", "compare")
)
SWEEP_VERBS = tuple(f"sweep {verb}" for verb in ("run", "status", "logs", "cancel", "retry"))
GROUPS = ("peak-lr", "sweep")


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_names_every_verb(lehr, flag):
    outcome = lehr(flag)
    assert outcome.code == 0 and outcome.err == ""
    listed = outcome.out.partition("Commands:")[2].split("\n")
    assert [line.split()[0] for line in listed if line.strip()] == list(VERBS)


@pytest.mark.parametrize(
    "verb", [*(verb for verb in VERBS if verb not in GROUPS), *PEAK_LR_VERBS, *SWEEP_VERBS]
)
def test_every_verb_has_help_and_json(lehr, verb):
    outcome = lehr(*verb.split(), "--help")
    assert outcome.code == 0
    assert "--json" in outcome.out


def test_version(lehr):
    assert lehr("--version").out == f"lehr {__version__}\n"


def test_no_arguments_shows_the_help(lehr):
    outcome = lehr()
    assert outcome.code == 2
    assert "Commands:" in outcome.out + outcome.err


# import and runs


def test_import_reports_points_and_what_was_inferred(lehr, logs, tmp_path):
    outcome = lehr("import", logs / "wsd-0.001.csv", "--into", tmp_path / "s")
    assert outcome.code == 0
    assert outcome.out == "wsd-0.001: 40 points over 4000 updates\n"
    assert "columns: step=step, loss=loss, lr=lr" in outcome.err
    assert "schedule inferred from the LR column: wsd" in outcome.err


def test_import_json_and_every_option(lehr, logs, tmp_path):
    (tmp_path / "log.csv").write_text("n,val\n3200,3.0\n4000,2.9\n")
    common = ("--into", tmp_path / "s", "--column", "step=n", "--column", "loss=val", "--schedule", PLAN)
    sizes = ("--params", "1e8", "--params-total", "1.2e8", "--batch-tokens", "5e5")
    first = lehr("import", tmp_path / "log.csv", *common, "--name", "trunk", "--json")
    assert first.json["store"] == str(tmp_path / "s")
    assert [{k: r[k] for k in ("name", "points", "steps")} for r in first.json["runs"]] == [
        {"name": "trunk", "points": 2, "steps": 4000}
    ]
    assert any("n" in line for line in first.json["runs"][0]["report"])
    more = lehr("import", tmp_path / "log.csv", *common, *sizes, "--name", "child", "--parent", "trunk",
                "--branch-step", 3000, "--format", "table")  # fmt: skip
    assert more.code == 0, more.err
    run = load_runs(tmp_path / "s")["child"]
    assert (run.params, run.params_total, run.batch_tokens) == (1e8, 1.2e8, 5e5)
    assert (run.parent, run.branch_step) == ("trunk", 3000)
    assert run.schedule == parse(PLAN)


def test_import_twice_needs_replace_when_the_run_differs(lehr, tmp_path):
    log, into = tmp_path / "log.csv", ("--into", tmp_path / "s", "--schedule", PLAN)
    log.write_text("step,loss\n3200,3.0\n4000,2.9\n")
    assert lehr("import", log, *into).code == 0
    assert lehr("import", log, *into).code == 0, "the same run again changes nothing"
    log.write_text("step,loss\n3200,3.0\n4000,2.8\n")
    assert "log" in lehr("import", log, *into).refused()
    assert load_runs(tmp_path / "s")["log"].final_loss == 2.9
    assert lehr("import", log, *into, "--replace").code == 0
    assert load_runs(tmp_path / "s")["log"].final_loss == 2.8


def test_runs_json_has_the_keys_of_the_contract(lehr, store):
    found = lehr("runs", store, "--json").json["runs"]
    assert [run["name"] for run in found] == [
        "constant-0.001",
        "cosine-0.001",
        "steps-0.001",
        "wsd-0.001",
        "wsd-0.002",
    ]
    for run in found:
        assert {"name", "steps", "points", "peak_lr", "schedule", "params"} <= run.keys()
        assert run["steps"] == 4000 and run["points"] == 40
        assert parse(run["schedule"]).peak == pytest.approx(run["peak_lr"])


def test_runs_table(lehr, store):
    lines = lehr("runs", store).out.splitlines()
    assert lines[0].split() == ["run", "steps", "points", "peak", "LR", "params", "parent", "final", "loss"]
    assert lines[5].split()[:6] == ["wsd-0.002", "4000", "40", "0.002", "-", "-"]


def test_predict_json_has_the_keys_of_the_contract(lehr, fit_file):
    found = lehr("predict", fit_file, "--schedule", PLAN, "--at", 4000, "--at", 400, "--json").json
    assert found["steps"] == [400, 4000]
    assert {"steps", "loss", "low", "high"} <= found.keys()
    assert all(
        low < loss < high for low, loss, high in zip(found["low"], found["loss"], found["high"], strict=True)
    )
    assert found["loss"][1] < found["loss"][0]
    assert (found["level"], found["law"], found["warnings"]) == (0.9, "tissue", [])


def test_predict_whole_curve_by_default(lehr, fit_file):
    found = lehr("predict", fit_file, "--schedule", PLAN, "--json").json
    assert found["steps"][0] == 200 and found["steps"][-1] == 4000 and len(found["steps"]) == 200
    outcome = lehr("predict", fit_file, "--schedule", PLAN)
    lines = outcome.out.splitlines()
    assert lines[0].split() == ["step", "loss", "low", "(90%)", "high"]
    assert len(lines) == 13 and lines[-1].startswith("4000 ")
    assert outcome.err == ""


def test_predict_level_widens_the_band_and_warnings_go_to_stderr(lehr, fit_file):
    far = PLAN.replace("4000", "50000")
    narrow = lehr("predict", fit_file, "--schedule", far, "--at", 50000, "--level", 0.5, "--json").json
    wide = lehr("predict", fit_file, "--schedule", far, "--at", 50000, "--level", 0.99, "--json").json
    assert wide["high"][0] - wide["low"][0] > 2 * (narrow["high"][0] - narrow["low"][0])
    assert "more than 10 times the longest fitted run" in wide["warnings"][0]
    outcome = lehr("predict", fit_file, "--schedule", far, "--at", 50000)
    assert outcome.err.startswith("warning: step 50000 is more than 10 times")


def test_recommend_json_has_the_keys_of_the_contract(lehr, fit_file):
    found = lehr("recommend", fit_file, "--steps", 4000, "--peak-lr", 1e-3, "--json").json
    assert {
        "ratio", "ratio_low", "ratio_high", "decay_steps", "final_loss", "final_loss_low", "final_loss_high",
        "costs", "warnings",
    } <= found.keys()  # fmt: skip
    assert found["ratio"] == pytest.approx(found["decay_steps"] / 4000)
    assert found["ratio_low"] <= found["ratio"] <= found["ratio_high"]
    assert found["final_loss_low"] < found["final_loss"] < found["final_loss_high"]
    assert all(set(cost) == {"ratio", "excess_loss"} and cost["excess_loss"] >= 0 for cost in found["costs"])
    assert any("degenerate" in warning for warning in found["warnings"])
    schedule = parse(found["schedule"])
    assert schedule == parse(f"wsd(steps=4000, peak=1e-3, warmup=200, decay={found['decay_steps']})")


def test_recommend_chooses_what_is_left_open(lehr, fit_file):
    asked = (
        "recommend",
        fit_file,
        "--steps",
        4000,
        "--peak-lr",
        "auto",
        "--shape",
        "auto",
        "--final",
        "auto",
    )
    found = lehr(*asked, "--json").json
    assert found["steps"] == 4000
    assert found["shape"] and found["peak_lr"] > 0 and found["final_lr"] >= 0
    assert [gain["against"] for gain in found["gains"]] == [
        "cosine to 10 %",
        "linear WSD 10%",
        "linear WSD 20%",
    ]
    assert len(found["evidence"]) == 2 and found["explanation"] in lehr(*asked).out


def test_recommend_prints_a_sentence_and_the_costs(lehr, fit_file):
    outcome = lehr("recommend", fit_file, "--steps", 4000, "--peak-lr", 1e-3, "--warmup", 100, "--final", 1e-4,
                   "--shape", "sqrt", "--law", "tissue")  # fmt: skip
    assert outcome.code == 0
    assert outcome.out.startswith("decay over the last ")
    assert "schedule wsd(steps=4000, peak=0.001, warmup=100, decay=" in outcome.out
    assert "shape=sqrt, final=0.0001)" in outcome.out
    assert outcome.err.startswith("warning: law tissue is degenerate")


def test_from_logs_to_a_recommendation_near_the_truth(lehr, logs, tmp_path):
    """End to end on its own files; the truth is the law that made the logs."""
    store, path = tmp_path / "s", tmp_path / "fit.json"
    assert lehr("import", *sorted(logs.glob("*-0.001.csv")), "--into", store).code == 0
    assert lehr("fit", store, "--law", "tissue", "--draws", 0, "--out", path).code == 0
    found = lehr("recommend", path, "--steps", 8000, "--peak-lr", 1e-3, "--json").json
    spec = "wsd(steps=8000, peak=1e-3, warmup=200, decay={})"
    ends = {}
    for ratio in (0.5 * found["ratio"], found["ratio"], 2 * found["ratio"]):
        plan = spec.format(round(8000 * ratio))
        ends[ratio] = lehr("predict", path, "--schedule", plan, "--at", 8000, "--json").json["loss"][0]
    assert min(ends, key=ends.get) == found["ratio"]
    assert ends[found["ratio"]] == pytest.approx(found["final_loss"], abs=1e-9)


def test_import_links_branches_to_stored_parents_and_names_absent_ones(lehr, tmp_path):
    log = tmp_path / "cool.csv"
    log.write_text("step,loss\n60,3.0\n80,2.9\n100,2.8\n")
    plan = ("--schedule", "wsd(steps=100, peak=1e-3, decay=50)", "--parent", "trunk", "--branch-step", 50)
    outcome = lehr("import", log, "--into", tmp_path / "store", *plan)
    assert outcome.code == 0 and "parent 'trunk' of 'cool' is absent" in outcome.err
    trunk = tmp_path / "trunk.csv"
    trunk.write_text("step,loss\n20,4.0\n50,3.1\n100,3.0\n")
    outcome = lehr(
        "import", trunk, "--into", tmp_path / "store", "--schedule", "constant(steps=100, peak=1e-3)"
    )
    assert outcome.code == 0 and "1 branches linked to their parents" in outcome.err
