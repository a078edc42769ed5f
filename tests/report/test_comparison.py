"""The page of the comparison: what it says is what was found, and names are escaped."""

from dataclasses import replace

from tests.peaklr.test_comparison import study

from lehr.peaklr.comparison import compare_ways
from lehr.report.comparison import conclusion, page, valleys


def test_the_conclusion_says_which_to_trust_and_what_either_costs():
    found = compare_ways(study())
    text = conclusion(found)
    (best,) = (each for each in found.standings() if (each.rule, each.way) == ("completep", "keep"))
    assert text.startswith("Here trust transfer: at the largest level, over 1 axis, ")
    assert f"{best.above_best:.4f} nats above" in text and f"without a rule {best.fitting:.4f}" in text
    assert "toy over width: completep" in text


def test_the_conclusion_follows_the_figures():
    # under the rule the best LR falls with no line to it, without it on a line and to the same loss
    bad = [row for row in study(sp_loss=0.0) if row.rule == "sp"]
    bent = [row for row in study(rule=-0.6) if row.rule == "completep"]
    assert conclusion(compare_ways([*bad, *bent])).startswith("Here trust fitting: ")
    assert conclusion(compare_ways(study(sp_loss=0.0))).startswith("Here trust neither more: ")


def test_the_conclusion_is_of_the_rule_that_costs_least_and_not_of_that_whose_axes_are_worst_to_fit():
    more = [row for row in study(sp_loss=0.3, rule=-0.2) if row.level]
    more = [replace(row, axis="batch", rule="mup" if row.rule == "completep" else "sp") for row in more]
    found = compare_ways([*study(), *more])
    keeps = [each for each in found.standings() if each.way == "keep" and each.rule != "sp"]
    assert [each.rule for each in keeps] == ["mup", "completep"], "by what they gain on fitting"
    assert keeps[1].above_best < keeps[0].above_best
    assert "the base's best LR under completep ends" in conclusion(found)


def test_without_a_standard_parameterisation_nothing_is_claimed():
    rows = [row for row in study() if row.rule != "sp" or row.level == 0]
    assert "stand beside each other on no axis" in conclusion(compare_ways(rows))


def test_the_page_holds_optima_shifts_and_refusals_and_no_markup_of_names():
    rows = [row for row in study() if not (row.level == 2 and row.rule == "sp" and row.lr > 0.006)]
    rows = [replace(row, axis=row.axis and "<script>width") for row in rows]
    text = page(compare_ways(rows), "lehr peak-lr compare")
    assert "<script>" not in text and "&lt;script&gt;width" in text
    assert "shifts the best LR by a factor" in text
    assert "edge of the LRs" in text
    assert text.count("<figure") == 1


def test_the_figure_has_a_panel_a_rule():
    chart = valleys(compare_ways(study()).axes[0])
    assert [panel.title for panel in chart.panels] == ["sp", "completep"]
    assert len({panel.y.limits for panel in chart.panels}) == 1, "losses can be compared across them"
