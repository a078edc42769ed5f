"""Charts hold the numbers of the results; both drawers show every series; names stay text; bytes repeat."""

import csv
import io
import itertools
import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import plotly.graph_objects as go
import pytest
from tests.report.readings import made as readings

from lehr.anneal.ratio import recommend_ratio
from lehr.anneal.ratio_law import fit_ratio_law
from lehr.anneal.valley import measure_valleys
from lehr.errors import InputError
from lehr.examples import load_examples
from lehr.fit.fit import fit
from lehr.laws import get_law
from lehr.peaklr.valley import fit_valley
from lehr.predict import predict
from lehr.report.chart import Axis, Chart, Panel, Series, chart_rows
from lehr.report.charts.coordinates import coordinate_check
from lehr.report.charts.curves import curves, schedules
from lehr.report.charts.laws import law_comparison
from lehr.report.charts.lrs import lr_valleys
from lehr.report.charts.ratios import ratio_band, ratio_law, ratio_valley
from lehr.report.charts.sweeps import sweep_progress
from lehr.report.draw_matplotlib import draw as draw_matplotlib
from lehr.report.draw_matplotlib import to_pdf, to_png, to_svg
from lehr.report.draw_plotly import draw as draw_plotly
from lehr.report.draw_svg import draw as draw_svg
from lehr.report.saving import save_chart, to_csv
from lehr.runs.run import Run
from lehr.schedule.families import wsd
from lehr.transfer.slopes import judge

TRAIN = ("S-1.5e-3-constant-2000", "S-1.5e-3-wsd-r0.2-2000", "S-1.5e-3-wsd-r0.4-1000")
SHOWN = "S-1.5e-3-cosine10-2000"
HOSTILE = ("<script>alert(1)</script>", "<b>x</b> & &lt;", r"$\frac{1$", "a\u202ecba\x1b[31m", "%{x} {y}", "_hidden",
           "x" * 10_000)  # fmt: skip
KINDS = ("curves", "schedules", "ratio_valley", "ratio_law", "law_comparison", "lr_valleys", "sweep_progress",
         "coordinate_check")  # fmt: skip
READINGS = readings(0.5, off=("query", "logits", "embedding"))


@pytest.fixture(scope="module")
def made():
    """Results, and the chart of each kind."""
    runs = load_examples()
    result = fit(get_law("effective_time"), tuple(runs.only(TRAIN)))
    found = predict(result, runs[SHOWN].schedule)
    best = recommend_ratio(result, steps=2000, peak=1.5e-3)
    measured = measure_valleys(_groups())
    law = fit_ratio_law(measured)
    lr = np.geomspace(5e-4, 8e-3, 7)
    valley = fit_valley(lr, 3 + 0.05 * np.log(lr / 2e-3) ** 2)
    band = ratio_band(result, steps=2000, peak=1.5e-3, warmup=100)
    charts = (
        curves([(runs[SHOWN], found)], "t"), schedules({SHOWN: runs[SHOWN].schedule}),
        ratio_valley(best, band, [(0.1, 3.3)]),
        ratio_law(law, measured), law_comparison({"a": 0.02, "b": 0.01}, "b", {"a": 0.03}), lr_valleys({"w": valley}),
        sweep_progress({"done": 3, "waiting": 1, "diverged": 1}, [(0.2, 3.0), (0.4, 3.2)]),
        coordinate_check([judge(READINGS, "width")], READINGS),
    )  # fmt: skip
    results = {"run": runs[SHOWN], "found": found, "best": best, "band": band, "law": law, "valleys": measured,
               "valley": valley}  # fmt: skip
    return results, dict(zip(KINDS, charts, strict=True))


