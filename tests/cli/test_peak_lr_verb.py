"""`lehr peak-lr`: fit, predict, published; their JSON and their errors."""

import pytest
from tests.peaklr.made import BATCHES, made_sweep, true_lr

from lehr.runs.store import add_runs


def write(path, table, batch=True):
    sequences = (table.batch_tokens / 2048).tolist() if batch else None
    rows = [
        f"{lr!r},{loss!r},{n!r},{d!r}" + (f",{sequences[row]!r}" if batch else "")
        for row, (lr, loss, n, d) in enumerate(
            zip(
                table.lr.tolist(),
                table.loss.tolist(),
                table.params.tolist(),
                table.tokens.tolist(),
                strict=True,
            )
        )
    ]
    path.write_text("\n".join(["lr,smooth loss,N,D" + (",bs" if batch else ""), *rows]) + "\n")
    return path


@pytest.fixture(scope="module")
def made(tmp_path_factory, lehr):
    folder = tmp_path_factory.mktemp("peaklr")
    table = made_sweep(batches=(6.5e4, *BATCHES, 2.1e6), count=6, sizes=(1e8, 4e8))
    path = write(folder / "sweep.csv", table)
    call = lehr(
        "peak-lr", "fit", path, "--column", "loss=smooth loss", "--sequence-length", 2048, "--draws", 5, "--out",
        folder / "fit.json", "--json",
    )  # fmt: skip
    assert call.code == 0, call.err
    return folder, call


def test_fit_prints_its_json(made):
    _, call = made
    found = call.json
    assert set(found) == {
        "chosen", "formula", "coefficients", "centre", "scatter", "batch_formula", "held_out_excess", "failed",
        "groups", "refused", "runs", "diverged",
    }  # fmt: skip
    assert found["runs"] == 2 * 3 * 6 * 6
    assert len(found["groups"]) == 6
    assert set(found["groups"][0]) == {
        "params", "active_params", "tokens", "batch_tokens", "lr", "lr_low", "lr_high", "lowest_loss",
    }  # fmt: skip
    assert found["coefficients"]["params"] == pytest.approx(-0.6, abs=0.1)
    assert found["held_out_excess"][found["chosen"]] < 0.003
    assert "the fit is in" in call.err


def test_fit_prints_optima_law_and_scores(made, lehr):
    folder, _ = made
    call = lehr(
        "peak-lr", "fit", folder / "sweep.csv", "--column", "loss=smooth loss", "--sequence-length", 2048, "--law",
        "parabola", "--draws", 0,
    )  # fmt: skip
    assert "216 runs, 0 of them diverged; 6 groups with an optimum" in call.out
    assert "law parabola: LR = " in call.out and "best batch: B = " in call.out
    assert "parabola *" in call.out
    assert "excess loss on groups left out one at a time, nats:" in call.out


def test_predict_gives_an_interval(made, lehr):
    folder, _ = made
    found = lehr(
        "peak-lr", "predict", folder / "fit.json", "--params", 2e8, "--tokens", 8e9, "--batch", 5e5, "--json"
    ).json
    assert set(found) == {
        "lr", "lr_low", "lr_high", "law", "best_batch_tokens", "best_batch_low", "best_batch_high", "remarks",
    }  # fmt: skip
    assert found["lr"] == pytest.approx(true_lr(2e8, 8e9, 5e5), rel=0.15)
    assert found["lr_low"] < found["lr"] < found["lr_high"]


def test_predict_takes_the_best_batch_and_remarks_on_the_range(made, lehr):
    folder, _ = made
    call = lehr("peak-lr", "predict", folder / "fit.json", "--params", 1e11, "--tokens", 8e9)
    assert call.out.startswith("peak LR ") and "best batch " in call.out
    assert "note: at a batch of" in call.err
    assert "note: params 1e+11 lies beyond the measured 1e+08 to 4e+08" in call.err


def test_published_lists_all_laws_with_their_sources(lehr):
    found = lehr("peak-lr", "published", "--params", 1e9, "--tokens", 1e11, "--json").json["laws"]
    assert {"kaplan", "deepseek", "step_law", "porian", "bjorck", "set_lr", "ant_moe"} <= set(found)
    assert found["step_law"]["lr"] == pytest.approx(1.63e-3, rel=0.01)
    assert found["bjorck"]["lr"] is None
    assert set(found["step_law"]) >= {
        "anchored_lr",
        "batch",
        "outside",
        "remarks",
        "source",
        "certainty",
        "batch_rule",
    }


def test_published_marks_what_lies_outside_and_carries_an_anchor_over(lehr):
    call = lehr(
        "peak-lr", "published", "--params", 7e9, "--active-params", 1e9, "--tokens", 2e12, "--batch", 1e6, "--anchor",
        "lr=2e-3,params=2e8,tokens=1e10,active=1e8",
    )  # fmt: skip
    line = next(line for line in call.out.splitlines() if line.startswith("step_law"))
    assert "outside 2.1e+08 to 1.1e+09" in line
    assert "holds at its own batch of 6.13e+06 tokens, not at 1e+06" in call.out
    assert "arXiv 2601.05049, eq. 6" in call.out


