"""The way to a Ray cluster, within bounds: Ray itself goes on trying for minutes, or starts a cluster of its own."""

from __future__ import annotations

import logging
import os
import socket
import threading
from typing import Any

from lehr.errors import InputError, ResultError, bad

PATIENCE = 8.0  # seconds to find the cluster
# Ray reports its use to its makers and repeats workers' logs unless told otherwise
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


def connect(address: str) -> Any:
    """Return the package ray, connected to a cluster.

    Parameters
    ----------
    address : HOST:PORT of its head, or "auto".

    Raises
    ------
    InputError
        If Ray is not installed, or the address is of another kind.
    ResultError
        If no cluster answers within some ten seconds.
    """
    os.environ.update(QUIET)
    try:
        import ray
    except ImportError:
        raise InputError("--engine ray needs Ray: install it with `pip install 'lehr[ray]'`.") from None
    logging.getLogger("ray").setLevel(logging.CRITICAL)
    told, source = address, "engine.ray.address"
    if address == "auto" and os.environ.get("RAY_ADDRESS"):
        told, source = os.environ["RAY_ADDRESS"], "RAY_ADDRESS"
    if "/" in told or (told != "auto" and not _port(told)):
        raise bad(source, 'must be "auto" or HOST:PORT of the head', told, 'e.g. "10.0.0.1:6379"')
    failed = _unreachable(told) or _joined(ray, told)
    if failed:
        raise ResultError(
            f"no Ray cluster answers at {told} ({failed}): start one with `ray start --head` and run lehr on one "
            "of its nodes, name its head in [engine.ray] address, or use --engine local."
        )
    return ray


def _port(address: str) -> int:
    """The port of HOST:PORT; 0 if there is none."""
    host, _, port = address.rpartition(":")
    return int(port) if host and port.isascii() and port.isdigit() and int(port) < 65536 else 0


def _unreachable(address: str) -> str | None:
    """Why nothing listens at HOST:PORT; None if something does, or the address is to be found out."""
    if address == "auto":
        return None
    host = address.rpartition(":")[0].strip("[]")
    try:
        socket.create_connection((host, _port(address)), timeout=PATIENCE / 2).close()
    except OSError as error:
        return str(error)
    return None


def _joined(ray: Any, address: str) -> str | None:
    """Connect; return why that failed, None if it did not."""
    found: list[str | None] = []

    def join() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="CRITICAL", configure_logging=False)
            found.append(None)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            found.append(" ".join(str(error).split())[:200].rstrip("."))

    thread = threading.Thread(target=join, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    return found[0] if found else f"nothing within {PATIENCE:g} s"
