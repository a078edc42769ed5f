"""The studio's numbers are the library's and the command line's for the same question."""

import json

import numpy as np
import pytest

for needed in ("fastapi", "httpx"):
    pytest.importorskip(needed, reason=f"the studio and its tests need {needed}")

from tests.anneal.test_experts import ACTIVE, DENSE, TOTAL, fitted  # noqa: E402
from tests.cli.conftest import call  # noqa: E402

import lehr  # noqa: E402
from lehr.fit.files import Fits  # noqa: E402
from lehr.peaklr.sweep_fit import load_sweep_fit  # noqa: E402
from lehr.schedule.spec import parse  # noqa: E402
from lehr.studio.state import numbers  # noqa: E402
from lehr.transfer.tables import RULES  # noqa: E402

PLAN = "wsd(steps=2000, peak=0.0015, warmup=50, decay=500)"


def test_state_tells_what_there_is(studio):
    told = studio.told("state")
    assert told["version"] == lehr.__version__ and told["store"] is None
    runs = lehr.load_examples()
    assert [run["name"] for run in told["runs"]] == list(runs.names)
    assert told["runs"][0]["final_loss"] == runs[runs.names[0]].final_loss
    assert told["fits"] == ["given"] and not any(run["live"] for run in told["runs"])
    assert [law["name"] for law in told["laws"]] == list(lehr.LAWS)
    assert told["rules"] == list(RULES)
    assert {"torch", "csv"} <= set(told["frameworks"]) and {"linear", "exponential"} <= set(told["shapes"])


def test_curves_are_those_of_the_runs(studio):
    runs = lehr.load_examples()
    run = runs[runs.names[0]]
    told = studio.told("runs/0/curve")
    assert (
        told["steps"] == run.step.tolist() and told["loss"] == run.loss.tolist() and told["thinned"] is None
    )
    np.testing.assert_allclose(told["lr"], run.schedule.lr(run.step.astype(int) - 1), rtol=1e-6)
    thin = studio.told("runs/0/curve?points=5")
    assert len(thin["steps"]) == 5 and thin["thinned"] == f"5 of {len(run.step)} points, evenly"
    assert thin["loss"][-1] == run.loss[-1]


def test_the_curve_of_a_branch_is_that_of_its_whole_life(studio):
    runs = lehr.load_examples()
    place, run = next((i, run) for i, run in enumerate(runs) if run.parent)
    step, loss = runs.curve(run.name)
    told = studio.told(f"runs/{place}/curve?points=2000")
    assert told["steps"] == step.tolist() and told["loss"] == loss.tolist()
    assert told["steps"][0] < run.step[0]


@pytest.mark.parametrize("points", [2, 60, 200])
def test_predictions_are_those_of_the_library(studio, fits, points):
    told = studio.told("predict", {"fit": "given", "schedule": PLAN, "points": points, "level": 0.8})
    assert list(told["laws"]) == list(fits.results)
    assert told["spec"] == PLAN
    for law, result in fits.results.items():
        steps = np.unique(np.linspace(result.domain.warmup, 2000, points).round())
        found, mine = lehr.predict_curve(result, parse(PLAN), steps, level=0.8), told["laws"][law]
        assert mine["steps"] == steps.tolist()
        for key in ("loss", "low", "high"):
            np.testing.assert_allclose(mine[key], getattr(found, key), rtol=1e-6)
            assert mine["final"][key] == pytest.approx(getattr(found, key)[-1], rel=1e-9)
        assert mine["warnings"] == list(found.warnings)


def test_predictions_by_named_laws(studio):
    assert list(studio.told("predict", {"fit": "given", "schedule": PLAN, "laws": ["tissue"]})["laws"]) == [
        "tissue"
    ]
    assert "unknown fitted law 'tisue'" in studio.refused(
        "predict", {"fit": "given", "schedule": PLAN, "laws": ["tisue"]}
    )


def test_the_lr_is_that_of_the_schedule(studio):
    told = studio.told("predict", {"fit": "given", "schedule": PLAN, "laws": []})["lr"]
    np.testing.assert_allclose(told["lr"], parse(PLAN).lr(np.array(told["steps"])), rtol=1e-6)
    assert {0, 49, 50, 1499, 1500, 1999} <= set(told["steps"])


