"""How the answer moves with the peak LR and the length, by the law and by the ratios that were really run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from lehr.anneal.plan import Plan
from lehr.anneal.ratio import Recommendation, recommend_ratio
from lehr.anneal.ratio_law import RatioLaw, fit_ratio_law
from lehr.anneal.valley import Valley, measure_valleys
from lehr.errors import InputError
from lehr.fit.result import FitResult
from lehr.predict import NEAR
from lehr.report.charts.ratios import ratio_law
from lehr.report.report import Cell, Column, Part, Table
from lehr.report.study import Study

TITLE = "If the peak LR or the length changes"
FACTORS = (0.5, 2.0)  # on the plan's peak LR and length


def sensitivity_part(study: Study, plan: Plan) -> Part:
    """Best ratio and final loss at other peak LRs and lengths, and the ratio law of the runs if they tell one."""
    told = [("as planned", plan.peak, plan.best.schedule.steps)]
    told += [(f"peak LR x {f:g}", plan.peak * f, told[0][2]) for f in FACTORS]
    told += [(f"updates x {f:g}", plan.peak, max(2, round(told[0][2] * f))) for f in FACTORS]
    rows, left_out = [_row(*told[0], plan.best, study.result)], []
    for name, peak, steps in told[1:]:
        try:
            rows.append(_row(name, peak, steps, _ask(study, plan, peak, steps), study.result))
        except InputError as error:
            left_out.append(f"{name}: {error}")
    table = Table("sensitivity", "The answer at other peak LRs and lengths", (
        Column("plan", "plan"), Column("peak_lr", "peak LR", ".3g"), Column("steps", "updates", ",d"),
        Column("ratio", "best ratio", ".2f"), Column("ratio_low", "from", ".2f"), Column("ratio_high", "to", ".2f"),
        Column("final_loss", "final loss", ".4f"), Column("final_loss_low", "from", ".4f"),
        Column("final_loss_high", "to", ".4f"), Column("outside", "outside the fitted")), tuple(rows))  # fmt: skip
    part = Part("sensitivity", TITLE, (f"By the law {study.result.law}.",), (), (table,), tuple(left_out))
    if study.runs is None:
        return replace(
            part, left_out=(*left_out, "the best ratios that were really run: that needs the runs (--store).")
        )
    try:
        valleys = _one_kind(measure_valleys((*study.fitted, *study.tests)), plan)
        return _with_ratio_law(part, plan, fit_ratio_law(valleys), valleys, study.question.level)
    except InputError as error:
        return replace(part, left_out=(*left_out, f"a law of the measured best ratios: {error}"))


def _ask(study: Study, plan: Plan, peak: float, steps: int) -> Recommendation:
    asked = study.question
    return recommend_ratio(
        study.result, steps=steps, peak=peak, shape=plan.shape, final=plan.final * peak / plan.peak, level=asked.level,
        warmup=min(asked.warmup or 0, steps // 2), **asked.sizes,
    )  # fmt: skip


def _row(name: str, peak: float, steps: int, found: Recommendation, result: FitResult) -> tuple[Cell, ...]:
    low, high = result.domain.peak_lr
    outside = []
    if not low * (1 - 1e-9) <= peak <= high * (1 + 1e-9):
        outside.append("peak LR")
    if steps > NEAR * result.domain.steps:
        outside.append("length")
    return (
        name, peak, steps, found.ratio, found.ratio_low, found.ratio_high, found.final_loss, found.final_loss_low,
        found.final_loss_high, " and ".join(outside) or None,
    )  # fmt: skip


def _one_kind(valleys: Sequence[Valley], plan: Plan) -> list[Valley]:
    """Those of the plan's shape and final LR; runs of several sizes or data sets are refused."""
    mine = [
        v
        for v in valleys
        if v.shape == plan.shape and math.isclose(v.final, plan.final, abs_tol=1e-6 * plan.peak)
    ]
    for name in ("params", "dataset"):
        if len({getattr(v, name) for v in mine}) > 1:
            raise InputError(
                f"the runs differ in {name}, which a ratio law does not know: lehr ratio-law checks one on the others."
            )
    return mine


def _with_ratio_law(part: Part, plan: Plan, law: RatioLaw, valleys: Sequence[Valley], level: float) -> Part:
    """Add the ratios that were run, and what they say of the plan."""
    steps = plan.best.schedule.steps
    ratio, low, high = law.ratio(plan.peak, steps, level)
    inside = low <= plan.best.ratio <= high
    text = (
        f"The best ratios of {len(valleys)} groups of runs, without a loss-curve law, follow a {law.form} law: it "
        f"gives {ratio:.2f} ({low:.2f} to {high:.2f}) for the plan, "
        + ("which agrees with the recommendation." if inside else "which the recommendation is outside of.")
    )
    rows = []
    for v in valleys:
        told = law.ratio(v.peak, v.steps, level)
        rows.append((v.peak, v.steps, v.ratio, v.at_edge, *told))
    table = Table("ratio_law", "Measured best ratios and the law through them", (
        Column("peak_lr", "peak LR", ".3g"), Column("steps", "updates", ",d"), Column("measured", "measured", ".2f"),
        Column("at_edge", "at an edge"), Column("ratio", "by the law", ".2f"), Column("ratio_low", "from", ".2f"),
        Column("ratio_high", "to", ".2f")), tuple(rows))  # fmt: skip
    chart = ratio_law(law, valleys, "Measured best ratios")
    return replace(part, text=(*part.text, text), charts=(chart,), tables=(*part.tables, table))
