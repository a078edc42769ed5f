"""The payload that is the user's own training: a command, what it is told, and the end of its processes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import time
from pathlib import Path

from lehr.errors import InputError
from lehr.proxy.sweep.beat import LOOK, Beat, Stopped
from lehr.proxy.sweep.jobs import Job
from lehr.proxy.sweep.outcome import Outcome
from lehr.proxy.sweep.placeholders import fill, names_in

ANSWER = 10.0  # seconds for an answer of Slurm's
TOGETHER = 0.4  # seconds within which a command and its worker may be told to stop
MARK = "LEHR_SWEEP_RUN"  # environment variable that every process of a command has
TAIL = 400  # characters of a command's last words


def run_command(job: Job, folder: Path, beat: Beat, attempt: int) -> Outcome:
    """Run the user's command without a shell, and read its log back.

    Raises
    ------
    Stopped
        If the run should stop; the command has been ended.
    """
    out = folder / ("out" if job.payload["resume"] else f"out-{attempt}")
    out.mkdir(parents=True, exist_ok=True)
    values = dict(job.payload["values"]) | _files(job, folder, out)
    argv = [fill(word, values, "command") for word in shlex.split(job.payload["run"])]
    environment = {**os.environ, **job.payload["environment"], MARK: str(folder.absolute())}
    began = time.perf_counter()
    code, reason = _call(argv, environment, out, beat, job.payload["grace"])
    if reason and code:
        raise Stopped(reason)
    said = _last_words(out / "output.txt")
    if code:
        ended = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        return Outcome("failed", reason=f"the command ended {ended}: {said or 'it said nothing'}")
    from lehr.proxy.sweep.results import read_command_log

    log = fill(job.payload["log"], values, "command.log") if job.payload["log"] else None
    found = read_command_log(job, out, Path(log) if log else None)
    if reason and found.state == "failed":  # told to stop, it ended well, but before its time
        raise Stopped(reason)
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


def _call(
    argv: list[str], environment: dict[str, str], out: Path, beat: Beat, grace: float
) -> tuple[int, str | None]:  # fmt: skip
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
            hard = reason == "lost" or len(stopped) * LOOK > grace
            if hard:
                _signal_group(child.pid, signal.SIGKILL)
            elif first and not _told_by_slurm(argv[0]):
                _signal_group(child.pid, signal.SIGTERM)

        beat.interrupting(interrupt)
        try:
            code = child.wait()
        finally:
            beat.interrupting(None)
            _signal_group(child.pid, signal.SIGKILL)  # what it left running
    return code, stopped[0] if stopped else _told_too(beat) if code else None


def _told_too(beat: Beat) -> str | None:
    """Say whether the worker was told to stop: Slurm tells all processes of a job, and the command may end first."""
    until = time.monotonic() + TOGETHER
    while beat.ending != "stopped" and time.monotonic() < until:
        time.sleep(0.02)
    return "stopped" if beat.ending == "stopped" else None


def _told_by_slurm(program: str) -> bool:
    """Let Slurm tell a step that srun started to stop; srun itself, told, would kill it, and nothing would be saved."""
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or Path(program).name != "srun":
        return False
    try:  # all steps of the job, but not its script, to which this worker belongs
        told = subprocess.run(
            ["scancel", "--quiet", "--signal=TERM", job], capture_output=True, timeout=ANSWER
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return told.returncode == 0


def _signal_group(group: int, number: int) -> None:
    try:
        os.killpg(group, number)
    except (ProcessLookupError, PermissionError):
        pass


def end_leftovers(folder: Path) -> None:
    """End the processes that a command left when its worker died: no run is trained by two at once. On Linux."""
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