def test_ratios_are_those_of_the_command_line(studio, fit_path):
    asked = {
        "fit": "given",
        "law": "effective_time",
        "steps": 2000,
        "peak": 1.5e-3,
        "warmup": 50,
        "final": 0.0,
    }
    told = studio.told("ratio", asked)
    valley = told.pop("valley")
    words = ["--law", "effective_time", "--steps", 2000, "--peak-lr", 1.5e-3, "--warmup", 50, "--json"]
    assert told == call("recommend", fit_path, *words).json
    best = valley["ratio"].index(told["ratio"])
    assert valley["loss"][best] == pytest.approx(told["final_loss"], rel=1e-6)
    assert valley["low"][best] == pytest.approx(told["final_loss_low"], rel=1e-6)
    assert valley["loss"][best] == min(valley["loss"])


def test_a_model_of_experts_is_planned_as_the_dense_model_of_its_size(fresh):
    fresh.studio.fits["experts"] = Fits({"weight_norm_n": fitted()}, {}, "weight_norm_n")
    plan = {"fit": "experts", "steps": 4000, "peak": 1e-3, "warmup": 200}
    told = [
        fresh.told("ratio", {**plan, **sizes})["valley"]["loss"]
        for sizes in ({"params": ACTIVE, "params_total": TOTAL}, {"params": DENSE}, {"params": ACTIVE})
    ]
    np.testing.assert_allclose(told[0], told[1], rtol=1e-6)
    assert not np.allclose(told[0], told[2], rtol=1e-5)


def test_a_decay_now_or_later_is_that_of_the_command_line(studio, fit_path, tmp_path):
    runs = lehr.load_examples()
    run = runs["S-7.5e-4-constant-2000"]
    told = studio.told("branch", {"fit": "given", "run": run.name, "deadline_steps": 3000, "law": "tissue"})
    found = lehr.recommend_decay(lehr.load_fits(fit_path).get("tissue"), run, deadline=3000)
    assert told["best"]["start"] == found.best.start
    assert told["best"]["final_loss"] == pytest.approx(found.best.final_loss, rel=1e-12)
    assert told["steps_done"] == 2000 and len(told["options"]) == len(found.options)


def test_published_lrs_are_those_of_the_command_line(studio):
    words = ("--params", 1e9, "--tokens", 2e10, "--batch", 1e6, "--json")
    asked = {"params": 1e9, "tokens": 2e10, "batch_tokens": 1e6}
    assert studio.told("peak-lr", asked) == call("peak-lr", "published", *words).json


def test_a_fitted_sweep_tells_its_peak_lr_beside_them(fresh, sweep_path):
    fresh.studio.sweep = load_sweep_fit(sweep_path)
    words = ("--params", 2e8, "--tokens", 8e9)
    asked = {"params": 2e8, "tokens": 8e9}
    for more, options in (({}, ()), ({"batch_tokens": 1e6, "level": 0.5}, ("--batch", 1e6, "--level", 0.5))):
        told = fresh.told("peak-lr", {**asked, **more})
        assert told.pop("fitted") == call("peak-lr", "predict", sweep_path, *words, *options, "--json").json
        assert told == call("peak-lr", "published", *words, *options[:2], "--json").json
    told = fresh.told("peak-lr", {**asked, "level": 2})
    message = call("peak-lr", "predict", sweep_path, *words, "--level", 2).refused()
    assert f"error: {told['fitted']['refused']}\n" == message and told["laws"]


SIDES = """
name = "sides"
[model]
width = {width}
context = 128
qk_norm = false
depth = {depth}
heads = {heads}
ffn_width = {hidden}
init_std = 0.02
[optimizer]
weight_decay = 0.1
[training]
batch = {batch}
schedule = "constant(steps={steps}, peak=1e-3)"
"""


