"""`lehr fit --diagnose` and `--suggest`: what they print, the keys of their JSON, and what they refuse."""

from dataclasses import replace

import pytest
from tests.synthetic import CASES, make_runs

from lehr.cli import trust
from lehr.fit.profile import Interval
from lehr.runs.store import add_runs
from lehr.schedule.spec import parse

ASKED = ("--steps", 16000, "--peak-lr", 2e-3, "--budget", 3000)


@pytest.fixture(scope="module")
def asked(lehr, store):
    outcome = lehr(
        "fit", store, "--law", "tissue", "--draws", 20, "--diagnose", "--suggest", *ASKED, "--json"
    )
    assert outcome.code == 0, outcome.err
    return outcome.json


def test_without_the_options_the_keys_are_absent(lehr, store):
    found = lehr("fit", store, "--law", "tissue", "--draws", 0, "--json").json
    assert not {"diagnostics", "suggestions"} & found.keys()


def test_diagnostics_json(asked):
    found = asked["diagnostics"]
    assert set(found) == {
        "law", "noise", "autocorrelation", "repeat_error", "biases", "condition", "weakest", "pairs", "profiles",
        "by_priors", "notes",
    }  # fmt: skip
    assert set(found["noise"]) == {"white", "slow", "length"}
    assert set(found["biases"]) == {"step", "lr", "phase"}
    assert set(found["biases"]["lr"][0]) == {
        "part",
        "points",
        "runs",
        "bias",
        "rms",
        "deviations",
        "significant",
    }
    assert [p["name"] for p in found["profiles"]] == list(asked["laws"]["tissue"]["parameters"])
    assert set(found["profiles"][0]) == {"name", "value", "interval", "data", "prior_share", "by_prior"}
    assert set(found["profiles"][0]["interval"]) == {"low", "high", "open_low", "open_high"}


def test_suggestions_json(asked):
    found = asked["suggestions"]
    assert set(found) == {"budget", "now", "before", "best", "per_cost"}
    assert found["budget"] == 3000 and len(found["best"]) == len(found["per_cost"]) == 5
    assert set(found["now"]) == {
        "ratio", "ratio_low", "ratio_high", "final_loss", "final_loss_low", "final_loss_high"
    }  # fmt: skip
    best = found["best"][0]
    assert set(best) == {
        "runs", "cost", "gain", "ratio_low", "ratio_high", "final_loss_low", "final_loss_high", "regret"
    }  # fmt: skip
    assert best["cost"] <= 3000 and 0 < best["gain"] <= 1
    assert found["before"]["gain"] == 0 and found["before"]["runs"] == []
    for run in best["runs"]:
        assert set(run) == {"schedule", "branch_step"}
        assert parse(run["schedule"]).steps <= 3000


def test_both_as_text(lehr, store):
    outcome = lehr("fit", store, "--law", "tissue", "--draws", 20, "--diagnose", "--suggest", *ASKED)
    assert outcome.code == 0, outcome.err
    text = outcome.out
    for header in ("steps ", "LR ", "phase "):
        assert any(line.startswith(header) and line.endswith("deviations") for line in text.splitlines()), (
            header
        )
    assert "residuals of tissue: white noise 0.0" in text
    assert "nearly collinear: memory, annealing_gain (correlation -" in text
    assert "runs to add for at most 3000 updates, by gain:" in text
    assert "runs to add for at most 3000 updates, by gain per update:" in text
    specs = [line.strip().partition("  from")[0] for line in text.splitlines() if line.startswith("    ")]
    assert len(specs) >= 10 and all(parse(spec) for spec in specs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--suggest", "--peak-lr", 1e-3), "--suggest needs --steps of the run you plan: add it."),
        (("--suggest", "--steps", 100), "--suggest needs --peak-lr of the run you plan: add it."),
        (("--steps", 100), "--steps goes with --suggest, which is not given: add it, or leave --steps out."),
        (("--diagnose", "--peak-lr", 1), "--peak-lr goes with --suggest, which is not given"),
        (("--budget", 100), "--budget goes with --suggest, which is not given"),
        (("--suggest", "--steps", 1, "--peak-lr", 1e-3), "--steps must be at least 2, got 1"),
        (("--suggest", *ASKED, "--draws", 5), "--draws must be at least 20 with --suggest, got 5: leave it out."),
        (("--suggest", *ASKED[:-1], 10, "--draws", 20, "--law", "tissue"), "budget must be at least "),
        (("--suggest", "--steps", 4000, "--peak-lr", 0, "--draws", 20, "--law", "tissue"), "peak must be above 0"),
        (("--suggest", *ASKED, "--draws", 20, "--law", "one_power"), "law one_power has no annealing term"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(lehr, store, options, message):
    assert message in lehr("fit", store, *options).refused()


def test_runs_of_several_sizes_are_refused(lehr, tmp_path):
    add_runs(tmp_path / "s", make_runs(CASES["tissue_n"], noise=1e-4, every=200))
    message = lehr("fit", tmp_path / "s", "--law", "tissue_n", "--draws", 20, "--suggest", *ASKED).refused()
    assert (
        "--suggest is for runs of one size, but law tissue_n has several: choose the runs of one with --train."
        in message
    )


def test_runs_of_several_weight_decays_are_refused(lehr, tmp_path):
    runs = [replace(r, meta={"weight_decay": 0.1 if "0.001" in r.name else 0.2})
            for r in make_runs(CASES["effective_time"], noise=1e-4, every=200)]  # fmt: skip
    add_runs(tmp_path / "s", runs)
    message = lehr(
        "fit", tmp_path / "s", "--law", "weight_norm", "--draws", 20, "--suggest", *ASKED
    ).refused()
    assert (
        "--suggest is for runs of one weight decay, but these had 0.1 to 0.2: choose the runs of one"
        in message
    )


def test_runs_of_several_data_sets_are_refused(lehr, tmp_path):
    runs = [replace(r, meta={"dataset": "a" if "0.001" in r.name else "b"})
            for r in make_runs(CASES["tissue"], noise=1e-4, every=200)]  # fmt: skip
    add_runs(tmp_path / "s", runs)
    message = lehr("fit", tmp_path / "s", "--law", "tissue", "--draws", 20, "--suggest", *ASKED).refused()
    assert (
        "--suggest is for runs of one data set, but these are of 2 (a, b): choose the runs of one" in message
    )


def test_an_open_side_is_called_so():
    assert trust._interval(Interval(1.0, 2.0, open_high=True)) == "1 .. open"
    assert trust._interval(None) == "0"
