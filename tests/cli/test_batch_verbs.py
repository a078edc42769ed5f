"""The batch on the command line: `fit` reports B_opt, `predict` and `recommend` heed it, tokens become updates."""

import math
from dataclasses import replace

import pytest
from tests.batch_curves import BATCHES, batch_runs, known_law, true_critical
from tests.synthetic import BATCH, CASES, make_runs

from lehr.fit.files import Fits, load_fits, save_fits
from lehr.fit.fit import fit
from lehr.runs.store import add_runs
from lehr.schedule.families import constant

PLAN = "wsd(steps=4000, peak=1e-3, warmup=200, decay=800)"
FIT = ("--law", "one_power", "--draws", 0)


@pytest.fixture(scope="module")
def several(tmp_path_factory):
    """A store of three batches."""
    folder = tmp_path_factory.mktemp("batches") / "store"
    add_runs(folder, batch_runs(BATCHES[1:4]))
    return folder


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """Files of one fit at a batch of 500,000: without B_opt, with a low and with a high one."""
    folder = tmp_path_factory.mktemp("fits")
    result = fit(CASES["tissue"].law, make_runs(CASES["tissue"], every=200))
    laws = {
        "none": None,
        "low": known_law(losses=(2.0, 3.6)),
        "high": known_law(critical=3e5, losses=(2.0, 3.6)),
    }
    for name, law in laws.items():
        save_fits(folder / f"{name}.json", Fits({"tissue": replace(result, batch=law)}, {}, "tissue"))
    return folder


def test_fit_reports_b_opt_from_the_whole_store(lehr, several, tmp_path):
    path = tmp_path / "fit.json"
    outcome = lehr("fit", several, *FIT, "--train", "run 1", "--out", path)
    assert outcome.code == 0, outcome.err
    law = load_fits(path).get().batch
    assert law.batches == BATCHES[1:4]
    low, high = law.interval(law.losses[0])
    value, loss = law.optimal(law.losses[0]), law.losses[0]
    told = f"B_opt = {value:.3g} tokens (90 %: {low:.3g} to {high:.3g}) at loss {loss:.4g}"
    assert f"batch: {told}; from it on updates are within 5% of the fewest" in outcome.out
    assert "  3 batches of 130000 to 520000 tokens compared at losses " in outcome.out
    assert f"both go as loss^-{law.exponent:.3g} (" in outcome.out


def test_fit_json_holds_b_opt(lehr, several, store):
    found = lehr("fit", several, *FIT, "--train", "run 1", "--json").json["batch"]
    assert found["kind"] == "measured" and found["tolerance"] == 0.05
    truth = 20 * true_critical(found["loss"])
    assert found["optimal"] == pytest.approx(truth, rel=0.15)
    assert found["optimal_low"] < found["optimal"] < found["optimal_high"]
    assert found["optimal"] == pytest.approx(20 * found["critical"])
    assert found["exponent_low"] < 4.8 < found["exponent_high"]
    assert len(found["levels"]) == 12 and found["levels"][0].keys() == {"loss", "updates_min", "critical"}
    assert lehr("fit", store, *FIT, "--json").json["batch"] is None, "a store that tells no batch"


def test_fit_refuses_batches_below_b_opt_together(lehr, several):
    message = lehr("fit", several, *FIT).refused()
    assert (
        "error: the runs have batches of 130000 to 520000 tokens, but law one_power counts updates, in which"
        in message
    )
    assert "only from B_opt = " in message and message.endswith(" on: fit each batch by itself (--train).\n")


def test_runs_kept_apart_tell_nothing_of_the_batch(lehr, several):
    tested = ("--train", "run 1", "--test", "run 0", "--test", "run 2")
    assert lehr("fit", several, *FIT, *tested, "--json").json["batch"] is None


