"""`lehr fit`: what it prints and keeps, stacks of laws among it."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lehr.cli.fit import to_text
from lehr.fit.compare import RESOLUTION
from lehr.fit.files import load_fits
from lehr.fit.stack import StackScore
from lehr.laws import LAWS

PLAN = "wsd(steps=4000, peak=1e-3, warmup=200, decay=800)"


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


def test_a_run_asked_for_by_name_is_fitted_even_if_a_test_pattern_matches_it(lehr, store):
    train = ("--train", "cosine-0.001", "--train", "wsd-0.001")
    found = lehr("fit", store, "--law", "tissue", *train, "--test", "wsd*", "--draws", 0, "--json").json
    assert set(found["laws"]["tissue"]["test_errors"]) == {"wsd-0.002"}


def test_jobs_in_a_folder_give_what_one_process_gives(lehr, store, tmp_path):
    options = ("fit", store, "--law", "tissue", "--draws", 12, "--json")
    shared = lehr(*options, "--jobs", tmp_path / "jobs", "--workers", 2)
    assert shared.code == 0 and "jobs to do in" in shared.err and shared.json == lehr(*options).json
    again = lehr(*options, "--jobs", tmp_path / "jobs", "--workers", 1)
    assert again.json == shared.json and again.err.startswith("0 of ") and "\n0 of " in again.err
    message = lehr("fit", store, "--jobs", tmp_path / "jobs", "--from", tmp_path / "x.json").refused()
    assert message == "error: --jobs shares a comparison of fits: leave it out with --from.\n"


def test_engines_of_jobs_are_checked_before_anything_is_read(lehr, store, tmp_path):
    told = tmp_path / "engine.toml"
    told.write_text("[engine.slurm]\nnode = 2\n")
    jobs = ("--jobs", tmp_path / "jobs")
    for options, text in (
        (
            ("--engine", "slurm"),
            "--engine goes with --jobs, which is not given: add it, or leave --engine out.",
        ),
        (
            ("--engine-options", told),
            "--engine-options goes with --jobs, which is not given: add it, or leave",
        ),
        ((*jobs, "--engine", "slrum"), "unknown engine 'slrum': did you mean 'slurm'?"),
        (
            (*jobs, "--engine-options", told),
            f"{told}: engine.slurm.node: Extra inputs are not permitted, got 2:",
        ),
        (
            (*jobs, "--engine-options", tmp_path / "none.toml"),
            "none.toml: No such file or directory; give the path of a TOML file.",
        ),
    ):
        assert text in lehr("fit", store, *options).refused()
    assert not (tmp_path / "jobs").exists()


def test_jobs_do_not_take_the_folder_of_a_sweep(lehr, store, tmp_path):
    from tests.proxy.sweep.made import commands, laid

    laid(tmp_path, commands(tmp_path, "true {lr}"))
    message = lehr("fit", store, "--law", "tissue", "--jobs", tmp_path / "sweep").refused()
    assert message.endswith("sweep is the folder of a sweep of trainings: name another for --jobs.\n")
