"""How long the runs of a sweep will take, from a few updates of its shapes on this machine. Imports torch.

The time of an update is a straight line in its FLOPs from one measured shape to the next: small models take the time
of the calls, large ones that of the products. A run is its start, its updates and its validations.
"""

from __future__ import annotations

import json
import os
import time
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from lehr.proxy.config import TrainConfig, make_config
from lehr.proxy.sweep.jobs import Job

SHAPES = 3  # measured: the cheapest, the dearest, and the one in the middle
WARM = 2  # updates before the clock: the first allocate, and compile
LEAST, ENOUGH = 3, 2.0  # updates, and seconds of them, that are timed


@dataclass(frozen=True)
class Speed:
    """What one shape takes, in seconds.

    Parameters
    ----------
    flops : of an update.
    start : until the first update is done, less a common update.
    update, validation : of one.
    """

    flops: float
    start: float
    update: float
    validation: float


def measure(
    jobs: Sequence[Job], threads: int | None = None, tell: Callable[[str], None] | None = None
) -> list[Speed]:
    """Train a few updates of up to `SHAPES` shapes, in memory; nothing is written.

    Parameters
    ----------
    jobs : of a sweep; commands are passed over.
    threads : of a worker; None leaves torch's number.
    tell : called with the name of the run whose shape is measured.

    Returns
    -------
    By FLOPs of an update; empty where all are commands.

    Raises
    ------
    InputError, ResultError
        As `lehr.proxy.train.train` does before its first update.
    """
    shapes: dict[str, Job] = {}
    for job in jobs:
        if job.kind == "train":
            shapes.setdefault(_shape(job), job)
    ordered = sorted(shapes.values(), key=lambda job: job.cost)
    if not ordered:  # without torch, which commands do not need here
        return []
    chosen = {place: ordered[place] for place in (0, len(ordered) // 2, len(ordered) - 1)}
    assert len(chosen) <= SHAPES
    found = []
    with _threads(threads):
        for job in chosen.values():
            if tell:
                tell(job.name)
            found.append(_measure(make_config(dict(job.payload) | {"branch": None}, job.name), job.cost))
    return found


def expected_seconds(jobs: Sequence[Job], speeds: Sequence[Speed]) -> float | None:
    """Seconds of one worker that runs will take; None where one is a command, or nothing was measured."""
    if not speeds or any(job.kind != "train" for job in jobs):
        return None
    return sum(_expected(job, speeds) for job in jobs)


def _expected(job: Job, speeds: Sequence[Speed]) -> float:
    every = job.payload["training"]["validate_every"]
    validations = job.steps // every - job.branch_step // every + bool(job.steps % every)
    at = job.cost
    return (
        _between(at, speeds, "start")
        + job.updates * _between(at, speeds, "update")
        + validations * _between(at, speeds, "validation")
    )


def _between(flops: float, speeds: Sequence[Speed], what: str) -> float:
    """A straight line between the neighbours; beyond them in proportion to the FLOPs, never below."""
    known = [speed.flops for speed in speeds]
    values = [float(getattr(speed, what)) for speed in speeds]
    place = bisect_left(known, flops)
    if place == 0 or known[0] == known[-1]:
        return values[0]
    if place == len(known):
        return values[-1] * flops / known[-1]
    share = (flops - known[place - 1]) / (known[place] - known[place - 1])
    return values[place - 1] + share * (values[place] - values[place - 1])


def _shape(job: Job) -> str:
    """What decides how long an update takes."""
    training = {
        key: job.payload["training"][key]
        for key in ("batch", "accumulate", "precision", "compile", "validate_sequences")
    }
    return json.dumps([job.payload["model"], training], sort_keys=True)


@contextmanager
def _threads(number: int | None) -> Iterator[None]:
    import torch

    before = torch.get_num_threads()
    if number is not None and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _measure(config: TrainConfig, flops: float) -> Speed:
    from lehr.proxy import distributed
    from lehr.proxy.data import open_data
    from lehr.proxy.memory import check_memory, explaining_shortage
    from lehr.proxy.session import open_session, update, validate

    with distributed.joined() as ranks:
        source = open_data(config.data, config.model.context)
        check_memory(config, source.vocab_size, ranks)
        with explaining_shortage(config, source.vocab_size, ranks):
            update(open_session(config, source, ranks))  # what a process does once: imports, kernels
            begin = time.perf_counter()
            session = open_session(config, source, ranks)
            steps = config.training.plan.steps

            def one() -> None:
                session.step %= steps  # the schedule may be shorter than what is timed
                update(session)[0].item()  # waits for a GPU

            for _ in range(WARM):
                one()
            start, times = time.perf_counter() - begin, list[float]()
            while len(times) < LEAST or sum(times) < ENOUGH:
                begin = time.perf_counter()
                one()
                times.append(time.perf_counter() - begin)
            typical = sum(times) / len(times)
            validate(session)
            begin = time.perf_counter()
            validate(session)
            validation = time.perf_counter() - begin
    return Speed(flops, max(0.0, start - WARM * typical), typical, validation)