def test_fit_says_why_b_opt_is_not_known(lehr, tmp_path):
    runs = batch_runs(BATCHES[:2])
    longer = constant(steps=8000, peak=1e-3, warmup=400)
    add_runs(tmp_path / "store", [runs[0], replace(runs[1], schedule=longer)])
    outcome = lehr("fit", tmp_path / "store", *FIT, "--train", "run 0")
    text = "warning: the runs have several batches, but B_opt is not known: no two of the runs differ in the batch"
    assert outcome.code == 0 and f"{text} alone." in outcome.err
    assert "batch:" not in outcome.out


@pytest.mark.parametrize("verb", ["predict", "recommend"])
def test_another_batch(lehr, fitted, verb):
    rest = ("--schedule", PLAN) if verb == "predict" else ("--steps", 4000, "--peak-lr", 1e-3)

    def call(name, batch):
        return lehr(verb, fitted / f"{name}.json", *rest, "--batch-tokens", batch)

    assert "batch_tokens 250000 is smaller than the fitted 500000" in call("none", 250000).refused()
    assert "warning: batch_tokens 1e+06 differs from the fitted 500000, and" in call("none", 1000000).err
    assert "the updates needed differ by up to 5%" in call("low", 250000).err
    message = call("high", 1000000).refused()
    assert "only from B_opt = " in message and message.endswith("or predict at the fitted batch.\n")
    for name in ("none", "low", "high"):
        outcome = call(name, 500000)
        assert outcome.code == 0 and "batch" not in outcome.err
    assert (
        "batch_tokens must be above 0, got 0.0: give the batch size in tokens." in call("none", 0).refused()
    )


def test_predict_gives_tokens_where_the_batch_is_known(lehr, fitted, fit_file):
    common = ("--schedule", PLAN, "--at", 400, "--at", 4000)
    assert lehr("predict", fitted / "low.json", *common, "--json").json["tokens"] == [
        400 * BATCH,
        4000 * BATCH,
    ]
    lines = lehr("predict", fitted / "low.json", *common, "--batch-tokens", "1e6").out.splitlines()
    assert lines[0].split()[-1] == "tokens" and lines[-1].split()[-1] == "4e+09"
    assert lehr("predict", fit_file, *common, "--json").json["tokens"] is None, "runs that tell no batch"


def test_recommend_takes_tokens_in_place_of_updates(lehr, fitted):
    recommend = ("recommend", fitted / "low.json", "--peak-lr", 1e-3, "--json")
    plain = lehr(*recommend, "--steps", 4000).json
    assert lehr(*recommend, "--tokens", 4000 * BATCH).json == plain
    assert lehr(*recommend, "--tokens", 4000 * BATCH - 1).json == plain, "rounded up to whole updates"
    half = lehr(*recommend, "--tokens", 4000 * BATCH, "--batch-tokens", 2 * BATCH).json
    assert "steps=2000" in half["schedule"] and half["final_loss"] > plain["final_loss"]
    assert math.isclose(half["decay_steps"] / 2000, half["ratio"])


def test_the_length_is_given_once_and_tokens_need_a_batch(lehr, fitted, fit_file):
    recommend = ("recommend", fitted / "low.json", "--peak-lr", 1e-3)
    once = "give the budget once, as steps, tokens or flops; got "
    assert once in lehr(*recommend).refused()
    assert once in lehr(*recommend, "--steps", 4000, "--tokens", "1e9").refused()
    text = "tokens must be a finite number above 0, got {}: give the tokens of the whole run."
    for tokens in ("0.0", "-1.0", "nan", "inf"):
        assert text.format(tokens) in lehr(*recommend, "--tokens", tokens).refused()
    text = "a budget in tokens or FLOPs needs the batch, which the fitted runs do not tell or which differs "
    assert text in lehr("recommend", fit_file, "--peak-lr", 1e-3, "--tokens", "1e9").refused()
    message = lehr(*recommend, "--tokens", "1e9", "--batch-tokens", -5).refused()
    assert "batch_tokens must be above 0, got -5.0: give the batch size in tokens." in message
