"""Sizes, data sets and moved fits from the command line."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from tests.anneal.test_experts import ACTIVE, DENSE, TOTAL, fitted
from tests.fit.test_pooling import two_data_sets
from tests.synthetic import CASES, make_runs

from lehr.fit.files import Fits, load_fits, save_fits
from lehr.runs.store import add_runs, load_runs

PLAN = "wsd(steps=4000, peak=1e-3, warmup=200, decay=400)"


@pytest.fixture(scope="module")
def sized(tmp_path_factory):
    """A store of three sizes that follow Tissue's law with sizes, and a fit to it."""
    folder = tmp_path_factory.mktemp("sizes")
    add_runs(folder / "store", make_runs(CASES["tissue_n"], noise=1e-4, every=200))
    return folder


@pytest.fixture(scope="module")
def joint(lehr, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joint")
    add_runs(folder / "store", two_data_sets(noise=1e-4))
    assert (
        lehr("fit", folder / "store", "--law", "tissue", "--draws", 3, "--out", folder / "fit.json").code == 0
    )
    return folder


def test_all_laws_with_sizes_are_ranked_and_predict_a_size_never_fitted(lehr, sized):
    train = [f"--train={name} {size}" for name in ("cosine", "wsd") for size in ("2e+07", "1e+08")]
    test = ["--test=wsd 5e+08"]
    outcome = lehr("fit", sized / "store", *train, *test, "--draws", 0, "--json", "--out", sized / "fit.json")
    assert outcome.code == 0, outcome.err
    fitted = outcome.json["laws"]
    assert {
        "weight_norm_n",
        "effective_time_n",
        "chinchilla",
        "tissue_n",
        "forward_momentum_n",
    } == fitted.keys()
    assert "is of one size, but the runs have 2" in outcome.json["failed"]["weight_norm"]
    assert "use a law with sizes (weight_norm_n, " in outcome.json["failed"]["weight_norm"]
    assert all(law["held_out_error"] > 0 and "wsd 5e+08" in law["test_errors"] for law in fitted.values())
    at = ("--schedule", PLAN, "--at", 4000, "--json")
    for law in fitted:
        sizes = ("--params", 5e8, "--batch-tokens", 5e5)
        found = lehr("predict", sized / "fit.json", *at, *sizes, "--law", law)
        assert found.code == 0, found.err
        assert 1 < found.json["loss"][0] < 4
        assert any(
            "5e+08 parameters lie outside the fitted 2e+07 .. 1e+08" in w for w in found.json["warnings"]
        )
    truth = CASES["tissue_n"]
    told = lehr("predict", sized / "fit.json", *at, "--params", 5e8, "--law", "tissue_n").json["loss"][0]
    run = next(r for r in make_runs(truth) if r.name == "wsd 5e+08")
    assert told == pytest.approx(run.final_loss, abs=0.1)
    assert (
        "needs the number of parameters"
        in lehr("predict", sized / "fit.json", *at, "--law", "tissue_n").refused()
    )


def test_import_tells_the_data_set_and_the_experts(lehr, logs, tmp_path):
    log = next(iter(sorted(logs.glob("*.csv"))))
    into = (
        "--into",
        tmp_path / "s",
        "--dataset",
        "web",
        "--experts",
        8,
        "--params",
        1e8,
        "--params-total",
        5e8,
    )
    assert lehr("import", log, *into).code == 0
    run = next(iter(load_runs(tmp_path / "s")))
    assert (run.meta["dataset"], run.meta["experts"]) == ("web", 8)
    assert (
        "Invalid value for '--experts'" in lehr("import", log, "--into", tmp_path / "s", "--experts", 0).err
    )


def test_a_fit_to_several_data_sets_asks_which(lehr, joint):
    text = "the fit is of 2 data sets (books, web): say on which the loss is asked for (--data)."
    plan = ("--steps", 4000, "--peak-lr", 1e-3)
    assert text in lehr("predict", joint / "fit.json", "--schedule", PLAN).refused()
    assert text in lehr("recommend", joint / "fit.json", *plan).refused()
    at = ("--schedule", PLAN, "--at", 4000, "--json")
    books, web = (
        lehr("predict", joint / "fit.json", *at, "--data", data).json["loss"][0] for data in ("books", "web")
    )
    assert web > books + 0.3
    found = [
        lehr("recommend", joint / "fit.json", *plan, "--data", data, "--json").json
        for data in ("books", "web")
    ]
    assert found[0]["ratio"] == pytest.approx(found[1]["ratio"], abs=0.01), "the shape is shared"
    assert found[1]["final_loss"] > found[0]["final_loss"] + 0.3
    assert (
        "unknown data set of the fit 'wep'"
        in lehr("predict", joint / "fit.json", *at, "--data", "wep").refused()
    )


def test_a_report_of_one_data_set_has_its_numbers(lehr, joint, tmp_path):
    plan, out = ("--steps", 4000, "--peak-lr", 1e-3), ("--out", tmp_path / "r.json")
    text = "the fit is of 2 data sets (books, web): say on which the loss is asked for (--data)."
    assert text in lehr("report", joint / "fit.json", *plan, *out).refused()
    for data in ("books", "web"):
        told = lehr("report", joint / "fit.json", *plan, "--data", data, *out, "--json").json
        found = lehr("recommend", joint / "fit.json", *plan, "--data", data, "--json").json
        assert told["question"]["data"] == data
        keys = ("ratio", "ratio_low", "ratio_high", "final_loss")
        assert [told["recommendation"][key] for key in keys] == [found[key] for key in keys]
        (line,) = [each["line"] for each in told["commands"] if each["line"].startswith("lehr report")]
        assert f"--data {data}" in line


def test_fit_from_a_fit_moves_it(lehr, store, fit_file, tmp_path):
    other = tmp_path / "other"
    runs = load_runs(store)
    add_runs(other, [replace(run, loss=0.3 + 1.05 * run.loss, meta={"dataset": "web"}) for run in runs])
    moved = tmp_path / "moved.json"
    choose = ("--train", "cosine-0.001", "--test", "wsd-0.00*")
    outcome = lehr("fit", other, "--from", fit_file, *choose, "--draws", 4, "--out", moved, "--json")
    assert outcome.code == 0, outcome.err
    law = outcome.json["laws"]["tissue"]
    assert outcome.json["chosen"] == "tissue"
    assert law["adapted"]["runs"] == ["cosine-0.001"] and law["adapted"]["data"] == "web"
    assert law["adapted"]["scale"] == pytest.approx(1.05, abs=0.01)
    assert law["adapted"]["from"] == load_fits(fit_file).get().fingerprint
    assert max(law["test_errors"].values()) < 2e-3
    assert law["held_out_error"] < 2e-3 and law["intervals"]
    before = lehr("predict", fit_file, "--schedule", PLAN, "--at", 4000, "--json").json["loss"][0]
    after = lehr("predict", moved, "--schedule", PLAN, "--at", 4000, "--json").json["loss"][0]
    assert after == pytest.approx(0.3 + 1.05 * before, abs=0.01)
    shown = lehr("fit", other, "--from", fit_file, *choose, "--draws", 0)
    assert (
        "tissue *" in shown.out
        and "warning: the shape of the curve is that of a fit to other runs" in shown.err
    )


def test_what_cannot_be_moved_is_refused_in_one_message(lehr, store, fit_file, joint, tmp_path):
    assert (
        "does not exist: give a file made by `lehr fit --out`"
        in lehr("fit", store, "--from", tmp_path / "none.json").refused()
    )
    text = "the runs are of 2 data sets or splits (books, web): move the fit to one at a time, choosing runs"
    assert text in lehr("fit", joint / "store", "--from", fit_file).refused()
    assert (
        "unknown fitted law 'one_power'"
        in lehr("fit", store, "--from", fit_file, "--law", "one_power").refused()
    )


def test_a_csv_of_another_data_set_needs_no_more_than_its_name(lehr, fit_file, logs, tmp_path):
    """The way a user goes: import one log of the new data, move the fit, predict."""
    log = tmp_path / "web.csv"
    with (logs / "wsd-0.001.csv").open() as source, log.open("w") as target:
        rows = list(csv.DictReader(source))
        target.write(
            "step,lr,loss\n" + "".join(f"{r['step']},{r['lr']},{float(r['loss']) + 0.2}\n" for r in rows)
        )
    assert lehr("import", log, "--into", tmp_path / "s", "--dataset", "web").code == 0
    assert lehr("fit", tmp_path / "s", "--from", fit_file, "--out", tmp_path / "m.json").code == 0
    found = lehr("predict", tmp_path / "m.json", "--schedule", PLAN, "--json").json
    assert np.all(np.array(found["low"]) < np.array(found["high"]))
    base = lehr("predict", fit_file, "--schedule", PLAN, "--json").json
    assert found["loss"][-1] == pytest.approx(base["loss"][-1] + 0.2, abs=0.005)


def test_plans_of_a_model_of_experts_are_those_of_the_dense_model_of_its_size(lehr, tmp_path):
    path = tmp_path / "experts.json"
    save_fits(path, Fits({"weight_norm_n": fitted()}, {}, "weight_norm_n"))
    experts, dense = ("--params", ACTIVE, "--params-total", TOTAL), ("--params", DENSE)
    plan = ("--steps", 4000, "--peak-lr", 1e-3, "--json")
    searched = ("--knots", 4, "--out", tmp_path / "lr.json")
    for verb, more in (
        ("recommend", ()),
        ("optimize", searched),
        ("optimize", (*searched, "--family", "wsd")),
    ):
        told = [lehr(verb, path, *plan, *more, *sizes) for sizes in (experts, dense, experts[:2])]
        assert all(one.code == 0 for one in told), told[0].err
        found, same, other = (one.json["final_loss"] for one in told)
        assert found == pytest.approx(same, rel=1e-6)
        assert found != pytest.approx(other, rel=1e-5)
    out = tmp_path / "report.json"
    told = lehr("report", path, "--steps", 4000, "--peak-lr", 1e-3, *experts, "--out", out)
    assert told.code == 0, told.err
    assert f"--params-total {TOTAL}" in out.read_text()
    assert "must be at least the active ones" in lehr("recommend", path, *plan, *experts[:3], 1e7).refused()
