"""`lehr peak-lr plan`, called until it says stop."""

import csv
import io
import json

import numpy as np
import pytest
from tests.peaklr.planning import best_lr, train

PLAN = [
    "peak-lr", "plan", "--params", "1e8,2e8,4e8", "--tokens", "2e9,4e9,8e9", "--target-params", "8e8",
    "--target-tokens", "3.2e10", "--budget-runs", "40",
]  # fmt: skip


def write(path, runs, batch=False):
    """Put runs of a plan that were done under those in `path`."""
    columns = np.array([(run["lr"], run["params"], run["tokens"], run["batch"] or 0.0) for run in runs]).T
    done = train(*columns[:3], columns[3] if batch else None, seed=len(runs))
    text = io.StringIO()
    rows = csv.writer(text)
    if not path.exists():
        rows.writerow(["lr", "params", "tokens", "loss", *(["batch_tokens"] if batch else [])])
    for row in range(len(done)):
        cells = [
            done.lr[row],
            done.params[row],
            done.tokens[row],
            done.loss[row],
            *([columns[3][row]] if batch else []),
        ]
        rows.writerow([repr(float(cell)) for cell in cells])
    with path.open("a") as file:
        file.write(text.getvalue())


def test_it_is_followed_to_its_end(lehr, tmp_path):
    table = tmp_path / "done.csv"
    told = lehr(*PLAN, "--json").json
    assert told["done_runs"] == 0 and told["stop"] is None and told["grid_runs"] == 81
    calls = 0
    while told["stop"] is None:
        write(table, told["runs"])
        told = lehr(*PLAN, "--results", table, "--json").json
        calls += 1
    assert 2 <= calls <= 8 and told["runs"] == [] and told["done_runs"] <= 40
    assert told["lr_low"] < best_lr(8e8, 3.2e10) < told["lr_high"]
    assert abs(np.log(told["lr"] / best_lr(8e8, 3.2e10))) < 0.3
    assert told["lr_low"] < told["law_low"] < told["lr"] < told["law_high"] < told["lr_high"]
    text = lehr(*PLAN, "--results", table)
    assert text.code == 0 and f"stop: {told['reason']}" in text.out and "trunk" not in text.out


def test_it_prints_runs_and_how_to_go_on(lehr):
    out = lehr(*PLAN).out
    assert "by 0 runs (the prior)" in out
    assert "trunk  parameters  batch" in out and "cooldown from  to tokens" in out
    assert "of the 81 of the full grid (" in out
    assert out.endswith(
        "call the same again with --results TABLE, a row a run done: lr, loss, params, tokens\n"
    )
    batches = lehr(*PLAN, "--batch", "2e5,4e5", "--target-batch", "8e5").out
    assert batches.endswith("lr, loss, params, tokens, batch_tokens\n")


def test_flops_and_several_tables_and_other_names(lehr, tmp_path):
    command = [
        *PLAN[:-2],
        "--budget-flops",
        "2e20",
        "--batch",
        "4e5",
        "--prior",
        "2e-3",
        "--sizes",
        "1e8,2e8,4e8",
    ]
    first = lehr(*command, "--json").json
    assert first["done_flops"] == 0 < first["flops"] < 2e20
    one, other = tmp_path / "one.csv", tmp_path / "other.csv"
    write(one, first["runs"][:4], batch=True)
    write(other, first["runs"][4:], batch=True)
    told = lehr(*command, "--results", one, "--results", other, "--json").json
    assert told["done_runs"] == len(first["runs"])
    assert told["done_flops"] == pytest.approx(first["flops"])
    one.write_text(one.read_text().replace("loss", "smooth loss").replace("lr", "rate"))
    named = ["--column", "loss=smooth loss", "--column", "lr=rate"]
    again = lehr(*command, "--results", one, *named, "--json").json
    assert again["done_runs"] == 4


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            ["--batch", "big"],
            "--batch must be numbers with commas between, got 'big': write them as 1e8,2e8.",
        ),
        (["--prior", "chinchila"], "unknown published law 'chinchila'"),
        (["--budget-flops", "1e20"], "give one budget, in runs or in FLOPs"),
        (["--at-once", "1"], "at_once must be at least 3"),
        (["--results", "nowhere.csv"], "nowhere.csv"),
        (["--target-active", "9e9"], "active must not exceed the 8e+08 parameters"),
        (["--batch", "1e5,2e5"], "give that of the target (--target-batch)"),
    ],
)
def test_bad_input_is_one_message(lehr, options, text):
    assert text in lehr(*PLAN, *options).refused()


def test_a_result_of_another_sweep_is_named(lehr, tmp_path):
    table = tmp_path / "done.csv"
    table.write_text("lr,loss,params,tokens\n1e-3,3.0,7e8,2e9\n")
    message = lehr(*PLAN, "--results", table).refused()
    assert f"{table}, row 1: its size 7e+08 is none of the plan's (1e+08, 2e+08, 4e+08)" in message


def test_the_json_has_finite_numbers_only(lehr):
    text = lehr(*PLAN, "--json").out
    json.loads(text, parse_constant=lambda name: pytest.fail(name))
