"""`lehr ratio-law`: from a store to how the best ratio moves; mixed runs and half a plan are refused."""

import numpy as np
import pytest

from lehr.runs.run import Run
from lehr.runs.store import add_runs
from lehr.schedule.families import wsd

KEYS = {"law", "valleys", "planned", "transfer", "warnings"}
RATIOS = (0.1, 0.2, 0.4, 0.6, 0.8)


def group(name, peak, steps, best, params=1e8):
    """Runs whose final losses lie on a valley with its bottom at `best`."""
    out = []
    for ratio in RATIOS:
        plan = wsd(steps=steps, peak=peak, warmup=50, decay=round(ratio * steps))
        loss = 2.8 + 0.3 * (np.sqrt(ratio) - np.sqrt(best)) ** 2
        out.append(
            Run(
                f"{name}-{peak:g}-{steps}-{ratio}",
                plan,
                np.array([steps // 2, steps]),
                np.array([3.0, loss]),
                params=params,
            )
        )
    return out


def best(peak, steps):
    return 1 / (1 + np.exp(0.3 - 0.7 * np.log(peak / 1e-3 * np.sqrt(steps / 1e4))))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    places = [(p, s) for p in (5e-4, 1e-3, 2e-3) for s in (5000, 20000)]
    runs = [r for p, s in places for r in group("small", p, s, best(p, s))]
    runs += [r for p, s in places for r in group("large", p, s, best(p, s) * 0.6, params=1e9)]
    path = tmp_path_factory.mktemp("ratio") / "store"
    add_runs(path, runs)
    odd = [r for p, s in places for r in group("odd", p, s, 1 - best(p, s))]  # falls with LR and steps
    add_runs(path.parent / "odd", odd)
    return path


def test_json_holds_law_valleys_plan_and_transfer(lehr, folder):
    found = lehr(
        "ratio-law", folder, "--transfer", "large-*", "--steps", 40000, "--peak-lr", "1e-3", "--json"
    ).json
    assert set(found) == KEYS
    assert found["law"]["form"] == "logistic"
    assert found["law"]["coefficients"][1] == pytest.approx(0.7, abs=0.05)
    assert found["planned"]["ratio"] == pytest.approx(best(1e-3, 40000), abs=0.02)
    assert found["planned"]["ratio_low"] < found["planned"]["ratio"] < found["planned"]["ratio_high"]
    assert len(found["valleys"]) == 6
    assert found["transfer"]["same"] is False
    assert "shorter here" in found["transfer"]["verdict"]


def test_text_says_it(lehr, folder):
    text = lehr("ratio-law", folder, "--runs", "small-*").out
    assert "form logistic; error on hidden groups 0.0" in text
    assert "with ln peak lr: +0.7" in text


def test_a_fit_with_another_trend_is_warned_of(lehr, folder, fit_file):
    call = lehr("ratio-law", folder.parent / "odd", "--fit", fit_file)
    assert "warning: the measured ratio falls with peak lr" in call.err
    assert "do not follow the law there" in call.err
    agreeing = lehr("ratio-law", folder, "--runs", "small-*", "--fit", fit_file, "--json").json
    assert not [note for note in agreeing["warnings"] if "peak lr" in note]


def test_runs_of_two_sizes_are_refused(lehr, folder):
    message = lehr("ratio-law", folder).refused()
    assert "the runs differ in params (100000000.0, 1000000000.0), which a ratio law does not know" in message
    assert "choose those of one with --runs" in message


def test_half_a_plan_is_refused(lehr, folder):
    message = lehr("ratio-law", folder, "--runs", "small-*", "--steps", 100).refused()
    assert "--steps and --peak-lr go together" in message
    message = lehr("ratio-law", folder, "--runs", "small-*", "--steps", 100, "--peak-lr", 0).refused()
    assert "must be above 0, got 100 and 0.0" in message


def test_a_store_without_valleys_is_refused(lehr, store):
    assert "no group of WSD runs" in lehr("ratio-law", store).refused()
