"""From the runs of a SWEEP.toml to its plan: every run as a job, with its address, FLOPs and memory. No torch."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lehr.errors import InputError, bad
from lehr.proxy.config import TrainConfig, make_config
from lehr.proxy.counts import count
from lehr.proxy.data import open_data
from lehr.proxy.footprint import estimate_memory
from lehr.proxy.runlog import code_version
from lehr.proxy.sweep.expanding import Life, Point, lives, points
from lehr.proxy.sweep.jobs import Job, Plan, address_of
from lehr.proxy.sweep.outcome import read_outcome
from lehr.proxy.sweep.placeholders import fill, names_in
from lehr.proxy.sweep.queue import Queue
from lehr.proxy.sweep.spec import SweepSpec
from lehr.proxy.transferring import plan_of
from lehr.schedule.export import EXPORTERS
from lehr.schedule.spec import to_text

MOST_NAMED = 5  # runs in a sentence
MADE = ("out", "parent_out")  # placeholders that get their value when a run begins
GIVEN = (
    "params",
    "params_total",
    "batch_tokens",
    "dataset",
    "weight_decay",
    "experts",
)  # facts of a command's values


@dataclass(frozen=True)
class Planned:
    """A plan, with what was noticed on the way."""

    plan: Plan
    remarks: tuple[str, ...] = ()


def plan_sweep(
    spec: SweepSpec, source: str, queue: Queue | None = None, strict_code: bool = False
) -> Planned:
    """Make the plan of a sweep.

    Parameters
    ----------
    spec : read from `source`, which messages name.
    queue : of the sweep's folder, where it is known what has been trained.
    strict_code : whether a finished run that another version of the code trained is another run, trained anew.

    Raises
    ------
    InputError
        If a run is not sound, names repeat, or the budget is exceeded; the message names the run.
    """
    make = _commands(spec, source) if spec.command else _trainings(source)
    jobs: dict[str, Job] = {}
    remarks: list[str] = []
    same: list[str] = []
    names: dict[str, str] = {}
    old = 0
    for point in points(spec, source):
        own: dict[str, Job] = {}
        for life in lives(spec, point, source):
            parent = own[life.trunk] if life.trunk else None
            job, code = make(point, life, parent)
            job, changed = _by_code(job, code, queue, strict_code)
            old += changed
            own[life.name] = job
            if job.address in jobs:
                if jobs[job.address].name != job.name:
                    same.append(f"{job.name} as {jobs[job.address].name}")
                continue
            if names.setdefault(job.name, job.address) != job.address:
                raise bad(
                    f"{source}: names of runs", "must be unique", job.name, "give [[runs]] names of their own"
                )
            jobs[job.address] = job
    if same:
        more = f" and {len(same) - MOST_NAMED} more" if len(same) > MOST_NAMED else ""
        remarks.append(f"the same run, trained once: {', '.join(same[:MOST_NAMED])}{more}")
    if old:
        remarks.append(
            f"{old} finished runs were trained by another version of the code; they count as done: "
            "--strict-code trains them anew"
        )
    if spec.command and not _told_of_the_lr(spec.command.run, str(spec.training["schedule"])):
        remarks.append(
            "the command is told neither the schedule nor its peak LR: it has no {schedule_...} or {peak_lr}"
        )
    _check_budget(spec, list(jobs.values()), source)
    budget = spec.budget
    return Planned(
        Plan(spec.name, code_version(), tuple(jobs.values()), budget.hours_a_run, budget.deaths),
        tuple(remarks),
    )


def _by_code(job: Job, code: str, queue: Queue | None, strict: bool) -> tuple[Job, bool]:
    """The job, under an address of its own where its finished run counts for another; and whether the code changed."""
    if queue is None or queue.state(job.address) != "done":
        return job, False
    before = read_outcome(queue, job.address, "done").code
    if before == code or not before:
        return job, False
    return (
        replace(job, address=address_of({"run": job.address, "code": code})) if strict else job
    ), not strict


def _trainings(source: str) -> Any:
    """Return what makes jobs of lehr's own trainings; data are opened once for all that share them."""
    opened: dict[str, tuple[int, str]] = {}
    counted: dict[tuple[str, int], Any] = {}
    code = code_version()

    def make(point: Point, life: Life, parent: Job | None) -> tuple[Job, str]:
        config = _config(point, life, parent, source)
        key = f"{config.data.model_dump_json()} {config.model.context}"
        if key not in opened:
            data = open_data(config.data, config.model.context)
            opened[key] = data.vocab_size, data.fingerprint
        vocab, fingerprint = opened[key]
        shape = config.model.model_dump_json(), vocab
        if shape not in counted:
            counted[shape] = count(config.model, vocab)
        sizes = counted[shape]
        payload = config.model_dump(mode="json")
        identity = {key: value for key, value in payload.items() if key != "name"}
        updates = life.plan.steps - life.branch_step
        facts = {
            "peak_lr": life.plan.peak, "seed": config.training.seed, **_scalars(point.varied),
            "params": sizes.active_non_embedding, "params_total": sizes.params_total,
            "batch_tokens": config.batch_tokens,
        }  # fmt: skip
        return Job(
            life.name, address_of({"train": identity, "data": fingerprint}), "train", payload,
            config.training.schedule, life.plan.steps, life.branch_step, parent.address if parent else None,
            float(sizes.training_flops) * config.batch_tokens * updates, estimate_memory(config, vocab).total, facts,
        ), code  # fmt: skip

    return make


