"""`lehr optimize`: its file, the keys of its JSON, its text, and what it refuses."""

import json

import numpy as np
import pytest

from lehr.anneal.family_search import SHAPES_TRIED
from lehr.schedule.spec import from_dict, parse, to_dict

PLAN = ("--steps", 4000, "--peak-lr", 1e-3)


@pytest.fixture(scope="module")
def sound(lehr, store):
    path = store.parent / "multi_power.json"
    outcome = lehr("fit", store, "--law", "multi_power", "--draws", 5, "--out", path)
    assert outcome.code == 0, outcome.err
    return path


def test_the_file_is_the_dict_of_the_schedule_and_the_json_tells_about_it(lehr, sound, tmp_path):
    out = tmp_path / "schedule.json"
    found = lehr("optimize", sound, *PLAN, "--warmup", 100, "--monotone", "--out", out, "--json").json
    assert {
        "law", "final_loss", "final_loss_low", "final_loss_high", "gain", "fall_steps", "wsd", "warnings", "schedule",
    } == found.keys()  # fmt: skip
    assert json.loads(out.read_text()) == found["schedule"]
    schedule = from_dict(found["schedule"])
    assert to_dict(schedule) == found["schedule"]
    lr = schedule.to_array()
    assert len(lr) == 4000 and lr.max() <= 1e-3 and np.argmax(lr) == 99
    assert np.all(np.diff(lr[100:]) <= 0)
    assert found["final_loss_low"] < found["final_loss"] < found["final_loss_high"]
    assert found["gain"] == pytest.approx(found["wsd"]["final_loss"] - found["final_loss"])
    assert parse(found["wsd"]["text"]).steps == 4000
    told = lehr("predict", sound, "--schedule", found["wsd"]["text"], "--at", 4000, "--json").json
    assert told["loss"][0] == pytest.approx(found["wsd"]["final_loss"], abs=2e-4)


def test_what_is_written_can_be_exported(lehr, sound, tmp_path):
    out, table = tmp_path / "schedule.json", tmp_path / "schedule.csv"
    assert lehr("optimize", sound, *PLAN, "--out", out).code == 0
    assert lehr("export", out, "--to", "csv", "--out", table).code == 0
    rows = [line.split(",") for line in table.read_text().splitlines() if line[:1].isdigit()]
    lr = from_dict(json.loads(out.read_text())).to_array()
    assert len(rows) == 4000 and float(rows[3000][1]) == pytest.approx(lr[3000])


def test_the_text_tells_loss_gain_and_places(lehr, sound, tmp_path):
    out = tmp_path / "schedule.json"
    outcome = lehr("optimize", sound, *PLAN, "--final", 1e-5, "--out", out)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0].startswith("predicted final loss ") and " below the best WSD schedule:" in lines[0]
    assert lines[1].startswith("  wsd(steps=4000, peak=0.001, warmup=200, decay=")
    assert lines[2].startswith("the LR falls from 90 % to 10 % of its highest within ")
    assert lines[4].split() == ["update", "LR"]
    assert lines[-3].split()[0] == "3999" and float(lines[-3].split()[1]) >= 1e-5
    assert lines[-1] == f"written to {out}"


def test_free_form_may_rise_when_told(lehr, sound, tmp_path):
    out = tmp_path / "schedule.json"
    both = [
        lehr("optimize", sound, *PLAN, flag, "--out", out, "--json").json["final_loss"]
        for flag in ("--monotone", "--no-monotone")
    ]
    assert both[1] <= both[0] + 1e-5


def test_stairs_of_a_few_steps(lehr, sound, tmp_path):
    out = tmp_path / "schedule.json"
    assert lehr("optimize", sound, *PLAN, "--stairs", "--knots", 5, "--out", out).code == 0
    lr = from_dict(json.loads(out.read_text())).to_array()[200:]
    assert len(np.unique(lr)) <= 5


def test_a_budget_in_tokens_or_flops(lehr, sound, tmp_path):
    budget = ("--tokens", 2e9, "--batch-tokens", 5e5)
    outcome = lehr("optimize", sound, "--peak-lr", 1e-3, *budget, "--out", tmp_path / "s.json", "--json")
    assert from_dict(outcome.json["schedule"]).steps == 4000
    message = lehr("optimize", sound, "--peak-lr", 1e-3, "--out", tmp_path / "s.json").refused()
    assert "give the budget once, as steps, tokens or flops; got none of them." in message


def test_the_family_of_a_degenerate_law(lehr, fit_file, tmp_path):
    out = tmp_path / "schedule.json"
    found = lehr("optimize", fit_file, *PLAN, "--family", "wsd", "--out", out, "--json").json
    assert from_dict(json.loads(out.read_text())) == parse(found["text"])
    assert {m["shape"] for m in found["members"]} == set(SHAPES_TRIED)
    assert found["final_loss"] == min(m["final_loss"] for m in found["members"])
    assert found["warnings"][-1].startswith("law tissue is degenerate: ")
    outcome = lehr("optimize", fit_file, *PLAN, "--family", "wsd", "--out", out)
    assert outcome.err.splitlines()[-1].startswith("warning: law tissue is degenerate: ")
    assert outcome.out.splitlines()[0].split() == [
        "shape",
        "final",
        "LR",
        "ratio",
        "final",
        "loss",
        "above",
        "the",
        "best",
    ]
    assert outcome.out.splitlines()[-1] == f"written to {out}"


def test_a_degenerate_law_is_refused_and_nothing_is_written(lehr, fit_file, tmp_path):
    out = tmp_path / "schedule.json"
    message = lehr("optimize", fit_file, *PLAN, "--out", out).refused()
    assert "law tissue is degenerate (appending updates at LR 0 lowers its loss" in message
    assert "search the WSD family (--family wsd), or use a law that is not, such as weight_norm." in message
    assert not out.exists()


def test_wrong_arguments(lehr, sound, tmp_path):
    out = tmp_path / "schedule.json"
    optimize = ("optimize", sound, *PLAN, "--out", out)
    assert (
        "unknown family to search 'cosine': Known: free, wsd."
        in lehr(*optimize, "--family", "cosine").refused()
    )
    assert "final must lie below the peak 0.001, got 0.001" in lehr(*optimize, "--final", 1e-3).refused()
    assert "unknown fitted law 'tisue'" in lehr(*optimize, "--law", "tisue").refused()
    assert "level must lie between 0 and 1" in lehr(*optimize, "--level", 1).refused()
    lost = tmp_path / "none" / "s.json"
    message = lehr("optimize", sound, *PLAN, "--out", lost).refused()
    assert f"the folder of {lost} does not exist: create it first." in message
    assert (
        "does not exist: give a file made by `lehr fit --out`."
        in lehr("optimize", tmp_path / "no.json", *PLAN, "--out", out).refused()
    )
    assert not out.exists()
