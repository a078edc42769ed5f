"""The figure of a coordinate check: dots are what was measured, lines have the slopes, titles name what is off."""

import re

import numpy as np
import pytest
from tests.report.readings import SIZES, made

from lehr.errors import InputError
from lehr.report.charts.coordinates import coordinate_check
from lehr.transfer.slopes import judge


def chart(slope=0.0, scales=("width",)):
    readings = [reading for scale in scales for reading in made(slope, scale)]
    return coordinate_check([judge(readings, scale) for scale in scales], readings, "completep")


def named(panel, name):
    return [one for one in panel.series if one.name == name]


def test_dots_are_measured_per_the_smallest_and_lines_have_the_slope():
    panel = chart(0.5).panels[0]
    line, dots = named(panel, "attention")
    assert (line.kind, dots.kind, dots.role) == ("line", "dots", "measured")
    np.testing.assert_allclose(dots.y, [1, 2**0.5, 2])
    np.testing.assert_allclose(line.y, [1, 2**0.5, 2])
    assert (panel.x.log, panel.y.log, panel.x.label, panel.x.ticks) == (True, True, "width", SIZES)
    (cone,) = named(panel, "slopes that pass")
    np.testing.assert_allclose(cone.high, [1, 2**0.1, 4**0.1])


def test_titles_name_what_is_off_and_the_steepest_first():
    assert [panel.title for panel in chart(0.5).panels] == [
        "size of activations; off: query +0.50", "change since initialisation; off: query +0.50",
        "effect of updates; off: query +0.50", "width: change against updates",
    ]  # fmt: skip
    assert not any("off" in panel.title for panel in chart().panels)
    readings = made(0.5, "width", off=("query", "logits", "<ffn> $x$", "embedding"))
    (panel, *_) = coordinate_check([judge(readings, "width")], readings).panels
    assert panel.title.endswith("; off: query +0.50, logits +0.50, 2 more")


def test_every_scale_has_its_panels_and_the_text_tells_the_verdicts():
    found = chart(0.5, ("width", "depth"))
    assert [panel.x.label for panel in found.panels] == [*["width"] * 3, "updates", *["depth"] * 3, "updates"]
    assert (
        "It does not hold over width: 3 of " in found.alt
        and "It does not hold over depth: 3 of " in found.alt
    )
    with pytest.raises(InputError, match="there is no scale to draw: give at least one verdict"):
        coordinate_check([], [])


def test_changes_grow_with_updates_by_size():
    panel = chart().panels[-1]
    assert [(one.name, one.colour < 0) for one in panel.series] == [
        ("", True), ("", True), ("residual stream, smallest", False), ("residual stream, largest", False),
        ("logits, smallest", False), ("logits, largest", False),
    ]  # fmt: skip
    np.testing.assert_allclose(panel.series[2].y, [4, 6, 10])
    assert panel.x.ticks == (1, 2, 4)


@pytest.mark.parametrize("slope", [0.0, 0.5])
def test_names_are_text(slope):
    from lehr.report.draw_matplotlib import draw, to_svg

    readings = made(slope, "width", off=("<ffn> $x$",))
    text = to_svg(draw(coordinate_check([judge(readings, "width")], readings, "<script>")))
    assert not re.search(r"<(script|image|ffn)\b", text)
