"""Questions about fits: start one, how far it is, what it found."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from lehr.errors import InputError
from lehr.fit.files import Fits, save_fits
from lehr.laws import LAWS, get_law
from lehr.studio.answers import answer
from lehr.studio.questions import FitQuestion
from lehr.studio.state import Studio
from lehr.studio.work import Job, Jobs, fit_laws


def start_fit(studio: Studio, jobs: Jobs, question: FitQuestion) -> dict[str, Any]:
    """Put a fit in the row."""
    names = (
        list(LAWS)
        if question.laws == "all"
        else [get_law(name).name for name in dict.fromkeys(question.laws)]
    )
    runs = tuple(studio.runs.only(dict.fromkeys(question.runs)))
    job = jobs.add(
        "fit", fit_laws, (names, runs, question.draws), len(names) * (2 if question.draws else 1),
        studio.fits.__setitem__,
    )  # fmt: skip
    return {"id": job.name}


def fit_state(studio: Studio, jobs: Jobs, name: str) -> dict[str, Any]:
    """How far a fit is, and what it found."""
    fits = studio.fits.get(name)
    if fits is None:
        job = jobs.get(name)
        return {**job.state(), "laws": _begun(job), "chosen": None, "warnings": []}
    found = studio.encode.fits(fits)
    laws = {
        law: {**told, "fit_status": told["status"], "status": "done"} for law, told in found["laws"].items()
    }
    failed = {law: {"status": "failed", "error": reason} for law, reason in fits.failed.items()}
    total = len(laws) + len(failed)
    return {
        "status": "done", "done": total, "total": total, "now": "", "error": None, "laws": {**laws, **failed},
        "chosen": fits.chosen, "warnings": list(fits.get().warnings), "batch": found["batch"],
    }  # fmt: skip


def _begun(job: Job) -> dict[str, Any]:
    """Laws of a fit at work: those begun, of which the last is at work."""
    names, drawn = job.arguments[0] if job.arguments else (), [n.partition(",")[0] for n in job.begun]
    return {
        law: {"status": "running" if drawn and law == drawn[-1] else "begun" if law in drawn else "waiting"}
        for law in names
    }


def fit_file(fits: Fits) -> str:
    """The text of FIT.json."""
    with TemporaryDirectory(prefix="lehr-") as folder:
        path = Path(folder) / "FIT.json"
        save_fits(path, fits)
        return path.read_text()


def add_fits_api(api: APIRouter, studio: Studio, jobs: Jobs) -> None:
    """Add the paths of this file."""

    def post_fit(question: FitQuestion) -> Response:
        return answer(start_fit(studio, jobs, question))

    def get_fit(name: str) -> Response:
        return answer(fit_state(studio, jobs, name))

    def cancel(name: str) -> Response:
        if name in studio.fits:
            raise InputError(f"fit {name!r} has ended: there is nothing to cancel.")
        return answer(jobs.cancel(name).state())

    def get_file(name: str) -> Response:
        text = fit_file(studio.get_fits(name))
        return Response(text, media_type="application/json",
                        headers={"content-disposition": 'attachment; filename="FIT.json"'})  # fmt: skip

    api.add_api_route("/fits", post_fit, methods=["POST"])
    api.add_api_route("/fits/{name}", get_fit, methods=["GET"])
    api.add_api_route("/fits/{name}", cancel, methods=["DELETE"])
    api.add_api_route("/fits/{name}/file", get_file, methods=["GET"])
