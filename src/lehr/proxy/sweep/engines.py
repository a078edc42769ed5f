"""The engines by name."""

from __future__ import annotations

from pathlib import Path

from lehr.errors import unknown
from lehr.proxy.sweep.driver import Engine
from lehr.proxy.sweep.engine_options import EngineOptions

ENGINES = {
    "local": "processes of this machine",
    "ray": "workers on the nodes of a Ray cluster",
    "slurm": "jobs of a Slurm cluster",
}


def make_engine(name: str, folder: Path, workers: int | None, options: EngineOptions) -> Engine:
    """Return an engine for a sweep's folder, whose plan is written.

    Raises
    ------
    InputError
        If there is no such engine, or what it needs is not installed.
    ResultError
        If its cluster does not answer.
    """
    if name == "slurm":
        from lehr.proxy.sweep.slurm import SlurmEngine

        return SlurmEngine(folder, workers, options.slurm)
    if name == "ray":
        from lehr.proxy.sweep.ray import RayEngine

        return RayEngine(folder, workers, options.ray)
    if name != "local":
        raise unknown("engine", name, ENGINES)
    from lehr.proxy.sweep.local import LocalEngine

    return LocalEngine(folder, workers)
