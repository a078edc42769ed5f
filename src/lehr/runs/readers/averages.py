"""Where on the axis a logged average belongs.

A loss printed after k updates is often the mean of the last w batches. The batch of update u (from 0) was
measured with u updates done, so the mean of updates k - w .. k - 1 belongs to k - (w + 1) / 2 updates. An
exponential average m = b m + (1 - b) x lags by the mean age of what it holds. Losses are moved, never changed.
"""

from __future__ import annotations

import numpy as np

from lehr.errors import bad


def window_centre(step: np.ndarray, window: np.ndarray | int) -> np.ndarray:
    """Steps at which means over the last `window` updates belong, whole numbers of at least 0, shape (n,).

    Parameters
    ----------
    step : shape (n,), updates done when each mean was written.
    window : batches in each mean, shape (n,) or one number; 1 for the loss of the last batch alone.

    Raises
    ------
    InputError
        If a window is below 1.
    """
    window = np.asarray(window, dtype=float)
    if np.any(window < 1):
        raise bad("window", "must be at least 1 update", float(window.min()), "give the logging interval")
    return np.maximum(np.floor(step - (window + 1) / 2), 0.0)


def since_last(step: np.ndarray) -> np.ndarray:
    """Windows of means since the previous entry, shape (n,); the first counts from step 0, or from a restart."""
    window = np.diff(step, prepend=0.0)
    usual = float(np.median(window[window > 0])) if np.any(window > 0) else 1.0
    # a log that begins late, or goes back after a restart, does not say where its first mean began
    return np.where((window < 1) | (window > 2 * usual), usual, window)


def ema_centre(step: np.ndarray, decay: float) -> np.ndarray:
    """Steps at which debiased exponential averages belong, whole numbers of at least 0, shape (n,).

    The average after t batches weighs the one of age j by decay^j / sum of decay^i over i < t.

    Parameters
    ----------
    step : shape (n,), updates done when each average was written.
    decay : b in m = b m + (1 - b) x, at least 0 and below 1.

    Raises
    ------
    InputError
        If the decay is not in that range.
    """
    if not 0 <= decay < 1:
        raise bad(
            "decay", "must be at least 0 and below 1", decay, "give b of m = b m + (1 - b) x, such as .9"
        )
    held = np.maximum(step, 1.0)
    left = decay**held
    age = decay / (1 - decay) - held * left / (1 - left) if decay else np.zeros(step.shape)
    return np.maximum(np.floor(step - 1 - age + 0.5), 0.0)
