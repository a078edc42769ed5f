"""`lehr demo`: the main job on the bundled runs."""

import numpy as np
import pytest

from lehr.examples import load_examples
from lehr.fit.compare import RESOLUTION
from lehr.fit.files import load_fits
from lehr.laws import LAWS
from lehr.runs.store import load_runs

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
    assert page.count("<figure") >= 4 and "<script" not in page
    assert f"--steps {outcome.json['steps']} --peak-lr" in page and 'download="fit.json"' in page


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
