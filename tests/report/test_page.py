"""The page: self-contained, without scripts, accessible, every name in it escaped."""

import base64
import csv
import io
import json
import re
from dataclasses import replace

import jinja2
import numpy as np
import pytest
from tests.report.conftest import TRAIN, Reader

from lehr.cli.schedules import read_schedule
from lehr.fit.files import load_fits
from lehr.report.chart import Axis, Chart, Panel, Series
from lehr.report.page import to_html
from lehr.report.report import Attachment, Column, Command, Part, Report, Table

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)> & \"'"


def chart(name="line"):
    x = np.arange(4.0)
    return Chart(
        "curves", name, name, (Panel(Axis(name), Axis(name), (Series(name, "line", "predicted", 0, x, x),)),)
    )


def small(**changes):
    table = Table(
        "t", "caption", (Column("name", "name"), Column("value", "value", ".2f")), (("a", 1.0), ("b", None))
    )
    return Report(**{
        "title": "Title", "date": "2026-01-02", "answer": "The answer.", "question": {"peak_lr": 1e-3},
        "assumed": ("guessed",), "warnings": ("careful",),
        "parts": (Part("p", "First", ("words",), (chart(),), (table,), ("lacking",)), Part("q", "Second")),
        "commands": (Command("repeat", "lehr fit store"),), "facts": {"law": "tissue"},
        "attachments": (Attachment("a.csv", "numbers", "text/csv", "x\n1\n"),), **changes,
    })  # fmt: skip


def test_the_page_holds_what_it_was_given():
    found = Reader(to_html(small()))
    text = "".join(found.text)
    for word in ("Title", "2026-01-02", "The answer.", "peak LR", "0.001", "guessed", "careful", "First", "words",
                 "caption", "1.00", "lacking", "Second", "repeat", "lehr fit store", "tissue", "a.csv", "numbers",
                 ):  # fmt: skip
        assert word in text
    assert found.tags.count("h1") == 1 and found.tags.count("h2") == 6 and found.tags.count("figure") == 1


def test_what_is_not_given_leaves_nothing_behind():
    found = Reader(to_html(Report("T", "", "A")))
    assert found.tags.count("h2") == 2, "the answer, and how it was made"
    assert "figure" not in found.tags and "ul" not in found.tags and found.tags.count("table") == 1


def test_the_page_of_a_study_is_accessible(report):
    text = to_html(report)
    found = Reader(text)
    levels = [int(tag[1]) for tag in found.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b <= a + 1 for a, b in zip(levels, levels[1:], strict=False)), "no level is skipped"
    assert found.tags.count("caption") == found.tags.count("table")
    assert len(re.findall(r"<th(?! scope)\b", text)) == 0, "every heading of a table says of what"
    assert found.tags.count("figcaption") == found.tags.count("figure") >= 4
    names = [value for name, value in found.attributes if name == "id"]
    assert len(set(names)) == len(names)
    named = {value for name, value in found.attributes if name == "aria-labelledby"}
    assert named and named <= set(names)
    assert ("href", "#answer") in found.attributes and '<html lang="en">' in text
    assert "@media print" in text and "prefers-color-scheme: dark" in text


def test_the_page_loads_and_runs_nothing(report):
    text = to_html(report)
    found = Reader(text)
    assert not {"script", "link", "iframe", "object", "embed", "img", "form", "base"} & set(found.tags)
    loads = [
        value for name, value in found.attributes if name in ("src", "href", "action", "data", "xlink:href")
    ]
    assert loads and all(
        value.startswith(("#", "data:text/csv;", "data:application/json;")) for value in loads
    )
    assert not [name for name, _ in found.attributes if name.startswith("on") or name == "style"]
    assert not re.search(r"@import|url\(|https?:", text)
    policy = next(value for name, value in found.attributes if name == "content" and "default-src" in value)
    assert policy.startswith("default-src 'none';") and "script" not in policy