def _groups():
    """Runs whose final losses have their lowest at a ratio that rises with peak LR and steps."""
    for peak, steps in ((5e-4, 1000), (1e-3, 1000), (2e-3, 4000), (1e-3, 4000), (2e-3, 1000)):
        centre = 0.4 + 0.05 * np.log(peak / 1e-3) + 0.03 * np.log(steps / 1000)
        for ratio in (0.1, 0.2, 0.4, 0.6, 0.8):
            loss = 3 + (np.sqrt(ratio) - np.sqrt(centre)) ** 2
            plan = wsd(steps=steps, peak=peak, warmup=10, decay=int(ratio * steps))
            yield Run(f"{peak}-{steps}-{ratio}", plan, np.array([steps]), np.array([loss]))


def only(chart, name=None, kind=None, panel=0):
    return [s for s in chart.panels[panel].series if name in (None, s.name) and kind in (None, s.kind)]


def test_curves_hold_the_losses_the_band_and_the_residuals(made):
    results, charts = made
    run, found, chart = results["run"], results["found"], charts["curves"]
    (dots,), (line,), (band,) = (only(chart, run.name, kind) for kind in ("dots", "line", "band"))
    np.testing.assert_array_equal(dots.y, run.loss)
    np.testing.assert_array_equal(line.y, found.loss)
    np.testing.assert_array_equal([band.low, band.high], [found.low, found.high])
    (off,) = only(chart, run.name, "dots", panel=1)
    expected = 100 * (run.final_loss / found.loss[-1] - 1)
    assert off.x[-1] == run.step[-1] and off.y[-1] == pytest.approx(expected)
    assert f"ends at {run.final_loss:.4f}, {expected:+.2f} % off" in chart.alt


def test_a_schedule_keeps_its_corners():
    plan = wsd(steps=100_000, peak=1e-3, warmup=777, decay=12_345)
    (line,) = only(schedules({"plan": plan}))
    assert {776, 777, 100_000 - 12_345} <= set(line.x.astype(int))
    np.testing.assert_array_equal(line.y, plan.lr(line.x.astype(int)))


def test_the_valley_of_ratios_holds_the_recommendation(made):
    results, charts = made
    best, chart = results["best"], charts["ratio_valley"]
    (rule,), (span,), (line,) = (only(chart, kind=kind) for kind in ("rule", "span", "line"))
    assert rule.x.tolist() == [best.ratio] and span.x.tolist() == [best.ratio_low, best.ratio_high]
    np.testing.assert_array_equal(line.y, results["band"].loss)
    assert f"{best.final_loss:.4f} nats, at {best.ratio:.2f}" in chart.alt


def test_the_ratio_law_is_drawn_over_lr_and_length_with_what_was_measured(made):
    results, charts = made
    law, valleys = results["law"], results["valleys"]
    for panel, along in ((0, "peak"), (1, "steps")):
        dots = only(charts["ratio_law"], kind="dots", panel=panel)
        drawn = sorted((x, y) for s in dots for x, y in zip(s.x, s.y, strict=True))
        assert drawn == sorted((getattr(v, along), v.ratio) for v in valleys)
    line = only(charts["ratio_law"], "1000 updates", "line")[0]
    assert line.y[3] == law.ratio(line.x[3], 1000)[0]


def test_laws_valleys_and_sweeps_hold_their_numbers(made):
    results, charts = made
    dots = only(charts["law_comparison"], kind="dots")
    assert dots[0].x.tolist() == [2.0, 1.0] and dots[1].x.tolist() == [3.0] and dots[1].y.tolist() == [0.0]
    assert charts["law_comparison"].panels[0].y.names == ("a", "b (chosen)")
    valley = results["valley"]
    (band,), (dots,) = (only(charts["lr_valleys"], "w", kind) for kind in ("band", "dots"))
    assert band.x.tolist() == [valley.low, valley.high]
    assert list(zip(dots.x, dots.y, strict=True)) == list(valley.points)
    assert "5 runs: 3 done, 1 waiting, 1 diverged" in charts["sweep_progress"].alt
    assert only(charts["sweep_progress"], "lowest so far", panel=1)[0].y.tolist() == [3.0, 3.0]


