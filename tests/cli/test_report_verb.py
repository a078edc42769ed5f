"""`lehr report`: from a store or fits to one file, in three formats; what goes wrong is said."""

import json
import re
import shlex
from urllib.parse import unquote

import pytest

from lehr.fit.files import load_fits
from lehr.laws import LAWS
from lehr.runs.store import load_runs

ASKED = ("--steps", 4000, "--peak-lr", "1e-3")


@pytest.mark.parametrize(
    ("name", "start"), [("r.html", "<!doctype html>"), ("r.md", "# How to anneal"), ("r.json", "{")]
)
def test_a_fit_and_its_store_make_each_format(lehr, store, fit_file, tmp_path, name, start):
    outcome = lehr("report", fit_file, "--store", store, *ASKED, "--out", tmp_path / name)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / name).read_text().startswith(start)
    assert outcome.out.startswith("For 4,000 updates at peak LR 0.001, decay the LR over the last ")
    assert outcome.out.endswith(f"written to {tmp_path / name}\n")


def test_the_numbers_are_those_of_recommend(lehr, store, fit_file, tmp_path):
    told = lehr("report", fit_file, "--store", store, *ASKED, "--out", tmp_path / "r.json", "--json").json
    found = lehr("recommend", fit_file, *ASKED, "--json").json
    for name in (
        "ratio",
        "ratio_low",
        "ratio_high",
        "final_loss",
        "final_loss_low",
        "final_loss_high",
        "schedule",
    ):
        assert told["recommendation"][name] == found[name]
    assert told["out"] == str(tmp_path / "r.json")
    kept = json.loads((tmp_path / "r.json").read_text())
    assert {name: value for name, value in told.items() if name != "out"} == kept


def test_the_commands_told_make_the_same_again(lehr, store, fit_file, tmp_path):
    first = lehr("report", fit_file, "--store", store, *ASKED, "--out", tmp_path / "r.json", "--json").json
    (line,) = [each["line"] for each in first["commands"] if each["what"] == "make this report"]
    again = lehr(*shlex.split(line)[1:], "--json").json
    assert again["recommendation"] == first["recommendation"] and again["parts"] == first["parts"]
    (line,) = [
        each["line"] for each in first["commands"] if each["what"].startswith("ask for the recommendation")
    ]
    assert lehr(*shlex.split(line)[1:], "--json").json["ratio"] == first["recommendation"]["ratio"]
    (line,) = [each["line"] for each in first["commands"] if each["what"] == "fit the runs"]
    assert lehr(*shlex.split(line)[1:-1], tmp_path / "again.json").code == 0
    assert load_fits(tmp_path / "again.json").get().parameters == load_fits(fit_file).get().parameters


def test_a_store_is_fitted_first(lehr, store, tmp_path):
    names = load_runs(store).names
    outcome = lehr("report", store, *ASKED, "--law", "tissue", "--draws", 3, "--test", names[-1], "--out",
                   tmp_path / "r.json", "--json")  # fmt: skip
    assert outcome.code == 0, outcome.err
    parts = {part["key"]: part for part in outcome.json["parts"]}
    assert [row["run"] for row in parts["evidence"]["tables"]["runs"]] == list(names[:-1])
    assert list(parts["laws"]["tables"]["test_runs"][0]) == ["run", "tissue"]
    fit = next(each["line"] for each in outcome.json["commands"] if each["what"] == "fit the runs")
    assert f"--test={names[-1]}" in fit and "--law tissue" in fit and "--draws 3" in fit


def test_a_store_of_one_run_says_what_it_cannot(lehr, store, tmp_path, monkeypatch):
    monkeypatch.setattr("lehr.laws.LAWS", {name: LAWS[name] for name in ("one_power", "tissue")})
    name = next(name for name in load_runs(store).names if name.startswith("wsd"))
    outcome = lehr(
        "report", store, *ASKED, "--draws", 2, "--train", name, "--out", tmp_path / "r.json", "--json"
    )
    assert outcome.code == 0, outcome.err
    told = outcome.json
    assert told["recommendation"] is None
    assert told["answer"] == (
        "No annealing ratio can be recommended: the law one_power has no annealing term, so it cannot tell annealing "
        "ratios apart: fit runs that decay, at several LRs."
    )
    parts = {part["key"]: part for part in told["parts"]}
    assert parts["laws"]["left_out"][0].startswith(
        "tissue: law tissue has an annealing term, which one schedule"
    )
    assert parts["calibration"]["left_out"][0].startswith("how often the band held: no run was kept apart")


