"""`lehr train`: train one proxy, with a progress bar, and save on Ctrl-C."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lehr.cli.common import clean, print_json, say, show
from lehr.errors import InputError, LehrError, ResultError, bad

if TYPE_CHECKING:
    from rich.progress import Progress

    from lehr.proxy.config import TrainConfig
    from lehr.proxy.runlog import Row
    from lehr.proxy.train import Result

REFRESH = 0.2  # seconds between two changes of the bar


def train(
    config: Annotated[Path, typer.Argument(help="TOML file that says what to train.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; default runs/NAME, NAME as in the file.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the folder's run stands.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Train a small dense or mixture-of-experts model under a schedule; its log is read by lehr import.

    Under torchrun (torchrun --nproc-per-node N -m lehr.cli.main train ...) N processes share every batch.
    """
    from lehr.proxy.config import load_config

    wanted = load_config(config)
    folder = out or _default_folder(wanted)
    run = import_train()
    first = os.environ.get("RANK", "0") == "0"
    try:
        with stopping() as stop, _bar(wanted, first) as progress:
            result = run(
                wanted, folder, resume=resume, progress=progress, stop=stop,
                remark=(lambda text: say(f"warning: {text}")) if first else None,
            )  # fmt: skip
    except LehrError as error:
        if first:
            raise
        raise typer.Exit(2 if isinstance(error, InputError) else 1) from None  # the first rank has said why
    if not result.finished:
        again = f"lehr train {config} --out {folder} --resume"
        raise ResultError(f"stopped at step {result.step} of {result.steps} and saved: go on with `{again}`.")
    if first:
        if as_json:
            print_json(to_json(result))
        else:
            show(to_text(result))


def train_several(configs: Sequence[TrainConfig], folder: Path) -> None:
    """Train runs, each in the folder of its name under `folder`; what is finished is left as it is.

    Raises
    ------
    InputError, ResultError
        As `lehr.proxy.several.train_all`, or if torch is missing, or if it was stopped.
    """
    import_train()
    from lehr.proxy.several import train_all

    with stopping() as stop, _common_bar(configs) as begin:
        results = train_all(
            configs, folder, begin=begin, stop=stop, remark=lambda text: say(f"warning: {text}")
        )
    if not all(result.finished for result in results):
        raise ResultError(
            f"stopped and saved within run {len(results)} of {len(configs)}: the same command goes on."
        )


def to_json(result: Result) -> dict[str, Any]:
    """What became of a training, in JSON's terms."""
    return {
        "name": result.name, "folder": str(result.folder), "log": str(result.folder / "log.jsonl"),
        "steps": result.steps, "train_loss": result.train_loss, "val_loss": result.val_loss,
        "seconds": result.seconds, "tokens": result.tokens,
        "tokens_per_second": result.tokens / result.seconds if result.seconds else None,
        "resumed_from": result.resumed_from, "remarks": list(result.remarks),
    }  # fmt: skip


def to_text(result: Result) -> str:
    """Say what became of a training, and what to do with it."""
    rate = f", {result.tokens / result.seconds:,.0f} tokens/s" if result.seconds else ""
    log = result.folder / "log.jsonl"
    return clean(
        f"{result.name}: {result.steps} updates, validation loss {result.val_loss:.4f}, "
        f"training loss {result.train_loss:.4f}, {result.seconds:.0f} s{rate}\n"
        f"{log}: read it with `lehr import {log} --into STORE`"
    )


def _default_folder(config: TrainConfig) -> Path:
    if Path(config.name).name != config.name or config.name in (".", ".."):
        raise bad(
            "name", "must be the name of a folder, unless --out is given", config.name, "give --out DIR"
        )
    return Path("runs") / config.name


def import_train() -> Callable[..., Result]:
    """Return `lehr.proxy.train.train`.

    Raises
    ------
    InputError
        If torch is missing.
    """
    try:
        from lehr.proxy.train import train as run
    except ImportError as error:
        if (error.name or "").partition(".")[0] != "torch":
            raise
        raise InputError("training needs torch: install it with `pip install 'lehr[train]'`.") from None
    return run


@contextmanager
def stopping() -> Iterator[Callable[[], bool]]:
    """Let a first Ctrl-C (or SIGTERM, as cluster managers send) end the training well, and a second one at once."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(number)
        say("stopping after this update; again to stop at once, without saving")

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number in before:
            signal.signal(number, note)
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _bar(config: TrainConfig, first: bool) -> Iterator[Callable[[Row], None] | None]:
    """Show the step, the loss, the speed and the time left on stderr."""
    if not first or not sys.stderr.isatty():
        yield None
        return
    with _progress() as bar:
        task = bar.add_task(clean(config.name), total=config.training.plan.steps, loss="-", rate="-")
        seen: list[Row] = []

        def show(row: Row) -> None:
            if seen and row.seconds - seen[-1].seconds < REFRESH:
                return
            if seen:
                rate = (row.tokens - seen[-1].tokens) / (row.seconds - seen[-1].seconds)
                bar.update(task, completed=row.step, loss=f"{row.train_loss:.4f}", rate=f"{rate:,.0f}")
            seen[:] = [row]

        yield show


@contextmanager
def _common_bar(
    configs: Sequence[TrainConfig],
) -> Iterator[Callable[[TrainConfig], Callable[[Row], None] | None] | None]:
    """Show the run in hand and the updates of all."""
    if not sys.stderr.isatty():
        yield None
        return
    with _progress() as bar:
        own = {c.name: c.training.plan.steps - (c.branch.step if c.branch else 0) for c in configs}
        task = bar.add_task("", total=sum(own.values()), loss="-", rate="-")
        begun: list[str] = []

        def begin(config: TrainConfig) -> Callable[[Row], None]:
            before = sum(own[name] for name in begun)
            begun.append(config.name)
            bar.update(task, description=clean(config.name), completed=before)
            first = config.branch.step if config.branch else 0

            def show(row: Row) -> None:
                bar.update(task, completed=before + row.step - first, loss=f"{row.train_loss:.4f}")

            return show

        yield begin


def _progress() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("loss {task.fields[loss]}"),
        TextColumn("{task.fields[rate]} tokens/s"), TimeRemainingColumn(),
    )  # fmt: skip
    return Progress(*columns, console=Console(stderr=True), transient=True)
