"""Where a training that diverged began to: trained again from its last state, with every module watched."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

from torch import Tensor, nn

from lehr.errors import ResultError
from lehr.proxy.checkpoint import load_checkpoint
from lehr.proxy.session import Session, open_session, restore, update

WINDOW = 50  # updates before the end that are watched
START = 5  # of these, the first, by whose median growth is measured
GROWTH = 10.0  # times that median: beyond what a healthy loss spike does


class Diverged(ResultError):
    """A training whose loss or weights are not finite any more; where LRs are compared it is a result like others."""


@dataclass
class Watch:
    """Sizes by what was measured, in the order of measurement: one list an update.

    A size is the root mean square of a module's output, or the norm of a parameter's gradient.
    """

    updates: list[dict[str, float]] = field(default_factory=list)

    def note(self, what: str, size: float) -> None:
        """Add a size to the present update; of several the largest counts, and what is no number counts as infinite."""
        now, size = self.updates[-1], size if math.isfinite(size) else math.inf
        now[what] = max(size, now.get(what, 0.0))


@dataclass(frozen=True)
class Origin:
    """What grew first, in which of the watched updates; what was first no finite number, and in which."""

    grew: str | None
    grew_at: int
    broke: str | None
    broke_at: int


def explain(session: Session, place: tuple[Path, int] | None, step: int) -> str:
    """Say in a sentence or two which module grew first.

    Parameters
    ----------
    session : that diverged.
    place : folder and step of the last sound checkpoint; None for the initial weights.
    step : at which it had diverged.
    """
    if session.ranks.size > 1:
        return "Go on from the last checkpoint in one process to learn which module grew first."
    plain = session.config.training.model_copy(
        update={"compile": False}
    )  # hooks do not see into compiled code
    again = open_session(session.config.model_copy(update={"training": plain}), session.source, session.ranks)
    if place is not None:
        restore(again, load_checkpoint(*place), str(place[0]))
    begin = again.step
    while again.step < step - WINDOW:
        update(again)
    first, watch = again.step, Watch()
    with watching(again.model, watch):
        while again.step < step:
            watch.updates.append({})
            update(again)
    found = find_origin(watch.updates)
    told = f"Trained again from step {begin}: "
    if found.grew is None and found.broke is None:
        return f"{told}no activation or gradient grew tenfold in its last {len(watch.updates)} updates."
    parts = []
    if found.grew is not None:
        parts.append(f"{found.grew} grew first, more than tenfold by update {first + found.grew_at}")
    if found.broke is not None:
        parts.append(
            f"{found.broke} held the first value that is no finite number, in update {first + found.broke_at}"
        )
    return f"{told}{'; '.join(parts)}."


def find_origin(updates: Sequence[dict[str, float]]) -> Origin:
    """Find what grew first, and what first held no finite number.

    Growth is to more than `GROWTH` times the median over the first few updates; of what grew in the same update,
    that which grew most. `updates` holds sizes as `Watch` does.
    """
    broke, broke_at = None, 0
    for at, sizes in enumerate(updates):
        broke = next((what for what, size in sizes.items() if math.isinf(size)), None)
        if broke:
            broke_at = at
            break
    for at, sizes in enumerate(updates):
        grown = {}
        for what, size in sizes.items():
            start = median(row.get(what, math.inf) for row in updates[:START])
            if math.isfinite(size) and 0 < start < math.inf and size > GROWTH * start:
                grown[what] = size / start
        if grown:
            return Origin(max(grown, key=grown.__getitem__), at, broke, broke_at)
        if broke and at == broke_at:
            break
    return Origin(None, 0, broke, broke_at)


@contextmanager
def watching(model: nn.Module, watch: Watch) -> Iterator[None]:
    """Measure the outputs of all modules that have parameters of their own, and the gradients of these."""
    handles = []
    for name, module in model.named_modules():
        if next(module.parameters(recurse=False), None) is not None:
            handles.append(module.register_forward_hook(_output_hook(watch, name)))
    parameters: list[tuple[str, Any]] = list(model.named_parameters())
    for name, p in parameters:
        handles.append(p.register_hook(_gradient_hook(watch, name.removesuffix(".weight"))))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _output_hook(watch: Watch, name: str) -> Any:
    def hook(module: nn.Module, inputs: Any, output: Any) -> None:
        value = output[0] if isinstance(output, tuple) else output
        watch.note(f"the output of {name}", float(value.detach().float().square().mean().sqrt()))

    return hook


def _gradient_hook(watch: Watch, name: str) -> Any:
    def hook(gradient: Tensor) -> None:
        watch.note(f"the gradient of {name}", float(gradient.detach().float().norm()))

    return hook
