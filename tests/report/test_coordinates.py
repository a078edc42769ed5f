"""The figure of a coordinate check: dots are what was measured, labels are what is off."""

import re

import numpy as np
import pytest

from lehr.report.coordinates import coordinates
from lehr.report.draw_matplotlib import to_svg
from lehr.transfer.slopes import Reading, judge

SIZES = (64, 128, 256)


def made(slope):
    found = []
    for part in ("query", "residual stream", "logits", "<ffn> $x$"):
        for measure in ("size", "change", "update"):
            for step in (0, 1, 2, 4):
                off = slope if part == "query" else 0.0
                found += [Reading("width", n, 0, step, part, measure, 2 * n**off * (1 + step)) for n in SIZES]
    return found


def figure(slope=0.0):
    readings = made(slope)
    return coordinates([judge(readings, "width")], readings, "completep")


def test_dots_are_measured_per_the_smallest_and_lines_have_the_slope():
    axes = figure(0.5).axes[0]
    line, dots = axes.get_lines()[:2]
    np.testing.assert_allclose(dots.get_ydata(), [1, 2**0.5, 2])
    np.testing.assert_allclose(line.get_ydata(), [1, 2**0.5, 2])
    assert (axes.get_xscale(), axes.get_yscale(), axes.get_xlabel()) == ("log", "log", "width")
    assert [text.get_text() for text in axes.texts] == [" query +0.50"]


def test_what_is_level_is_not_labelled():
    shown = figure()
    assert [axes.get_title(loc="left") for axes in shown.axes] == [
        "size of activations", "change since initialisation", "effect of a matrix's updates", "change against updates",
    ]  # fmt: skip
    assert not any(axes.texts for axes in shown.axes)


def test_changes_grow_with_updates_by_size():
    axes = figure().axes[-1]
    assert len(axes.get_lines()) == 2 * len(SIZES) and axes.get_xlabel() == "updates"
    np.testing.assert_allclose(axes.get_lines()[0].get_ydata(), [4, 6, 10])


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_it_is_the_same_bytes_every_time_and_loads_nothing(slope):
    text = to_svg(figure(slope))
    assert text == to_svg(figure(slope))
    assert not re.search(r"<(script|image|ffn)\b", text)