@pytest.mark.parametrize("kind", KINDS)
def test_plotly_accepts_the_figure_and_has_every_series_in_both_themes(made, kind):
    chart = made[1][kind]
    series = [s for panel in chart.panels for s in panel.series]
    for theme in ("light", "dark"):
        found = json.loads(json.dumps(draw_plotly(chart, theme), allow_nan=False))
        go.Figure(found)
        assert [t["meta"]["kind"] for t in found["data"]] == [s.kind for s in series]
        for trace, one in zip(found["data"], series, strict=True):
            if one.kind in ("line", "dots", "steps"):
                np.testing.assert_array_equal(trace["y"], one.y)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", ["one", "two"])
def test_matplotlib_has_every_series_and_repeats_its_bytes(made, kind, width):
    chart = made[1][kind]
    figure = draw_matplotlib(chart, "dark", width)
    drawn = [np.asarray(line.get_ydata(), float) for axes in figure.axes for line in axes.get_lines()]
    for one in (s for p in chart.panels for s in p.series if s.kind in ("line", "steps", "dots")):
        assert any(len(y) == len(one.y) and np.array_equal(y, one.y) for y in drawn), one.name
    again = draw_matplotlib(chart, "dark", width)
    assert (
        to_svg(figure) == to_svg(again)
        and to_pdf(figure) == to_pdf(again)
        and to_png(figure) == to_png(again)
    )
    ElementTree.fromstring(to_svg(figure))


@pytest.mark.parametrize("kind", KINDS)
def test_the_data_is_every_number_drawn(made, kind):
    chart = made[1][kind]
    rows = list(csv.DictReader(io.StringIO(to_csv(chart))))
    assert len(rows) == len(chart_rows(chart)) == sum(len(s.x) for p in chart.panels for s in p.series)
    series = chart.panels[0].series[-1]
    assert [float(r["x"]) for r in rows if r["panel"].startswith("1 ")][-len(series.x) :] == series.x.tolist()


@pytest.mark.parametrize("columns", [1, 2, 3])
@pytest.mark.parametrize("decades", [0.8, 1.5, 2.2, 3.0])
def test_labels_of_a_log_axis_stand_apart_however_many_panels_share_the_width(columns, decades):
    axis = Axis("LR", log=True, limits=(7e-4, 7e-4 * 10**decades))
    line = Series("a", "line", "fitted", 0, np.array(axis.limits), np.array([1.0, 2]))
    figure = draw_matplotlib(
        Chart("k", "", "", (Panel(axis, Axis("y"), (line,)),) * columns, columns=columns)
    )
    figure.canvas.draw()
    for axes in figure.axes:
        low, high = axes.get_xlim()
        shown = [
            label.get_window_extent()
            for label in axes.get_xticklabels()
            if low <= label.get_position()[0] <= high
        ]
        assert shown
        assert all(one.x1 < other.x0 for one, other in itertools.pairwise(shown))


def test_ticks_that_an_axis_asks_for_are_its_ticks():
    axis = Axis("width", log=True, limits=(60, 600), ticks=(64, 512))
    line = Series("a", "line", "fitted", 0, np.array([64.0, 512]), np.array([1.0, 2]))
    chart = Chart("k", "", "", (Panel(axis, Axis("y"), (line,)),))
    (axes,) = draw_matplotlib(chart).axes
    drawn = [each.get_text() for each in axes.get_xticklabels()]
    plotly = draw_plotly(chart)["layout"]["xaxis"]
    assert list(axes.get_xticks()) == [64, 512] == plotly["tickvals"]
    assert drawn == ["64", "512"] == plotly["ticktext"]
    assert re.findall(r">(64|512|100|200|500)<", "".join(draw_svg(chart))) == ["64", "512"]