def test_a_store_is_a_sweep_and_its_runs_can_be_chosen(lehr, tmp_path):
    from tests.cli.test_ratio_verb import group

    for peak, shift in ((5e-4, 0.04), (1e-3, 0.0), (2e-3, 0.03)):
        runs = group("s", peak, 5000, 0.4)
        add_runs(
            tmp_path / "store",
            [type(r)(**{**fields(r), "loss": r.loss + shift, "batch_tokens": 1e5}) for r in runs],
        )
    message = lehr("peak-lr", "fit", tmp_path / "store").refused()
    assert "the runs are of 5 recipes" in message
    found = lehr("peak-lr", "fit", tmp_path / "store", "--runs", "s-*-0.4", "--draws", 0, "--json").json
    assert found["groups"][0]["lr"] == pytest.approx(1.0e-3, rel=0.3)
    assert found["chosen"] == "constant"
    text = lehr("peak-lr", "fit", tmp_path / "store", "--runs", "s-*-0.4", "--draws", 0).out
    assert "too few groups to leave one out: how well the law predicts is not known" in text


def test_horizon_carries_a_sweep_to_more_tokens(made, lehr):
    table = made_sweep(
        sizes=(2e8, 4e8), tokens=(4e9, 8e9, 1.6e10), centre=2e-3, count=7, step=1.6, batches=(2e5,)
    )
    path = write(made[0] / "horizon.csv", table)
    options = (
        path,
        "--column",
        "loss=smooth loss",
        "--sequence-length",
        2048,
        "--params",
        2e8,
        "--tokens",
        3.2e10,
    )
    found = lehr("peak-lr", "horizon", *options, "--json").json
    assert set(found) == {"lr", "lr_low", "lr_high", "lowest_loss", "gamma", "times_longest", "losses"}
    assert found["lr_low"] <= true_lr(2e8, 3.2e10, 2e5) <= found["lr_high"]
    assert found["times_longest"] == 2 and len(found["losses"]) == 7
    text = lehr("peak-lr", "horizon", *options).out
    assert "at 3.2e+10 tokens, 2 times the longest run; L0 + A D^-0." in text and "peak LR " in text
    assert (
        "mixes runs of more than one size"
        in lehr("peak-lr", "horizon", *options[:5], "--tokens", 1e11).refused()
    )
    message = lehr("peak-lr", "horizon", *options[:5], "--tokens", 1e11, "--params", 3e8).refused()
    assert "params must be one of those run (2e+08, 4e+08), got 300000000.0: choose one." in message


def fields(run):
    return {name: getattr(run, name) for name in ("name", "schedule", "step", "loss", "params")}


REFUSED = [
    (
        ("fit", "{sweep}"),
        "sweep.csv: the batch size in column 'bs' counts sequences, whose length is not known",
    ),
    (("fit", "{sweep}", "--column", "loss"), "--column 'loss' must be ROLE=NAME"),
    (("fit", "{sweep}", "--sequence-length", 2048, "--draws", -1), "--draws must be at least 0, got -1"),
    (
        ("fit", "{sweep}", "--sequence-length", 2048, "--law", "parabel"),
        "unknown peak-LR law 'parabel': did you mean",
    ),
    (("fit", "nowhere.csv"), "nowhere.csv"),
    (("predict", "{sweep}", "--params", 1e8, "--tokens", 1e9), "sweep.csv is not a fit of a sweep"),
    (("predict", "{fit}", "--params", 0, "--tokens", 1e9), "params must be above 0, got 0"),
    (
        ("predict", "{fit}", "--params", 1e8, "--tokens", 1e9, "--level", 2),
        "--level must lie between 0 and 1, got 2",
    ),
    (
        ("predict", "{fit}", "--params", 1e8, "--tokens", 1e9, "--active-params", 1e9),
        "active must not exceed the 1e+08 parameters",
    ),
    (("published", "--params", -1, "--tokens", 1e9), "params must be above 0, got -1"),
    (
        ("published", "--params", 1e8, "--tokens", 1e9, "--anchor", "lr=x,params=1,tokens=1"),
        "--anchor must be NAME=NUMBER pairs of lr, params, tokens, active, got 'lr=x,params=1,tokens=1': mend it.",
    ),
    (
        ("published", "--params", 1e8, "--tokens", 1e9, "--anchor", "lr=1e-3"),
        "--anchor 'lr=1e-3' lacks params, tokens: give lr=LR,params=N,tokens=D (and active=N).",
    ),
    (
        ("published", "--params", 1e8, "--tokens", 1e9, "--anchor", "lr=1,params=1,tokens=1,batch=3"),
        "has an unknown batch",
    ),
]


@pytest.mark.parametrize(("arguments", "text"), REFUSED, ids=[str(i) for i in range(len(REFUSED))])
def test_bad_input_is_one_message(made, lehr, arguments, text):
    folder, _ = made
    places = {"sweep": folder / "sweep.csv", "fit": folder / "fit.json"}
    assert text in lehr("peak-lr", *(str(part).format(**places) for part in arguments)).refused()


def test_a_sweep_without_an_optimum_is_refused(lehr, tmp_path):
    table = made_sweep(sizes=(1e8,), tokens=(2e9,), count=3, centre=1e-6)
    path = write(tmp_path / "edge.csv", table, batch=False)
    message = lehr("peak-lr", "fit", path, "--column", "loss=smooth loss").refused()
    assert (
        "no peak-LR law can be fitted: 1e+08 parameters, 2e+09 tokens: the optimum lies at the edge"
        in message
    )
    assert "run higher LRs" in message


def test_two_batch_sizes_without_a_column_are_refused(lehr, tmp_path):
    """Mixed batch sizes look like runs of one LR that differ by what is no noise."""
    table = made_sweep(sizes=(1e8,), tokens=(2e9,), batches=(1.3e5, 2.1e6), count=5, centre=2e-3)
    path = write(tmp_path / "mixed.csv", table, batch=False)
    message = lehr("peak-lr", "fit", path, "--column", "loss=smooth loss").refused()
    assert (
        "nats, which is no noise: if they differ in batch size or another setting, give its column" in message
    )
