"""Calculators and export: published peak LRs, transfer to a larger model, a schedule for a framework."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from lehr.errors import InputError, bad
from lehr.peaklr.published import published_lrs
from lehr.schedule.export import export
from lehr.schedule.spec import parse, to_text
from lehr.studio.answers import answer
from lehr.studio.questions import ExportQuestion, PeakQuestion, Side, TransferQuestion
from lehr.studio.state import Studio
from lehr.transfer.plan import Settings, transfer
from lehr.transfer.sizes import Architecture, Scale

MOST_EXPORTED = 200_000  # updates
SUFFIXES = {"python": "py", "sh": "sh", "json": "json", "csv": "csv"}


def scale_of(side: Side) -> Scale:
    """Sizes of a model and its training, tokens counted in sequences: a rule asks for ratios alone.

    Raises
    ------
    InputError
        If a size is none.
    """
    if side.head_width < 1 or side.width < 1 or side.width % side.head_width:
        raise bad(
            "width",
            f"must be a multiple of the head width {side.head_width}",
            side.width,
            "give head_width too",
        )
    if not (side.batch > 0 and side.steps > 0):
        raise bad("batch and steps", "must be above 0", (side.batch, side.steps), "give counts")
    hidden = side.hidden if side.hidden is not None else 0 if side.experts else 4 * side.width
    sizes = Architecture(
        side.width, side.depth, side.width // side.head_width, side.head_width, hidden, side.experts, side.top_k,
        side.expert_hidden, side.tied,
    )  # fmt: skip
    return Scale(sizes, side.batch, side.batch * side.steps)


def peak_answer(studio: Studio, question: PeakQuestion) -> dict[str, Any]:
    """Peak LRs as `lehr peak-lr published` tells them and, by the fitted sweep, as `lehr peak-lr predict`."""
    params, tokens, batch, active = (
        question.params, question.tokens, question.batch_tokens, question.active_params
    )  # fmt: skip
    told = studio.encode.published(published_lrs(params, tokens, active, batch, None))
    if studio.sweep is None:
        return told
    try:
        fitted = studio.encode.peak(studio.sweep, params, tokens, batch, active, question.level)
    except InputError as error:  # what the sweep cannot tell leaves the published laws as they are
        fitted = {"refused": str(error)}
    return {**told, "fitted": fitted}


def transfer_answer(studio: Studio, question: TransferQuestion) -> dict[str, Any]:
    """The hyperparameters of the target as `lehr transfer` tells them, without names of parameters."""
    tuned = question.tuned
    settings = Settings(
        lr=tuned.lr, init_std=tuned.init_std, weight_decay=tuned.weight_decay, epsilon=tuned.epsilon,
        beta1=tuned.beta1, beta2=tuned.beta2,
    )  # fmt: skip
    found = transfer(
        scale_of(tuned), scale_of(question.target), question.rule, settings,
        weight_decay=question.weight_decay, horizon=question.horizon,  # type: ignore[arg-type]  # checked there
    )  # fmt: skip
    return studio.encode.transfer(found, {group: () for group in found.groups})


def export_answer(studio: Studio, question: ExportQuestion) -> dict[str, Any]:
    """The export as `lehr export` tells it, and a name for its file."""
    schedule = parse(question.schedule)
    if schedule.steps > MOST_EXPORTED and question.to == "csv":
        raise InputError(
            f"a table of more than {MOST_EXPORTED} updates is too large for the page: use `lehr export --to csv`."
        )
    made = export(schedule, question.to, question.form)
    name = f"schedule-{made.framework}.{SUFFIXES.get(made.language, 'txt')}"
    return {
        "filename": name,
        "schedule": to_text(schedule),
        "steps": schedule.steps,
        **studio.encode.export(made),
    }


def add_tools_api(api: APIRouter, studio: Studio) -> None:
    """Add the paths of this file."""

    def post_peak(question: PeakQuestion) -> Response:
        return answer(peak_answer(studio, question))

    def post_transfer(question: TransferQuestion) -> Response:
        return answer(transfer_answer(studio, question))

    def post_export(question: ExportQuestion) -> Response:
        with studio.turn():
            return answer(export_answer(studio, question))

    api.add_api_route("/peak-lr", post_peak, methods=["POST"])
    api.add_api_route("/transfer", post_transfer, methods=["POST"])
    api.add_api_route("/export", post_export, methods=["POST"])
