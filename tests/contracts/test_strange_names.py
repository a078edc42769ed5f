"""Names that would do harm, from a log to a report: what SECURITY.md promises of screens, pages and paths."""

import json
import re
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from tests.cli.conftest import call
from tests.synthetic import CASES, make_runs

from lehr.cli.common import progress
from lehr.predict import Prediction
from lehr.report.charts.curves import curves as draw_curves
from lehr.report.figures import curves, to_svg
from lehr.report.markdown import to_markdown
from lehr.report.page import to_html
from lehr.report.report import Attachment, Column, Command, Part, Report, Table
from lehr.runs.run import Run
from lehr.schedule.spec import parse, to_text

ROOT = Path(__file__).resolve().parents[2]

SRC, SAMPLES = ROOT / "src", ROOT / "tests" / "runs" / "samples"


# names

NAMES = [
    "red\x1b[31m", "link\x1b]8;;http://example.org\x1b\\text\x1b]8;;\x1b\\", "c1\x9b31m\x85next", "title\x1b]0;x\x07",
    "<script>alert('x')</script><img src=x onerror=alert(1)>", "bidi\u202egnp.\u2066x", "nul\0byte", "long" * 3000,
    "../../../escape", "/etc/passwd", "..", "sur\ud800rogate", "two\nlines\r\x08\ttab", "'; DROP TABLE runs; --",
    "[red]markup[/nothing]", "{{ 7 * 7 }}", "$\\frac$", "CON", "a" * 60 + "/b", "\u2028line\u200b",
]  # fmt: skip


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A store made of logs with those names; the folder that it is in, and what the imports printed."""
    folder = tmp_path_factory.mktemp("names") / "deep" / "er"
    folder.mkdir(parents=True)
    rng, shown = np.random.default_rng(0), []
    bases = [run for run in make_runs(CASES["tissue"], noise=1e-4, every=200) if run.name.startswith("wsd")][
        :2
    ]
    for place, base in enumerate(bases):
        path, rows = folder / f"{place}.jsonl", []
        for name in NAMES[place :: len(bases)]:
            for step, loss in zip(base.step.tolist(), base.loss.tolist(), strict=True):
                rows.append(
                    {"run": name, "step": int(step), "train": {"loss": loss * (1 + 1e-4 * rng.normal())}}
                )
        path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
        shown.append(call("import", path, "--into", folder / "store", "--schedule", to_text(base.schedule)))
        assert shown[-1].code == 0, shown[-1].err
    return folder, shown


def harmless(text, allowed="\n"):
    """Whether a terminal or page shows a text as it is: line ends, and nothing else that steers."""
    return not [c for c in text if c not in allowed and unicodedata.category(c).startswith("C")]


def test_names_do_not_steer_the_terminal(stored):
    folder, shown = stored
    listed = call("runs", folder / "store")
    for outcome in (*shown, listed):
        assert harmless(outcome.out) and harmless(outcome.err)
    assert listed.out.count("\n") == 1 + len(NAMES)
    everything = call("runs", folder / "store", "--json")
    assert sorted(run["name"] for run in everything.json["runs"]) == sorted(NAMES)
    assert everything.out.isascii() and harmless(everything.out)


def test_names_make_no_paths(stored):
    folder, _ = stored
    files = [
        path for path in (folder / "store").rglob("*") if path.is_file() and not path.name.startswith(".")
    ]
    assert len(files) == 2 * len(NAMES)
    for path in files:
        assert path.parent == folder / "store" / "runs"
        assert re.fullmatch(r"[a-z0-9][a-z0-9-]{0,120}\.(json|parquet)", path.name)
    assert {path.name for path in folder.iterdir()} <= {"0.jsonl", "1.jsonl", "store", "fit.json"}
    assert [path.name for path in folder.parent.iterdir()] == ["er"]


def test_names_in_fits_plans_and_refusals(stored):
    folder, _ = stored
    out, chosen = (
        folder / "fit.json",
        [("--train", name) for name in ("red*", "<*", "bidi*", "two*", "nul*", "sur*")],
    )
    fitted = call("fit", folder / "store", "--law", "tissue", "--draws", 0, "--out", out, *sum(chosen, ()))
    assert fitted.code == 0, fitted.err
    assert all(json.dumps(name)[1:-1] in out.read_text() for name in (NAMES[0], NAMES[5], NAMES[11]))
    planned = call("recommend", out, "--steps", 8000, "--peak-lr", "1e-3")
    assert planned.code == 0, planned.err
    refused = call("fit", folder / "store", "--train", "\x1b[31mred\u202e")
    assert refused.code == 2
    for outcome in (fitted, planned, refused):
        assert harmless(outcome.out) and harmless(outcome.err)


def named_throughout(name, run, step, loss):
    """A report in which everything has that name."""
    chart = draw_curves([(run, Prediction(step, loss, loss - 0.1, loss + 0.1, 0.9, ()))], name)
    table = Table(name, name, (Column(name, name),), ((name,),))
    return Report(
        name, name, name, {name: name}, (name,), {}, (name,), (Part(name, name, (name,), (chart,), (table,), (name,)),),
        (Command(name, name),), {name: name}, (Attachment(name, name, "text/csv", name),),
    )  # fmt: skip


@pytest.mark.parametrize("ending", ["html", "md", "json"])
def test_names_from_a_log_to_a_report(stored, tmp_path, ending):
    folder, _ = stored
    chosen = [("--train", name) for name in ("red*", "<*", "bidi*", "two*", "'; DROP*", "sur*")]
    tests = [("--test", name) for name in ("nul*", "long*")]
    out = tmp_path / f"report.{ending}"
    made = call("report", folder / "store", "--law", "tissue", "--draws", 3, "--out", out, "--diagnose",
                *sum((*chosen, *tests), ()))  # fmt: skip
    assert made.code == 0, made.err
    assert harmless(made.out) and harmless(made.err)
    assert [path.name for path in tmp_path.iterdir()] == [out.name]
    text = out.read_text("utf-8")
    assert harmless(text, "\n\t")
    if ending == "json":
        runs = json.loads(text)["parts"][2]["tables"]["runs"]
        assert NAMES[0] in [row["run"] for row in runs]
    else:
        outside = re.sub(r"^(`{3,})sh\n.*\n\1$", "", text, flags=re.M)  # within a fence all is text
        assert not re.search(r"<(script|img)\b", outside)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:12]))
def test_names_in_pages_and_figures(name):
    step = np.arange(100.0, 1001, 100)
    loss = 3 - step / 1000
    run = Run(name, parse("wsd(steps=1000, peak=1e-3, decay=200)"), step, loss)
    svg = to_svg(curves([(run, Prediction(step, loss, loss - 0.1, loss + 0.1, 0.9, ()))], name))
    page = to_html(named_throughout(name, run, step, loss)) + svg
    page.encode("utf-8", "strict")
    assert not re.search(r"<(script|img|iframe|object|embed|foreignObject)\b", page)
    assert harmless(page, "\n\t")
    assert harmless(to_markdown(named_throughout(name, run, step, loss)))


def test_names_in_a_bar_of_progress(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with progress(len(NAMES), "fitting") as step:
        for name in NAMES:
            step(name)
    assert "\x1b]8" not in capsys.readouterr().err