def test_names_are_escaped_wherever_they_stand():
    table = Table(EVIL, EVIL, (Column(EVIL, EVIL),), ((EVIL,),))
    part = Part(EVIL, EVIL, (EVIL,), (chart(EVIL),), (table,), (EVIL,))
    text = to_html(small(
        title=EVIL, answer=EVIL, question={EVIL: EVIL}, assumed=(EVIL,), warnings=(EVIL,), parts=(part,),
        commands=(Command(EVIL, EVIL),), facts={EVIL: EVIL}, attachments=(Attachment(EVIL, EVIL, "text/csv", EVIL),),
    ))  # fmt: skip
    found = Reader(text)
    assert not {"script", "img"} & set(found.tags)
    assert not any(name.startswith("on") for name, _ in found.attributes)
    assert ("download", EVIL) in found.attributes, "an attribute holds the text and nothing more"
    assert "".join(found.text).count("<script>alert('x')</script>") >= 12
    assert "<script" not in text


def attached(text):
    """Files of a page, by name."""
    links = re.findall(r'download="([^"]*)" href="data:[^;]*;charset=utf-8;base64,([^"]*)"', text)
    return {name: base64.b64decode(data).decode() for name, data in links}


def test_what_is_attached_can_be_used(report, bundled, tmp_path):
    files = attached(to_html(report))
    assert {"schedule.json", "schedule.csv", "runs.csv", "fit.json", "ratio_valley.csv", "curves.csv"} <= set(
        files
    )
    for name in files:
        (tmp_path / name).write_text(files[name])
    for name in ("schedule.json", "schedule.csv"):
        schedule = read_schedule(str(tmp_path / name))
        assert schedule.steps == 3000 and schedule.peak == 1.5e-3
    assert load_fits(tmp_path / "fit.json").chosen == "effective_time"
    rows = list(csv.DictReader(io.StringIO(files["runs.csv"])))
    first = bundled[0][TRAIN[0]]
    mine = [(float(row["step"]), float(row["loss"])) for row in rows if row["run"] == TRAIN[0]]
    assert mine == list(zip(first.step.tolist(), first.loss.tolist(), strict=True))
    assert json.loads(files["fit.json"])["laws"]["one_power"]


def contrast(a, b):
    """Contrast ratio of two colours, as WCAG 2 defines it."""

    def light(colour):
        parts = np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])
        return np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [
            0.2126,
            0.7152,
            0.0722,
        ]

    high, low = sorted((light(a), light(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("place", [0, 1], ids=["light", "dark"])
def test_words_stand_out_from_the_page(place):
    text = to_html(small())
    names = ("paper", "soft", "ink", "link", "warn")
    found = {name: re.findall(rf"--{name}:\s*(#[0-9a-f]{{6}})", text)[place] for name in names}
    for name in ("ink", "link", "warn"):
        assert contrast(found[name], found["paper"]) >= 4.5
    assert contrast(found["ink"], found["soft"]) >= 4.5


def test_the_page_is_the_same_every_time(report):
    text = to_html(report)
    assert text == to_html(report)
    assert text.startswith("<!doctype html>") and '<meta charset="utf-8">' in text


def test_a_mistake_in_the_template_does_not_pass_silently():
    with pytest.raises(jinja2.UndefinedError):
        to_html(small(parts=({"title": "no text"},)))


def test_facts_keep_their_order():
    text = to_html(small(facts={"zulu": 1, "alpha": 2}))
    assert text.index(">zulu<") < text.index(">alpha<")


def test_numbers_that_are_not_finite_are_dashes():
    table = Table(
        "t", "c", (Column("a", "a"), Column("b", "b", ".1%")), (("x", float("nan")), ("y", float("inf")))
    )
    text = to_html(small(parts=(replace(small().parts[1], tables=(table,)),)))
    assert text.count("<td>-</td>") == 2 and "nan" not in text.partition("<main>")[2]
