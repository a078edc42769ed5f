"""Figures: what they show is what they were given; the same input gives the same bytes; names stay text."""

import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace

import matplotlib as mpl
import numpy as np
import pytest

from lehr.anneal.ratio import Recommendation
from lehr.predict import Prediction
from lehr.report.figures import COLOURS, STYLE, curves, law_errors, ratio_valley, to_png, to_svg
from lehr.runs.run import Run
from lehr.schedule.families import wsd

SCRIPT = "<script>alert('x')</script> & \"quoted\""
PLAN = wsd(steps=1000, peak=1e-3, decay=200)
STEPS = np.arange(100.0, 1001, 100)


def pair(name="a", lift=0.0):
    loss = 3 + lift - STEPS / 1000
    return Run(name, PLAN, STEPS, loss), Prediction(STEPS, loss + 0.01, loss - 0.02, loss + 0.04, 0.9, ())


@pytest.fixture
def found():
    return Recommendation(0.2, 0.1, 0.3, 200, 2.5, 2.4, 2.6, ((0.1, 0.01),), PLAN, ())


@pytest.fixture
def band():
    ratios = np.linspace(0.05, 0.9, 12)
    loss = 2.5 + (ratios - 0.2) ** 2
    return ratios, loss, loss - 0.1, loss + 0.1


def figures(found, band):
    return {
        "curves": curves([pair(), pair("b", 0.5)], "title"),
        "law_errors": law_errors(
            {"tissue": 0.002, "one_power": 0.01}, {"tissue": 0.003, "one_power": 0.02}, "tissue"
        ),
        "law_errors, no test": law_errors({"tissue": 0.002}, {}, "tissue"),
        "ratio_valley": ratio_valley(found, band, [(0.1, 2.51), (0.4, 2.54)], "title"),
        "ratio_valley, nothing measured": ratio_valley(found, band, [], "title"),
    }


NAMES = ("curves", "law_errors", "law_errors, no test", "ratio_valley", "ratio_valley, nothing measured")


@pytest.mark.parametrize("name", NAMES)
def test_svg_is_the_same_bytes_every_time(found, band, name):
    first, second = (to_svg(figures(found, band)[name]) for _ in range(2))
    assert first == second
    assert first == to_svg(figures(found, band)[name]), "and does not depend on how many were drawn"


@pytest.mark.parametrize("name", NAMES)
def test_svg_is_well_formed_and_loads_nothing(found, band, name):
    text = to_svg(figures(found, band)[name])
    assert text.startswith("<svg")
    ElementTree.fromstring(text)
    assert not re.search(r"<(script|image|foreignObject|iframe)\b", text)
    links = re.findall(r'(?:href|src)="([^"]*)"', text)
    assert all(link.startswith("#") for link in links)
    assert not re.search(r"url\((?!#)", text)
    assert "<dc:date>" not in text


def test_names_of_runs_stay_text():
    text = to_svg(curves([pair(SCRIPT)], SCRIPT))
    assert "<script" not in text
    words = [
        "".join(node.itertext())
        for node in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert words.count(SCRIPT) == 2, "once in the legend, once as the title"


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
    text = to_svg(curves([pair(name)], ""))
    words = [
        "".join(node.itertext())
        for node in ElementTree.fromstring(text).iter("{http://www.w3.org/2000/svg}text")
    ]
    assert shown in [word.strip() for word in words]


def test_curves_show_points_lines_and_bands():
    axes = curves([pair(), pair("b", 0.5)], "title").axes[0]
    lines = axes.get_lines()
    assert len(lines) == 4 and len(axes.collections) == 2
    assert lines[0].get_label() == "a" and lines[2].get_label() == "b"
    assert lines[0].get_color() == COLOURS[0] != lines[2].get_color()
    assert (lines[0].get_linestyle(), lines[1].get_linestyle()) == ("-", "None"), (
        "lines predicted, dots measured"
    )
    run, predicted = pair()
    np.testing.assert_array_equal(lines[0].get_ydata(), predicted.loss)
    np.testing.assert_array_equal(lines[1].get_ydata(), run.loss)
    assert axes.get_xlabel() == "updates" and axes.get_ylabel() == "loss (nats per token)"
    assert axes.get_title(loc="left") == "title"


def test_more_runs_than_colours_are_drawn():
    assert len(curves([pair(str(i)) for i in range(9)], "").axes[0].get_lines()) == 18


def test_law_errors_are_in_per_cent_best_at_the_top():
    axes = law_errors(
        {"best": 0.001, "worst": 0.1, "middle": 0.01}, {"best": 0.2, "worst": 0.3, "middle": 0.4}, "middle"
    ).axes[0]
    hidden, test = axes.get_lines()
    np.testing.assert_allclose(hidden.get_xdata(), [10, 1, 0.1])
    np.testing.assert_allclose(test.get_xdata(), [30, 40, 20])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["worst", "middle (chosen)", "best"]
    assert axes.get_xscale() == "log"
    assert len(law_errors({"best": 0.001}, {}, "best").axes[0].get_lines()) == 1


def test_valley_marks_the_ratio_and_what_was_measured(found, band):
    axes = ratio_valley(found, band, [(0.1, 2.51), (0.4, 2.54)], "t").axes[0]
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["interval", "recommended 0.20", "predicted", "measured, not fitted"]
    assert [list(line.get_xdata()) for line in axes.get_lines()][0] == [0.2, 0.2]
    np.testing.assert_allclose(axes.get_lines()[-1].get_ydata(), [2.51, 2.54])
    none = ratio_valley(replace(found, ratio=0.35), band, [], "t").axes[0]
    assert [t.get_text() for t in none.get_legend().get_texts()] == [
        "interval",
        "recommended 0.35",
        "predicted",
    ]


def test_the_users_own_style_is_left_alone(found, band):
    before = dict(mpl.rcParams)
    to_svg(ratio_valley(found, band, [], "t"))
    assert dict(mpl.rcParams) == before
    assert STYLE["svg.hashsalt"] == "lehr"


def test_colours_differ():
    assert len(set(COLOURS)) == len(COLOURS) == 7


def test_png(found, band):
    one, same = (to_png(curves([pair()], "t"), dpi=50) for _ in range(2))
    assert one.startswith(b"\x89PNG\r\n") and one == same
    assert len(to_png(curves([pair()], "t"), dpi=100)) > len(one)
