"""Every verb: what it prints, the keys of its JSON, and the whole way from logs to a recommendation."""

import json
import math
import sys
from dataclasses import replace

import numpy as np
import pytest

from lehr import __version__
from lehr.cli.common import clean, match_names, print_json, progress, table
from lehr.cli.fit import to_text
from lehr.errors import InputError
from lehr.examples import load_examples
from lehr.fit.compare import RESOLUTION
from lehr.fit.files import load_fits
from lehr.fit.stack import StackScore
from lehr.laws import LAWS
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
    "optimize",
    "ratio-law",
    "merge",
    "export",
    "branch",
    "transfer",
    "train",
    "coord-check",
    "diagnose",
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


# fit, predict, recommend


def test_fit_json_has_the_keys_of_the_contract(lehr, store, fit_file):
    found = lehr("fit", store, "--law", "tissue", "--draws", 0, "--json").json
    assert found["chosen"] == "tissue" and found["failed"] == {}
    law = found["laws"]["tissue"]
    assert law["parameters"] == pytest.approx(dict(load_fits(fit_file).get().parameters))
    assert law["parameters"]["memory"] == pytest.approx(150, rel=0.03)
    assert law["status"] == "converged"
    assert 0 < law["held_out_error"] < 3e-4
    assert law["intervals"] == {} and law["test_errors"] == {}


def test_fit_prints_a_table_and_the_chosen_parameters(lehr, store):
    outcome = lehr("fit", store, "--law", "tissue", "--draws", 4)
    assert outcome.code == 0
    assert outcome.out.startswith("law ") and "tissue *" in outcome.out
    assert "chosen: tissue (Tissue: power law in the LR sum minus an annealing area)" in outcome.out
    assert "  memory = 15" in outcome.out and "[" in outcome.out


def test_fit_all_ranks_the_laws_and_says_why_some_were_not_fitted(lehr, store, tmp_path):
    path = tmp_path / "all.json"
    train = ("--train", "cosine-0.001", "--train", "steps-0.001")
    outcome = lehr("fit", store, *train, "--test", "wsd-0.002", "--draws", 0, "--out", path)
    assert outcome.code == 0
    fits = load_fits(path)
    assert set(fits.results) | set(fits.failed) == set(LAWS)
    assert set(fits.failed) == {name for name, law in LAWS.items() if law.needs_sizes}
    assert all(f"not fitted: {name}: " in outcome.err for name in fits.failed)
    begins = [line.split(" ")[0] for line in outcome.out.partition("chosen: ")[0].splitlines()]
    listed = [word for word in begins if word in fits.results]
    assert listed == sorted(fits.held_out, key=fits.held_out.get)
    assert listed[0] == "tissue", "the law that made the data"
    assert fits.held_out[fits.chosen] <= fits.held_out["tissue"] + RESOLUTION
    tied = "(errors within 0.1% of the loss of the smallest are tied; it is the first of them in the table of laws)"
    assert (tied in outcome.out) == (fits.chosen != "tissue")
    assert not json.loads(path.read_text())["test_errors"].keys() - fits.results.keys()
    assert set(fits.test_errors["tissue"]) == {"wsd-0.002"}
    assert fits.test_errors["tissue"]["wsd-0.002"] < 5e-4
    assert fits.results["tissue"].domain.peak_lr == pytest.approx((1e-3, 1e-3), rel=1e-3), (
        "the test run was kept apart"
    )


def test_fit_shows_the_errors_by_what_was_hidden(lehr, store, fit_file):
    found = lehr("fit", store, "--law", "tissue", "--draws", 0, "--json").json["laws"]["tissue"]
    kinds = found["held_out_by_kind"]
    assert list(kinds) == ["run", "peak_lr", "horizon", "later_part"]
    assert found["held_out_error"] == pytest.approx(np.prod(list(kinds.values())) ** 0.25)
    assert load_fits(fit_file).by_kind["tissue"] == pytest.approx(kinds)
    lines = lehr("fit", store, "--law", "tissue", "--draws", 0).out.splitlines()
    assert lines[0].split() == (
        "law held-out error run peak LR horizon later part test error status starts agreeing".split()
    )
    assert [float(cell.rstrip("%")) / 100 for cell in lines[1].split()[2:7]] == pytest.approx(
        [found["held_out_error"], *kinds.values()], abs=6e-6
    )
    assert lines[2] == (
        "held-out error: the geometric mean of those by what was hidden (run, peak LR, horizon, later part)"
    )


