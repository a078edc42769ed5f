"""What a worker does with a run: lehr's own training, or the user's command. Torch is imported by the former alone."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from lehr.errors import InputError, LehrError
from lehr.proxy.sweep.beat import LOOK, Beat
from lehr.proxy.sweep.jobs import Job
from lehr.proxy.sweep.outcome import Outcome, disk_refused, require_space

GRACE = 10.0  # seconds between the friendly and the hard end of a command
MARK = "LEHR_SWEEP_RUN"  # environment variable that every process of a command has
TAIL = 400  # characters of a command's last words
_PLACE = re.compile(r"\{\{|\}\}|\{(\w+)\}")


class Stopped(Exception):  # noqa: N818  # no error: the run is to be let go of, for the reason given
    """The run should not go on."""


def fill(text: str, values: Mapping[str, Any], where: str) -> str:
    """Put values in the place of {names}; {{ and }} stand for braces.

    >>> fill("--lr {peak_lr} {{x}}", {"peak_lr": 0.001}, "command")
    '--lr 0.001 {x}'

    Raises
    ------
    InputError
        If a name has no value.
    """
    from lehr.errors import unknown

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        if match[1] not in values:
            raise InputError(f"{where}: {unknown('placeholder', match[1], values)}")
        return str(values[match[1]])

    return _PLACE.sub(value, text)


def names_in(text: str) -> set[str]:
    """Names of the placeholders of a text."""
    return {match[1] for match in _PLACE.finditer(text) if match[1]}


def run_training(job: Job, folder: Path, beat: Beat, attempt: int) -> Outcome:
    """Train, going on where the folder stands.

    Raises
    ------
    Stopped
        If the run should stop; it has been saved, unless it is lost.
    """
    from lehr.proxy.config import make_config
    from lehr.proxy.diverged import Diverged
    from lehr.proxy.runlog import LOG, code_version, read_log
    from lehr.proxy.train import train

    config = make_config(dict(job.payload), job.name)
    if (folder / LOG).exists():  # begun under another name, perhaps: a name decides nothing
        begun = read_name(folder / LOG)
        config = config.model_copy(update={"name": begun or config.name})

    def stop() -> bool:
        if beat.reason == "lost":
            raise Stopped("lost")
        return beat.reason is not None

    remarks: list[str] = []
    try:
        result = train(config, folder, resume=True, stop=stop, remark=remarks.append)
    except Diverged as error:
        log = read_log(folder)
        return Outcome("diverged", None, log.last, reason=str(error), log=LOG, code=code_version())
    if not result.finished:
        raise Stopped(beat.reason or "stopped")
    header = read_log(folder).header
    return Outcome(
        "done", result.val_loss, result.step, result.seconds, " ".join(remarks), LOG, code_version(),
        header["params"], header["params_total"], header["batch_tokens"],
    )  # fmt: skip


def read_name(log: Path) -> str | None:
    """Name that the header of a run log gives."""
    import json

    try:
        with log.open("rb") as file:
            name = json.loads(file.readline(1 << 20))["name"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return str(name)


def run_command(job: Job, folder: Path, beat: Beat, attempt: int) -> Outcome:
    """Run the user's command without a shell, and read its log back.

    Raises
    ------
    Stopped
        If the run should stop; the command has been ended.
    """
    if attempt > 1:
        end_leftovers(folder)
    out = folder / ("out" if job.payload["resume"] else f"out-{attempt}")
    out.mkdir(parents=True, exist_ok=True)
    values = dict(job.payload["values"]) | _files(job, folder, out)
    argv = [fill(word, values, "command") for word in shlex.split(job.payload["run"])]
    environment = {**os.environ, **job.payload["environment"], MARK: str(folder.absolute())}
    began = time.perf_counter()
    code, reason = _call(argv, environment, out, beat)
    if reason:
        raise Stopped(reason)
    said = _last_words(out / "output.txt")
    if code:
        ended = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return Outcome("failed", reason=f"the command ended {ended}: {said or 'it said nothing'}")
    from lehr.proxy.sweep.results import read_command_log

    log = fill(job.payload["log"], values, "command.log") if job.payload["log"] else None
    found = read_command_log(job, out, Path(log) if log else None)
    seconds = time.perf_counter() - began
    return Outcome(**{**vars(found), "seconds": seconds, "code": job.payload["code"]})


def _files(job: Job, folder: Path, out: Path) -> dict[str, str]:
    """Places that a command is told, and the files made for it, of which only those it asks for."""
    from lehr.schedule.export import export
    from lehr.schedule.spec import parse

    text = job.payload["run"] + (job.payload["log"] or "")
    parent = folder.parent / job.parent if job.parent else None
    values = {"out": str(out.absolute()), "parent_out": str(_last_out(parent)) if parent else ""}
    for name in names_in(text):
        kind, _, framework = name.partition("_")
        if kind != "schedule" or not framework:
            continue
        made = export(parse(job.schedule), framework.replace("_", "-"), "code")
        path = out / f"schedule_{framework}{'.py' if made.language == 'python' else '.' + made.language}"
        path.write_text(made.text)
        values[name] = str(path.absolute())
    return values


def _last_out(folder: Path) -> Path:
    """The folder that a run's last go wrote into."""
    outs = [path for path in folder.glob("out*") if path.is_dir()]
    return max(outs, key=lambda path: int(path.name.partition("-")[2] or 0)).absolute() if outs else folder


