"""A report says what the library's functions say, tells what it leaves out, and keeps the keys of its JSON."""

import json
import re
import shlex
from dataclasses import replace

import numpy as np
import pytest
from tests.report.conftest import TEST, TRAIN

from lehr.anneal.costs import ratio_costs
from lehr.anneal.ratio import recommend_ratio
from lehr.errors import InputError
from lehr.predict import predict
from lehr.report.document import to_data, to_json
from lehr.report.gather import gather
from lehr.report.markdown import to_markdown
from lehr.report.report import Column, Command, Part, Report, Table
from lehr.report.study import Question
from lehr.runs.run import RunSet

PARTS = ["ratio", "plan", "evidence", "calibration", "laws", "sensitivity", "trust", "surer"]


def part_of(report, key):
    return next(part for part in report.parts if part.key == key)


def rows_of(report, part, table):
    return to_data(report)["parts"][[p.key for p in report.parts].index(part)]["tables"][table]


# the numbers


def test_the_recommendation_is_that_of_the_library(report, bundled):
    result = bundled[1].get()
    best = recommend_ratio(result, steps=3000, peak=1.5e-3)
    told = report.recommendation
    for name in (
        "ratio",
        "ratio_low",
        "ratio_high",
        "decay_steps",
        "final_loss",
        "final_loss_low",
        "final_loss_high",
    ):
        assert told[name] == getattr(best, name)
    assert told["schedule"] == f"wsd(steps=3000, peak=0.0015, warmup=100, decay={best.decay_steps})"
    assert f"the last {best.ratio:.0%} of training" in report.answer
    assert f"interval {best.ratio_low:.0%} to {best.ratio_high:.0%}" in report.answer
    assert f"{best.final_loss:.4f} nats per token ({best.final_loss_low:.4f} to" in report.answer
    assert set(best.warnings) <= set(report.warnings) and "step 3000 lies beyond" in " ".join(report.warnings)


def test_costs_are_those_of_the_library(report, bundled):
    result = bundled[1].get()
    best = recommend_ratio(result, steps=3000, peak=1.5e-3)
    costs = ratio_costs(result, best.schedule, [ratio for ratio, _ in best.costs])
    rows = rows_of(report, "ratio", "costs")
    assert [row["ratio"] for row in rows] == [ratio for ratio, _ in best.costs]
    assert [row["excess_loss"] for row in rows] == pytest.approx([e for _, e in best.costs], abs=1e-6)
    assert [row["updates_wasted_high"] for row in rows] == [cost.wasted_high for cost in costs]


def test_the_curve_is_the_prediction(report, bundled):
    from lehr.schedule.spec import parse

    found = predict(bundled[1].get(), parse(report.recommendation["schedule"]))
    for row in rows_of(report, "plan", "curve"):
        i = int(np.flatnonzero(found.steps == row["step"])[0])
        assert (row["loss"], row["low"], row["high"]) == (found.loss[i], found.low[i], found.high[i])


def test_the_runs_and_how_often_the_band_held(report, bundled):
    runs, fits = bundled
    result = fits.get()
    rows = rows_of(report, "evidence", "runs")
    assert [row["run"] for row in rows] == list(TRAIN)
    assert [row["mean_absolute"] for row in rows] == [result.residuals[n]["mean_absolute"] for n in TRAIN]
    held = rows_of(report, "calibration", "final_losses")
    apart = [row for row in held if row["how"] == "kept apart"]
    assert [row["run"] for row in apart] == list(TEST)
    for row in held:
        assert row["measured"] == runs[row["run"]].final_loss
        assert row["inside"] == (row["low"] <= row["measured"] <= row["high"])
    inside = sum(row["inside"] for row in apart)
    assert (
        f"{inside} of {len(TEST)} final losses of runs kept apart lie in the 90% band"
        in part_of(report, "calibration").text[0]
    )


def test_laws_stand_on_one_footing(report, bundled):
    fits = bundled[1]
    rows = rows_of(report, "laws", "laws")
    assert {row["law"]: row["held_out_error"] for row in rows} == dict(fits.held_out)
    assert [row["law"] for row in rows if row["chosen"]] == [fits.chosen]
    by_kind = fits.by_kind["one_power"]
    mine = next(row for row in rows if row["law"] == "one_power")
    assert {kind: mine[f"held_out_{kind}"] for kind in by_kind} == dict(by_kind)
    tested = rows_of(report, "laws", "test_runs")
    assert {row["run"]: row["one_power"] for row in tested} == dict(fits.test_errors["one_power"])


