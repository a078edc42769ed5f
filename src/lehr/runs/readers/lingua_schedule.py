"""The schedule that lingua's config.yaml describes.

Read in lingua (lingua/optim.py, `build_lr_fn`): LambdaLR, so update k uses optim.lr x factor(k), where a warm-up of
`optim.warmup` updates is k / warmup. Its `wsd` decays over `decay_fraction` of the steps as
1 / (x / lr_min_ratio + 1 - x).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from lehr.errors import InputError
from lehr.runs.readers.flat_yaml import Scalar
from lehr.schedule.families import constant, cosine, from_array, wsd
from lehr.schedule.schedule import Schedule

MOST_LISTED = 1_000_000  # updates of a schedule that is kept as a table


def lingua_schedule(config: Mapping[str, Scalar]) -> Schedule | None:
    """Return the schedule of a training, None if its settings do not tell it.

    Parameters
    ----------
    config : the settings by name, nested ones joined by "."; those that are left out have lingua's defaults.
    """
    steps, peak = config.get("steps"), config.get("optim.lr")
    if not isinstance(steps, int) or not isinstance(peak, int | float) or steps < 1:
        return None
    kind = config.get("optim.scheduler", "cosine")
    warmup, low = config.get("optim.warmup", 2000), config.get("optim.lr_min_ratio", 0.1)
    if not isinstance(warmup, int) or not isinstance(low, int | float):
        return None
    whole = config.get("optim.cycle_length", 1.0) == 1 and config.get("optim.cosine_theta", 1.0) == 1
    rise = {"steps": steps, "peak": peak, "warmup": warmup, "warmup_phase": 0}
    try:
        if kind == "constant":
            return constant(steps=steps, peak=peak)
        if kind == "linear":
            return wsd(**rise, decay=max(steps - warmup, 0), final=low * peak)
        if kind == "cosine" and whole:
            return cosine(**rise, final=low * peak)
        if kind == "wsd" and whole and steps <= MOST_LISTED and low > 0:
            share = config.get("optim.decay_fraction", 0.1)
            return _stable(steps, peak, warmup, low, share) if isinstance(share, int | float) else None
    except InputError:  # settings that lingua itself would bend, such as a warm-up longer than the training
        return None
    return None


def _stable(steps: int, peak: float, warmup: int, low: float, share: float) -> Schedule:
    k = np.arange(steps)
    decay = int(steps * share)
    x = np.clip((k - (steps - decay)) / max(decay, 1), 0, 1)
    return from_array(values=peak * np.where(k < warmup, k / max(warmup, 1), 1 / (x / low + 1 - x)))
