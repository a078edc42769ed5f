"""Loss spikes in the record of a training.

A loss is compared with the median of those just before it. What is usual is told by the median absolute deviation of
these differences, which spikes themselves hardly move (Rousseeuw and Croux, 1993: 1.4826 times it is the standard
deviation of normal noise).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lehr.errors import bad

WINDOW = 50  # updates before
THRESHOLD = 6.0  # standard deviations: normal noise gets there once in a billion updates
LEAST = 0.01  # of the loss: less is no spike, however quiet the run
NORMAL = 1.4826


@dataclass(frozen=True)
class Spike:
    """A stretch of losses above the usual.

    Parameters
    ----------
    first, last : updates between which every loss is above the threshold, or a short gap below it.
    height : largest loss of the stretch over the median before it, less 1.
    deviations : the same in standard deviations of the noise.
    """

    first: int
    last: int
    height: float
    deviations: float


def find_spikes(
    step: np.ndarray, loss: np.ndarray, window: int = WINDOW, threshold: float = THRESHOLD
) -> list[Spike]:
    """Find stretches of losses that are `threshold` standard deviations above the median of the `window` before.

    Parameters
    ----------
    step, loss : (n,), steps rising; losses above by less than `LEAST` of the median are none.
    window : losses before; fewer than half of it at the start tell nothing.
    threshold : in standard deviations of ln loss, as seen over the losses before, spikes left aside.

    Raises
    ------
    InputError
        If a loss is not positive and finite, or `window` is below 4.
    """
    if window < 4:
        raise bad("window", "must be at least 4 losses", window, "take more")
    wrong = np.flatnonzero(~(np.isfinite(loss) & (loss > 0)))
    if len(wrong):
        raise bad(
            f"loss at step {step[wrong[0]]}", "must be positive and finite", float(loss[wrong[0]]),
            "leave out what came after the divergence",
        )  # fmt: skip
    log = np.log(loss)
    above = np.zeros(len(log))
    usual = np.full(len(log), np.inf)
    for i in range(window // 2, len(log)):
        before = log[max(0, i - window) : i]
        above[i] = log[i] - np.median(before)
        usual[i] = NORMAL * np.median(np.abs(before - np.median(before)))
    high = (above > threshold * usual) & (above > np.log1p(LEAST))
    return [_spike(step, above, usual, group) for group in _groups(np.flatnonzero(high), window // 10)]


def _groups(places: np.ndarray, gap: int) -> list[np.ndarray]:
    """Places that lie together, at most `gap` apart."""
    if not len(places):
        return []
    return np.split(places, np.flatnonzero(np.diff(places) > max(1, gap)) + 1)


def _spike(step: np.ndarray, above: np.ndarray, usual: np.ndarray, places: np.ndarray) -> Spike:
    top = places[np.argmax(above[places])]
    noise = max(usual[top], 1e-12)
    return Spike(
        int(step[places[0]]), int(step[places[-1]]), float(np.expm1(above[top])), float(above[top] / noise)
    )
