"""The question that every move of a control asks: the predicted curve of a schedule by all fitted laws."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from fastapi import APIRouter
from fastapi.responses import Response

from lehr.errors import InputError, unknown
from lehr.fit.result import FitResult
from lehr.predict import check_level, planned, predict
from lehr.schedule.pieces import Pieces, to_pieces
from lehr.schedule.schedule import Schedule
from lehr.schedule.spec import parse, to_dict, to_text
from lehr.studio.answers import answer
from lehr.studio.questions import DrawnQuestion, PredictQuestion, ScheduleQuestion
from lehr.studio.quick import COARSE, quick_predict
from lehr.studio.schedules import drawn, lr_curve
from lehr.studio.state import Studio, check_points, numbers

LR_POINTS = 100


def predict_laws(studio: Studio, question: PredictQuestion) -> dict[str, Any]:
    """The curve by each law, or why it has none, and the LR."""
    fits, schedule = studio.get_fits(question.fit), parse(question.schedule)
    names = list(fits.results) if question.laws is None else question.laws
    for name in names:
        if name not in fits.results:
            raise unknown("fitted law", name, fits.results)
    check_points(question.points)
    check_level(question.level)
    cuts = to_pieces(schedule), to_pieces(schedule, COARSE)  # laws see them alike

    def told(law: str) -> dict[str, Any]:
        try:
            return _curve(studio, fits.results[law], schedule, cuts, question)
        except InputError as error:
            return {"error": str(error)}

    return {
        "laws": {name: told(name) for name in names},
        "lr": lr_curve(schedule, LR_POINTS),
        "spec": to_text(schedule),
    }


def _curve(
    studio: Studio, result: FitResult, schedule: Schedule, cuts: tuple[Pieces, Pieces],
    question: PredictQuestion,
) -> dict[str, Any]:  # fmt: skip
    """The curve by one law; `cuts` are the schedule's fine and coarse pieces."""
    first = max(1, min(result.domain.warmup, schedule.steps // 2))
    steps = np.unique(np.linspace(first, schedule.steps, question.points).round())
    sizes: dict[str, Any] = question.model_dump(
        include={"params", "params_total", "batch_tokens", "weight_decay", "data"}
    )
    if question.band == "exact":
        found = predict(result, schedule, steps, **sizes, level=question.level)
    else:
        conditions = replace(planned(result, schedule, **sizes), pieces=cuts[0])
        found = quick_predict(result, conditions, cuts[1], steps, question.level, studio.draws)
    return {
        "steps": found.steps.tolist(),
        "loss": numbers(found.loss),
        "low": numbers(found.low),
        "high": numbers(found.high),
        "final": {"loss": found.loss[-1], "low": found.low[-1], "high": found.high[-1]},
        "band": question.band,
        "warnings": list(found.warnings),
    }


def add_predict_api(api: APIRouter, studio: Studio) -> None:
    """Add the paths of this file."""

    def post_predict(question: PredictQuestion) -> Response:
        return studio.memory.recall(
            question.model_dump_json(), lambda: answer(predict_laws(studio, question))
        )

    def post_drawn(question: DrawnQuestion) -> Response:
        return answer({"schedule": to_text(drawn(question.points, question.steps))})

    def describe(question: ScheduleQuestion) -> Response:
        schedule = parse(question.schedule)
        arguments = to_dict(schedule)
        family = arguments.pop("family")
        curve = lr_curve(schedule, check_points(question.points))
        return answer({"family": family, "arguments": arguments, "spec": to_text(schedule), **curve})

    api.add_api_route("/predict", post_predict, methods=["POST"])
    api.add_api_route("/schedule", post_drawn, methods=["POST"])
    api.add_api_route("/schedule/describe", describe, methods=["POST"])