@pytest.fixture(scope="module")
def stacked(lehr, store):
    """Fits of four laws with a stack, and what was printed."""
    path = store.parent / "stack.json"
    few = {name: LAWS[name] for name in ("tissue", "multi_power", "functional", "one_power")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lehr.laws.LAWS", few)
        outcome = lehr("fit", store, "--stack", "--draws", 3, "--workers", 1, "--out", path)
    assert outcome.code == 0, outcome.err
    return path, outcome


def test_fit_stack_keeps_weights_and_draws_of_its_members(stacked):
    path, outcome = stacked
    fits = load_fits(path)
    weights = fits.stack_weights
    assert sum(weights.values()) == pytest.approx(1) and weights.keys() <= fits.results.keys()
    assert max(weights, key=weights.get) == "tissue", "the law that made the data"
    assert {name for name, result in fits.results.items() if result.draws} == {fits.chosen, *weights}
    first = f"stack: {weights['tissue']:.3f} tissue"
    assert first in outcome.out
    judged = fits.stack_score
    assert (
        f"no part in the weights: {judged.stack:.3%}; of one law chosen so: {judged.single:.3%}"
        in outcome.out
    )


@pytest.mark.parametrize(
    ("stack", "single", "verdict"),
    [
        (0.004, 0.004 + 1.1 * RESOLUTION, "it pays"),
        (0.004, 0.004 + 0.9 * RESOLUTION, "a tie: prefer the chosen law"),
        (0.004 + 0.9 * RESOLUTION, 0.004, "a tie: prefer the chosen law"),
        (0.004 + 1.1 * RESOLUTION, 0.004, "it does not pay"),
    ],
)
def test_whether_a_stack_pays_is_said(stacked, stack, single, verdict):
    fits = replace(load_fits(stacked[0]), stack_score=StackScore(stack, single))
    assert to_text(fits).endswith(f"({verdict})")


def test_a_stack_that_cannot_be_judged_says_so(stacked):
    text = to_text(replace(load_fits(stacked[0]), stack_score=None))
    assert text.endswith("(too few hidden losses to tell whether it predicts better than one law)")


def test_fit_json_tells_the_stack(lehr, store):
    train = ("--train", "cosine*", "--train", "wsd*")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lehr.laws.LAWS", {name: LAWS[name] for name in ("tissue", "one_power")})
        found = lehr("fit", store, "--stack", "--draws", 0, *train, "--json", "--workers", 1).json["stack"]
    assert found["weights"]["tissue"] > 0.9
    assert found["score"].keys() == {"stack", "single"}
    assert lehr("fit", store, "--law", "tissue", "--draws", 0, "--json").json["stack"] == {
        "weights": {}, "score": None
    }  # fmt: skip


def test_predict_with_the_stack(lehr, stacked):
    arguments = ("predict", stacked[0], "--schedule", PLAN, "--at", 4000, "--json")
    found, fits = lehr(*arguments, "--law", "stack").json, load_fits(stacked[0])
    alone = {name: lehr(*arguments, "--law", name).json for name in fits.stack_weights}
    assert found["law"] == "stack"
    mean = sum(weight * alone[name]["loss"][0] for name, weight in fits.stack_weights.items())
    assert found["loss"][0] == pytest.approx(mean)
    assert found["low"][0] < found["loss"][0] < found["high"][0]


def test_any_number_of_workers_writes_the_same_file(lehr, store, tmp_path):
    texts = []
    for workers in (1, 2):
        path = tmp_path / f"{workers}.json"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("lehr.laws.LAWS", {name: LAWS[name] for name in ("tissue", "one_power")})
            assert lehr("fit", store, "--workers", workers, "--draws", 2, "--stack", "--out", path).code == 0
        texts.append(path.read_text())
    assert texts[0] == texts[1]


def test_fit_keeps_test_runs_out_of_the_default_training_set(lehr, store):
    found = lehr("fit", store, "--law", "tissue", "--test", "wsd*", "--draws", 0, "--json").json["laws"][
        "tissue"
    ]
    assert set(found["test_errors"]) == {"wsd-0.001", "wsd-0.002"}


def test_fit_burn_in_and_seed_are_used(lehr, store, tmp_path):
    path = tmp_path / "f.json"
    common = ("fit", store, "--law", "one_power", "--train", "constant*", "--train", "cosine*", "--out", path)
    for burn_in, points in ((1000, 2 * 31), (3000, 2 * 11)):
        assert lehr(*common, "--burn-in", burn_in, "--draws", 0).code == 0
        assert load_fits(path).get().points == points
    draws = []
    for seed in (1, 2, 1):
        lehr(*common, "--draws", 3, "--seed", seed)
        draws.append(load_fits(path).get().draws)
    assert draws[0] == draws[2] != draws[1]


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


# what the verbs share


def test_json_has_null_for_what_is_not_finite(capsys):
    print_json({"a": math.nan, "b": [math.inf, 1.5], 3: (-math.inf,)})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, 1.5], "3": [None]}


