"""Answers as JSON, and the status and words of those that could not be given."""

from __future__ import annotations

import json
import math
import sys
import traceback
import unicodedata
from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import Response
from starlette.exceptions import HTTPException

from lehr.errors import InputError, LehrError
from lehr.studio.guard import Refusal
from lehr.studio.state import Absent, Busy

LONGEST = 4000  # characters of a refusal


def answer(data: Mapping[str, Any], status: int = 200) -> Response:
    """The data as JSON; numbers that are not finite become null."""
    try:
        text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    except ValueError:  # seldom: most answers are not walked through twice
        text = json.dumps(_finite(data), allow_nan=False, separators=(",", ":"))
    return Response(text, status, media_type="application/json")


def _finite(data: Any) -> Any:
    if isinstance(data, Mapping):
        return {str(key): _finite(value) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_finite(value) for value in data]
    return None if isinstance(data, float) and not math.isfinite(data) else data


def refusal(status: int, text: str) -> Response:
    """An answer that says why there is none, without control characters."""
    shown = text if len(text) <= LONGEST else f"{text[: LONGEST - 3]}..."
    return answer({"error": _clean(shown)}, status)


def _clean(text: str) -> str:
    return "".join(c if c == "\n" or unicodedata.category(c)[0] != "C" else "?" for c in text)


def add_handlers(app: FastAPI) -> None:
    """Answer every error with a sentence and no trace."""

    def lehr_error(_: Request, error: Exception) -> Response:
        known = ((Busy, 429), (Absent, 404), (InputError, 400))
        return refusal(next((status for kind, status in known if isinstance(error, kind)), 422), str(error))

    def not_valid(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body") or "the question"
        return refusal(400, f"{place}: {first['msg']}.")

    def http(_: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        return refusal(error.status_code, f"{error.detail}.")

    def refused(_: Request, error: Exception) -> Response:
        assert isinstance(error, Refusal)
        return refusal(error.status, str(error))

    def failed(_: Request, error: Exception) -> Response:
        sys.stderr.write(_clean("".join(traceback.format_exception(error))))
        return refusal(
            500, f"the studio failed on this question ({type(error).__name__}): its terminal tells more."
        )

    app.add_exception_handler(LehrError, lehr_error)
    app.add_exception_handler(RequestValidationError, not_valid)
    app.add_exception_handler(HTTPException, http)
    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(Exception, failed)