def test_plotly_has_a_name_once_by_its_line_and_room_for_headings_and_legend(made):
    found = draw_plotly(made[1]["coordinate_check"])
    shown = [(t["name"], t["meta"]["kind"]) for t in found["data"] if t["showlegend"]]
    names = [name for name, _ in shown]
    assert len(set(names)) == len(names) and ("attention", "line") in shown and "" not in names
    layout = found["layout"]
    tops = [layout[f"yaxis{n or ''}"]["domain"] for n in ("", 2, 3, 4)]
    height = layout["height"] - layout["margin"]["t"] - layout["margin"]["b"]
    assert (tops[0][0] - tops[2][1]) * height > 62 and tops[0] == tops[1] and tops[3][0] == 0
    assert any("<br>" in each["text"] for each in layout["annotations"]), "long headings have lines"


def odd(name):
    line = Series(name, "line", "predicted", 0, np.arange(2.0), np.arange(2.0))
    return Chart("odd", name, name, (Panel(Axis(name, name), Axis("y"), (line,), name),))


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_names_stay_text(name):
    text = json.dumps(draw_plotly(odd(name)))
    assert "<script" not in text and "<b>" not in text and "$" not in text and "\\u202e" not in text
    assert "\\u001b" not in text and len(text) < 6000
    extra = draw_plotly(odd(name))["data"][0]["hovertemplate"].partition("<extra>")[2]
    assert "%" not in extra
    svg = to_svg(draw_matplotlib(odd(name)))
    ElementTree.fromstring(svg)
    assert "<script" not in svg and "\u202e" not in svg and len(svg) < 60_000


def test_a_formula_in_a_name_is_quoted_in_the_csv():
    assert "'=1+1" in to_csv(odd("=1+1"))


@pytest.mark.parametrize(
    ("ending", "start"),
    [("png", b"\x89PNG"), ("svg", b"<svg"), ("pdf", b"%PDF"), ("json", b"{"), ("csv", b"panel,")],
)
def test_a_chart_is_saved_by_its_ending(made, tmp_path, ending, start):
    path = tmp_path / f"figure.{ending}"
    save_chart(made[1]["curves"], path)
    assert path.read_bytes().startswith(start)


def test_refusals_say_what_is_wrong():
    with pytest.raises(InputError, match=r"unknown ending of a figure's file '\.bmp'"):
        save_chart(odd("x"), Path("x.bmp"))
    with pytest.raises(InputError, match="unknown theme 'sepia'"):
        draw_plotly(odd("x"), "sepia")
    with pytest.raises(InputError, match="unknown theme 'sepia'"):
        draw_matplotlib(odd("x"), "sepia")
    with pytest.raises(InputError, match="unknown width 'three'"):
        draw_matplotlib(odd("x"), width="three")
    with pytest.raises(InputError, match="there is no curve to draw: give at least one run"):
        curves([])
    with pytest.raises(InputError, match="there is no schedule to draw: give at least one"):
        schedules({})
    with pytest.raises(InputError, match="hold no held-out error to draw"):
        law_comparison({}, "a")
    with pytest.raises(InputError, match="there is no valley to draw: run at least three LRs"):
        lr_valleys({})
    with pytest.raises(InputError, match="this sweep has no runs to draw: plan at least one"):
        sweep_progress({})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "pie"}, "unknown kind of a series 'pie'"),
        ({"role": "guessed"}, "unknown role of a series 'guessed'"),
        ({"y": None}, "y of a line must be given"),
        ({"y": np.arange(3.0)}, "y of series 's' must have the shape"),
        ({"low": np.arange(2.0)}, "low and high of series 's' go together"),
        ({"kind": "span", "x": np.arange(3.0), "y": None}, "x of a span must be its two ends"),
    ],
)
def test_a_series_whose_arrays_do_not_pair_is_refused(arguments, message):
    good = {
        "name": "s",
        "kind": "line",
        "role": "fitted",
        "colour": 0,
        "x": np.arange(2.0),
        "y": np.arange(2.0),
    }
    with pytest.raises(InputError, match=message):
        Series(**{**good, **arguments})