def _call(argv: list[str], environment: dict[str, str], out: Path, beat: Beat) -> tuple[int, str | None]:
    """Run a command to its end; return its exit code, and why it was stopped, if it was."""
    stopped: list[str] = []
    with (out / "output.txt").open("wb") as said:
        try:
            child = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=said, stderr=subprocess.STDOUT, env=environment,
                start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            raise InputError(f"the command cannot be run: {argv[0]!r}: {error.strerror}.") from error

        def interrupt(reason: str) -> None:
            if reason == "orphaned":  # what has been computed is not thrown away: the run ends first
                return
            first = not stopped
            stopped.append(reason)
            hard = reason == "lost" or len(stopped) * LOOK > GRACE
            if first or hard:
                _signal_group(child.pid, signal.SIGKILL if hard else signal.SIGTERM)

        beat.interrupting(interrupt)
        try:
            code = child.wait()
        finally:
            beat.interrupting(None)
            _signal_group(child.pid, signal.SIGKILL)  # what it left running
    return code, stopped[0] if stopped and code else None


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def end_leftovers(folder: Path) -> None:
    """End the processes of an earlier go, whose worker died: no run is trained by two at once. On Linux."""
    mark = f"{MARK}={folder.absolute()}\0".encode()
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if mark in path.read_bytes() + b"\0":
                os.kill(int(path.parent.name), signal.SIGKILL)
        except OSError:
            continue


def _last_words(path: Path) -> str:
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4 * TAIL))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return " ".join(text.split())[-TAIL:]


PAYLOADS: dict[str, Callable[[Job, Path, Beat, int], Outcome]] = {
    "train": run_training,
    "command": run_command,
}


def run_job(job: Job, folder: Path, beat: Beat, attempt: int) -> Outcome:
    """Do what a run asks for; what is wrong with it becomes its outcome.

    Raises
    ------
    Stopped
        If the run should stop.
    LehrError, OSError
        If the disk takes no more.
    """
    try:
        outcome = PAYLOADS[job.kind](job, folder, beat, attempt)
    except (Stopped, KeyboardInterrupt):
        raise
    except Exception as error:
        if disk_refused(error):
            raise
        known = isinstance(error, LehrError)
        outcome = Outcome("failed", reason=str(error) if known else f"{type(error).__name__}: {error}")
    if outcome.state == "failed":
        require_space(folder)
    return outcome
