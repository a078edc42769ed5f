"""Questions about a planned run and one in progress: its annealing ratio, its best schedule, when to decay."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi.responses import Response

from lehr.anneal.branch import SHAPES, recommend_decay
from lehr.anneal.optimize import refuse_degenerate
from lehr.anneal.plan import Plan, plan_run
from lehr.errors import InputError
from lehr.fit.adapt import of_data
from lehr.fit.result import FitResult
from lehr.predict import half_width, planned
from lehr.schedule.families import wsd
from lehr.studio.answers import answer
from lehr.studio.questions import BranchQuestion, OptimizeQuestion, PlanQuestion
from lehr.studio.schedules import corners
from lehr.studio.state import Studio, numbers
from lehr.studio.work import Jobs, optimise

RATIOS = 33  # of the valley that is drawn
OPTIMUM_POINTS = 60  # at which the page draws a schedule found


def plan_answer(studio: Studio, question: PlanQuestion) -> dict[str, Any]:
    """The recommended ratio as `lehr recommend` tells it, and the valley about it."""
    result = of_data(studio.get_fits(question.fit).get(question.law), question.data)
    asked = question.model_dump(exclude={"fit", "law", "data"})
    plan = plan_run(result, **asked)
    return {**studio.encode.plan(plan), "valley": valley(result, plan, question)}


def valley(result: FitResult, plan: Plan, question: PlanQuestion) -> dict[str, Any]:
    """Final loss and its band over annealing ratios, all else as planned; the recommended ratio is one of them."""
    steps, end = plan.best.schedule.steps, np.array([float(plan.best.schedule.steps)])
    warmup = question.warmup
    if warmup is None:
        warmup = min(result.domain.warmup, steps // 10)
    room = steps - warmup
    grid = np.linspace(max(1, 0.01 * steps), room, RATIOS).round().astype(int)
    decays = np.unique(np.clip([*grid.tolist(), plan.best.decay_steps], 1, room))
    found = []
    for decay in decays.tolist():
        schedule = wsd(
            steps=steps, peak=plan.peak, warmup=warmup, decay=decay, shape=plan.shape, final=plan.final
        )
        conditions = planned(
            result,
            schedule,
            question.params,
            question.batch_tokens,
            question.weight_decay,
            question.params_total,
        )
        loss = result.evaluate(conditions, end)
        half = half_width(result, conditions, end, loss, question.level)
        found.append((loss[0], loss[0] - half[0], loss[0] + half[0]))
    loss, low, high = np.array(found).T
    return {
        "ratio": numbers(decays / steps), "loss": numbers(loss), "low": numbers(low), "high": numbers(high),
    }  # fmt: skip


def start_optimum(studio: Studio, jobs: Jobs, question: OptimizeQuestion) -> dict[str, Any]:
    """Put the search of a schedule in the row."""
    result = of_data(studio.get_fits(question.fit).get(question.law), question.data)
    refuse_degenerate(result)
    asked = question.model_dump(exclude={"fit", "law", "data"})
    return {"id": jobs.add("optimum", optimise, (result, asked), 1).name}


def optimum_state(studio: Studio, jobs: Jobs, name: str) -> dict[str, Any]:
    """How far a search is, and what it found."""
    job = jobs.get(name)
    told = job.state()
    if told["status"] == "done" and job.function is optimise:
        found = job.value
        lr = corners(found.schedule, OPTIMUM_POINTS)
        told["result"] = {**studio.encode.optimum(found, job.begun[0]), "lr": lr}
    return told


def decay_answer(studio: Studio, question: BranchQuestion) -> dict[str, Any]:
    """When to start the decay, as `lehr branch` tells it."""
    result = studio.get_fits(question.fit).get(question.law)
    run = studio.runs[question.run]
    if run.parent is not None:  # the losses of its whole life
        step, loss = studio.runs.curve(run.name)
        run = replace(run, step=step, loss=loss, parent=None, branch_step=None)
    found = recommend_decay(
        result, run, deadline=question.deadline_steps, target=question.target_loss,
        horizon=question.horizon_steps, shapes=tuple(question.shapes or SHAPES), final=question.final,
        weight_decay=question.weight_decay, level=question.level,
    )  # fmt: skip
    return studio.encode.advice(found)


def add_plan_api(api: APIRouter, studio: Studio, jobs: Jobs) -> None:
    """Add the paths of this file."""

    def post_ratio(question: PlanQuestion) -> Response:
        def work() -> Response:
            with studio.turn():
                return answer(plan_answer(studio, question))

        return studio.memory.recall(("ratio", question.model_dump_json()), work)

    def post_optimum(question: OptimizeQuestion) -> Response:
        return answer(start_optimum(studio, jobs, question))

    def get_optimum(name: str) -> Response:
        return answer(optimum_state(studio, jobs, name))

    def cancel(name: str) -> Response:
        if jobs.get(name).status != "running":
            raise InputError(f"job {name!r} has ended: there is nothing to cancel.")
        return answer(jobs.cancel(name).state())

    def post_branch(question: BranchQuestion) -> Response:
        with studio.turn():
            return answer(decay_answer(studio, question))

    api.add_api_route("/ratio", post_ratio, methods=["POST"])
    api.add_api_route("/optimize", post_optimum, methods=["POST"])
    api.add_api_route("/optimize/{name}", get_optimum, methods=["GET"])
    api.add_api_route("/optimize/{name}", cancel, methods=["DELETE"])
    api.add_api_route("/branch", post_branch, methods=["POST"])
