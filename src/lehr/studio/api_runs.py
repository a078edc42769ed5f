"""Questions about runs: what there is, their curves, and logs that are uploaded."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import anyio
import numpy as np
from fastapi import APIRouter, Request
from fastapi.responses import Response

from lehr import __version__
from lehr.errors import InputError, bad
from lehr.fit.pooling import UNNAMED, data_of
from lehr.laws import LAWS
from lehr.runs.run import Run
from lehr.runs.store import add_runs
from lehr.schedule.export import EXPORTERS
from lehr.schedule.families import FAMILIES
from lehr.schedule.shapes import EXPONENTIAL, SHAPES
from lehr.schedule.spec import to_text
from lehr.studio.answers import answer
from lehr.studio.state import Studio, check_points, numbers, thinned
from lehr.transfer.tables import RULES

ENDED = 0.99  # of the schedule: a run whose last loss is earlier is in progress
LONG_TEXT = 300  # characters of a schedule in the list
MOST_UPLOADS = 200
_NAME = re.compile(r"[\w][\w. +=@-]{0,99}\Z")


def describe(run: Run) -> dict[str, Any]:
    """A run in the list."""
    text, data = to_text(run.schedule) if run.schedule.call else "table", data_of(run)
    return {
        "name": run.name,
        "steps": run.steps,
        "points": len(run.step),
        "peak_lr": run.schedule.peak,
        "schedule": text if len(text) <= LONG_TEXT else f"{text[: LONG_TEXT - 3]}...",
        "params": run.params,
        "params_total": run.params_total,
        "batch_tokens": run.batch_tokens,
        "dataset": None if data == UNNAMED else data,
        "final_loss": run.final_loss,
        "live": bool(run.step[-1] < ENDED * run.steps),
    }


def state(studio: Studio) -> dict[str, Any]:
    """All that the page asks at first."""
    return {
        "version": __version__,
        "store": studio.sources.name,
        "runs": [describe(run) for run in studio.runs],
        "ticked": list(studio.sources.chosen or studio.runs.names),
        "fits": list(studio.fits),
        "laws": [
            {"name": law.name, "summary": law.title, "needs_sizes": law.needs_sizes} for law in LAWS.values()
        ],
        "shapes": [*SHAPES, EXPONENTIAL],
        "families": list(FAMILIES),
        "frameworks": list(EXPORTERS),
        "rules": list(RULES),
    }


def curve(studio: Studio, place: str, points: int) -> dict[str, Any]:
    """Losses of a run, those of the runs it branched from included, with the LR of each update."""
    run, most = studio.run_at(place), check_points(points)
    step, loss = studio.runs.curve(run.name)
    at = thinned(len(step), most)
    lr = run.schedule.lr(np.maximum(step[at].astype(np.int64) - 1, 0))
    told = f"{len(at)} of {len(step)} points, evenly" if len(at) < len(step) else None
    return {"steps": step[at].tolist(), "loss": loss[at].tolist(), "lr": numbers(lr), "thinned": told}


def take_in(studio: Studio, path: Path, into_store: bool) -> dict[str, Any]:
    """Read the runs of an uploaded log and add them."""
    from lehr.runs.readers import read

    if len(studio.uploaded) >= MOST_UPLOADS:
        raise InputError(
            f"{MOST_UPLOADS} runs were uploaded already: import logs with `lehr import` instead."
        )
    if into_store and studio.sources.store is None:
        raise InputError("there is no store to add runs to: start `lehr studio STORE` on a folder.")
    try:
        readings = read(path)
    except InputError as error:
        raise InputError(str(error).replace(str(path), path.name)) from None
    runs = [reading.run for reading in readings]
    studio.add(runs)
    if into_store and studio.sources.store is not None:
        add_runs(studio.sources.store, runs, reports={each.run.name: each.report for each in readings})
    return {
        "runs": [describe(run) for run in runs],
        "report": [line.replace(str(path.parent), "upload") for each in readings for line in each.report],
    }


def check_name(name: str) -> str:
    """Return the name of an uploaded file if it is no more than that.

    Raises
    ------
    InputError
        If it leads elsewhere, or has strange characters.
    """
    if not _NAME.match(name):
        raise bad(
            "name", "must be a file's own name of at most 100 letters, digits and . _ - + = @", name,
            "rename the log",
        )  # fmt: skip
    return name


def add_runs_api(api: APIRouter, studio: Studio) -> None:
    """Add the paths of this file."""

    def get_state() -> Response:
        return answer(state(studio))

    def get_runs(fresh: int = 0) -> Response:
        return answer({"runs": [describe(run) for run in (studio.refresh() if fresh else studio.runs)]})

    def get_curve(place: str, points: int = 400) -> Response:
        return answer(curve(studio, place, points))

    async def upload(request: Request, name: str, into_store: bool = False) -> Response:
        with tempfile.TemporaryDirectory(prefix="lehr-") as folder:
            path = Path(folder) / check_name(name)
            with path.open("wb") as file:
                async for part in request.stream():
                    await anyio.to_thread.run_sync(file.write, part)

            def work() -> dict[str, Any]:
                with studio.turn():
                    return take_in(studio, path, into_store)

            return answer(await anyio.to_thread.run_sync(work))

    api.add_api_route("/state", get_state, methods=["GET"])
    api.add_api_route("/runs", get_runs, methods=["GET"])
    api.add_api_route("/runs/{place}/curve", get_curve, methods=["GET"])
    api.add_api_route("/upload", upload, methods=["POST"])
