"""Who may ask the studio, and how much: every request passes here before anything else sees it.

- The Host header must be an address of the studio: another one means that a name of somebody else's leads here (DNS
  rebinding).
- A request that names its origin must come from the studio's own page.
- `/api` needs the token in a header, which no other page can set; the comparison takes the same time for any token.
- Bodies have a largest size and a time in which they must have come; JSON alone is taken, but for uploads.
- Answers carry headers by which browsers load nothing from elsewhere, guess no types and show the page in no frame.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

TOKEN_HEADER = "x-lehr-token"
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
METHODS = ("GET", "HEAD", "POST", "DELETE")
JSON_LIMIT, UPLOAD_LIMIT = 1 << 20, 64 << 20  # bytes of a body
JSON_SECONDS, UPLOAD_SECONDS = 10.0, 120.0  # in which it must have come
API, UPLOAD_PATH = "/api/", "/api/upload"
POLICY = (
    "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}


@dataclass(frozen=True)
class Rules:
    """What the guard lets pass.

    Parameters
    ----------
    token : that `/api` asks for.
    port : on which the studio listens.
    any_host : whether the Host header may be anything, as where the studio listens on addresses it cannot know.
    json_seconds, upload_seconds : in which a body must have come.
    """

    token: str
    port: int
    any_host: bool = False
    json_seconds: float = JSON_SECONDS
    upload_seconds: float = UPLOAD_SECONDS

    def knows_host(self, host: str) -> bool:
        """Whether a Host header is one of the studio's own."""
        own = {f"{name}:{self.port}" for name in LOOPBACK} | (set(LOOPBACK) if self.port == 80 else set())
        return bool(host) if self.any_host else host.lower() in own

    def knows_token(self, token: str) -> bool:
        """Whether it is the token, in a time that does not depend on where it differs."""
        return hmac.compare_digest(token.encode("latin-1", "replace"), self.token.encode())


class Refusal(Exception):
    """A request that is not let pass: its status and why."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status


class Guard:
    """ASGI middleware that keeps `Rules`."""

    def __init__(self, app: App, rules: Rules) -> None:
        self.app, self.rules = app, rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request pass or answer why not."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":  # the studio has no web sockets
            await send({"type": "websocket.close", "code": 1008})
            return
        private = scope["path"].startswith(API)
        dressed = _dressed(send, private)
        try:
            headers = _single({k.decode("latin-1"): v.decode("latin-1") for k, v in scope["headers"]}, scope)
            check(scope["method"], scope["path"], headers, self.rules)
            reader = await self._reader(scope, headers, receive)
        except Refusal as refusal:
            await _refuse(dressed, refusal)
            return
        await self.app(scope, reader, dressed)

    async def _reader(self, scope: Scope, headers: Mapping[str, str], receive: Receive) -> Receive:
        """Give the body on: an upload as it comes, within its bounds; another one once it is there."""
        upload = scope["path"] == UPLOAD_PATH
        limit = UPLOAD_LIMIT if upload else JSON_LIMIT
        size = headers.get("content-length", "0")
        if not (size.isascii() and size.isdecimal()) or len(size) > 18:
            raise Refusal(400, "Content-Length must be a number.")
        if int(size) > limit:
            raise _too_large(limit)
        if upload:
            return bounded(receive, limit, self.rules.upload_seconds)
        inner, parts, more = bounded(receive, limit, self.rules.json_seconds), [], True
        while more:
            message = await inner()
            if message["type"] == "http.disconnect":
                raise Refusal(400, "the request ended before its body.")
            parts.append(message.get("body", b""))
            more = message.get("more_body", False)
        whole = b"".join(parts)
        given = False

        async def replay() -> Message:
            nonlocal given
            if given:
                return await receive()
            given = True
            return {"type": "http.request", "body": whole, "more_body": False}

        return replay


def check(method: str, path: str, headers: Mapping[str, str], rules: Rules) -> None:
    """Refuse what may not ask.

    Raises
    ------
    Refusal
        With 403 for a strange host or origin, 401 without the token, 405 and 415 for what the studio does not do.
    """
    host = headers.get("host", "")
    if not rules.knows_host(host):
        raise Refusal(
            403, "the Host header is not the studio's address: open the address that lehr studio printed."
        )
    origin = headers.get("origin")
    if origin is not None and origin.lower() not in (f"http://{host.lower()}", f"https://{host.lower()}"):
        raise Refusal(403, "the request comes from another site's page.")
    if method not in METHODS:
        raise Refusal(405, f"the method must be one of {', '.join(METHODS)}.")
    if not path.startswith(API):
        return
    if headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise Refusal(403, "the request comes from another site's page.")
    if not rules.knows_token(headers.get(TOKEN_HEADER, "")):
        raise Refusal(401, "the token is missing or wrong: open the address that lehr studio printed.")
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    wanted = "application/octet-stream" if path == UPLOAD_PATH else "application/json"
    if method == "POST" and kind != wanted:
        raise Refusal(415, f"the Content-Type must be {wanted}.")


def bounded(receive: Receive, limit: int, seconds: float) -> Receive:
    """Receive no more than `limit` bytes, within `seconds` in all; raises `Refusal` (413, 408)."""
    loop = asyncio.get_running_loop()
    until, seen, whole = loop.time() + seconds, 0, False

    async def inner() -> Message:
        nonlocal seen, whole
        if whole:  # what comes after the body is the end of the connection, however late
            return await receive()
        try:
            message = await asyncio.wait_for(receive(), until - loop.time())
        except TimeoutError:
            raise Refusal(408, f"the body did not come within {seconds:g} seconds.") from None
        seen += len(message.get("body", b""))
        if seen > limit:
            raise _too_large(limit)
        whole = not message.get("more_body", False)
        return message

    return inner


def _too_large(limit: int) -> Refusal:
    return Refusal(413, f"the body must not exceed {limit >> 20} MiB.")


def _single(headers: dict[str, str], scope: Scope) -> dict[str, str]:
    """The headers, of which those that decide may come but once."""
    names = [name.lower() for name, _ in scope["headers"]]
    for name in (b"host", b"origin", b"content-length", TOKEN_HEADER.encode()):
        if names.count(name) > 1:
            raise Refusal(400, f"the header {name.decode()} came more than once.")
    return {name.lower(): value for name, value in headers.items()}


def _dressed(send: Send, private: bool) -> Send:
    """Send with the headers that keep the page to itself; what is private is stored nowhere."""
    own = {**HEADERS, **({"cache-control": "no-store"} if private else {})}

    async def dressed(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [(k, v) for k, v in message.get("headers", []) if k.decode("latin-1").lower() not in own]
            message = {**message, "headers": [*kept, *((k.encode(), v.encode()) for k, v in own.items())]}
        await send(message)

    return dressed


async def _refuse(send: Send, refusal: Refusal) -> None:
    """Answer a refusal and close the connection: the rest of a body is not read."""
    body = json.dumps({"error": str(refusal)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()),
               (b"connection", b"close")]  # fmt: skip
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
