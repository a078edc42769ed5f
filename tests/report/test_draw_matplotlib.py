"""Charts as matplotlib draws them: well-formed SVG that loads nothing, and names that stay text."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from lehr.predict import Prediction
from lehr.report.charts.curves import curves
from lehr.report.draw_matplotlib import draw, to_svg
from lehr.runs.run import Run
from lehr.schedule.families import wsd

SCRIPT = "<script>alert('x')</script> & \"quoted\""
STEPS = np.arange(100.0, 1001, 100)


def svg(name, title=""):
    loss = 3 - STEPS / 1000
    run = Run(name, wsd(steps=1000, peak=1e-3, decay=200), STEPS, loss)
    found = Prediction(STEPS, loss + 0.01, loss - 0.02, loss + 0.04, 0.9, ())
    return to_svg(draw(curves([(run, found)], title)))


def words(text):
    nodes = ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(node.itertext()) for node in nodes]


def test_svg_is_well_formed_and_loads_nothing():
    text = svg("a", "title")
    assert text.startswith("<svg") and "title" in words(text)
    assert not re.search(r"<(script|image|foreignObject|iframe)\b", text)
    assert all(link.startswith("#") for link in re.findall(r'(?:href|src)="([^"]*)"', text))
    assert not re.search(r"url\((?!#)", text) and "<dc:date>" not in text


def test_names_of_runs_stay_text():
    text = svg(SCRIPT, SCRIPT)
    assert "<script" not in text and words(text).count(SCRIPT) == 2, "once in the legend, once as the title"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("$\\frac{1$", "$\\frac{1$"),
        ("$x$ and \\$y", "$x$ and \\$y"),
        ("5 $", "5 $"),
        ("a_b^c", "a_b^c"),
        ("_hidden", "_hidden"),
        ("\x1b[31mred\x00", "?[31mred?"),
        ("{}%\\alpha", "{}%\\alpha"),
    ],
)
def test_names_are_neither_mathematics_nor_left_out(name, shown):
    assert shown in [word.strip() for word in words(svg(name))]
