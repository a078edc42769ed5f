"""What Hugging Face's Trainer means by the numbers it logs, wherever they were logged to.

Read in Transformers 4.49 to 5.24, `trainer.py` (`_run_epoch`, `_maybe_log_save_evaluate`, `log`):

- `global_step` is the number of updates done; evaluations are of the weights after as many.
- `loss` is the mean over the updates since the previous log (rounded to 4 decimals in versions 4).
- `learning_rate` is the LR of the update just done from version 4.51 on; before, it was read after the
  scheduler's step and is that of the next update.
- `num_input_tokens_seen` counts what the updates done have seen.
- `train_loss`, logged once at the end, is the mean over the whole training and no point of a curve.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lehr.runs.readers.averages import since_last, window_centre
from lehr.runs.readers.raw import Series

FIRST_OF_DONE = (4, 51)  # version from which on the LR logged is that of the update done
ONCE = (
    "train_loss", "train_runtime", "train_samples_per_second", "train_steps_per_second", "total_flos",
    "train_tokens_per_second",
)  # fmt: skip


def lr_is_next(version: object, fields: Mapping[str, object], lr: Series | None) -> tuple[bool, str]:
    """Whether a logged LR is that of the next update, and the sentence that says why.

    Parameters
    ----------
    version : of Transformers, as text; None if unknown.
    fields : of trainer_state.json: `best_global_step` came with version 4.50.
    lr : the logged LRs, at the updates done when they were logged.
    """
    found = re.match(r"(\d+)\.(\d+)", version) if isinstance(version, str) else None
    if found:
        after = (int(found[1]), int(found[2])) < FIRST_OF_DONE
        return after, f"Transformers {version} logs the LR of the {'next update' if after else 'update done'}"
    total = fields.get("max_steps")
    ended = isinstance(total, int) and 0 < total < 2**53 and lr is not None and lr.step[-1] == total
    if ended and lr is not None and lr.value.size > 1 and lr.value[-1] == 0 < lr.value[-2]:
        return True, "the LR logged after the last update is 0: it was logged for the next update"
    if fields and "best_global_step" not in fields:
        return True, "written before Transformers 4.50, which logged the LR of the next update"
    return (
        False,
        "the version of Transformers is unknown: the LR is taken as that of the update done, as since 4.51",
    )


def totals(series: dict[str, Series]) -> dict[str, float]:
    """Take out what the Trainer logs once, after a training, and return it; `train_runtime` is always among it."""
    ends = series["train_runtime"].value.size if "train_runtime" in series else 0
    found = [name for name in ONCE if name in series and 0 < series[name].value.size <= ends]
    return {name: float(series.pop(name).value[-1]) for name in found}


def moved(series: Mapping[str, Series], loss: str, lr: str, after: bool) -> dict[str, Series]:
    """Series at lehr's steps; `after` as `lr_is_next` tells it."""
    out = dict(series)
    if loss in out:
        told = out[loss]
        out[loss] = replace(told, step=window_centre(told.step, since_last(told.step)))
    if lr in out and not after:
        out[lr] = replace(out[lr], step=np.maximum(out[lr].step - 1, 0.0))
    return out