def test_other_plans_are_asked_of_the_law(report, bundled):
    rows = {row["plan"]: row for row in rows_of(report, "sensitivity", "sensitivity")}
    twice = recommend_ratio(bundled[1].get(), steps=6000, peak=1.5e-3, warmup=100)
    assert (
        rows["updates x 2"]["ratio"] == twice.ratio and rows["updates x 2"]["ratio_high"] == twice.ratio_high
    )
    assert rows["updates x 2"]["outside"] == "length" and rows["peak LR x 0.5"]["outside"] == "length"
    assert rows["peak LR x 2"]["outside"] == "peak LR and length"


# what is asked, assumed, left out


def test_defaults_are_taken_from_the_runs_and_said(bundled):
    found = gather(bundled[1])
    assert found.question["steps"] == 2000
    assert 7.5e-4 <= found.question["peak_lr"] <= 1.5e-3
    assert [line.split(",")[0] for line in found.assumed] == [
        "2000 updates", "the peak LR with the lowest predicted loss of the fitted 0.00075 to 0.0015 (--peak-lr)",
        "100 updates of warm-up"]  # fmt: skip


def test_without_runs_what_needs_them_is_said_to_be_left_out(bundled):
    found = gather(bundled[1], Question(steps=2000, peak=1.5e-3))
    assert [part.key for part in found.parts] == PARTS
    assert (
        "curves of the runs" in part_of(found, "evidence").left_out[0]
        and not part_of(found, "evidence").charts
    )
    assert "needs the runs (--store)" in part_of(found, "calibration").left_out[0]
    assert "runs.csv" not in [each.name for each in found.attachments]


def test_a_law_without_annealing_gives_no_recommendation_and_the_rest(bundled):
    runs, fits = bundled
    found = gather(fits, Question(law="one_power"), runs)
    assert found.answer == (
        "No annealing ratio can be recommended: the law one_power has no annealing term, so it cannot tell annealing "
        "ratios apart: name one that has with --law: effective_time."
    )
    assert found.recommendation == {} and to_data(found)["recommendation"] is None
    assert [part.key for part in found.parts] == ["evidence", "calibration", "laws", "trust"]


def test_other_runs_of_the_same_names_are_noticed(bundled):
    runs, fits = bundled
    other = [replace(run, loss=run.loss * 1.01) if run.name == TRAIN[0] else run for run in runs]
    found = gather(fits, Question(steps=2000, peak=1.5e-3), RunSet(other))
    assert found.warnings[0].startswith(
        "the runs in the store are not those that were fitted, though their names are"
    )
    lacking = gather(fits, Question(steps=2000, peak=1.5e-3), runs.without([TRAIN[0]]))
    assert lacking.warnings[0].startswith(f"the store lacks 1 of the 5 fitted runs ({TRAIN[0]})")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"steps": 1}, "steps must be at least 2, got 1: give the updates of the planned run."),
        ({"peak": -1.0}, "peak LR must be above 0, got -1.0: give the highest LR, e.g. 1e-3."),
        ({"level": 1.0}, "level must lie between 0 and 1, got 1.0: use e.g. 0.9."),
        ({"family": "cosine"}, "unknown family with an annealing ratio 'cosine': Known: wsd."),
        ({"law": "tisue"}, "unknown fitted law 'tisue'"),
    ],
)
def test_questions_that_cannot_be_asked(bundled, asked, message):
    with pytest.raises(InputError) as error:
        gather(bundled[1], Question(**asked))
    assert str(error.value).startswith(message)


def test_diagnosis_and_runs_to_add_on_request(bundled):
    runs, fits = bundled
    found = gather(fits, Question(steps=2000, peak=1.5e-3), runs, diagnose=True, suggest=True)
    assert {table.key for table in part_of(found, "trust").tables} == {"parameters", "biases"}
    assert any("condition number" in line for line in part_of(found, "trust").text)
    assert part_of(found, "surer").left_out == (
        "which run to add: that needs 20 bootstrap draws, and this fit has 6.",
    )


# commands


