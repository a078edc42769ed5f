"""The schedule that settings of Hugging Face's TrainingArguments describe, where a tracker kept them.

Read in Transformers 4.51 and 5.24 (`optimization.py`, `TrainingArguments.get_warmup_steps`): update k uses
learning_rate x factor(k). A warm-up of W updates is factor k / W, from the final ratio for `warmup_stable_decay`.
W is `warmup_steps`, a share of `max_steps` where it is below 1; else `warmup_ratio` of them, rounded up.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import numpy as np

from lehr.errors import InputError
from lehr.runs.readers.flat_yaml import Scalar, typed
from lehr.schedule.families import constant, cosine, from_array, wsd
from lehr.schedule.schedule import Schedule

MOST_LISTED = 1_000_000  # updates of a schedule that is no family and is kept as a table
_DECAYS = {"linear": "linear", "cosine": "cosine", "1-sqrt": "sqrt"}
_ITEM = re.compile(r"""['"](\w+)['"]: ?(?:['"]([^'"]*)['"]|([^\s,{}'"]+))""")


def trainer_schedule(config: Mapping[str, Scalar]) -> Schedule | None:
    """Return the schedule of a training, None if its settings do not tell it.

    Parameters
    ----------
    config : the arguments by name; those of `lr_scheduler_kwargs` with its name and a dot before them, or
        all of them as the text of a dict.
    """
    peak, steps = _number(config, "learning_rate"), _number(config, "max_steps")
    if not peak or not steps or peak <= 0 or steps < 1:
        return None
    kind = str(config.get("lr_scheduler_type", "linear")).lower().removeprefix("schedulertype.")
    warmup = _warmup(config, int(steps))
    own = {
        key.removeprefix("lr_scheduler_kwargs."): value for key, value in config.items() if "_kwargs." in key
    }
    text = config.get("lr_scheduler_kwargs")
    if isinstance(text, str):
        own |= {
            found[1]: found[2] if found[2] is not None else typed(found[3]) for found in _ITEM.finditer(text)
        }
    try:
        return _schedule(kind, int(steps), peak, warmup, own)
    except (
        InputError
    ):  # settings that the Trainer itself would bend, such as a warm-up longer than the training
        return None


def _number(config: Mapping[str, Scalar], name: str, default: float | None = None) -> float | None:
    value = config.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < 1e300:
        return default
    return float(value)


def _warmup(config: Mapping[str, Scalar], steps: int) -> int:
    warmup = _number(config, "warmup_steps", 0.0) or 0.0
    if warmup < 1:
        return math.ceil(steps * (warmup or _number(config, "warmup_ratio", 0.0) or 0.0))
    return int(warmup)


def _schedule(kind: str, steps: int, peak: float, warmup: int, own: Mapping[str, Scalar]) -> Schedule | None:
    rise = {"steps": steps, "peak": peak, "warmup": warmup, "warmup_phase": 0}
    falling = max(steps - warmup, 0)
    half = _number(own, "num_cycles", 0.5) == 0.5
    rate = _number(own, "min_lr_rate")
    low = peak * rate if rate is not None else _number(own, "min_lr", 0.0) or 0.0
    if kind == "constant":
        return constant(steps=steps, peak=peak)
    if kind == "constant_with_warmup":
        return constant(**rise)
    if kind == "linear":
        return wsd(**rise, decay=falling)
    if kind in ("cosine", "cosine_with_min_lr") and half:
        return cosine(**rise, final=low if kind != "cosine" else 0.0)
    if kind == "polynomial":
        power = _number(own, "power", 1.0)
        shape = "linear" if power == 1 else f"power({power!r})"
        return wsd(**rise, decay=falling, shape=shape, final=_number(own, "lr_end", 1e-7) or 0.0)
    if kind == "warmup_stable_decay" and half:
        return _stable(steps, peak, warmup, own)
    if steps > MOST_LISTED:
        return None
    k = np.arange(steps)
    if kind == "cosine_warmup_with_min_lr" and half and "warmup_lr_rate" not in own:
        way = (k - warmup + 1) / max(1, falling)
        share = low / peak
        fall = 0.5 * (1 + np.cos(np.pi * way)) * (1 - share) + share
        return from_array(values=peak * np.where(k < warmup, (k + 1) / max(1, warmup), np.maximum(fall, 0)))
    if kind == "inverse_sqrt":
        scale = _number(own, "timescale") or warmup or 10_000
        fall = 1 / np.sqrt(np.maximum(k + scale - warmup, 1) / scale)
        return from_array(values=peak * np.where(k < warmup, k / max(1, warmup), fall))
    return None


def _stable(steps: int, peak: float, warmup: int, own: Mapping[str, Scalar]) -> Schedule | None:
    """Schedule of `get_wsd_schedule`: its warm-up begins at the ratio that its decay ends at."""
    decay = _number(own, "num_decay_steps")
    shape = _DECAYS.get(str(own.get("decay_type", "cosine")))
    if decay is None or shape is None or own.get("warmup_type", "linear") != "linear":
        return None
    stable = _number(own, "num_stable_steps")
    if stable is not None and stable != steps - warmup - decay:
        return None
    low = peak * (_number(own, "min_lr_ratio", 0.0) or 0.0)
    return wsd(
        steps=steps, peak=peak, warmup=warmup, warmup_phase=0, warmup_start=low, decay=int(decay), shape=shape,
        final=low,
    )  # fmt: skip