def _config(point: Point, life: Life, parent: Job | None, source: str) -> TrainConfig:
    """The configuration of a run; the rule of transfer, if any, has been tried."""
    training = dict(point.tables["training"])
    training["schedule"] = to_text(life.plan)
    training["keep"] = sorted({*life.keep, *(() if parent else training.get("keep", ()))})
    values = {**point.tables, "name": life.name, "training": training}
    if parent is not None:
        values["branch"] = {"run": parent.address, "step": life.branch_step}
    where = f"{source}: run {life.name}"
    config = make_config(values, where)
    wrong = [step for step in config.training.keep if step > life.plan.steps]
    if wrong:
        raise bad(
            f"{where}: training.keep",
            f"must lie within the {life.plan.steps} updates",
            wrong[0],
            "correct it",
        )
    if config.training.batch % config.training.accumulate:
        raise bad(
            f"{where}: training.batch", f"must be a multiple of accumulate, {config.training.accumulate}",
            config.training.batch, "change one of them",
        )  # fmt: skip
    try:
        plan_of(config)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None
    return config


def _commands(spec: SweepSpec, source: str) -> Any:
    """Return what makes jobs of a command."""
    command = spec.command
    assert command is not None
    code = _content(command.code, source)
    try:
        words = shlex.split(command.run)
    except ValueError as error:
        raise InputError(f"{source}: command.run cannot be split into words: {error}.") from None
    if not words:
        raise InputError(f"{source}: command.run is empty: give the command that trains.")
    if command.log and not names_in(command.log):
        raise bad(f"{source}: command.log", "must hold a placeholder, or all runs share a log", command.log,
                  'write "{out}/..."')  # fmt: skip

    def make(point: Point, life: Life, parent: Job | None) -> tuple[Job, str]:
        where = f"{source}: run {life.name}"
        extra = set(point.tables["training"]) - {"schedule", "seed"}
        if extra:
            raise InputError(
                f"{where}: training.{min(extra)} says nothing to a [command]: give it as a placeholder in [values]."
            )
        text, seed = to_text(life.plan), point.tables["training"].get("seed", 0)
        own = {
            "name": life.name, "schedule": text, "steps": life.plan.steps, "peak_lr": life.plan.peak, "seed": seed,
            "branch_step": life.branch_step, "keep": ",".join(map(str, life.keep)),
        }  # fmt: skip
        _check_own(point.values, own, where)
        values: dict[str, Any] = {**point.values, **own}
        known = values | dict.fromkeys(
            (*MADE, *(f"schedule_{name.replace('-', '_')}" for name in EXPORTERS)), ""
        )
        for part, text_of in (("command.run", command.run), ("command.log", command.log or "")):
            fill(text_of, known, f"{where}: {part}")
        payload = {
            "run": command.run, "log": command.log, "resume": command.resume, "grace": command.grace, "values": values,
            "code": code, "environment": command.environment,
        }  # fmt: skip
        used = names_in(command.run) | names_in(command.log or "")
        identity = {
            "run": command.run, "log": command.log, "environment": command.environment, "schedule": text,
            "values": {key: value for key, value in values.items() if key in used and key != "name"},
            "keep": list(life.keep), "parent": parent.address if parent else None,
        }  # fmt: skip
        facts = {"peak_lr": life.plan.peak, "seed": seed, **_scalars(point.varied)}
        facts |= {key: value for key, value in point.values.items() if key in GIVEN}
        return Job(
            life.name, address_of({"command": identity}), "command", payload, text, life.plan.steps, life.branch_step,
            parent.address if parent else None, _flops(facts, life), None, facts,
        ), code  # fmt: skip

    return make


