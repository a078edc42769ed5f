"""The page: self-contained, without scripts, every name in it escaped."""

import re
from html.parser import HTMLParser

import jinja2
import pytest

from lehr import __version__
from lehr.report.page import Section, render

EVIL = "<script>alert('x')</script><img src=x onerror=alert(1)> & \"'"
VOID = {"meta", "br", "img", "link", "hr", "input"}


class Reader(HTMLParser):
    """Collects tags and text, and checks that tags close in order."""

    def __init__(self, page):
        super().__init__()
        self.open, self.tags, self.text, self.attributes = [], [], [], []
        self.feed(page)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def page(**changes):
    sections = [
        Section("First", "words", ("name", "value"), [("a", "1"), ("b", "2")], "<svg><g/></svg>", "a figure"),
        Section("Second"),
    ]
    return render(
        **{
            "title": "Title",
            "lead": "The answer.",
            "sections": sections,
            "facts": {"command": "lehr"},
            **changes,
        }
    )


def test_the_page_holds_what_it_was_given():
    found = Reader(page())
    text = "".join(found.text)
    for word in (
        "Title",
        "The answer.",
        "First",
        "words",
        "name",
        "value",
        "a",
        "1",
        "Second",
        "command",
        __version__,
    ):
        assert word in text
    assert found.tags.count("h2") == 3 and found.tags.count("h1") == 1
    assert found.tags.count("svg") == 1 and ("aria-label", "a figure") in found.attributes
    assert found.tags.count("td") == 6, "four cells, one fact, the version"
    assert found.tags.count("p") == 2, "the lead and one text: an empty one leaves no paragraph"


def test_names_are_escaped_wherever_they_stand():
    sections = [Section(EVIL, EVIL, (EVIL,), [(EVIL,)], "<svg></svg>", EVIL)]
    text = page(title=EVIL, lead=EVIL, sections=sections, facts={EVIL: EVIL})
    found = Reader(text)
    assert "script" not in found.tags and "img" not in found.tags
    assert not any(name.startswith("on") for name, _ in found.attributes)
    assert ("aria-label", EVIL) in found.attributes, "an attribute holds the text and nothing more"
    assert "".join(found.text).count("<script>alert('x')</script>") >= 8
    assert "<script" not in text


def test_the_page_loads_nothing():
    text = page()
    found = Reader(text)
    assert not {"script", "link", "iframe", "object", "embed", "img"} & set(found.tags)
    assert not [value for name, value in found.attributes if name in ("src", "href", "action", "data")]
    assert not re.search(r"@import|url\(|https?://", text)


def test_the_page_is_the_same_every_time_and_of_its_own():
    assert page() == page()
    text = page()
    assert (
        text.startswith("<!doctype html>") and '<meta charset="utf-8">' in text and '<html lang="en">' in text
    )


def test_facts_keep_their_order():
    text = page(facts={"zulu": 1, "alpha": 2})
    assert text.index(">zulu<") < text.index(">alpha<") < text.index(">lehr<")


def test_a_section_without_its_parts_leaves_no_empty_table_or_figure():
    found = Reader(page(sections=[Section("Only a title")]))
    assert "figure" not in found.tags and found.tags.count("table") == 1


def test_a_mistake_in_the_template_does_not_pass_silently():
    with pytest.raises(jinja2.UndefinedError):
        page(sections=[{"title": "no text"}])
