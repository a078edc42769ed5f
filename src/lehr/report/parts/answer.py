"""The recommendation: its numbers and sentence, what other ratios cost, what it gains, and the plan's curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lehr.anneal.costs import Cost, ratio_costs
from lehr.anneal.plan import Plan
from lehr.anneal.valley import final_loss
from lehr.predict import predict
from lehr.report.chart import Axis, Chart, Panel, Series
from lehr.report.charts.curves import schedules
from lehr.report.charts.ratios import ratio_band, ratio_valley
from lehr.report.report import Cell, Column, Part, Table
from lehr.report.study import Study
from lehr.schedule.spec import to_text

BAND_GRID = 16  # ratios at which the valley's band is computed
ALIKE = 1e-6  # relative difference of LRs and of batches that are the same


def numbers(study: Study) -> Mapping[str, Cell]:
    """The recommendation's numbers, by the names they have in JSON; empty without one."""
    plan = study.plan
    if plan is None:
        return {}
    best = plan.best
    return {
        "ratio": best.ratio, "ratio_low": best.ratio_low, "ratio_high": best.ratio_high,
        "decay_steps": best.decay_steps, "final_loss": best.final_loss, "final_loss_low": best.final_loss_low,
        "final_loss_high": best.final_loss_high, "peak_lr": plan.peak, "shape": plan.shape, "final_lr": plan.final,
        "steps": best.schedule.steps, "level": study.question.level, "law": study.result.law,
        "schedule": to_text(best.schedule),
    }  # fmt: skip


def sentence(study: Study, costs: tuple[Cost, ...]) -> str:
    """The answer in words: the ratio with its interval, the loss with its band, and what a wrong ratio costs."""
    if study.plan is None:
        return f"No annealing ratio can be recommended: {study.refused}"
    best, level = study.plan.best, study.question.level
    told = (
        f"For {best.schedule.steps:,} updates at peak LR {study.plan.peak:.3g}, decay the LR over the last "
        f"{best.ratio:.0%} of training ({best.decay_steps:,} updates; {level:.0%} interval {best.ratio_low:.0%} to "
        f"{best.ratio_high:.0%}). Predicted final loss: {best.final_loss:.4f} nats per token "
        f"({best.final_loss_low:.4f} to {best.final_loss_high:.4f})."
    )
    half = min(costs, key=lambda cost: abs(cost.ratio - best.ratio / 2), default=None)
    if half is None or half.ratio >= best.ratio:
        return told
    return (
        f"{told} Decaying over {half.ratio:.0%} instead would cost {half.excess:.4f} nats{_interval(half)}, what "
        f"{_wasted(half)} of the updates are worth."
    )


def _interval(cost: Cost) -> str:
    if cost.excess_low is None or cost.excess_high is None:
        return ""
    return f" ({cost.excess_low:.4f} to {cost.excess_high:.4f})"


def _wasted(cost: Cost) -> str:
    return f"{cost.wasted:.0%}" if cost.wasted < 0.695 else "70% or more"


def costs_of(study: Study) -> tuple[Cost, ...]:
    """What other ratios cost; none without a plan."""
    if study.plan is None:
        return ()
    best, asked = study.plan.best, study.question
    ratios = [ratio for ratio, _ in best.costs]
    return ratio_costs(study.result, best.schedule, ratios, level=asked.level, **asked.sizes)


