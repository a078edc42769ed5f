"""Serve the studio: an address, a token, and connections that cannot be held open for nothing."""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from dataclasses import dataclass
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from lehr.errors import InputError, ResultError, bad
from lehr.studio.app import make_app
from lehr.studio.guard import Rules
from lehr.studio.state import Studio

SHORTEST_TOKEN = 16  # characters
IDLE_SECONDS = 10.0  # in which a connection must have sent a whole head of a request
STUCK_SECONDS = 30.0  # in which a client must have read what fills the buffers
MOST_CONNECTIONS = 500
HEAD_LIMIT = 16 << 10  # bytes of a request's head


@dataclass(frozen=True)
class Address:
    """Where the studio listens, and by what it lets itself be asked.

    Parameters
    ----------
    host : an address of this machine.
    port : 0 for any that is free.
    token : made up if None.
    remote : whether it may listen on addresses that other machines reach.
    """

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    remote: bool = False


def check_address(address: Address) -> Address:
    """Return an address with a token.

    Raises
    ------
    InputError
        If other machines could reach it and that was not asked for, with a token; or the token is short.
    """
    if not 0 <= address.port <= 65535:
        raise bad("--port", "must lie between 0 and 65535", address.port, "use 0 for any that is free")
    token = address.token
    if token is not None and (len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise InputError(
            f"--token must have at least {SHORTEST_TOKEN} printable characters: leave it out for one made at random."
        )
    if not is_loopback(address.host):
        if not address.remote:
            raise bad(
                "--host", "must be 127.0.0.1, ::1 or localhost unless --allow-remote is given", address.host,
                "reach the studio through an SSH tunnel instead (ssh -L PORT:127.0.0.1:PORT MACHINE)",
            )  # fmt: skip
        if token is None:
            raise InputError("--allow-remote needs a token of your own: give --token.")
    return Address(address.host, address.port, token or secrets.token_urlsafe(32), address.remote)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host; a name other than localhost counts as reached by others."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Impatient(H11Protocol):
    """HTTP connections that are closed when nothing comes or nothing is read: slow clients hold no place for long."""

    idle_seconds, stuck_seconds = IDLE_SECONDS, STUCK_SECONDS

    def connection_made(self, transport: Any) -> None:
        """Begin to look at the connection now and then."""
        super().connection_made(transport)
        # head and body are two writes: without this the second waits some 40 ms for the client's receipt of the first
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._idle_since: float | None = self.loop.time()
        self._stuck_since: float | None = None
        self._look_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Look no more."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def _look_later(self) -> None:
        self._next_look = self.loop.call_later(min(self.idle_seconds, self.stuck_seconds) / 4, self._look)

    def _look(self) -> None:
        now = self.loop.time()
        answering = self.cycle is not None and not self.cycle.response_complete
        stuck = self.flow is not None and self.flow.write_paused
        self._idle_since = None if answering else self._idle_since or now
        self._stuck_since = self._stuck_since or now if stuck else None
        idle = self._idle_since is not None and now - self._idle_since > self.idle_seconds
        if idle or (self._stuck_since is not None and now - self._stuck_since > self.stuck_seconds):
            self.transport.abort()
        else:
            self._look_later()


@dataclass(frozen=True, eq=False)
class Prepared:
    """A studio whose port is taken: `run` serves it until Ctrl-C or `stop`."""

    server: uvicorn.Server
    listener: socket.socket
    url: str
    token: str

    def run(self) -> None:
        """Serve."""
        self.server.run(sockets=[self.listener])

    def stop(self) -> None:
        """End the serving; another thread runs it."""
        self.server.should_exit = True


def prepare(studio: Studio, address: Address, http: type[Impatient] = Impatient) -> Prepared:
    """Take the port.

    Raises
    ------
    InputError
        As `check_address`.
    ResultError
        If the port cannot be taken.
    """
    checked = check_address(address)
    token = str(checked.token)
    family = socket.AF_INET6 if ":" in checked.host else socket.AF_INET
    try:
        listener = socket.create_server((checked.host, checked.port), family=family, backlog=1024)
    except OSError as error:
        known = (
            error.errno is not None and error.errno > 0
        )  # a name that nobody knows has a number of its own
        reason = os.strerror(error.errno or 0) if known else error.strerror
        raise ResultError(
            f"the studio cannot listen on {checked.host} port {checked.port} ({reason}): use --port 0 for any that "
            "is free."
        ) from None
    port = listener.getsockname()[1]
    config = uvicorn.Config(
        make_app(studio, Rules(token, port, any_host=not is_loopback(checked.host))), http=http, ws="none",
        loop="asyncio", log_level="critical", access_log=False, server_header=False, date_header=False,
        proxy_headers=False, timeout_keep_alive=5, timeout_graceful_shutdown=3, limit_concurrency=MOST_CONNECTIONS,
        h11_max_incomplete_event_size=HEAD_LIMIT,
    )  # fmt: skip
    shown = f"[{checked.host}]" if ":" in checked.host else checked.host
    return Prepared(uvicorn.Server(config), listener, f"http://{shown}:{port}/", token)
