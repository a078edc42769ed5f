"""What lehr asks of Slurm's programs, each bounded in time, and what their answers say."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lehr.errors import InputError, ResultError
from lehr.proxy.sweep.engine_options import SlurmOptions

PATIENCE = 4.5  # seconds for each of two answers at the beginning
LONGEST = 60.0  # seconds for one later: controllers are restarted now and then
# reasons for which a job that waits will wait for ever
STUCK = re.compile(
    r"held|launch failed|NodeLimit|TimeLimit|DependencyNeverSatisfied|BadConstraints|AccountNotAllowed|QOSNotAllowed|"
    r"InvalidAccount|InvalidQOS",
    re.I,
)


class SlurmError(ResultError):
    """Slurm refused, or did not answer."""


@dataclass(frozen=True)
class Task:
    """One task of a job's array, as squeue shows it."""

    job: str
    state: str
    reason: str

    @property
    def stuck(self) -> bool:
        """Whether it will never begin by itself."""
        return self.state == "PENDING" and bool(STUCK.search(self.reason))


def ask(argv: Sequence[str], seconds: float = LONGEST) -> str:
    """Run one of Slurm's programs; return what it printed.

    Raises
    ------
    InputError
        If the program is not there.
    SlurmError
        If it fails or takes longer; with what it said.
    """
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=seconds)
    except FileNotFoundError:
        raise InputError(
            f"there is no {argv[0]} here: run lehr where Slurm's commands are (a login node), or use --engine local."
        ) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(
            f"Slurm did not answer {argv[0]} within {seconds:g} s: is its controller up (scontrol ping)?"
        ) from None
    if done.returncode:
        said = " ".join((done.stderr or done.stdout).decode("utf-8", "replace").split())[:400]
        raise SlurmError(f"{argv[0]} failed: {said.rstrip('.') or f'exit code {done.returncode}'}.")
    return done.stdout.decode("utf-8", "replace")


def require_cluster(submit: Sequence[str]) -> None:
    """Make sure that a controller answers and would take the job.

    Raises
    ------
    InputError, SlurmError
        If not, within some ten seconds; with what Slurm says.
    """
    said = ask(["scontrol", "ping"], PATIENCE)
    if " UP" not in said:
        raise SlurmError(f"Slurm's controller does not answer: {' '.join(said.split())[:200].rstrip('.')}.")
    try:
        ask([*submit[:1], "--test-only", *submit[1:]], PATIENCE)
    except SlurmError as error:
        raise SlurmError(f"Slurm would not take the job; correct [engine.slurm]: {error}") from None


def submission(
    script: Path, name: str, output: Path, tasks: int, options: SlurmOptions
) -> list[str]:  # fmt: skip
    """Command that submits a script as an array of so many tasks, each a worker."""
    given = {
        "partition": options.partition, "account": options.account, "qos": options.qos,
        "constraint": options.constraint, "time": options.time_limit, "mem": options.memory,
        "gpus-per-node": options.gpus_per_node,
    }  # fmt: skip
    place = str(output).replace("\\", "\\\\").replace("%", "%%")
    return [
        "sbatch", "--parsable", f"--job-name={name}", f"--array=0-{tasks - 1}", f"--nodes={options.nodes}",
        f"--ntasks={options.nodes}", f"--cpus-per-task={options.cpus}", f"--output={place}/%A_%a.txt",
        f"--error={place}/%A_%a.txt", "--open-mode=append", "--requeue", f"--signal=B:TERM@{options.notice}",
        *(f"--{key}={value}" for key, value in given.items() if value is not None), *options.options, str(script),
    ]  # fmt: skip


def submit(command: Sequence[str]) -> str:
    """Submit; return the job's number.

    Raises
    ------
    SlurmError
        If Slurm refuses.
    """
    return ask(command).strip().partition(";")[0]


def tasks_of(name: str) -> list[Task]:
    """Tasks of one's own jobs of a name that wait or run.

    Raises
    ------
    SlurmError
        If Slurm does not answer.
    """
    said = ask(["squeue", "--me", "--noheader", "--array", f"--name={name}", "--format=%i|%T|%r"])
    rows = [line.split("|", 2) for line in said.splitlines() if line.count("|") >= 2]
    return [Task(*map(str.strip, row)) for row in rows]


def cancel(name: str, *, hard: bool) -> None:
    """Cancel one's own jobs of a name: TERM and, after Slurm's KillWait, KILL; at once if `hard`.

    Raises
    ------
    SlurmError
        If Slurm does not answer.
    """
    if hard:
        ask(["scancel", "--me", "--quiet", f"--name={name}", "--signal=KILL", "--full"])
    ask(["scancel", "--me", "--quiet", f"--name={name}"])