def test_commands_are_quoted_and_complete(report):
    lines = {command.what: command.line for command in report.commands}
    fit = shlex.split(lines["fit the runs"])
    assert fit[:3] == ["lehr", "fit", "my store"] and fit[-2:] == ["--out", "my fit.json"]
    assert {f"--train={name}" for name in TRAIN} <= set(fit) and {f"--test={name}" for name in TEST} <= set(
        fit
    )
    made = shlex.split(lines["make this report"])
    assert made[:7] == ["lehr", "report", "my fit.json", "--store", "my store", "--out", "r.html"]
    assert made[made.index("--steps") + 1] == "3000" and made[made.index("--peak-lr") + 1] == "0.0015"
    assert shlex.split(lines["write the schedule for torch"])[2] == report.recommendation["schedule"]
    assert "--suggest" in lines["rank the runs to add"]


def test_names_in_commands_match_no_other_run(bundled):
    runs, fits = bundled
    named = replace(
        fits.get(), residuals={"a[1]*; rm -rf 'x'": next(iter(fits.get().residuals.values()))}, evidence=()
    )
    found = gather(
        replace(fits, results={**fits.results, "effective_time": named}), Question(steps=2000, peak=1e-3)
    )
    words = shlex.split(found.commands[0].line)
    assert "--train=a[[]1][*]; rm -rf 'x'" in words


# JSON


def test_the_json_keeps_its_keys(report):
    data = json.loads(to_json(report))
    assert list(data) == ["lehr_report", "title", "date", "question", "assumed", "answer", "recommendation", "warnings",
                          "parts", "commands", "facts"]  # fmt: skip
    assert data["lehr_report"] == 1 and data["date"] == "2026-01-02"
    assert set(data["question"]) == {"family", "steps", "peak_lr", "shape", "final_lr", "warmup", "level"}
    assert set(data["recommendation"]) == {
        "ratio", "ratio_low", "ratio_high", "decay_steps", "final_loss", "final_loss_low", "final_loss_high", "peak_lr",
        "shape", "final_lr", "steps", "level", "law", "schedule"}  # fmt: skip
    assert [part["key"] for part in data["parts"]] == PARTS
    assert all(
        set(part) == {"key", "title", "text", "left_out", "tables", "figures"} for part in data["parts"]
    )
    tables = {name for part in data["parts"] for name in part["tables"]}
    assert tables == {"costs", "gains", "curve", "runs", "final_losses", "laws", "hidden_runs", "test_runs",
                      "sensitivity", "parameters"}  # fmt: skip
    assert data["facts"]["data fingerprint"] and {"what", "line"} == set(data["commands"][0])


def test_numbers_that_are_not_finite_are_null():
    table = Table("t", "c", (Column("a", "a"),), ((float("nan"),),))
    data = json.loads(to_json(Report("T", "", "A", parts=(Part("p", "P", tables=(table,)),))))
    assert data["parts"][0]["tables"]["t"] == [{"a": None}] and data["date"] is None


# Markdown


def test_markdown_holds_tables_and_commands(report):
    text = to_markdown(report)
    assert text.startswith(f"# {report.title}\n\n**For 3,000 updates at peak LR 0.0015")
    assert text.count("\n```sh\n") == len(report.commands)
    for block in re.findall(r"(?:^\|.*\|\n)+", text, flags=re.M):
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in block.splitlines()}) == 1, (
            "as many cells in every row"
        )
        assert re.match(r"\| :--- \|", block.splitlines()[1])
    assert text.count("*Figure: ") == sum(len(part.charts) for part in report.parts)


def test_names_are_text_in_markdown():
    evil = "<b>x</b> | [a](http://x.y) `c` *d* __e__ $f$ www.g.h i@j.k\n# k"
    table = Table("t", evil, (Column("a", evil),), ((evil,),))
    report = Report(evil, "", evil, warnings=(evil,), parts=(Part("p", evil, (evil,), (), (table,), (evil,)),),
                    commands=(Command(evil, "lehr ``` x\n# y"),), facts={evil: evil})  # fmt: skip
    text = to_markdown(report)
    assert (
        "<b>" not in text
        and "http://" not in text
        and not re.search(r"(?<!\\)\]\(", text)
        and "www.g" not in text
        and "i@j" not in text
    )
    assert [line for line in text.splitlines() if line.startswith("# ")] == [text.splitlines()[0]]
    assert "````sh\nlehr ``` x?# y\n````" in text
