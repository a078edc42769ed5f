"""What the runs of a written sweep share: the configuration of one training, or the user's command. No torch."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lehr.errors import InputError, bad
from lehr.proxy.config import Model, TrainConfig, make_config, read_toml
from lehr.proxy.counts import count
from lehr.proxy.sizing import resized
from lehr.proxy.sweep.placeholders import names_in
from lehr.schedule.pieces import warmup_steps

CLOSE = 0.01  # relative difference of sizes and numbers of tokens that count as the planned ones
SHARED = ("command", "values", "budget")  # tables of a command that all its runs share


@dataclass(frozen=True)
class Base:
    """What the runs of a sweep share.

    Parameters
    ----------
    source : its file; empty where there is none, so that the command is for the user to fill in.
    tables : of the file.
    config : the training; None for a command.
    warmup : updates; None where it is for the user to fill in.
    batch_tokens : tokens of an update, where they are known.
    """

    source: str
    tables: dict[str, Any]
    config: TrainConfig | None
    warmup: int | None
    batch_tokens: float | None

    @property
    def branches(self) -> bool:
        """Whether its runs can go on from a trunk: lehr's own can, a command if it asks where the trunk is."""
        if self.config is not None:
            return True
        command = self.tables.get("command", {})
        return isinstance(command, dict) and "parent_out" in names_in(str(command.get("run", "")))


def load_base(path: Path) -> Base:
    """Read a CONFIG.toml of `lehr train`, or a file with the `[command]` of a sweep and what it needs in `[values]`.

    Raises
    ------
    InputError
        If it is neither, or a run that branches from another.
    """
    tables = read_toml(path)
    if "command" not in tables:
        config = make_config(tables, str(path))
        if config.branch is not None:
            raise InputError(f"{path}: [branch] goes on from one run: give the configuration of a whole run.")
        return Base(str(path), tables, config, warmup_steps(config.training.plan), float(config.batch_tokens))
    if wrong := sorted(tables.keys() - {*SHARED, "name"}):
        raise InputError(
            f"{path}: {wrong[0]} is for the sweep to say: a base of a [command] holds {', '.join(SHARED)} alone."
        )
    values = tables.get("values", {})
    warmup = values.get("warmup") if isinstance(values, dict) else None
    if not isinstance(warmup, int) or isinstance(warmup, bool) or warmup < 0:
        raise InputError(f"{path}: values.warmup is missing or no number of updates: give it, 0 for none.")
    batch = values.get("batch_tokens")
    known = isinstance(batch, int | float) and not isinstance(batch, bool) and batch > 0
    return Base(str(path), tables, None, warmup, float(batch) if known else None)


def sized(base: Base, params: Iterable[float], option: str) -> dict[float, Model]:
    """Models of the base's proportions with so many parameters but embeddings, by width.

    Parameters
    ----------
    params : sizes, of all experts; each a model's within `CLOSE`.
    option : by which the sizes were given, for the message.

    Raises
    ------
    InputError
        If there is no such model; the nearest sizes are named.
    """
    assert base.config is not None
    wanted = tuple(params)
    found = {size: _nearest(base.config.model, size) for size in wanted}
    off = [size for size, model in found.items() if abs(_size(model) / size - 1) > CLOSE]
    if off:
        nearest = ",".join(dict.fromkeys(str(_size(found[size])) for size in wanted))
        raise bad(
            f"{option}", f"must be sizes that {base.source} has at some width, within {CLOSE:.0%}",
            float(f"{off[0]:.6g}"), f"take {option} {nearest}",
        )  # fmt: skip
    return found


def check_active(base: Base, models: Iterable[Model], active: Sequence[float], option: str) -> None:
    """Refuse parameters a token passes through that are not those of the models.

    Parameters
    ----------
    models : of the planned sizes.
    active : one for each; empty if told to be dense.
    option : by which they were given, for the message.

    Raises
    ------
    InputError
        If they are given for dense models, missing for models of experts, or not these models'.
    """
    assert base.config is not None
    if base.config.model.experts is None:
        if active:
            raise InputError(
                f"{base.source} is dense: leave {option} out, or give a base with [model.experts]."
            )
        return
    have = [count(model, 2).active_non_embedding for model in models]
    if not active or any(abs(own / told - 1) > CLOSE for own, told in zip(have, active, strict=True)):
        raise bad(
            option, f"must be those of the models of experts of {base.source}, within {CLOSE:.0%}",
            ",".join(f"{told:.6g}" for told in active) or "none", f"take {option} {','.join(map(str, have))}",
        )  # fmt: skip


def _nearest(model: Model, size: float) -> Model:
    """The model of that width, a multiple of the head's, whose size is nearest."""
    heads = max(1, round(model.heads * math.sqrt(size / _size(model))))
    found = []
    for number in range(max(1, heads - 3), heads + 4):
        try:
            found.append(resized(model, "width", number * (model.width // model.heads)))
        except InputError:  # a hidden width that would not be whole
            continue
    return min([*found, model], key=lambda each: abs(math.log(_size(each) / size)))


def _size(model: Model) -> int:
    """Parameters but embeddings, of all experts, whatever the vocabulary."""
    return count(model, 2).non_embedding


def updates_of(tokens: float, batch_tokens: float, option: str) -> int:
    """Whole updates that come to so many tokens within `CLOSE`.

    Raises
    ------
    InputError
        If none do.
    """
    updates = max(1, round(tokens / batch_tokens))
    if abs(updates * batch_tokens / tokens - 1) > CLOSE:
        raise bad(
            option, f"must be whole updates of {batch_tokens:g} tokens, within {CLOSE:.0%}", tokens,
            f"take {updates * batch_tokens:g}",
        )  # fmt: skip
    return updates
