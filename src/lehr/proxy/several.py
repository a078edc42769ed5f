"""Train many runs, trunks before their branches, so that it can be stopped and gone on with at any time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lehr.errors import InputError, ResultError, bad
from lehr.proxy.config import TrainConfig
from lehr.proxy.distributed import Ranks, joined, same_for_all
from lehr.proxy.runlog import Row
from lehr.proxy.train import Result, train


def train_all(
    configs: Sequence[TrainConfig], out: Path | str, *,
    begin: Callable[[TrainConfig], Callable[[Row], None] | None] | None = None,
    stop: Callable[[], bool] | None = None, remark: Callable[[str], None] | None = None,
) -> list[Result]:  # fmt: skip
    """Train each run in the folder of its name under `out`, parents first; what is finished is left as it is.

    Parameters
    ----------
    configs : the runs, names unique and fit for folders; `branch.run` names another of them, or a folder.
    out : folder of the folders.
    begin : called before each run; what it returns is called with every row of that run's log.
    stop, remark : as for `lehr.proxy.train.train`; after a stop no further run is begun.

    Returns
    -------
    What became of each run begun, in the order trained.

    Raises
    ------
    InputError
        If names repeat or cannot name folders, or runs branch in a circle; or as `train` does.
    ResultError
        Once all others are trained, if some diverged, with what was said of the first; their branches are left out.
    """
    ordered = parents_first(configs)
    with joined() as ranks:  # once for all
        results, failed = _train_in_order(ordered, Path(out), ranks, begin, stop, remark)
    if failed:
        names, first = ", ".join(failed), next(iter(failed.values()))
        raise ResultError(f"{len(failed)} of {len(configs)} runs failed ({names}): {first}")
    return results


def _train_in_order(
    configs: Sequence[TrainConfig], out: Path, ranks: Ranks,
    begin: Callable[[TrainConfig], Callable[[Row], None] | None] | None, stop: Callable[[], bool] | None,
    remark: Callable[[str], None] | None,
) -> tuple[list[Result], dict[str, str]]:  # fmt: skip
    """Train until asked to stop; return the results, and why others failed, by name."""
    results: list[Result] = []
    failed: dict[str, str] = {}
    for config in configs:
        if config.branch and config.branch.run in failed:
            failed[config.name] = f"its parent {config.branch.run!r} failed."
            continue
        try:
            progress = begin(config) if begin else None
            result = train(
                config, out / config.name, resume=True, progress=progress, stop=stop, remark=remark
            )
        except ResultError as error:
            failed[config.name] = str(error)
            if remark:
                remark(str(error))
            continue
        results.append(result)
        if not result.finished or same_for_all(bool(stop and stop()), ranks):
            break
    return results, failed


def parents_first(configs: Sequence[TrainConfig]) -> list[TrainConfig]:
    """Order runs so that each comes after the one it branches from; otherwise the order given.

    Raises
    ------
    InputError
        If names repeat or cannot name folders, or runs branch in a circle.
    """
    waiting: dict[str, TrainConfig] = {}
    for config in configs:
        if Path(config.name).name != config.name or config.name in (".", ".."):
            raise bad(
                "name",
                "must be the name of a folder, as it is among many runs",
                config.name,
                "rename the run",
            )
        if config.name in waiting:
            raise bad("names of runs", "must be unique", config.name, "rename one of the two")
        waiting[config.name] = config
    ordered: list[TrainConfig] = []
    while waiting:
        ready = [c for c in waiting.values() if not (c.branch and c.branch.run in waiting)]
        if not ready:
            raise InputError(
                f"the runs {', '.join(waiting)} branch from each other in a circle: start one anew."
            )
        ordered.append(ready[0])
        del waiting[ready[0].name]
    return ordered
