"""Charts as SVG: every series is there, in the page's colours, whatever its numbers and names."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from lehr.report.chart import Axis, Chart, Panel, Series
from lehr.report.draw_svg import draw, legend, style_sheet
from lehr.report.palette import DARK, LIGHT
from lehr.report.ticks import linear_ticks, log_ticks, tick_text

X = np.array([1.0, 2.0, 3.0, 4.0])


PLAIN_X, PLAIN_Y = Axis("x"), Axis("y")


def one(series, x=PLAIN_X, y=PLAIN_Y, **changes):
    (drawn,) = draw(Chart("c", "t", "a", (Panel(x, y, tuple(series), **changes),)))
    return drawn


def paths(drawn, css):
    return [each for each in ElementTree.fromstring(drawn).iter() if each.get("class") == css]


def test_every_kind_of_series_is_drawn():
    series = [
        Series("line", "line", "predicted", 0, X, X), Series("held", "steps", "reference", 1, X, X),
        Series("dots", "dots", "measured", 2, X, X, X - 1, X + 1),
        Series("band", "band", "predicted", 3, X, low=X, high=X + 1),
        Series("span", "span", "predicted", 4, X[:2]), Series("rule", "rule", "fitted", 5, X[:1]),
        Series("", "line", "reference", -1, X, X),
    ]  # fmt: skip
    drawn = one(series)
    assert [len(paths(drawn, css)) for css in ("c0 l", "c1 l", "c2 m", "c2 e", "c3 b", "c4 b", "c5 l", "cq l")] == [
        1, 1, 4, 1, 1, 1, 1, 1]  # fmt: skip
    assert [name for name, _ in legend(Chart("c", "", "", (Panel(Axis("x"), Axis("y"), tuple(series)),)))] == [
        "line", "held", "dots", "band", "span", "rule"]  # fmt: skip


def test_dots_lie_where_their_numbers_are():
    drawn = one(
        [Series("a", "dots", "measured", 0, X, X**2)],
        Axis("x", limits=(0.0, 4.0)),
        Axis("y", limits=(0.0, 16.0)),
    )
    frame = re.search(r'<path class="a" d="M([\d.]+) ([\d.]+)V([\d.]+)H([\d.]+)"', drawn)
    left, top, foot, right = map(float, frame.groups())
    for x, each in zip(X, paths(drawn, "c0 m"), strict=True):
        across, down = map(
            float, re.match(r"translate\(([-\d.]+) ([-\d.]+)\)", each.get("transform")).groups()
        )
        assert across == pytest.approx(left + x / 4 * (right - left), abs=0.1)
        assert down == pytest.approx(foot - x**2 / 16 * (foot - top), abs=0.1)
        assert each[0].text == f"a: x {x:.6g}, y {x * x:.5g}"


def test_panels_that_share_an_axis_have_the_same():
    panels = (Panel(Axis("x"), Axis("y"), (Series("a", "line", "fitted", 0, X, X),)),
              Panel(Axis("x"), Axis("z"), (Series("a", "line", "fitted", 0, 10 * X, X),)))  # fmt: skip
    grids = [
        re.findall(r'<path class="g" d="M([\d.]+) 32', each)
        for each in draw(Chart("c", "", "", panels, share_x=True))
    ]
    assert grids[0] == grids[1]


@pytest.mark.parametrize("log", [False, True])
def test_numbers_that_cannot_be_drawn_are_left_out(log):
    y = np.array([np.nan, np.inf, -1e308, 2.0])
    for series in (
        Series("a", "line", "fitted", 0, X, y), Series("a", "dots", "measured", 0, X, y, y, y),
        Series("a", "band", "fitted", 0, X, low=y, high=y), Series("a", "rule", "fitted", 0, y),
        Series("a", "span", "fitted", 0, y[:2]),
    ):  # fmt: skip
        drawn = one([series], Axis("x", log=log), Axis("y", log=log))
        ElementTree.fromstring(drawn)
        assert "nan" not in drawn and "inf" not in drawn


def test_a_long_line_is_thinned_and_keeps_its_spikes():
    x = np.arange(1e5)
    y = np.ones(100_000)
    y[54_321] = 9.0
    drawn = one([Series("a", "line", "fitted", 0, x, y)])
    assert len(drawn) < 20_000
    top = min(float(value) for value in re.findall(r"[ML][\d.]+ ([\d.]+)", paths(drawn, "c0 l")[0].get("d")))
    assert top < 45, "the spike reaches the top"


def test_names_are_text():
    evil = "<script>alert(1)</script>&\u202e\x1b[31m\"'"
    drawn = one(
        [Series(evil, "dots", "measured", 0, X, X)], Axis(evil), Axis(evil, names=(evil, evil)), title=evil
    )
    ElementTree.fromstring(drawn)
    assert "<script" not in drawn and "\u202e" not in drawn and "\x1b" not in drawn


def test_the_style_sheet_has_both_themes():
    css = style_sheet()
    light, dark = css.split("@media", 1)
    assert all(colour in light for colour in LIGHT.colours) and all(colour in dark for colour in DARK.colours)


def test_ticks():
    assert linear_ticks(3.02, 3.11) == [3.02, 3.04, 3.06, 3.08, 3.1]
    assert log_ticks(1e-4, 1e-1) == [1e-4, 1e-3, 1e-2, 1e-1]
    assert linear_ticks(1.0, 1.0) == [1.0] and linear_ticks(0.0, float("inf")) == [0.0]
    assert tick_text(2e6, [1e6, 2e6]) == "2M" and tick_text(2e-5, [1e-5, 2e-5]) == "2e-05"
    assert tick_text(5e-4, log_ticks(1e-4, 2e-3)) == "0.0005"