def test_transfers_are_those_of_the_command_line(studio, tmp_path):
    sizes = (
        {"width": 256, "depth": 4, "batch": 64, "steps": 4000},
        {"width": 1024, "depth": 8, "batch": 128, "steps": 9000},
    )
    files = []
    for name, size in zip(("from", "to"), sizes, strict=True):
        files.append(tmp_path / f"{name}.toml")
        files[-1].write_text(SIDES.format(heads=size["width"] // 64, hidden=4 * size["width"], **size))
    mine = studio.told(
        "transfer", {"rule": "depth-mup", "from": {**sizes[0], "lr": 1e-3, "epsilon": 1e-8}, "to": sizes[1]}
    )
    outcome = call("transfer", "--from", files[0], "--to", files[1], "--rule", "depth-mup", "--json")
    assert outcome.code == 0, outcome.err
    for group, own in outcome.json["groups"].items():
        for key in ("init_std", "lr", "weight_decay"):
            assert (mine["groups"][group][key] or {}).get("factor") == (own[key] or {}).get("factor"), (
                group,
                key,
            )
        assert mine["groups"][group]["lr"]["value"] == pytest.approx(own["lr"]["value"])


@pytest.mark.parametrize("framework", ["torch", "csv", "megatron"])
def test_exports_are_those_of_the_command_line(studio, framework):
    told = studio.told("export", {"schedule": PLAN, "to": framework})
    assert told.pop("filename").startswith(f"schedule-{framework}.")
    assert told == call("export", PLAN, "--to", framework, "--json").json


def test_drawn_points_are_the_lr_at_their_steps(studio):
    points = [[0, 0.0], [100, 1e-3], [1500, 1e-3], [2000, 1e-4]]
    text = studio.told("schedule", {"points": points, "steps": 2000})["schedule"]
    schedule = parse(text)
    assert schedule.steps == 2000
    assert schedule.lr(np.array([0, 100, 1500])).tolist() == [0.0, 1e-3, 1e-3]
    told = studio.told("schedule/describe", {"schedule": text})
    assert told["family"] == "join" and told["spec"] == text


def test_an_optimum_is_that_of_the_library(fresh, fits):
    asked = {"steps": 1000, "peak": 1.5e-3, "warmup": 50, "knots": 6}
    name = fresh.told("optimize", {"fit": "given", "law": "weight_norm", **asked})["id"]
    told = wait(fresh, f"optimize/{name}")
    found = lehr.optimize_schedule(fits.results["weight_norm"], **asked)
    assert told["status"] == "done"
    assert told["result"]["final_loss"] == pytest.approx(found.final_loss, rel=1e-12)
    assert told["result"]["law"] == "weight_norm"
    lr = told["result"]["lr"]
    points = list(zip(lr["steps"], lr["lr"], strict=True))
    again = parse(fresh.told("schedule", {"points": points, "steps": 1000})["schedule"])
    np.testing.assert_allclose(again.to_array(), found.schedule.to_array(), rtol=1e-5, atol=1.5e-3 / 50)


def test_a_fit_is_that_of_the_library(fresh, tmp_path):
    from lehr.cli.demo import BUNDLED
    from lehr.fit.files import load_fits

    name = fresh.told(
        "fits", {"runs": list(BUNDLED.train), "laws": ["tissue", "one_power", "chinchilla"], "draws": 5}
    )["id"]
    told = wait(fresh, f"fits/{name}")
    assert told["status"] == "done" and told["done"] == told["total"] == 3
    assert told["laws"]["chinchilla"]["status"] == "failed" and "same" in told["laws"]["chinchilla"]["error"]
    runs = tuple(lehr.load_examples().only(BUNDLED.train))
    found = lehr.compare_laws([lehr.get_law("tissue"), lehr.get_law("one_power")], runs, workers=1)
    for law in ("tissue", "one_power"):
        assert told["laws"][law]["held_out_error"] == pytest.approx(found.error(law), rel=1e-9)
        assert told["laws"][law]["parameters"] == pytest.approx(dict(found.results[law].parameters))
    path = tmp_path / "FIT.json"
    answer = fresh.get(f"fits/{name}/file")
    path.write_text(answer.text)
    assert "FIT.json" in answer.headers["content-disposition"]
    saved = load_fits(path)
    mine = lehr.bootstrap(found.results["tissue"], runs, 5)
    assert saved.results["tissue"].draws == pytest.approx(np.array(mine.draws))


def wait(asker, path):
    import time

    for _ in range(1200):
        told = asker.told(path)
        if told["status"] != "running":
            return told
        time.sleep(0.05)
    raise AssertionError(json.dumps(told))


def test_numbers_have_seven_digits_whatever_their_size():
    random = np.random.default_rng(0)
    values = random.normal(size=2000) * 10.0 ** random.integers(-12, 15, 2000)
    assert numbers(values) == [float(f"{value:.7g}") for value in values]
    strange = np.array([0.0, -0.0, 9.9999999e-5, 1e-40, -3e250, np.nan, np.inf, -np.inf])
    assert numbers(strange) == [0.0, 0.0, 1e-4, 1e-40, -3e250, None, None, None]