def _check_own(given: Mapping[str, Any], own: Mapping[str, Any], where: str) -> None:
    """Refuse placeholders of the user's that are lehr's own and say something else there."""
    for name, value in given.items():
        if name in MADE or name.startswith("schedule_") or (name in own and own[name] != value):
            remedy = "give it by seeds or training.seed" if name == "seed" else "choose another name"
            raise bad(
                f"{where}: the placeholder {name!r}",
                "is lehr's own and stands for another value",
                value,
                remedy,
            )


def _flops(facts: Mapping[str, Any], life: Life) -> float | None:
    """6 N D (Kaplan et al., arXiv 2001.08361), where a command's sizes are given."""
    try:
        return 6.0 * facts["params"] * facts["batch_tokens"] * (life.plan.steps - life.branch_step)
    except (KeyError, TypeError):
        return None


def _told_of_the_lr(run: str, schedule: str) -> bool:
    """Whether a command has a placeholder by which it can follow the schedule."""
    used = names_in(run)
    return bool(used & {"schedule", "peak_lr", *names_in(schedule)}) or any(
        n.startswith("schedule_") for n in used
    )


def _content(paths: tuple[str, ...], source: str) -> str:
    """Hash of files and of all files in folders.

    Raises
    ------
    InputError
        If one cannot be read.
    """
    digest = hashlib.sha256()
    for name in paths:
        path = Path(name)
        files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
        for file in files:
            if "__pycache__" in file.parts:
                continue
            try:
                digest.update(str(file).encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
            except OSError as error:
                raise InputError(
                    f"{source}: command.code: {file} cannot be read: {error.strerror}."
                ) from None
    return digest.hexdigest()[:16] if paths else ""


def _scalars(values: Mapping[str, Any]) -> dict[str, str | float | int | bool]:
    return {key: value for key, value in values.items() if isinstance(value, str | float | int | bool)}


def _check_budget(spec: SweepSpec, jobs: list[Job], source: str) -> None:
    budget = spec.budget
    if budget.runs is not None and len(jobs) > budget.runs:
        raise bad(
            f"{source}: the runs", f"must not exceed budget.runs, {budget.runs}", len(jobs), "vary less"
        )
    flops = sum(job.flops or 0.0 for job in jobs)
    if budget.flops is not None and flops > budget.flops:
        raise bad(
            f"{source}: the FLOPs of all runs", f"must not exceed budget.flops, {budget.flops:g}",
            float(f"{flops:.4g}"), "train shorter, smaller or fewer",
        )  # fmt: skip
    if budget.flops is not None and any(job.flops is None for job in jobs):
        raise InputError(
            f"{source}: budget.flops cannot be held against a [command] of unknown size: give params and batch_tokens "
            "in [values]."
        )