def ratio_part(study: Study, plan: Plan, costs: tuple[Cost, ...]) -> Part:
    """What other ratios cost, and the gain over the usual schedules."""
    asked = study.question
    assert asked.warmup is not None
    band = ratio_band(
        study.result, steps=plan.best.schedule.steps, peak=plan.peak, warmup=asked.warmup, shape=plan.shape,
        final=plan.final, level=asked.level, grid=BAND_GRID, **asked.sizes,
    )  # fmt: skip
    measured = measured_ratios(study, plan)
    rows = tuple(
        (c.ratio, c.excess, c.excess_low, c.excess_high, c.wasted, c.wasted_low, c.wasted_high) for c in costs
    )
    gains = tuple((gain.against, gain.gain, gain.low, gain.high) for gain in plan.gains)
    drawn = (
        f"{len(study.result.draws)} bootstrap fits"
        if study.result.draws
        else "no bootstrap: there are no intervals"
    )
    text = [
        f"What another ratio costs against the recommended one, by the law {study.result.law} ({drawn}). The updates "
        "wasted are those that a run of the recommended ratio would not need for the same loss: a share of the "
        "training's compute. Below 0, some of the bootstrap fits prefer that ratio; 70% stands for 70% or more."
    ]
    if measured:
        text.append("Dots are final losses of runs at this length, peak LR, shape and batch.")
    tables = [
        Table("costs", "Cost of other annealing ratios", (
            Column("ratio", "annealing ratio", ".2f"), Column("excess_loss", "loss above (nats)", ".4f"),
            Column("excess_loss_low", "from", ".4f"), Column("excess_loss_high", "to", ".4f"),
            Column("updates_wasted", "updates wasted", ".1%"), Column("updates_wasted_low", "from", ".1%"),
            Column("updates_wasted_high", "to", ".1%")), rows),
        Table("gains", "Gain over schedules used otherwise, at the same peak LR and length", (
            Column("against", "against"), Column("gain", "gain (nats)", ".4f"), Column("gain_low", "from", ".4f"),
            Column("gain_high", "to", ".4f")), gains),
    ]  # fmt: skip
    chart = ratio_valley(plan.best, band, measured, "Final loss against the annealing ratio")
    return Part("ratio", "What another ratio costs", tuple(text), (chart,), tuple(tables))


def measured_ratios(study: Study, plan: Plan) -> list[tuple[float, float]]:
    """Ratio and final loss of runs at hand that differ from the plan in their ratio only."""
    points = []
    batch = study.question.batch_tokens or study.result.domain.one_batch
    for run in (*study.fitted, *study.tests):
        family, arguments = run.schedule.call or ("", ())
        told, loss = dict(arguments), final_loss(run)
        if family != "wsd" or loss is None or run.steps != plan.best.schedule.steps:
            continue
        alike = (
            math.isclose(run.schedule.peak, plan.peak, rel_tol=ALIKE)
            and told.get("shape", "linear") == plan.shape
            and math.isclose(float(str(told.get("final", 0.0))), plan.final, abs_tol=ALIKE * plan.peak)
            and (
                batch is None
                or run.batch_tokens is None
                or math.isclose(run.batch_tokens, batch, rel_tol=ALIKE)
            )
            and (study.question.params is None or run.params == study.question.params)
        )
        if alike and int(str(told["decay"])) > 0:
            points.append((int(str(told["decay"])) / run.steps, loss))
    return sorted(points)


def plan_part(study: Study, plan: Plan) -> Part:
    """The planned run: its schedule and the whole curve that is predicted for it, and why."""
    best, asked = plan.best, study.question
    found = predict(study.result, best.schedule, level=asked.level, **asked.sizes)
    lr = schedules({"LR": best.schedule}).panels[0]
    late = found.steps >= 0.1 * found.steps[-1]  # the first losses would dwarf the rest
    floor, ceiling = float(np.min(found.low[late])), float(np.max(found.high[late]))
    room = 0.04 * (ceiling - floor)
    loss = Panel(
        Axis("updates"), Axis("loss", "nats per token", limits=(floor - room, ceiling + room)),
        (Series("predicted", "band", "predicted", 0, found.steps, low=found.low, high=found.high),
         Series("predicted", "line", "predicted", 0, found.steps, found.loss)), height=1.2,
    )  # fmt: skip
    alt = (
        f"Predicted loss of the planned run with its {asked.level:.0%} band, ending at {found.loss[-1]:.4f} "
        f"({found.low[-1]:.4f} to {found.high[-1]:.4f}), and its LR: {to_text(best.schedule)}."
    )
    chart = Chart("plan", "The planned run", alt, (loss, replace(lr, height=0.7)), share_x=True)
    places = np.unique(np.linspace(0, len(found.steps) - 1, 11).astype(int))
    rows = tuple(
        (int(found.steps[i]), float(found.loss[i]), float(found.low[i]), float(found.high[i])) for i in places
    )
    table = Table("curve", f"Predicted loss along the run, with its {asked.level:.0%} band", (
        Column("step", "updates", ",d"), Column("loss", "loss (nats)", ".4f"), Column("low", "from", ".4f"),
        Column("high", "to", ".4f")), rows)  # fmt: skip
    return Part(
        "plan",
        "The planned run",
        (f"Schedule: {to_text(best.schedule)}", plan.explanation),
        (chart,),
        (table,),
    )
