"""A small study of the bundled runs, and a reader of pages that checks their tags."""

from dataclasses import replace
from html.parser import HTMLParser

import pytest

from lehr.cli.fit import score
from lehr.examples import load_examples
from lehr.fit.compare import compare
from lehr.fit.files import from_comparison
from lehr.fit.uncertainty import bootstrap
from lehr.laws import get_law
from lehr.report.gather import gather
from lehr.report.reproduce import Source
from lehr.report.study import Question
from lehr.runs.run import RunSet

TRAIN = ("S-7.5e-4-constant-2000", "S-7.5e-4-wsd-r0.2-2000", "S-1.5e-3-constant-2000", "S-1.5e-3-wsd-r0.2-2000",
         "S-1.5e-3-wsd-r0.4-1000")  # fmt: skip
TEST = (
    "S-1.5e-3-wsd-r0.1-2000",
    "S-1.5e-3-wsd-r0.4-2000",
    "S-1.5e-3-wsd-r0.6-2000",
    "S-1.5e-3-cosine10-2000",
)
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


@pytest.fixture(scope="session")
def bundled():
    """Runs of the examples, and fits of two laws to five of them."""
    runs = RunSet(load_examples().only((*TRAIN, *TEST)))
    train = tuple(runs.only(TRAIN))
    fits = from_comparison(compare([get_law("effective_time"), get_law("one_power")], train, workers=1))
    drawn = bootstrap(fits.get("effective_time"), train, draws=6, seed=0)
    fits = replace(fits, chosen="effective_time", results={**fits.results, "effective_time": drawn})
    return runs, replace(fits, test_errors=score(fits, tuple(runs.only(TEST))))


@pytest.fixture(scope="session")
def report(bundled):
    runs, fits = bundled
    question = Question(steps=3000, peak=1.5e-3)
    return gather(
        fits, question, runs, date="2026-01-02", source=Source("my fit.json", "my store", ("--out", "r.html"))
    )
