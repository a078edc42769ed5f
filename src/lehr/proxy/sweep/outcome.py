"""How a run ended, as written beside it."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from lehr.files import write_atomic
from lehr.proxy.sweep.queue import ATTEMPTS, Claim, Queue

SPARE = 1 << 20  # bytes that must be free to begin a run, or to blame a run for its failure
OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO}


@dataclass(frozen=True)
class Outcome:
    """How a run ended.

    Parameters
    ----------
    state : one of `lehr.proxy.sweep.queue.STATES`.
    loss : at its last point, nats per token; None where there is none.
    step : updates done at that point.
    seconds : of the last go.
    reason : why it did not end well, or what is to be known.
    log : path of what is read back, below the run's folder; None for none.
    code : version of the training's code, or of the files that the command names.
    params, params_total, batch_tokens : sizes, where they are known.
    """

    state: str
    loss: float | None = None
    step: int | None = None
    seconds: float = 0.0
    reason: str = ""
    log: str | None = None
    code: str = ""
    params: float | None = None
    params_total: float | None = None
    batch_tokens: float | None = None


def write_outcome(claim: Claim, outcome: Outcome) -> None:
    """Write how a run ended, under the owner's name, before it is ended."""
    write_atomic(claim.result_path, json.dumps(asdict(outcome)) + "\n")


def drop_outcomes(folder: Path) -> None:
    """Remove results from a run's folder whose owners died, or lost the run, before they could end it.

    For whoever has taken the run over: none of these will ever be read, as a run's result is that of who ended it.
    """
    for path in folder.glob("result-*.json"):
        path.unlink(missing_ok=True)


def read_outcome(queue: Queue, address: str, state: str) -> Outcome:
    """Read how an ended run ended; the state alone where nothing more can be read."""
    path = queue.run_folder(address) / f"result-{queue.ended_by(address, state)}.json"
    known = {field.name for field in fields(Outcome)}
    try:
        values = json.loads(path.read_bytes())
        return Outcome(**{key: value for key, value in values.items() if key in known} | {"state": state})
    except (OSError, ValueError, TypeError, AttributeError):
        return Outcome(state)


def disk_refused(error: BaseException) -> bool:
    """Whether an error comes from a disk that takes no more, however it was wrapped."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in OF_THE_DISK:
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def require_space(folder: Path) -> None:
    """Refuse to go on on a full disk: a run would fail, or has failed, for no fault of its own.

    Raises
    ------
    OSError
        If there is next to no space.
    """
    if shutil.disk_usage(folder).free < SPARE:
        raise OSError(errno.ENOSPC, "no space left", str(folder))


def goes(folder: Path, progress: int) -> tuple[int, int]:
    """Goes at a run so far, and those of the last ones that began at `progress` and ended by the worker's death.

    A line `begin N` stands for a go that began when the run had come as far as N, `let go` for one that was let go of
    in peace.
    """
    try:
        lines = (folder / ATTEMPTS).read_text().splitlines()
    except FileNotFoundError:
        return 0, 0
    in_vain = 0
    while in_vain < len(lines) and lines[-1 - in_vain] == f"begin {progress}":
        in_vain += 1
    return sum(line.startswith("begin ") for line in lines), in_vain
