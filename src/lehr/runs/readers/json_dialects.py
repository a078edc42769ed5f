"""How lingua, OLMo-core and Levanter name their metrics, and what they mean by their steps.

A row's step is the number k of its counter.

- lingua's metrics.jsonl (lingua/metrics.py, apps/main/train.py): `global_step` is counted up by the update, then
  logged. `loss/out` is that of the last micro-batch before it and `optim/lr` the LR it used: both belong to
  update k - 1, or to update k in rows of unfinished accumulation (`acc_step` not 0). metrics.validation.jsonl
  (apps/main/eval.py) has the losses of the weights after k updates.
- OLMo-core (train/trainer.py `_fit_epoch`, train_module `optim_step`): the step is counted up first, so
  `train/CE loss` and `optim/LR (group i)` are of update k - 1; `eval/...` is of the weights after k updates.
- Levanter (trainer.py `StepInfo`, callbacks/_metrics.py): k is the index of the update just done, so `train/loss`
  and `optim/learning_rate` are of update k; `eval/...` and `throughput/total_tokens` stand at k + 1.
- other rows that nest their losses ({"step": 1, "train": {"loss": 3.2}}): steps are as given.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lehr.runs.readers import sparse
from lehr.runs.readers.raw import Series


@dataclass(frozen=True)
class Metrics:
    """What a dialect calls its metrics, and by how much each stands beside its row's step.

    Parameters
    ----------
    tool : whose names these are.
    marks : patterns of names of which one must be there, beside a counter.
    counters : names of the step; the one that most rows have counts, the first of several.
    roles : names by role.
    moves : (pattern of names, what is added to the step); the first that matches counts.
    """

    tool: str
    marks: tuple[str, ...]
    counters: tuple[str, ...]
    roles: Mapping[str, str]
    moves: tuple[tuple[str, int], ...]


METRICS = (
    Metrics(
        "lingua", (r"acc_step", r"optim/total_tokens", r".+/nll_per_token"), ("global_step",),
        {"train": "loss/out", "lr": "optim/lr", "tokens": "optim/total_tokens"},
        ((r"loss/.*|optim/lr", -1),),
    ),
    Metrics(
        "OLMo-core", (r"train/CE loss", r"optim/LR \(group \d+\)", r"throughput/total tokens"),
        ("step", "global_step", "trainer/global_step"),
        {"train": "train/CE loss", "tokens": "throughput/total tokens"},
        ((r"train/.*|optim/.*", -1),),
    ),
    Metrics(
        "Levanter", (r"optim/learning_rate", r"throughput/total_gflops", r"run_progress"), ("global_step", "step"),
        {"train": "train/loss", "val": "eval/loss", "lr": "optim/learning_rate", "tokens": "throughput/total_tokens"},
        ((r"eval/.*|throughput/total_.*", 1),),
    ),
    Metrics("", (r".+/(.*[_ /-])?loss",), ("step", "global_step", "_step", "iteration", "iter"), {}, ()),
)  # fmt: skip


def dialect(rows: Sequence[sparse.Row]) -> Metrics | None:
    """Dialect of rows, None if they are of none; the one without a tool is of rows that nest their metrics."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(sparse.flat(row, "/"))
    found = dialect_of(names)
    nested = any(isinstance(value, dict) for row in rows for value in row.values())
    return found if nested or found is not METRICS[-1] else None


def dialect_of(names: Mapping[str, object]) -> Metrics | None:
    """Dialect of names, None if they are of none."""
    for known in METRICS:
        marked = any(re.fullmatch(mark, name) for mark in known.marks for name in names)
        if marked and any(counter in names for counter in known.counters):
            return known
    return None


def moved(
    key: str, series: Series, dialect: Metrics, unfinished: tuple[np.ndarray, np.ndarray] | None
) -> Series:
    """Series at lehr's steps; `unfinished` says, by line, which micro-batch of an update a row was logged in."""
    move = next((by for pattern, by in dialect.moves if re.fullmatch(pattern, key)), 0)
    if not move:
        return series
    by = np.full(series.step.shape, float(move))
    if unfinished is not None and series.line is not None:  # the update of the row is not done yet
        by[sparse.joined(series.line, unfinished)[0] > 0] = 0.0
    return replace(series, step=np.maximum(series.step + by, 0.0))
