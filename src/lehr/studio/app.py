"""The studio's server as an ASGI application."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import Response

from lehr.studio.answers import add_handlers, refusal
from lehr.studio.api_fits import add_fits_api
from lehr.studio.api_plan import add_plan_api
from lehr.studio.api_predict import add_predict_api
from lehr.studio.api_runs import add_runs_api
from lehr.studio.api_tools import add_tools_api
from lehr.studio.guard import Guard, Rules
from lehr.studio.state import Studio
from lehr.studio.work import Jobs

STATIC = Path(__file__).parent / "static"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}


@dataclass(frozen=True)
class Page:
    """A file of the page, as sent."""

    body: bytes
    kind: str
    tag: str


def pages(folder: Path = STATIC) -> dict[str, Page]:
    """The files of the page by path: read once, so that no path of a request ever reaches the disk."""
    found = {}
    for path in sorted(folder.iterdir()):
        if path.suffix in TYPES:
            body = path.read_bytes()
            tag = f'"{hashlib.sha256(body).hexdigest()[:16]}"'
            found[f"/{path.name}"] = Page(body, TYPES[path.suffix], tag)
    return {**found, "/": found["/index.html"]}


def make_app(studio: Studio, rules: Rules) -> FastAPI:
    """Make the application.

    Parameters
    ----------
    studio : its runs and fits.
    rules : who may ask.
    """
    jobs, files = Jobs(), pages()

    @asynccontextmanager
    async def alive(_: FastAPI) -> AsyncIterator[None]:
        yield
        jobs.end()

    # no pages about the API: they load scripts from elsewhere
    app = FastAPI(title="lehr studio", docs_url=None, redoc_url=None, openapi_url=None, lifespan=alive)
    add_handlers(app)
    api = APIRouter(prefix="/api")
    add_runs_api(api, studio)
    add_fits_api(api, studio, jobs)
    add_predict_api(api, studio)
    add_plan_api(api, studio, jobs)
    add_tools_api(api, studio)
    app.include_router(api)

    def page(request: Request) -> Response:
        found = files.get(request.url.path)
        if found is None:
            return refusal(404, "there is no such page.")
        headers = {"etag": found.tag, "cache-control": "no-cache"}
        if request.headers.get("if-none-match") == found.tag:
            return Response(status_code=304, headers=headers)
        return Response(found.body, media_type=found.kind, headers=headers)

    app.add_api_route("/{path:path}", page, methods=["GET", "HEAD"])
    app.add_middleware(Guard, rules=rules)
    app.state.studio, app.state.jobs = studio, jobs
    return app