def test_a_title_and_a_format(lehr, fit_file, tmp_path):
    outcome = lehr(
        "report", fit_file, *ASKED, "--title", "For the 7B", "--format", "md", "--out", tmp_path / "page.txt"
    )
    assert outcome.code == 0 and (tmp_path / "page.txt").read_text().startswith("# For the 7B\n")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--out", "r.pdf"), "--out r.pdf must end in .html, .md or .json: rename it, or name the --format."),
        (("--format", "pdf"), "unknown format of a report 'pdf': "),
        (("--out", "none/r.html"), "the folder of none/r.html does not exist: create it first."),
        (("--steps", 1), "steps must be at least 2, got 1: give the updates of the planned run."),
        (("--peak-lr", "x"), "--peak-lr must be a number or auto, got 'x': give e.g. 1e-3."),
        (("--peak-lr", "0"), "peak LR must be above 0, got 0.0: give the highest LR, e.g. 1e-3."),
        (("--family", "cosine"), "unknown family with an annealing ratio 'cosine'"),
        (("--level", 2), "level must lie between 0 and 1, got 2.0: use e.g. 0.9."),
    ],
)
def test_what_is_refused(lehr, fit_file, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    assert lehr("report", fit_file, *options).refused().startswith(f"error: {message}")
    assert not list(tmp_path.iterdir())


def test_options_that_do_not_go_together(lehr, store, fit_file, tmp_path):
    out = ("--out", tmp_path / "r.html")
    assert lehr("report", fit_file, "--train", "x", *out).refused() == (
        f"error: --train goes with a store, but {fit_file} is no folder: leave --train out.\n"
    )
    assert lehr("report", store, "--store", store, *out).refused() == (
        f"error: --store goes with a FIT.json, but {store} is a store itself: leave --store out.\n"
    )


@pytest.mark.parametrize(("kind", "start"), [("pdf", b"%PDF"), ("svg", b"<svg"), ("json", b"{")])
def test_figures_are_written_as_files_with_their_numbers(lehr, store, fit_file, tmp_path, kind, start):
    figures = tmp_path / "figures"
    outcome = lehr(
        "report", fit_file, "--store", store, *ASKED, "--out", tmp_path / "r.json", "--json", "--figures", figures,
        "--figure-format", kind, "--theme", "dark", "--columns", "one",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    charts = sum(len(part["figures"]) for part in outcome.json["parts"])
    assert charts and len(list(figures.glob(f"*.{kind}"))) == len(list(figures.glob("*.csv"))) == charts
    assert all(path.read_bytes().startswith(start) for path in figures.glob(f"*.{kind}"))
    rows = (figures / "ratio-ratio_valley.csv").read_text().splitlines()
    assert rows[0] == "panel,series,kind,role,x,y,low,high" and len(rows) > 20


@pytest.mark.parametrize(("kind", "shown"), [("svg", True), ("png", True), ("pdf", False)])
def test_markdown_shows_the_figures_that_it_can(lehr, store, fit_file, tmp_path, kind, shown):
    out = tmp_path / "here" / "r.md"
    out.parent.mkdir()
    options = ("--out", out, "--figures", tmp_path / "the figures", "--figure-format", kind)
    assert lehr("report", fit_file, "--store", store, *ASKED, *options).code == 0
    links = re.findall(r"^!\[[^]]+\]\((.+)\)$", out.read_text(), re.MULTILINE)
    assert bool(links) is shown and out.read_text().count("*Figure: ") >= len(links)
    assert all(link.startswith("../the%20figures/") for link in links)
    named = {(out.parent / unquote(link)).resolve() for link in links}
    assert named == set((tmp_path / "the figures").glob(f"*.{kind}") if shown else ())


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--figure-format", "gif", "unknown format of figures 'gif': Known: json, pdf, png, svg."),
        ("--theme", "sepia", "unknown theme 'sepia': Known: dark, light."),
        ("--columns", "three", "unknown width of figures in columns 'three': Known: one, two."),
    ],
)
def test_figures_that_cannot_be_drawn_are_refused_before_the_fit(lehr, store, tmp_path, option, value, said):
    outcome = lehr("report", store, "--out", tmp_path / "r.html", "--figures", tmp_path / "f", option, value)
    assert outcome.code == 2 and said in outcome.err and not (tmp_path / "f").exists()