def test_control_characters_in_names_do_not_reach_the_terminal(lehr, tmp_path):
    assert clean("a\x1b[31mb\x07\u202ec\nd") == "a?[31mb??c\nd"
    (tmp_path / "log.csv").write_text("step,loss\n3200,3.0\n4000,2.9\n")
    common = ("--into", tmp_path / "s", "--schedule", PLAN, "--name", "red\x1b[31m")
    outcome = lehr("import", tmp_path / "log.csv", *common)
    assert outcome.code == 0
    for text in (outcome.out, outcome.err, lehr("runs", tmp_path / "s").out):
        assert "\x1b" not in text
    assert lehr("runs", tmp_path / "s", "--json").json["runs"][0]["name"] == "red\x1b[31m"


def test_table_aligns_the_first_column_left_and_the_rest_right():
    assert table(("a", "bb"), [("xyz", "1"), ("u", "100")]) == "a     bb\nxyz    1\nu    100"


def test_names_match_patterns_in_their_own_order():
    names = ["b1", "a1", "a2"]
    assert match_names(["a*", "b1"], names) == names
    assert match_names([], names) == []
    with pytest.raises(InputError, match=r"unknown run 'a3': did you mean 'a\d'\? Known: a1, a2, b1"):
        match_names(["a1", "a3"], names)


def test_progress_is_silent_unless_stderr_is_a_terminal(capsys, monkeypatch):
    with progress(2, "fitting") as step:
        step("one")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress(2, "fitting") as step:
        step("one\x1b")
        step("two")
    shown = capsys.readouterr()
    assert shown.out == "" and "\x1b[31m" not in shown.err


# the demo


@pytest.fixture(scope="module")
def demo(lehr, tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    few = {name: LAWS[name] for name in ("one_power", "tissue", "effective_time")}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lehr.laws.LAWS", few)  # all of them take four times as long
        return lehr("demo", "--out", folder / "deep" / "out", "--draws", 2, "--json"), folder / "deep" / "out"


def test_demo_writes_store_fits_and_report(demo):
    outcome, folder = demo
    assert outcome.code == 0, outcome.err
    assert {"fit.json", "report.html", "store"} <= {path.name for path in folder.iterdir()}
    assert load_runs(folder / "store").names == tuple(sorted(load_examples().names))
    assert load_fits(folder / "fit.json").chosen == outcome.json["chosen"]
    page = (folder / "report.html").read_text()
    assert page.count("<svg") == 3 and "<script" not in page


def test_demo_recommends_close_to_the_best_ratio_that_was_run(demo):
    found = demo[0].json
    assert found["ratio_low"] <= found["ratio"] <= found["ratio_high"]
    assert abs(found["ratio"] - found["best_measured_ratio"]) < 0.2
    assert found["final_loss"] == pytest.approx(found["best_measured_loss"], rel=0.02)
    best = min(found["held_out_error"].values())
    assert found["held_out_error"][found["chosen"]] <= best + RESOLUTION
    assert np.mean(list(found["test_error"].values())) < 0.05


def test_demo_says_it_in_words(lehr, demo, monkeypatch):
    folder = demo[1]
    fits = load_fits(folder / "fit.json")
    monkeypatch.setattr("lehr.cli.demo.fit_all", lambda *arguments: fits)
    outcome = lehr("demo", "--out", folder)
    assert outcome.code == 0
    assert outcome.err.startswith(f"read {len(load_examples())} bundled runs; fitted ")
    assert f"chosen: {fits.chosen} (" in outcome.out
    found = demo[0].json
    assert f"decay over the last {found['ratio']:.0%} ({found['ratio_low']:.0%} to " in outcome.out
    assert f"with {found['best_measured_loss']:.4f}." in outcome.out
    assert f"next: lehr recommend {folder / 'fit.json'} --steps " in outcome.out


def test_demo_refuses_a_file_in_place_of_its_folder(lehr, tmp_path):
    (tmp_path / "x").write_text("")
    assert f"{tmp_path / 'x'} is a file: name a folder." in lehr("demo", "--out", tmp_path / "x").refused()


def test_a_run_asked_for_by_name_is_fitted_even_if_a_test_pattern_matches_it(lehr, store):
    train = ("--train", "cosine-0.001", "--train", "wsd-0.001")
    found = lehr("fit", store, "--law", "tissue", *train, "--test", "wsd*", "--draws", 0, "--json").json
    assert set(found["laws"]["tissue"]["test_errors"]) == {"wsd-0.002"}


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
