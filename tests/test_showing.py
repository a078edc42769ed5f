"""How values show themselves in notebooks: short texts, small well-formed HTML, nothing from a name taken as HTML."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

import lehr
from lehr import drawing
from lehr.runs.run import Run, RunSet
from lehr.schedule.schedule import Schedule, Segment, Table

HOSTILE = [
    "<script>alert(1)</script>", "</svg><img src=x onerror=alert(1)>", '" onload="alert(1)', "&lt;b&gt;", "nul\0byte",
    "bidi\u202egnp.", "sur\ud800rogate", "two\nlines", "\x1b[31mred", "a" * 10_000, "{{ 7 * 7 }}", "]]>", "<!--",
]  # fmt: skip
ALLOWED = {"div", "b", "table", "thead", "tbody", "tr", "th", "td", "ul", "li", "svg", "path", "text", "rect", "line",
           "polyline", "polygon"}  # fmt: skip


@pytest.fixture(scope="module")
def values():
    runs = lehr.load_examples().only(["S-3e-3-constant-2000", "S-3e-3-wsd-r0.2-2000", "S-3e-3-wsd-r0.6-2000"])
    fit = lehr.bootstrap(lehr.fit_law(lehr.get_law("effective_time"), runs), runs, draws=10)
    plan = lehr.parse_schedule("wsd(steps=4000, peak=3e-3, warmup=100, decay=1600)")
    return {
        "schedule": plan, "run": runs["S-3e-3-wsd-r0.2-2000"], "runs": runs, "fit": fit,
        "prediction": lehr.predict_curve(fit, plan), "recommendation": lehr.recommend_ratio(fit, steps=4000, peak=3e-3),
    }  # fmt: skip


KINDS = ("schedule", "run", "runs", "fit", "prediction", "recommendation")


def parsed(html: str) -> ElementTree.Element:
    """The tree of a piece of HTML, which holds known elements alone and neither script nor address."""
    tree = ElementTree.fromstring(html)
    assert {node.tag for node in tree.iter()} <= ALLOWED
    for node in tree.iter():
        for name, value in node.attrib.items():
            assert not name.startswith("on") and name not in ("href", "src"), name
            assert "url(" not in value or name == "aria-label"
    return tree


def words(tree: ElementTree.Element) -> str:
    return " ".join(tree.itertext())


@pytest.mark.parametrize("kind", KINDS)
def test_the_html_is_small_and_the_text_is_one_line(values, kind):
    value = values[kind]
    html, line = value._repr_html_(), repr(value)
    assert parsed(html).find(".//svg") is not None
    assert len(html.encode()) < 40_000
    assert "\n" not in line and len(line) < 300
    assert line.startswith(f"<{type(value).__name__}") and line.endswith(">")


def test_what_is_told_are_the_numbers_of_the_value(values):
    fit, found, ahead = values["fit"], values["recommendation"], values["prediction"]
    assert repr(values["schedule"]) == (
        "<Schedule wsd(steps=4000, peak=0.003, warmup=100, decay=1600), 4000 updates, peak LR 0.003>"
    )
    text = words(parsed(fit._repr_html_()))
    for name, value in fit.parameters.items():
        low, high = fit.intervals[name]
        assert name in text and f"{value:.5g}" in text and f"{low:.5g} to {high:.5g}" in text
    assert all(name in text and f"{one['mean']:+.3%}" in text for name, one in fit.residuals.items())
    assert f"decay the last {found.decay_steps} of 4000 updates" in repr(found)
    assert all(f"{cost:.4f}" in words(parsed(found._repr_html_())) for _, cost in found.costs)
    assert f"loss {ahead.loss[-1]:.4f} ({ahead.low[-1]:.4f} to {ahead.high[-1]:.4f}" in repr(ahead)
    assert all(sentence in words(parsed(ahead._repr_html_())) for sentence in ahead.warnings)
    assert all(run.name in words(parsed(values["runs"]._repr_html_())) for run in values["runs"])


def test_an_interval_that_is_not_known_is_not_made_up(values):
    bare = replace(values["fit"], intervals={}, draws=())
    assert "no bootstrap yet" in repr(bare)
    assert words(parsed(bare._repr_html_())).count("not known: run lehr.bootstrap") == len(bare.parameters)


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_are_text(values, name):
    run = replace(values["run"], name=name, parent=name, branch_step=5, meta={})
    fit = replace(values["fit"], residuals={name: values["fit"].residuals["S-3e-3-constant-2000"]})
    odd = replace(values["prediction"], warnings=(name,))
    plan = Schedule(values["schedule"].segments, call=(name, ((name, name),)))
    for value in (run, RunSet([run]), fit, odd, plan):
        html = value._repr_html_()
        parsed(html)
        assert html.isprintable() and html.encode()
        assert "<script" not in html and "<img" not in html and len(html) < 60_000
        assert repr(value).encode() and len(repr(value)) < 700


def test_long_sets_are_cut_and_say_so(values):
    many = RunSet(replace(values["run"], name=f"run {place}") for place in range(40))
    assert "and 10 more" in words(parsed(many._repr_html_()))
    assert "run 39" not in repr(many) and repr(many).startswith("<RunSet of 40 runs: 'run 0', ")
    assert "no runs" in words(ElementTree.fromstring(RunSet([])._repr_html_()))


def test_the_cost_of_drawing_does_not_grow_with_the_updates():
    """By the size of what is drawn: a million updates of a table are as few points as a thousand."""
    lr = np.concatenate([np.linspace(0, 1, 1000), np.ones(998_000), np.linspace(1, 0, 1000)]) * 3e-4
    lr[500_000] = 9e-4  # one spike
    for plan in (Schedule((Table(lr),)), lehr.parse_schedule("wsd(steps=1000000, peak=9e-4, decay=1000)")):
        html = plan._repr_html_()
        assert len(html) < 8000
        tree = parsed(html)
        heights = [float(pair.split(",")[1]) for pair in tree.find(".//polyline").attrib["points"].split()]
        assert min(heights) == drawing.ABOVE  # the highest LR is drawn, however short


def test_thinning_keeps_the_ends_and_the_extremes_in_order():
    y = np.random.default_rng(0).normal(size=100_000)
    x = np.arange(100_000.0)
    a, b = drawing.thin(x, y, 50)
    assert len(a) <= 102 and np.all(np.diff(a) > 0)
    assert b.min() == y.min() and b.max() == y.max() and (b[0], b[-1]) == (y[0], y[-1])
    holes = np.where(x % 3 == 0, np.nan, y)
    assert np.isfinite(drawing.thin(x, holes, 50)[1]).all()


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("page", ["#ffffff", "#111111"])
def test_the_colours_are_seen_on_light_and_dark_pages(page):
    for colour in drawing.COLOURS:
        dark, light = sorted([luminance(colour), luminance(page)])
        assert (light + 0.05) / (dark + 0.05) >= 3.0, colour


def test_one_point_and_equal_losses_can_be_drawn():
    run = Run("one", lehr.parse_schedule("constant(steps=1, peak=1e-3)"), np.array([1]), np.array([2.0]))
    parsed(run._repr_html_())
    parsed(Schedule((Segment(3, 0.0, 0.0),))._repr_html_())
